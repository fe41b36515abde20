"""Judging runs: pure functions from run-wise quantities, a profile and a request to verdicts with reasons."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from lstops.night.model import Night
from lstops.quality.profiles import Cut, Limit, Profile, Relation, changed
from lstops.quality.quantities import RunTable
from lstops.quality.request import NO_FIRST_DATE, NO_LAST_DATE, SelectionRequest
from lstops.quality.sky import separation_deg
from lstops.quality.tables import BoolArray, FloatArray

#: right ascension and declination of the source of each run of a table, in degrees; NaN where unknown
Sources = tuple[FloatArray, FloatArray]


@dataclass(frozen=True)
class CutResult:
    """What one limit of one cut says about one run.

    Parameters
    ----------
    cut : str
        Name of the cut.
    quantity : str
    value : float
        NaN if unknown.
    relation : Relation
    limit : float
    unit : str
    margin : float
        Distance from the limit, positive on the good side, in the quantity's unit; NaN if unknown.
    passed : bool
    failure : str
        What failing means.
    """

    cut: str
    quantity: str
    value: float
    relation: Relation
    limit: float
    unit: str
    margin: float
    passed: bool
    failure: str

    @property
    def reason(self) -> str:
        """The result as a sentence for a person."""
        return self.comparison if self.passed else f"{self.failure}: {self.comparison}"

    @property
    def comparison(self) -> str:
        """Value and limit in words."""
        value, limit = _number(self.value, self.unit), _number(self.limit, self.unit)
        return f"{self.quantity} is {value}, must be {self.relation.words} {limit}"


@dataclass(frozen=True)
class Verdict:
    """What a profile says about a run, and why.

    Parameters
    ----------
    run_number : int
    night : Night or None
        None if the table does not tell.
    profile : str
    selected : bool
    results : tuple of CutResult
        Every limit that applies to the run.
    """

    run_number: int
    night: Night | None
    profile: str
    selected: bool
    results: tuple[CutResult, ...]

    @property
    def failed(self) -> tuple[CutResult, ...]:
        """The limits that the run does not keep."""
        return tuple(result for result in self.results if not result.passed)

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why the run is rejected, in plain words; empty if it is selected."""
        return tuple(result.reason for result in self.failed)


@dataclass(frozen=True, eq=False)
class Check:
    """One limit against all runs: the columns behind `CutResult`."""

    cut: str
    quantity: str
    values: FloatArray
    relation: Relation
    limit: float
    unit: str
    failure: str
    passed: BoolArray
    applies: BoolArray

    def result(self, row: int) -> CutResult:
        """Return what the limit says about one run."""
        value = float(self.values[row])
        upward = self.relation in (Relation.ABOVE, Relation.FROM)
        margin = value - self.limit if upward else self.limit - value
        return CutResult(
            self.cut,
            self.quantity,
            value,
            self.relation,
            self.limit,
            self.unit,
            margin,
            bool(self.passed[row]),
            self.failure,
        )


@dataclass(frozen=True, eq=False)
class Judgement:
    """All runs judged by one profile and request.

    Parameters
    ----------
    table : RunTable
    profile : Profile
        With the request's changes.
    request : SelectionRequest
    checks : tuple of Check
    masks : dict of array of bool, shape (n_runs,)
        By the name of the cut, in the profile's order.
    """

    table: RunTable
    profile: Profile
    request: SelectionRequest
    checks: tuple[Check, ...]
    masks: dict[str, BoolArray]

    @property
    def selected(self) -> BoolArray:
        """Which runs pass all cuts."""
        return self.selected_without()

    def selected_without(self, *names: str) -> BoolArray:
        """Which runs pass all cuts but those named."""
        result = np.ones(len(self.table), dtype=bool)
        for name, mask in self.masks.items():
            if name not in names:
                result &= mask
        return result

    def verdict(self, row: int) -> Verdict:
        """Return the verdict on the run in a row of the table."""
        night = int(self.table.night[row])
        return Verdict(
            int(self.table.run_number[row]),
            Night.parse(f"{night:08d}") if night else None,
            self.profile.name,
            all(mask[row] for mask in self.masks.values()),
            tuple(check.result(row) for check in self.checks if check.applies[row]),
        )

    def cut_flow(self) -> tuple[tuple[str, int, int], ...]:
        """Return for each cut its name, how many runs pass it, and how many pass it and all before it."""
        remaining = np.ones(len(self.table), dtype=bool)
        flow = []
        for name, mask in self.masks.items():
            remaining &= mask
            flow.append((name, int(mask.sum()), int(remaining.sum())))
        return tuple(flow)


