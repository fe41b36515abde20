"""One name, one production: no plan puts other products in the place of those of a registered production."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping
from typing import Any

from lstops.catalog.database import catalog_session, finite
from lstops.catalog.productions import all_productions
from lstops.catalog.tables import ProductionRow
from lstops.errors import ConfigError, TransportError
from lstops.operations.nightly import layout_of
from lstops.production.outline import plan_level_ghz
from lstops.science.mc_config import merge_into
from lstops.site.model import Site
from lstops.step.model import ArtifactKind, Plan
from lstops.step.plans import load_plan

_SETTINGS, _CONFIGURATION, _CUTS = "settings_sha256", "configuration_sha256", "cuts_sha256"
#: of the step that writes the lstchain configuration: what it changes
_UPDATE = "update.json"


def registered_as(name: str) -> tuple[ProductionRow, ...]:
    """The records of a production, one a line; none without a catalogue."""
    try:
        with catalog_session() as session:
            rows = tuple(row for row in all_productions(session) if row.name == name)
            session.expunge_all()
            return rows
    except (ConfigError, TransportError):
        return ()


def refuse_other_production(site: Site, plan: Plan) -> None:
    """Refuse a plan whose name a registered production of other content has, whatever its status.

    The same production is planned again: that computes what was lost, or test nodes that it lacks.

    Raises
    ------
    ConfigError
        Saying what differs.
    """
    name = str(plan.context["production"])
    for row in registered_as(name):
        if differences := list(_differences(site, plan, row)):
            raise ConfigError(
                f"{name} is registered on {row.line} ({row.status}) and is another production: "
                f"{'; '.join(differences)}. This plan would replace its products.",
                "give the new production another name (--name, or prod_id and paths of its configuration); or ask for "
                "what is registered, see `lstops production list --json`.",
            )


def context_of(site: Site, row: ProductionRow) -> Mapping[str, Any]:
    """What the stored plan of a registered production says about itself; nothing if it is gone."""
    path = layout_of(site).plan_file(row.plan_id)
    return load_plan(path).context if path.exists() else {}


def _differences(site: Site, plan: Plan, row: ProductionRow) -> Iterator[str]:
    context = plan.context
    if row.lstchain_version != plan.lstchain_version:
        yield f"lstchain {row.lstchain_version}, not {plan.lstchain_version}"
    level = plan_level_ghz(plan)
    if level is not None and abs(row.nsb_level_ghz - level) > 1e-6:
        yield f"{row.nsb_level_ghz:g} GHz of extra NSB, not {level:g}"
    if _other(row.facts.get(_CUTS), context.get(_CUTS)):
        yield "other cuts"
    if _SETTINGS in context:
        wanted = context[_SETTINGS].get(row.line)
        if _other(row.facts.get(_SETTINGS), wanted):
            yield "other settings (cleaning, cuts, forests, kind of tuning, source or training nodes)"
        elif wanted is None and _changes(plan, row.config):
            yield "another lstchain configuration, which the lines of a production share"
        elif wanted and not row.facts.get(_SETTINGS) and _CONFIGURATION in context_of(site, row):
            yield "it was made from a configuration of lstmcpipe"
    elif row.facts.get(_SETTINGS):
        yield "it was not made from a configuration of lstmcpipe"
    elif _other(context_of(site, row).get(_CONFIGURATION), context.get(_CONFIGURATION)):
        yield "another configuration (lstmcpipe's or lstchain's)"


def _changes(plan: Plan, config: Mapping[str, Any]) -> bool:
    """Whether the lstchain configuration of the plan has other values than that which is registered."""
    made = next((s for s in plan.steps() if s.primary.kind is ArtifactKind.LSTCHAIN_CONFIG), None)
    if not config or made is None or _UPDATE not in made.files:
        return False
    changed = copy.deepcopy(dict(config))
    merge_into(changed, finite(json.loads(made.files[_UPDATE])))  # as the catalogue holds it
    return changed != config


def _other(registered: str | None, wanted: str | None) -> bool:
    """Whether both are known and differ."""
    return bool(registered and wanted and registered != wanted)
