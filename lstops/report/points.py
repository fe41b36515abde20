"""What the plots of runs show: one row a run, whether the runs are of a night or the answer to a request."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from enum import Enum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lstops.quality.profiles import Profile
from lstops.quality.tables import BoolArray, FloatArray, IntArray
from lstops.report.model import NSB, R422, NightReport, ReportRun

#: quantities of the run table that are drawn, under the plot's name; the first one known of a run is taken
SOURCES = {"r422": R422, "index": ("mean_index",), "nsb_pe": NSB}


class Standing(str, Enum):
    """What became of a run, in the order of drawing: what needs a look comes last and is on top."""

    NOT_JUDGED = "not judged"
    SELECTED = "selected"
    REJECTED = "rejected"
    QUARANTINE = "quarantine"


@dataclass(frozen=True, eq=False)
class RunPoints:
    """Runs as columns; NaN where something is not known.

    Parameters
    ----------
    run_number : array of int, shape (n,)
    start_s, elapsed_s : array of float, shape (n,)
        Start in seconds since 1970 (UTC), duration in s.
    standing : array of str, shape (n,)
        Values of `Standing`.
    decided : array of bool, shape (n,)
        Whether a person decided about the run.
    r422, index, nsb_pe, zenith_deg, ra_deg, dec_deg : array of float, shape (n,)
        Rate of cosmics at 422 p.e. in 1/(s p.e.), index of their spectrum, spread of the pedestal charge in p.e.,
        zenith distance and pointing in degrees.
    limits : dict
        Limits of the profile by the name of the column.
    """

    run_number: IntArray
    start_s: FloatArray
    elapsed_s: FloatArray
    standing: NDArray[np.str_]
    decided: BoolArray
    r422: FloatArray
    index: FloatArray
    nsb_pe: FloatArray
    zenith_deg: FloatArray
    ra_deg: FloatArray
    dec_deg: FloatArray
    limits: Mapping[str, tuple[float, ...]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.run_number)

    def take(self, rows: Any) -> RunPoints:
        """Some of the runs, by a mask or indices."""
        names = [item.name for item in fields(self) if item.name != "limits"]
        return RunPoints(**{name: getattr(self, name)[rows] for name in names}, limits=self.limits)

    def groups(self) -> tuple[tuple[Standing, BoolArray], ...]:
        """The standings that occur, in the order of drawing, and which runs have them."""
        found = [(standing, self.standing == standing.value) for standing in Standing]
        return tuple((standing, mask) for standing, mask in found if mask.any())


def limits_of(profile: Profile) -> dict[str, tuple[float, ...]]:
    """The limits of a profile that the plots show as lines, by the name of the plot's column."""
    found: dict[str, list[float]] = {}
    for cut in profile.cuts:
        for limit in cut.limits:
            for name, quantities in SOURCES.items():
                if limit.value is not None and limit.quantity in quantities:
                    found.setdefault(name, []).append(limit.value)
    return {name: tuple(sorted(set(values))) for name, values in found.items()}


def points_of_night(report: NightReport) -> RunPoints:
    """The runs of a night, for the plots."""
    runs = report.runs

    def column(values: Iterable[float | None]) -> FloatArray:
        return np.array([np.nan if value is None else value for value in values], dtype=np.float64)

    return RunPoints(
        run_number=np.array([run.run_id for run in runs], dtype=np.int64),
        start_s=column(run.start.timestamp() if run.start else None for run in runs),
        elapsed_s=column(run.elapsed_s for run in runs),
        standing=np.array([_standing(run).value for run in runs], dtype=np.str_),
        decided=np.array([bool(run.decision) for run in runs], dtype=bool),
        r422=column(run.quantity(SOURCES["r422"]) for run in runs),
        index=column(run.quantity(SOURCES["index"]) for run in runs),
        nsb_pe=column(run.quantity(SOURCES["nsb_pe"]) for run in runs),
        zenith_deg=column(run.zenith_deg for run in runs),
        ra_deg=column(run.quantity(("mean_ra_deg",)) for run in runs),
        dec_deg=column(run.quantity(("mean_dec_deg",)) for run in runs),
        limits=report.limits,
    )


def _standing(run: ReportRun) -> Standing:
    if run.quarantine:
        return Standing.QUARANTINE
    if run.selected is None:
        return Standing.NOT_JUDGED
    return Standing.SELECTED if run.selected else Standing.REJECTED