def judge(
    table: RunTable, profile: Profile, request: SelectionRequest | None = None, own_sources: Sources | None = None
) -> Judgement:
    """Judge all runs of a table at once.

    Parameters
    ----------
    table : RunTable
    profile : Profile
    request : SelectionRequest, optional
        The whole sky, all dates and up to 75 deg of zenith distance if not given.
    own_sources : Sources, optional
        What each run observed, for a request without a source: each run is then held against its own source, as the
        nightly chain does; where that is unknown, the cut on the region does not apply.

    Raises
    ------
    ConfigError
        If the request changes a limit that the profile does not have.
    """
    request = request or SelectionRequest()
    profile = changed(profile, request.changes())
    checks: list[Check] = []
    masks: dict[str, BoolArray] = {}
    for cut in profile.cuts:
        mask = np.ones(len(table), dtype=bool)
        for check in _checks(cut, table, request, own_sources):
            mask &= check.passed | ~check.applies
            checks.append(check)
        masks[cut.name] = mask
    return Judgement(table, profile, request, tuple(checks), masks)


def judge_runs(
    table: RunTable, profile: Profile, request: SelectionRequest | None = None, rows: Iterable[int] | None = None
) -> tuple[Verdict, ...]:
    """Judge the runs of a table (or some rows of it) and return a verdict with reasons for each."""
    judgement = judge(table, profile, request)
    return tuple(judgement.verdict(row) for row in (range(len(table)) if rows is None else rows))


def _checks(cut: Cut, table: RunTable, request: SelectionRequest, own_sources: Sources | None) -> list[Check]:
    everywhere = np.ones(len(table), dtype=bool)
    if cut.kind == "dates":
        night = table.night.astype(np.float64)
        first, last = request.dates
        words, bounds = "Not within the dates asked for", []
        if first > NO_FIRST_DATE:
            bounds.append(Check(cut.name, "night", night, Relation.FROM, first, "", words, night >= first, everywhere))
        if last < NO_LAST_DATE:
            bounds.append(Check(cut.name, "night", night, Relation.UP_TO, last, "", words, night <= last, everywhere))
        return bounds
    if cut.kind == "sky_region":
        source = request.source_deg or own_sources
        if source is None:
            return []
        known = everywhere & np.isfinite(source[0]) & np.isfinite(source[1])
        angle = separation_deg(table.mean_ra_deg, table.mean_dec_deg, source)
        low, high = request.angle_to_source_deg
        words, name = "Not pointed at the source", "separation from the source"
        return [
            Check(cut.name, name, angle, Relation.ABOVE, low, "deg", words, angle > low, known),
            Check(cut.name, name, angle, Relation.BELOW, high, "deg", words, angle < high, known),
        ]
    if cut.kind == "zenith":
        cosine: FloatArray = getattr(table, cut.quantity)
        low, high = request.zenith_deg
        # compared in the cosine, as the notebook does, and shown as an angle
        with np.errstate(invalid="ignore"):
            zenith = np.rad2deg(np.arccos(np.clip(cosine, -1, 1)))
        above, below = cosine < math.cos(math.radians(low)), cosine > math.cos(math.radians(high))
        words, name = "Outside the zenith range asked for", "zenith_deg"
        return [
            Check(cut.name, name, zenith, Relation.ABOVE, low, "deg", words, above, everywhere),
            Check(cut.name, name, zenith, Relation.BELOW, high, "deg", words, below, everywhere),
        ]
    return [_limit_check(cut.name, limit, limit.value, table) for limit in cut.limits if limit.value is not None]


def _limit_check(cut: str, limit: Limit, bound: float, table: RunTable) -> Check:
    values: FloatArray = np.asarray(getattr(table, limit.quantity), dtype=np.float64)
    with np.errstate(invalid="ignore"):
        if limit.relation is Relation.ABOVE:
            passed = values > bound
        elif limit.relation is Relation.BELOW:
            passed = values < bound
        else:
            passed = ~(values > bound)
    applies = np.ones(len(table), dtype=bool)
    if limit.since is not None:
        applies &= table.night >= int(limit.since)
    if limit.until is not None:
        applies &= table.night <= int(limit.until)
    applies |= table.night == 0  # an unknown night must not let a run escape a cut
    return Check(cut, limit.quantity, values, limit.relation, bound, limit.unit, limit.failure, passed, applies)


def _number(value: float, unit: str) -> str:
    if math.isnan(value):
        return "unknown"
    text = f"{value:.0f}" if float(value).is_integer() and abs(value) < 1e9 else f"{value:.4g}"
    return f"{text} {unit}".strip()
