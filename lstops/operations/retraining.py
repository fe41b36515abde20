"""The tasks of the DAG `rf_training`: from its form to the plan of retrained forests."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lstops.catalog.database import catalog_session
from lstops.catalog.productions import find_productions
from lstops.errors import ConfigError, DataError
from lstops.operations.nightly import layout_of
from lstops.operations.planning import complete
from lstops.production.outline import save_production_plan
from lstops.production.retrain import plan_retraining
from lstops.site.model import Site
from lstops.step.model import ArtifactKind, Plan
from lstops.step.plans import load_plan


def plan_run(site: Site, params: Mapping[str, Any]) -> str:
    """Plan and store the retraining that the form asks for; returns the plan's id.

    Raises
    ------
    ConfigError
        If the form does not name a production and a new name, or the production has several lines and none is named.
    DataError
        If the production is not registered, or its training DL1 is gone.
    """
    production, name = (str(params.get(key) or "").strip() for key in ("production", "name"))
    if not production or not name:
        raise ConfigError(
            "the form does not say whose DL1 is used, or how the new production is called.",
            "give `production` (see `lstops production list`) and `name`.",
        )
    with catalog_session() as session:
        rows = [(row.line, row.plan_id) for row in find_productions(session, production, params.get("line") or None)]
    if len(rows) > 1:
        lines = ", ".join(line for line, _ in rows)
        raise ConfigError(f"{production} has several lines: {lines}.", "give one of them as `line`.")
    line, plan_id = rows[0]
    plan = plan_retraining(load_plan(layout_of(site).plan_file(plan_id)), line, name, site)
    _require_dl1(site, plan)
    plan = complete(site, plan)
    save_production_plan(plan, site)
    return plan.plan_id


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
