"""Which production fits a run, and the requests for what is missing."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

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
from lstops.production.grid import declination_deg as declination_deg_of
from lstops.production.grid import known_grid
from lstops.production.needs import main_lines
from lstops.site.model import Site


@dataclass(frozen=True)
class Available:
    """What the registry has for runs.

    Attributes
    ----------
    productions : tuple of ProductionRow
        Those that may be used, of all lines.
    standards : mapping
        Name of the standard production by (line, lstchain version).
    """

    productions: tuple[ProductionRow, ...]
    standards: Mapping[tuple[str, str], str] = field(default_factory=dict)


@dataclass(frozen=True)
class ProductionMatch:
    """The answer of the registry for a pointing and its NSB.

    Attributes
    ----------
    line : LineChoice or None
        None if no line has a production in use.
    production : ProductionRow or None
        That of the match's level, also where it does not fit.
    """

    match: LevelMatch
    line: LineChoice | None = None
    production: ProductionRow | None = None


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
        known = available_productions(session)
        declination, zd = float(table.mean_dec_deg[0]), float(table.zenith_deg[0])
        require_pointing(run, declination)
        waits = [r.id for r in production_requests(session) if run in r.runs]
        rule = zd if culmination_rule else None
        found = match_production(site, nsb, declination, known, zd_deg=rule, line_tolerance_deg=line_tolerance_deg)
    return RunMatch(run, nsb, found.match, found.line, waits[0] if waits else None)


def available_productions(session: Session) -> Available:
    """The productions that may be used now, and the standards of their lines."""
    return Available(tuple(current_productions(session)), standards(session))


def match_production(
    site: Site,
    nsb: RunNsb,
    declination_deg: float,
    known: Available,
    *,
    tolerance_ghz: float | None = None,
    zd_deg: float | None = None,
    line_tolerance_deg: float = LINE_TOLERANCE_DEG,
) -> ProductionMatch:
    """The production for a pointing and its NSB, on the nearest line: the one way in which runs are matched.

    Parameters
    ----------
    tolerance_ghz : float, optional
        Default: the site's.
    zd_deg : float, optional
        Of the pointing: then the culmination rule holds.
    """
    tolerance = site.nightly.nsb_tolerance_ghz if tolerance_ghz is None else tolerance_ghz
    version = site.nightly.lstchain_version
    lines = {row.line: declination_deg_of(row.line) for row in known.productions}
    if not lines:
        return ProductionMatch(match_level(nsb, (), tolerance, version))
    choice = choose_line(declination_deg, lines, site.observatory.latitude_deg, zd_deg)
    rows = {row.name: row for row in known.productions if row.line == choice.line}
    match = match_level(nsb, [_level_of(row, known) for row in rows.values()], tolerance, version)
    if not choice.is_near(line_tolerance_deg):
        text = f"{MatchKind.LINE_TOO_FAR.value}: {choice.text()}, at most {line_tolerance_deg:g} deg are accepted"
        match = LevelMatch(nsb.run_number, MatchKind.LINE_TOO_FAR, match.level, match.distance_ghz, text)
    return ProductionMatch(match, choice, rows[match.level.name] if match.level else None)


def _level_of(row: ProductionRow, known: Available) -> NsbLevel:
    is_standard = known.standards.get((row.line, row.lstchain_version)) == row.name
    return NsbLevel(row.nsb_level_ghz, Tailcut.parse(row.tailcut), row.lstchain_version, row.name, is_standard)


def require_pointing(run: int, declination_deg: float) -> None:
    """Refuse to choose a line for a run whose pointing is not known.

    Raises
    ------
    DataError
        If the declination is no number.
    """
    if not math.isfinite(declination_deg):
        raise DataError(f"the pointing of run {run} is not known.", "look at its data check.")


def line_to_request(site: Site, declination_deg: float) -> str | None:
    """The line of the known grid whose models a pointing needs; None if all are too far."""
    lines = {line.name: line.declination_deg for line in main_lines(known_grid())}
    choice = choose_line(declination_deg, lines, site.observatory.latitude_deg)
    return choice.line if choice.is_near() else None


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
    session: Session, site: Site, nsb: Sequence[RunNsb], declination_deg: Mapping[int, float], known: Available
) -> list[ProductionRequestRow]:
    """File a request for the runs of these that no production fits: one a line and level, not one a run.

    Parameters
    ----------
    declination_deg : mapping
        Pointing by run number.

    Returns
    -------
    list of ProductionRequestRow
        What is new or serves more runs now.
    """
    waiting: dict[str, list[RunNsb]] = defaultdict(list)
    for run in nsb:
        declination = declination_deg[run.run_number]
        if not math.isfinite(declination):
            continue
        line = line_to_request(site, declination)
        if line is not None and match_production(site, run, declination, known).match.kind.can_be_requested:
            waiting[line].append(run)
    nightly = site.nightly
    return [
        row
        for line in sorted(waiting)
        for row in file_requests(session, line, nightly.lstchain_version, waiting[line], nightly.nsb_tolerance_ghz)
    ]
