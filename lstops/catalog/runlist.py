"""The runs that a question is about, judged from the catalogue with people's decisions laid over the verdicts."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from sqlalchemy.orm import Session

from lstops.catalog.history import TYPICAL_COLUMNS, History, load_history, load_subruns
from lstops.catalog.nsb import nsb_of_runs
from lstops.catalog.overlay import active_decisions
from lstops.night import Night
from lstops.nsb.finder import RunNsb
from lstops.nsb.sample import SampleNsb, sample_nsb
from lstops.quality.intervals import CutVerdict, cut_runs
from lstops.quality.judge import Judgement, Sources, judge
from lstops.quality.overlay import (
    EffectiveVerdict,
    Overlay,
    OverlayAction,
    asked_cuts,
    dropped,
    dropped_time,
    effective_selection,
    holds,
    with_overlay,
)
from lstops.quality.profiles import Profile
from lstops.quality.quantities import RunTable
from lstops.quality.request import NO_FIRST_DATE, NO_LAST_DATE, SelectionRequest
from lstops.quality.tables import BoolArray, FloatArray, SubrunTable

if TYPE_CHECKING:
    from astropy.table import Table as AstropyTable


@dataclass(frozen=True)
class NightHours:
    """The selected runs of a night.

    Parameters
    ----------
    night : Night
    n_runs : int
    hours : float
    """

    night: Night
    n_runs: int
    hours: float


@dataclass(frozen=True, eq=False)
class RunList:
    """The answer to a question about runs.

    Parameters
    ----------
    history : History
        All runs of the nights that were looked at.
    judgement : Judgement
        What the profile and the question say about them, in the same order.
    overlay : mapping of int to sequence of OverlayRecord
        People's decisions that hold, by run number.
    asked : frozenset of str
        Cuts that are part of the question; a decision to include a run does not lift them.
    good_time : mapping of int to CutVerdict or None
        Good time of each run that is in question; None if runs are judged as a whole.
    own_sources : Sources or None
        What the runs were held against, if each is judged at its own source.
    measured_nsb : mapping of int to RunNsb
        What the tailcut finder measured, by run number.
    dropped_s : mapping of int to float
        Time of the subruns that people dropped, by run number, in seconds; it counts nowhere.
    subruns : SubrunTable
        From which typical subruns are taken; see `with_typical_subruns`.
    """

    history: History
    judgement: Judgement
    overlay: Overlay
    asked: frozenset[str] = frozenset()
    good_time: Mapping[int, CutVerdict] | None = None
    own_sources: Sources | None = None
    measured_nsb: Mapping[int, RunNsb] = field(default_factory=dict)
    dropped_s: Mapping[int, float] = field(default_factory=dict)
    subruns: SubrunTable = field(default_factory=SubrunTable.empty)

    @cached_property
    def in_question(self) -> BoolArray:
        """Which runs the question is about: those in its dates, region and zenith range, good or bad."""
        return passing(self.judgement, self.asked)

    @cached_property
    def selected_as_whole(self) -> BoolArray:
        """Which runs are taken without cutting bad subruns away; shape (n_runs,)."""
        return effective_selection(self.judgement, self.overlay, self.asked)

    @cached_property
    def selected(self) -> BoolArray:
        """Which runs are taken, with people's decisions; shape (n_runs,)."""
        if self.good_time is None:
            return self.selected_as_whole
        numbers = self.judgement.table.run_number.tolist()
        good = [run in self.good_time and self.good_time[run].selected for run in numbers]
        decided = [holds(kept, self.overlay.get(run, ())) for run, kept in zip(numbers, good, strict=True)]
        return np.array(decided, dtype=bool) & self.in_question

    @property
    def profile(self) -> Profile:
        """The profile, with the limits that the question changes."""
        return self.judgement.profile

    @cached_property
    def table(self) -> RunTable:
        """Run-wise quantities of the selected runs."""
        return self.judgement.table.take(self.selected)

    @property
    def runs(self) -> list[int]:
        """Numbers of the selected runs."""
        numbers: list[int] = self.table.run_number.tolist()
        return numbers

    @cached_property
    def time_s(self) -> FloatArray:
        """Time of each run that counts, in seconds: its good time if asked for, else all that nobody dropped."""
        table = self.judgement.table
        elapsed: FloatArray = table.elapsed_time_s.copy()
        for run, lost_s in self.dropped_s.items():
            elapsed[table.run_number == run] -= lost_s
        if self.good_time is None:
            return elapsed
        times = {run: item.time.good_s for run, item in self.good_time.items() if item.selected}
        numbers = table.run_number.tolist()
        # a run that is included although too little of it is good counts as a whole: that was the decision
        return np.array([times.get(run, whole) for run, whole in zip(numbers, elapsed.tolist(), strict=True)])

    @property
    def hours(self) -> float:
        """Hours of the selected runs."""
        return float(np.nansum(self.time_s[self.selected])) / 3600

    @property
    def hours_dropped(self) -> float:
        """Hours of selected runs that do not count because people dropped these subruns."""
        return sum(self.dropped_s.get(run, 0.0) for run in self.runs) / 3600

    @property
    def hours_gained(self) -> float:
        """Hours of runs that are lost as a whole and kept because their bad subruns are cut away."""
        return float(np.nansum(self.time_s[self.selected & ~self.selected_as_whole])) / 3600

    @property
    def hours_trimmed(self) -> float:
        """Bad hours inside runs that are good as a whole, what people dropped among them."""
        both = self.selected & self.selected_as_whole
        return float(np.nansum((self.judgement.table.elapsed_time_s - self.time_s)[both])) / 3600

    @cached_property
    def nights(self) -> tuple[NightHours, ...]:
        """The nights with selected runs, their number and their hours, in order."""
        nights, group = np.unique(self.table.night, return_inverse=True)
        hours = np.bincount(group, weights=np.nan_to_num(self.time_s[self.selected]), minlength=len(nights)) / 3600
        counts = np.bincount(group, minlength=len(nights))
        return tuple(
            NightHours(Night.parse(f"{night:08d}"), n, h)
            for night, n, h in zip(nights.tolist(), counts.tolist(), hours.tolist(), strict=True)
        )

    def verdict(self, row: int) -> EffectiveVerdict:
        """Return what holds for the run in a row of the history."""
        verdict = self.judgement.verdict(row)
        return with_overlay(verdict, self.overlay.get(verdict.run_number, ()))

    @cached_property
    def rejected(self) -> tuple[EffectiveVerdict, ...]:
        """The runs that the question is about and that are not taken, with their reasons."""
        return tuple(self.verdict(row) for row in np.flatnonzero(self.in_question & ~self.selected).tolist())

    def lost_by_cut(self) -> tuple[tuple[str, int, int], ...]:
        """Return for each cut that rejects runs in question its name, how many fail it, and how many fail only it."""
        masks = {name: mask[self.in_question] for name, mask in self.judgement.masks.items()}
        failures = np.sum([~mask for mask in masks.values()], axis=0)
        counts = ((name, int((~mask).sum()), int((~mask & (failures == 1)).sum())) for name, mask in masks.items())
        return tuple(item for item in counts if item[1])

    def decided(self, action: OverlayAction) -> int:
        """Return how many runs in question a decision of that kind holds for."""
        decided = [run for run, records in self.overlay.items() if any(record.action is action for record in records)]
        return int(np.isin(self.judgement.table.run_number[self.in_question], decided).sum())

    @cached_property
    def nsb(self) -> SampleNsb:
        """The NSB of the selected runs: median, recommendation and, if subruns are loaded, typical ones."""
        return sample_nsb(
            self.table.mean_diffuse_nsb_std_pe,
            self.subruns,
            self.table.run_number,
            ignore_unknown=self.profile.sample.ignore_runs_without_nsb,
            spread=self.profile.sample.spread_typical_subruns,
            n_typical=self.profile.sample.n_typical_subruns,
        )

    def to_astropy(self, columns: Sequence[str] | None = None, *, rejected: bool = False) -> AstropyTable:
        """Return the list as an astropy table with units (photoelectrons as electrons).

        Parameters
        ----------
        columns : sequence of str, optional
            Names as in `lstops.catalog.runcolumns.COLUMNS`: run-wise quantities, zenith_deg, decision, reasons, ...
        rejected : bool
            Also the runs in question that are not taken.

        Raises
        ------
        ConfigError
            For a column that there is not.
        """
        from lstops.catalog.runcolumns import DEFAULT, columns_named, rows_of
        from lstops.catalog.runformats import as_astropy

        return as_astropy(self, columns_named(columns or DEFAULT), rows_of(self, rejected=rejected))


