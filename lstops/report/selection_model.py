"""What the report of a request says, as data: the judgement, what people decided, and what follows from both."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone

import numpy as np

from lstops.nsb.sample import SampleNsb
from lstops.quality.judge import Judgement
from lstops.quality.tables import BoolArray, FloatArray, SubrunTable
from lstops.quality.targets import Position
from lstops.report.odd import OddRun, odd_run_of, oddest
from lstops.report.points import SOURCES, RunPoints, Standing, limits_of


@dataclass(frozen=True)
class FlowRow:
    """A row of the cut flow.

    Attributes
    ----------
    failing, only : int
        Runs that fail this cut, and those of them that fail nothing else.
    remaining, hours : int, float
        What passes this cut and all before it.
    """

    cut: str
    failing: int
    only: int
    remaining: int
    hours: float


@dataclass(frozen=True)
class NightHours:
    """A night's part of the answer."""

    night: str
    asked: int
    selected: int
    selected_h: float
    rejected_h: float


@dataclass(frozen=True)
class RejectedRun:
    """A run that was asked for and is not selected."""

    run_id: int
    night: str
    reasons: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class SelectionReport:
    """Everything on the page.

    Attributes
    ----------
    title : str
        What was asked for, such as the name of a source.
    judgement : Judgement
        Of all runs that are known, also those that were not asked for.
    nsb : SampleNsb
    selected : array of bool, shape (n_runs,)
        The answer: the judgement, and what people decided.
    decisions : dict
        What people decided, by run: with author, reason and date.
    odd : OddRun or None
    source : Position or None
    time_s : array of float, shape (n_runs,)
        Time of each run that counts: all of it, or its good time.
    where : str
        Where the runs come from.
    synthetic : bool
        The page then says so in its first line.
    """

    title: str
    judgement: Judgement
    nsb: SampleNsb
    selected: BoolArray
    decisions: Mapping[int, str]
    odd: OddRun | None
    source: Position | None
    time_s: FloatArray
    where: str
    generated_at: datetime
    synthetic: bool = False

    @classmethod
    def of(
        cls,
        judgement: Judgement,
        nsb: SampleNsb,
        subruns: SubrunTable,
        *,
        title: str = "Whole sky",
        source: Position | None = None,
        selected: BoolArray | None = None,
        decisions: Mapping[int, str] | None = None,
        time_s: FloatArray | None = None,
        where: str = "",
        synthetic: bool = False,
    ) -> SelectionReport:
        """Put together what the page needs.

        Parameters
        ----------
        subruns : SubrunTable
            Those of the run that `odd_run` names are enough.
        selected : array of bool, optional
            The answer, if people decided otherwise than the judgement.
        time_s : array of float, optional
            Good time of the runs, if it is not all of their time that counts.
        """
        number = odd_run(judgement)
        chosen = judgement.selected if selected is None else selected
        about = set(judgement.table.run_number[asked_for(judgement) | chosen].tolist())
        return cls(
            title=title,
            judgement=judgement,
            nsb=nsb,
            selected=chosen,
            decisions={run: words for run, words in (decisions or {}).items() if run in about},
            odd=None if number is None else odd_run_of(subruns, number),
            source=source,
            time_s=judgement.table.elapsed_time_s if time_s is None else time_s,
            where=where,
            generated_at=datetime.now(timezone.utc),
            synthetic=synthetic,
        )

    @property
    def asked(self) -> BoolArray:
        """Which runs the request is about: those of its dates, sky region and zenith range, and all selected ones."""
        return asked_for(self.judgement) | self.selected

    @property
    def hours(self) -> float:
        """Hours of the selected runs."""
        return float(np.nansum(self.time_s[self.selected])) / 3600

    def points(self) -> RunPoints:
        """The runs that were asked for, for the plots."""
        table, rows = self.judgement.table.take(self.asked), self.asked
        columns = {name: getattr(table, names[0]).astype(float) for name, names in SOURCES.items()}
        return RunPoints(
            run_number=table.run_number,
            start_s=table.start_s,
            elapsed_s=table.elapsed_time_s,
            standing=np.where(self.selected[rows], Standing.SELECTED.value, Standing.REJECTED.value),
            decided=np.isin(table.run_number, list(self.decisions)),
            zenith_deg=table.zenith_deg,
            ra_deg=table.mean_ra_deg,
            dec_deg=table.mean_dec_deg,
            limits=limits_of(self.judgement.profile),
            **columns,
        )

    def cut_flow(self) -> tuple[FlowRow, ...]:
        """Cut by cut, in the profile's order."""
        hours = np.nan_to_num(self.judgement.table.elapsed_time_s) / 3600
        remaining = np.ones(len(hours), dtype=bool)
        rows = []
        for name, mask in self.judgement.masks.items():
            remaining &= mask
            only = int((~mask & self.judgement.selected_without(name)).sum())
            left = float(hours[remaining].sum())
            rows.append(FlowRow(name, int((~mask).sum()), only, int(remaining.sum()), left))
        return tuple(rows)

    def nights(self) -> tuple[NightHours, ...]:
        """The nights with runs that were asked for."""
        nights, place = np.unique(self.judgement.table.night, return_inverse=True)
        hours = np.nan_to_num(self.time_s) / 3600
        rejected = self.asked & ~self.selected

        def per_night(rows: BoolArray, weights: bool = False) -> list[float]:
            found = np.bincount(place[rows], hours[rows] if weights else None, minlength=len(nights))
            return [float(value) for value in found]

        return tuple(
            NightHours(f"{night:08d}", int(asked), int(chosen), good, bad)
            for night, asked, chosen, good, bad in zip(
                nights.tolist(),
                per_night(self.asked),
                per_night(self.selected),
                per_night(self.selected, weights=True),
                per_night(rejected, weights=True),
                strict=True,
            )
            if asked
        )

    def rejected(self) -> tuple[RejectedRun, ...]:
        """The runs that were asked for and are not selected, with the reasons, in order of run number."""
        found = []
        for row in np.flatnonzero(self.asked & ~self.selected).tolist():
            verdict = self.judgement.verdict(row)
            decision = self.decisions.get(verdict.run_number)
            night = str(verdict.night or "")
            found.append(RejectedRun(verdict.run_number, night, ((decision,) if decision else ()) + verdict.reasons))
        return tuple(found)


def asked_for(judgement: Judgement) -> BoolArray:
    """Which runs pass the cuts that say what was asked for: dates, sky region, zenith range."""
    asked = np.ones(len(judgement.table), dtype=bool)
    for cut in judgement.profile.cuts:
        if cut.kind != "limits":
            asked &= judgement.masks[cut.name]
    return asked


def odd_run(judgement: Judgement) -> int | None:
    """The run whose subruns the report wants to draw: of those asked for, the one that oscillates most."""
    return oddest(judgement.table, asked_for(judgement))
