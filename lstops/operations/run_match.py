"""Which production fits a run, and the requests for what is missing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy.orm import Session

from lstops.catalog.database import catalog_session
from lstops.catalog.nights import find_run, run_table
from lstops.catalog.nsb import nsb_of_runs
from lstops.catalog.productions import current_productions, standards
from lstops.catalog.requests import file_requests, production_requests
from lstops.catalog.tables import ProductionRequestRow, ProductionRow
from lstops.errors import DataError
from lstops.night import Night
from lstops.nsb.finder import RunNsb
from lstops.nsb.lines import LINE_TOLERANCE_DEG, LineChoice, choose_line
from lstops.nsb.match import LevelMatch, MatchKind, NsbLevel, match_level
from lstops.nsb.tailcuts import Tailcut
from lstops.operations.nightly import read_nsb
from lstops.production.grid import declination_deg
from lstops.site.model import Site


@dataclass(frozen=True)
class RunMatch:
    """The production for a run, and how it was found.

    Attributes
    ----------
    line : LineChoice or None
        None if no line has a production in use.
    request : int or None
        Number of the open request that the run waits in.
    """

    run: int
    nsb: RunNsb
    match: LevelMatch
    line: LineChoice | None
    request: int | None = None


def match_run(
    site: Site, run: int, culmination_rule: bool = False, line_tolerance_deg: float = LINE_TOLERANCE_DEG
) -> RunMatch:
    """The production for a run, on the declination line that is nearest to its pointing.

    Parameters
    ----------
    culmination_rule : bool
        Leave lines out that culminate lower than the run pointed (lstosa).

    Raises
    ------
    DataError
        If the run is not known, has no pedestals, or its NSB was not measured.
    """
    with catalog_session() as session:
        row = find_run(session, run)
        table = run_table([row])
        nsb = nsb_of_runs(session, [run]).get(run) or _measured(site, Night(row.night), run, table.num_pedestals[0])
        productions = current_productions(session)
        standard = standards(session)
        version = site.nightly.lstchain_version
        lines = {p.line: declination_deg(p.line) for p in productions}
        declination, zd = float(table.mean_dec_deg[0]), float(table.zenith_deg[0])
        if not math.isfinite(declination):
            raise DataError(f"the pointing of run {run} is not known.", "look at its data check.")
        waits = [r.id for r in production_requests(session) if run in r.runs]
        if not lines:
            match = match_level(nsb, (), site.nightly.nsb_tolerance_ghz, version)
            return RunMatch(run, nsb, match, None, waits[0] if waits else None)
        choice = choose_line(declination, lines, site.observatory.latitude_deg, zd if culmination_rule else None)
        levels = [level_of(p, standard) for p in productions if p.line == choice.line]
        match = match_level(nsb, levels, site.nightly.nsb_tolerance_ghz, version)
        if not choice.is_near(line_tolerance_deg):
            text = f"{MatchKind.LINE_TOO_FAR.value}: {choice.text()}, at most {line_tolerance_deg:g} deg are accepted"
            match = LevelMatch(run, MatchKind.LINE_TOO_FAR, match.level, match.distance_ghz, text)
    return RunMatch(run, nsb, match, choice, waits[0] if waits else None)


def level_of(row: ProductionRow, standard: dict[tuple[str, str], str]) -> NsbLevel:
    """A registered production as the matching wants it."""
    is_standard = standard.get((row.line, row.lstchain_version)) == row.name
    return NsbLevel(row.nsb_level_ghz, Tailcut.parse(row.tailcut), row.lstchain_version, row.name, is_standard)


def _measured(site: Site, night: Night, run: int, num_pedestals: float) -> RunNsb:
    found, missing = read_nsb(site, night, [run])
    if run in found:
        return found[run]
    if not num_pedestals > 0:  # NaN: the run summary does not tell
        raise DataError(
            f"run {run} has no interleaved pedestals, by which its NSB could be measured.",
            f"leave it out: no production can be chosen for it (see `lstops why {run}`).",
        )
    raise missing[run]


def request_productions(
    session: Session, site: Site, line: str, nsb: Sequence[RunNsb], levels: Sequence[NsbLevel]
) -> list[ProductionRequestRow]:
    """File a request for the runs of these that no production of the line fits: one a level, not one a run.

    Returns
    -------
    list of ProductionRequestRow
        What is new or serves more runs now.
    """
    tolerance, version = site.nightly.nsb_tolerance_ghz, site.nightly.lstchain_version
    waiting = [run for run in nsb if match_level(run, levels, tolerance, version).kind.can_be_requested]
    return file_requests(session, line, version, waiting, tolerance)
