"""Good time within a run: which of its subruns are good, so that a run with one cloud is cut and not lost."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lstops.errors import ConfigError
from lstops.quality.judge import CutResult, Judgement, Sources, judge
from lstops.quality.profiles import Profile, SubrunRules
from lstops.quality.quantities import PERIODOGRAM_COLUMNS, RunTable, believable_r422, run_table
from lstops.quality.request import SelectionRequest
from lstops.quality.statistics import MODE_WINDOW, Grouping
from lstops.quality.tables import BoolArray, FloatArray, RunSummaryTable, SubrunTable


@dataclass(frozen=True)
class GoodInterval:
    """Consecutive good subruns.

    Parameters
    ----------
    first_subrun, last_subrun : int
        Both included.
    start_s, stop_s : float
        Seconds since 1970 (UTC).
    """

    first_subrun: int
    last_subrun: int
    start_s: float
    stop_s: float


@dataclass(frozen=True)
class GoodTime:
    """The good time of a run.

    Parameters
    ----------
    run_number : int
    intervals : tuple of GoodInterval
        In order of time; empty if no subrun is good.
    good_s, total_s : float
        Elapsed time of the good subruns and of all.
    """

    run_number: int
    intervals: tuple[GoodInterval, ...]
    good_s: float
    total_s: float


@dataclass(frozen=True)
class CutVerdict:
    """What a run is once its bad subruns are cut away.

    Parameters
    ----------
    time : GoodTime
    selected : bool
        Whether what is left is good, and enough.
    failed : tuple of CutResult
        The limits that what is left does not keep.
    """

    time: GoodTime
    selected: bool
    failed: tuple[CutResult, ...]

    @property
    def words(self) -> str:
        """The good time in words: how much, which subruns, and whether that is a good run."""
        subruns = ",".join(
            f"{part.first_subrun}-{part.last_subrun}"
            if part.last_subrun > part.first_subrun
            else str(part.first_subrun)
            for part in self.time.intervals
        )
        how = "good" if self.selected else "; ".join(result.reason for result in self.failed) or "too little"
        return f"{self.time.good_s:.0f} of {self.time.total_s:.0f} s (subruns {subruns or 'none'}): {how}"


@dataclass(frozen=True, eq=False)
class CutRuns:
    """Runs judged as a whole and after bad subruns are cut away.

    Parameters
    ----------
    whole : Judgement
        The runs as they are.
    cut : Judgement
        The same runs, in the same order, from their good subruns; a run with too little good time is not selected.
    good_time : tuple of GoodTime
        Of each run.
    """

    whole: Judgement
    cut: Judgement
    good_time: tuple[GoodTime, ...]

    @property
    def enough(self) -> BoolArray:
        """Which runs keep enough good time to be worth keeping; a run that loses nothing does, however short."""
        rules = _rules(self.whole.profile)
        least = ((item, max(rules.min_good_time_s, rules.min_good_fraction * item.total_s)) for item in self.good_time)
        return np.array([item.good_s >= min(limit, item.total_s) for item, limit in least], dtype=bool)

    @property
    def selected(self) -> BoolArray:
        """Which runs are good after the bad subruns are cut away."""
        return self.cut.selected & self.enough

    def verdict(self, row: int) -> CutVerdict:
        """Return what the run in a row of the table is after the cut."""
        return CutVerdict(self.good_time[row], bool(self.selected[row]), self.cut.verdict(row).failed)

    @property
    def hours(self) -> float:
        """Good time of the selected runs, in hours."""
        return float(sum(item.good_s for item, keep in zip(self.good_time, self.selected, strict=True) if keep)) / 3600

    @property
    def hours_gained(self) -> float:
        """Good time of runs that would be lost as a whole, in hours."""
        gained = self.selected & ~self.whole.selected
        return float(sum(item.good_s for item, keep in zip(self.good_time, gained, strict=True) if keep)) / 3600

    @property
    def hours_trimmed(self) -> float:
        """Bad time inside runs that are good as a whole, in hours."""
        both = self.selected & self.whole.selected
        lost = (item.total_s - item.good_s for item, keep in zip(self.good_time, both, strict=True) if keep)
        return float(sum(lost)) / 3600


def good_subruns(subruns: SubrunTable, rules: SubrunRules) -> BoolArray:
    """Tell which subruns are good.

    A good subrun has a believable rate above the limit and near the rate at which most of the run was taken, and a
    spectral index within the range.

    Parameters
    ----------
    subruns : SubrunTable
        Of one or more runs.
    rules : SubrunRules

    Returns
    -------
    array of bool, shape (n_subruns,)
    """
    low, high = rules.index
    with np.errstate(invalid="ignore"):
        good = believable_r422(subruns) & (subruns.r422 > rules.min_r422)
        good &= (subruns.index > low) & (subruns.index < high)
    for rows in Grouping.by(subruns.run_number).rows():
        kept = rows[good[rows]]
        if len(kept):
            centre = fullest_window_centre(subruns.r422[kept])
            good[kept] = np.abs(subruns.r422[kept] - centre) <= rules.max_deviation_r422
    return good


def fullest_window_centre(values: FloatArray, width: float = MODE_WINDOW) -> float:
    """Return the median of the values in the fullest window of the given width."""
    ordered = np.sort(values)
    stop = np.searchsorted(ordered, ordered + width, side="right")
    start = int(np.argmax(stop - np.arange(len(ordered))))
    return float(np.median(ordered[start : stop[start]]))


def good_time(subruns: SubrunTable, good: BoolArray) -> tuple[GoodTime, ...]:
    """Return the good time of each run, in ascending order of run number.

    Subruns are consecutive if their numbers are: a subrun that is missing from the table ends an interval.
    """
    groups = Grouping.by(subruns.run_number)
    result = []
    for run, rows in zip(groups.keys.tolist(), groups.rows(), strict=True):
        rows = rows[np.argsort(subruns.subrun[rows], kind="stable")]
        kept = rows[good[rows]]
        pieces = np.split(kept, np.flatnonzero(np.diff(subruns.subrun[kept]) != 1) + 1) if len(kept) else []
        intervals = tuple(
            GoodInterval(
                int(subruns.subrun[piece[0]]),
                int(subruns.subrun[piece[-1]]),
                # the time of a subrun is that of its middle
                float(subruns.time_s[piece[0]] - subruns.elapsed_time_s[piece[0]] / 2),
                float(subruns.time_s[piece[-1]] + subruns.elapsed_time_s[piece[-1]] / 2),
            )
            for piece in pieces
        )
        result.append(
            GoodTime(
                run,
                intervals,
                float(np.nansum(subruns.elapsed_time_s[kept])),
                float(np.nansum(subruns.elapsed_time_s[rows])),
            )
        )
    return tuple(result)


def cut_runs(
    table: RunTable,
    subruns: SubrunTable,
    profile: Profile,
    request: SelectionRequest | None = None,
    *,
    own_sources: Sources | None = None,
    dropped: BoolArray | None = None,
) -> CutRuns:
    """Judge runs after their bad subruns are cut away.

    Parameters
    ----------
    table : RunTable
        In ascending order of run number.
    subruns : SubrunTable
        All subruns of these runs.
    profile : Profile
        With rules for subruns.
    request : SelectionRequest, optional
    own_sources : Sources, optional
        See `lstops.quality.judge.judge`.
    dropped : array of bool, shape (n_subruns,), optional
        Subruns that are cut away whatever their quality, because a person says so.

    Raises
    ------
    ConfigError
        If the profile has no rules for subruns.
    """
    whole = judge(table, profile, request, own_sources)
    good = good_subruns(subruns, _rules(profile))
    if dropped is not None:
        good &= ~dropped
    times = good_time(subruns, good)
    # runs that lose nothing stay as they are; the others are computed anew, which is what costs
    touched = np.unique(subruns.run_number[~good])
    rows = np.isin(table.run_number, touched)
    remaining = run_table(
        subruns.take(good & np.isin(subruns.run_number, touched)),
        RunSummaryTable(
            table.run_number, np.array([item.good_s for item in times]), table.num_pedestals, table.num_flatfield
        ),
        periodograms=_needs_periodograms(whole.profile),
    )
    unknown = RunTable.partial(table.run_number, night=table.night).arrays()
    # a run without any good subrun keeps its place, with nothing known about it
    place = np.searchsorted(table.run_number, remaining.run_number)
    columns = {name: np.where(rows, unknown[name], values) for name, values in table.arrays().items()}
    for name, values in remaining.arrays().items():
        columns[name][place] = values
    cut = RunTable(**columns)
    return CutRuns(whole, judge(cut, profile, request, own_sources), times)


def _needs_periodograms(profile: Profile) -> bool:
    return any(
        limit.quantity in PERIODOGRAM_COLUMNS and limit.value is not None
        for cut in profile.cuts
        for limit in cut.limits
    )


def _rules(profile: Profile) -> SubrunRules:
    if profile.subruns is None:
        raise ConfigError(
            f"Profile {profile.name!r} has no rules for subruns.",
            "Add a section `subruns`, as profile standard has it.",
        )
    return profile.subruns
