"""A person's request for a production, as plans: from an lstmcpipe configuration, from data, or at NSB levels."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from lstops.catalog.database import catalog_session
from lstops.catalog.productions import existing_productions
from lstops.errors import ConfigError, TransportError
from lstops.operations.given_config import lint_notes, require_plannable, with_given_level
from lstops.operations.plan_data import plan_typical
from lstops.operations.plan_levels import plan_levels
from lstops.operations.planned import Planned, complete
from lstops.operations.wanted import Wanted
from lstops.production.config import read_config
from lstops.production.cost import plan_cost
from lstops.production.definition import read_production
from lstops.production.from_lstmcpipe import LstmcpipePlanRequest, TreeLister, plan_from_lstmcpipe
from lstops.production.grid import Grid, known_grid
from lstops.production.pull_request import with_pull_request
from lstops.production.request import ProductionRequest, check_request
from lstops.production.reuse import Existing
from lstops.production.trainer import require_trainer
from lstops.site.model import Site


def plan_request(site: Site, request: ProductionRequest, grid: Grid | None = None) -> tuple[Planned, ...]:
    """Plan what is asked for; nothing is stored.

    Raises
    ------
    LstOpsError
        If it cannot be planned; the message says what and what helps.
    """
    request = check_request(request)
    if request.config is not None:
        return (_from_config(site, request, request.config, grid),)
    existing, note = _existing(site)
    wanted = Wanted(site, request, grid or known_grid(), existing)
    require_trainer(wanted.trainer, wanted.version, site)
    found = plan_levels(wanted) if request.levels_ghz else plan_typical(wanted)
    return tuple(replace(planned, notes=(*planned.notes, *note)) for planned in found)


def _existing(site: Site) -> tuple[tuple[Existing, ...], tuple[str, ...]]:
    try:
        with catalog_session() as session:
            return existing_productions(session), ()
    except (ConfigError, TransportError) as error:
        return (), (f"existing productions were not looked for: {error.what}",)


def _from_config(site: Site, request: ProductionRequest, path: Path, grid: Grid | None) -> Planned:
    config = read_config(path, request.lstchain_config)
    require_plannable(config, request.name)
    definition = read_production(config)
    notes = lint_notes(config, definition, path, grid, request.despite_errors)
    plan = plan_from_lstmcpipe(
        LstmcpipePlanRequest(
            definition=definition,
            site=site,
            lister=TreeLister(site.base),
            lstchain_version=request.lstchain_version,
            roots=request.roots,
        )
    )
    plan, level_note = with_given_level(plan, request.levels_ghz)
    # as it was given: writing thousands of steps anew takes longer than planning them
    text = path.read_text() if config.old is None else config.pipe
    plan = complete(site, with_pull_request(plan, text, site))
    return Planned(plan.title, plan, plan_cost(site, plan), (*level_note, *notes, *_existing(site)[1]))
