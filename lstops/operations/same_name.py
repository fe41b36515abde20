"""One name, one production: no plan puts other products in the place of those of another production.

Neither of a registered one, nor of one that a plan has begun. What a plan makes first is the lstchain configuration
that all its other steps read: whose that is has begun the production, and before that there is nothing to lose.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from lstops.catalog.database import catalog_session, finite
from lstops.catalog.productions import all_productions
from lstops.catalog.tables import ProductionRow
from lstops.errors import ConfigError, TransportError
from lstops.operations.nightly import layout_of
from lstops.production.documents import read_json
from lstops.production.findings import counted
from lstops.production.outline import level_in, plan_level_ghz
from lstops.science.mc_config import merge_into
from lstops.site.model import Site
from lstops.step.manifest import Manifest, ManifestStore
from lstops.step.model import CORE_ENVIRONMENT, ArtifactKind, Plan, Step
from lstops.step.plans import load_plan

_SETTINGS, _CONFIGURATION, _CUTS = "settings_sha256", "configuration_sha256", "cuts_sha256"
#: of the step that writes the lstchain configuration: what it changes
_UPDATE = "update.json"
_LSTMCPIPE = "another configuration (lstmcpipe's or lstchain's)"
_ANOTHER_NAME = "give the new production another name (--name, or prod_id and paths of its configuration)"


@dataclass(frozen=True)
class _Known:
    """What is known of the production that has a name: on one line if it is registered, else on those of its plan.

    Attributes
    ----------
    settings : mapping
        Line -> digest of its settings; without one if a configuration of lstmcpipe made it.
    configuration : str or None
        Digest of that configuration.
    config : mapping
        The lstchain configuration.
    """

    lstchain_version: str | None
    level_ghz: float | None
    cuts: str | None
    settings: Mapping[str, str]
    configuration: str | None
    config: Mapping[str, Any]


def registered_as(name: str) -> tuple[ProductionRow, ...]:
    """The records of a production, one a line; none without a catalogue."""
    try:
        with catalog_session() as session:
            rows = tuple(row for row in all_productions(session) if row.name == name)
            session.expunge_all()
            return rows
    except (ConfigError, TransportError):
        return ()


def begun_by(site: Site, name: str) -> Manifest | None:
    """The manifest of the lstchain configuration of a production, if that is there: of the plan that has begun it."""
    path = layout_of(site).mc_config(name)
    there = layout_of(site).absolute(path).exists()
    return ManifestStore(layout_of(site).manifests).producer(path) if there else None


def refuse_other_production(site: Site, plan: Plan) -> None:
    """Refuse a plan whose name or folders another production has, be it registered, in whatever status, or only begun.

    The same production is planned again: that computes what was lost or is missing, or test nodes that it lacks.

    Raises
    ------
    ConfigError
        Saying what differs, or that it cannot be seen.
    """
    for row in registered_as(str(plan.context["production"])):
        _refuse_registered(site, plan, row)
    _refuse_begun(site, plan)
    _refuse_foreign_folders(site, plan)


def _refuse_registered(site: Site, plan: Plan, row: ProductionRow) -> None:
    context = context_of(site, row)
    settings = row.facts.get(_SETTINGS) or ""
    known = _Known(
        lstchain_version=row.lstchain_version,
        level_ghz=row.nsb_level_ghz,
        cuts=row.facts.get(_CUTS),
        settings={row.line: settings},
        configuration=(context or {}).get(_CONFIGURATION),
        config=row.config,
    )
    if differences := list(_differences(plan, known)):
        raise ConfigError(
            f"{row.name} is registered on {row.line} ({row.status}) and is another production: "
            f"{'; '.join(differences)}. This plan would replace its products.",
            f"{_ANOTHER_NAME}; or ask for what is registered, see `lstops production list --json`.",
        )
    if context is None and not settings:
        folder = layout_of(site).plan_dir(row.plan_id)
        raise ConfigError(
            f"{row.name} is registered on {row.line} ({row.status}), its plan in {folder} is gone or cannot be "
            "read, and no manifest says of which configuration it was made: whether this plan is the same production, "
            "or would replace its products, cannot be seen.",
            f"bring that folder back from a backup; or {_ANOTHER_NAME}.",
        )


def _refuse_begun(site: Site, plan: Plan) -> None:
    name = str(plan.context["production"])
    begun = begun_by(site, name)
    if begun is None or begun.plan_id == plan.plan_id:
        return
    first = _stored(site, begun.plan_id)
    differences = list(_differences(plan, _known_of_begun(site, begun, first)))
    if differences == [_LSTMCPIPE] and first is not None:
        differences = list(_replaced(site, plan, first))
    if differences:
        raise ConfigError(
            f"{name} was begun by another plan, {begun.plan_id}, and is another production: {'; '.join(differences)}. "
            "This plan would replace its products.",
            f"{_ANOTHER_NAME}; or finish the first one, see `lstops production status {name}`; or, if that is given "
            f"up, cancel its run and clear its products away: `lstops production abandon {name} --author ... "
            "--reason ...`.",
        )


def _refuse_foreign_folders(site: Site, plan: Plan) -> None:
    """A configuration may name folders of another production: the lint says so, but can be overruled."""
    layout, name = layout_of(site), str(plan.context["production"])
    store = ManifestStore(layout.manifests)
    for step in plan.steps():
        path = step.primary.path
        if name in path.split("/") or not layout.absolute(path).exists():
            continue
        owner = made.plan_context.get("production") if (made := store.producer(path)) else None
        if owner not in (None, name):
            raise ConfigError(
                f"{name} would replace {path}, which was made for {owner}.",
                f"write folders of its own into the configuration of {name}: below them is its prod_id.",
            )


def _known_of_begun(site: Site, begun: Manifest, first: Plan | None) -> _Known:
    """What the manifest of its configuration says; the plan itself adds the version, where no lstchain was needed."""
    context, config = begun.plan_context, layout_of(site).absolute(begun.outputs[0].path)
    version = None if begun.environment == CORE_ENVIRONMENT else begun.environment
    return _Known(
        lstchain_version=first.lstchain_version if first else version,
        level_ghz=level_in(context),
        cuts=context.get(_CUTS),
        settings=context.get(_SETTINGS) or dict.fromkeys(context.get("lines", ()), ""),
        configuration=context.get(_CONFIGURATION),
        config=finite(read_json(config)),  # as the catalogue holds those of registered ones
    )


def context_of(site: Site, row: ProductionRow) -> Mapping[str, Any] | None:
    """What the plan of a registered production says about itself; None if plan and manifests are gone."""
    if plan := _stored(site, row.plan_id):
        return plan.context
    config = row.facts.get("config_path")
    made = ManifestStore(layout_of(site).manifests).producer(config) if config else None
    return made.plan_context if made else None


def _stored(site: Site, plan_id: str) -> Plan | None:
    """A stored plan; None if it is gone, or of an lstops whose plans this one cannot read."""
    try:
        return load_plan(layout_of(site).plan_file(plan_id))
    except ConfigError:
        return None


def _differences(plan: Plan, known: _Known) -> Iterator[str]:
    context = plan.context
    if _other(known.lstchain_version, plan.lstchain_version):
        yield f"lstchain {known.lstchain_version}, not {plan.lstchain_version}"
    level = plan_level_ghz(plan)
    if level is not None and known.level_ghz is not None and abs(known.level_ghz - level) > 1e-6:
        yield f"{known.level_ghz:g} GHz of extra NSB, not {level:g}"
    if _other(known.cuts, context.get(_CUTS)):
        yield "other cuts"
    if _SETTINGS in context:
        wanted = context[_SETTINGS]
        shared = [line for line in wanted if line in known.settings]
        if any(_other(known.settings[line], wanted[line]) for line in shared):
            yield "other settings (cleaning, cuts, forests, kind of tuning, source or training nodes)"
        elif not shared and _changes(plan, known.config):
            yield "another lstchain configuration, which the lines of a production share"
        elif shared and not any(known.settings[line] for line in shared) and known.configuration:
            yield "it was made from a configuration of lstmcpipe"
    elif any(known.settings.values()):
        yield "it was not made from a configuration of lstmcpipe"
    elif _other(known.configuration, context.get(_CONFIGURATION)):
        yield _LSTMCPIPE


def _changes(plan: Plan, config: Mapping[str, Any]) -> bool:
    """Whether the lstchain configuration of the plan has other values than that of the production."""
    made = next((s for s in plan.steps() if s.primary.kind is ArtifactKind.LSTCHAIN_CONFIG), None)
    if not config or made is None or _UPDATE not in made.files:
        return False
    changed = copy.deepcopy(dict(config))
    merge_into(changed, finite(json.loads(made.files[_UPDATE])))  # as the catalogue holds it
    return changed != config


def _replaced(site: Site, plan: Plan, first: Plan) -> Iterator[str]:
    """What is there and would be made in another way: a configuration that asks for more memory replaces nothing.

    Small files that lstops writes itself (splits, reports) hold nothing that other products do not show.
    """
    layout = layout_of(site)
    ways = {step.primary.path: _way(step) for step in first.steps()}
    replaced = [
        step.primary.path
        for step in plan.steps()
        if step.primary.kind is not ArtifactKind.FILE
        and ways.get(step.primary.path, _way(step)) != _way(step)
        and layout.absolute(step.primary.path).exists()
    ]
    if replaced:
        yield f"{_LSTMCPIPE}, by which {counted(len(replaced), 'product')} would be made anew, as {replaced[0]}"


def _way(step: Step) -> tuple[object, ...]:
    """What a step makes its product by, and of."""
    return step.commands, step.files, tuple((item.name, item.path) for item in step.inputs)


def _other(known: str | None, wanted: str | None) -> bool:
    """Whether both are known and differ."""
    return bool(known and wanted and known != wanted)