def passing(judgement: Judgement, cuts: frozenset[str]) -> BoolArray:
    """Return which runs pass all of some cuts."""
    result = np.ones(len(judgement.table), dtype=bool)
    for name in cuts:
        result &= judgement.masks[name]
    return result


def list_runs(session: Session, profile: Profile, request: SelectionRequest | None = None) -> RunList:
    """Answer a question about runs from the catalogue.

    Raises
    ------
    ConfigError
        If the question changes a limit that the profile does not have.
    """
    request = request or SelectionRequest()
    first, last = request.dates
    history = load_history(
        session,
        None if first <= NO_FIRST_DATE else Night.parse(f"{first:08d}"),
        None if last >= NO_LAST_DATE else Night.parse(f"{last:08d}"),
    )
    judgement = judge(history.table, profile, request)
    overlay, nsb = active_decisions(session), nsb_of_runs(session)
    lost_s = _dropped_time(session, history, overlay)
    return RunList(history, judgement, overlay, asked_cuts(judgement), measured_nsb=nsb, dropped_s=lost_s)


def list_night(session: Session, night: Night, profile: Profile) -> RunList:
    """Judge the runs of a night as the nightly chain does: each at its own source, and included is included."""
    history = load_history(session, night, night)
    own = history.source_ra_deg, history.source_dec_deg
    judgement = judge(history.table, profile, own_sources=own)
    overlay, nsb = active_decisions(session), nsb_of_runs(session, history.table.run_number.tolist())
    lost_s = _dropped_time(session, history, overlay)
    return RunList(history, judgement, overlay, own_sources=own, measured_nsb=nsb, dropped_s=lost_s)


