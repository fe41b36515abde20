"""The tasks of the DAG `rf_training`: from its form to the plan of retrained forests."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from lstops.catalog.database import catalog_session
from lstops.catalog.productions import existing_productions, find_productions
from lstops.catalog.tables import ProductionRow
from lstops.errors import ConfigError, DataError
from lstops.operations.nightly import layout_of
from lstops.operations.planned import complete
from lstops.operations.trainers import comparison, trainer_of_row
from lstops.production.outline import plan_level_ghz, save_production_plan
from lstops.production.plan import forest_update
from lstops.production.retrain import plan_retraining, training_files
from lstops.production.reuse import Existing, Fit, Retraining, configuration_digest, find_existing
from lstops.production.trainer import parse_trainer, require_trainer
from lstops.science.mc_config import merge_into
from lstops.site.model import ForestSettings, Site, Trainer, describe
from lstops.step.manifest import ManifestStore, full_state
from lstops.step.model import ArtifactKind, Plan
from lstops.step.plans import load_plan

#: fields of the form that take the place of `production.forests` of the site file
FOREST_FIELDS = ("n_estimators", "max_depth", "min_samples_leaf")


def plan_run(site: Site, params: Mapping[str, Any]) -> tuple[str | None, str]:
    """Plan and store the retraining that the form asks for.

    Returns
    -------
    plan_id : str or None
        None: a registered production is the same.
    text : str
        For the log.

    Raises
    ------
    ConfigError
        If the form does not name a production and a new name, the production has several lines and none is named, the
        new name belongs to other forests, a hyper-parameter is absurd, or the site does not have the trainer.
    DataError
        If the production is not registered, or its training DL1 is gone.
    """
    production, name = (str(params.get(key) or "").strip() for key in ("production", "name"))
    if not production or not name:
        raise ConfigError(
            "the form does not say whose DL1 is used, or how the new production is called.",
            "give `production` (see `lstops production list`) and `name`.",
        )
    forests, trainer = forests_of(site, params), parse_trainer(params.get("trainer")) or site.production.trainer
    with catalog_session() as session:
        rows = find_productions(session, production, params.get("line") or None)
        session.expunge_all()
        existing = existing_productions(session)
    if len(rows) > 1:
        lines = ", ".join(row.line for row in rows)
        raise ConfigError(f"{production} has several lines: {lines}.", "give one of them as `line`.")
    (row,) = rows
    require_trainer(trainer, row.lstchain_version, site)
    plan = plan_retraining(load_plan(layout_of(site).plan_file(row.plan_id)), row.line, name, forests, site)
    _require_dl1(site, plan)
    wanted = _identity(site, plan, row, forests, trainer)
    same = _same(plan, row, wanted, existing)
    if same is not None:
        return None, f"the forests of {same} are the same: nothing needs to be computed"
    is_twin = trainer_of_row(row) is Trainer.LSTCHAIN and configuration_digest(row.config) == wanted.config_sha256
    context = {
        **plan.context,
        # the DL1 is the same; where the plan of the source does not say the level, a person has given it
        **({"nsb_level_ghz": row.nsb_level_ghz} if plan_level_ghz(plan) is None else {}),
        "settings_sha256": {row.line: wanted.digest},
        **comparison({row.line: wanted}, production if is_twin else ""),
    }
    plan = complete(site, plan.model_copy(update={"context": context}), trainer)
    save_production_plan(plan, site)
    return plan.plan_id, plan.title


def forests_of(site: Site, params: Mapping[str, Any]) -> ForestSettings:
    """The hyper-parameters of the form; the site's where it says nothing.

    Raises
    ------
    ConfigError
        If one is absurd.
    """
    given = {name: params[name] for name in FOREST_FIELDS if params.get(name) is not None}
    try:
        return ForestSettings.model_validate({**site.production.forests.model_dump(), **given})
    except ValidationError as error:
        raise ConfigError(f"these are no settings of forests: {describe(error)}.", "correct the form.") from error


def _identity(site: Site, plan: Plan, row: ProductionRow, forests: ForestSettings, trainer: Trainer) -> Retraining:
    config = copy.deepcopy(row.config)
    merge_into(config, forest_update(forests))
    return Retraining(
        lstchain_version=row.lstchain_version,
        line=row.line,
        training_sha256=tuple(_digest(site, path) for path in training_files(plan)),
        config_sha256=configuration_digest(config),
        cuts_sha256=str(row.facts.get("cuts_sha256", "")),
        trainer=trainer,
    )


def _digest(site: Site, path: str) -> str:
    """Of a product: from its manifest; of another file, its content."""
    layout = layout_of(site)
    manifest = ManifestStore(layout.manifests).producer(path)
    known = [output.state.sha256 for output in manifest.outputs if output.path == path] if manifest else []
    return known[0] if known else full_state(layout.absolute(path)).sha256


def _same(plan: Plan, row: ProductionRow, wanted: Retraining, existing: tuple[Existing, ...]) -> str | None:
    """A production with these forests already; not that of the plan itself, which is resumed."""
    if trainer_of_row(row) is wanted.trainer and configuration_digest(row.config) == wanted.config_sha256:
        return row.name
    name, nodes = str(plan.context["production"]), tuple(plan.context.get("test_nodes", ()))
    found = find_existing(wanted, row.nsb_level_ghz, nodes, [e for e in existing if e.name != name], 0.0)
    if found.fit is Fit.EQUAL:
        return found.production
    for other in existing:
        if (other.name, other.line) == (name, row.line) and other.settings_sha256 != wanted.digest:
            raise ConfigError(
                f"{name} is registered on {row.line}, and its forests have other settings.", "give a name that is free."
            )
    return None


def _require_dl1(site: Site, plan: Plan) -> None:
    layout = layout_of(site)
    kinds = (ArtifactKind.DL1, ArtifactKind.DL1_MERGED)
    needed = dict.fromkeys(item.path for step in plan.steps() for item in step.inputs if item.kind in kinds)
    missing = [path for path in needed if not layout.absolute(path).exists()]
    if missing:
        raise DataError(
            f"{len(missing)} of {len(needed)} DL1 files of {plan.context['retrained_from']} are gone, the first is "
            f"{missing[0]}.",
            "make the production again with mc_production.",
        )