def _dropped_time(session: Session, history: History, overlay: Overlay) -> dict[int, float]:
    """Time of the subruns that people dropped from runs of the history, in seconds by run number."""
    there = set(history.table.run_number.tolist())
    runs = [run for run, records in overlay.items() if run in there and any(record.subruns for record in records)]
    if not runs:
        return {}
    subruns = load_subruns(session, runs, columns=("run_number", "subrun", "elapsed_time_s"))
    return dropped_time(subruns, {run: overlay[run] for run in runs})


def with_typical_subruns(session: Session, answer: RunList) -> RunList:
    """Load what is needed to name subruns whose NSB is typical of the selected runs (`RunList.nsb`)."""
    # the notebook's typical subruns depend on all that is loaded
    spread = answer.profile.sample.spread_typical_subruns
    runs, nights = (answer.runs, [item.night for item in answer.nights]) if spread else (None, answer.history.nights)
    subruns = load_subruns(session, runs, nights, TYPICAL_COLUMNS)
    return replace(answer, subruns=subruns.take(~dropped(subruns, answer.overlay)) if answer.dropped_s else subruns)


def with_good_time(session: Session, answer: RunList, only: Collection[int] | None = None) -> RunList:
    """Cut bad subruns away, those that people dropped among them, and judge what is left.

    Parameters
    ----------
    only : collection of int, optional
        Numbers of the runs to do it for; all that are in question if not given.

    Raises
    ------
    ConfigError
        If the profile has no rules for subruns.
    """
    wanted = answer.in_question if only is None else np.isin(answer.history.table.run_number, list(only))
    rows = np.flatnonzero(wanted)
    table, own = answer.history.table.take(rows), answer.own_sources
    runs = table.run_number.tolist()
    subruns = load_subruns(session, runs=runs) if runs else SubrunTable.empty()
    cut = cut_runs(
        table,
        subruns,
        answer.profile,
        answer.judgement.request,
        own_sources=(own[0][rows], own[1][rows]) if own else None,
        dropped=dropped(subruns, answer.overlay),
    )
    return replace(answer, good_time={run: cut.verdict(row) for row, run in enumerate(runs)})
