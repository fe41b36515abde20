"""The NSB of a sample of selected runs: its median, what it means for the Monte Carlo, and typical subruns."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from lstops.night.model import Night

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from lstops.quality.tables import SubrunTable

#: Limits of the sample's median in p.e. (notebook data_quality.ipynb, cell of the NSB of the sample).
STANDARD_BELOW_PE, IMAGE_LEVEL_BELOW_PE = 1.6, 4.0
#: A subrun shorter than this part of the usual one is the broken end of a run.
_SHORT = 0.9


class Recommendation(str, Enum):
    """Which Monte Carlo fits the NSB of a sample."""

    STANDARD = "standard"
    IMAGE_LEVEL = "image-level tuning"
    WAVEFORM = "waveform tuning"
    UNKNOWN = "unknown"

    @property
    def advice(self) -> str:
        """The recommendation as a sentence."""
        return {
            "standard": "The standard Monte Carlo fits.",
            "image-level tuning": "Tune the NSB of the Monte Carlo at image level (lstchain_tune_nsb, then dl1ab).",
            "waveform tuning": "Simulate the NSB in the waveforms (waveform_nsb_tuning in the step from R0 to DL1).",
            "unknown": "The NSB is unknown: no run is selected, or none of them has interleaved pedestals.",
        }[self.value]


@dataclass(frozen=True)
class TypicalSubrun:
    """A subrun whose NSB is near the median of the sample.

    Parameters
    ----------
    night : Night
    run_number, subrun : int
    diffuse_nsb_std_pe : float
    """

    night: Night
    run_number: int
    subrun: int
    diffuse_nsb_std_pe: float


@dataclass(frozen=True)
class SampleNsb:
    """The NSB of a sample.

    Parameters
    ----------
    median_pe : float
        Median over the runs of the mean spread of the pedestal charge; NaN if unknown.
    n_runs_without : int
        Selected runs whose NSB is unknown.
    recommendation : Recommendation
    typical : tuple of TypicalSubrun
        Best first; to tune the Monte Carlo with.
    """

    median_pe: float
    n_runs_without: int
    recommendation: Recommendation
    typical: tuple[TypicalSubrun, ...]


def recommend(median_pe: float, unknown: Recommendation = Recommendation.UNKNOWN) -> Recommendation:
    """Return which Monte Carlo fits.

    Parameters
    ----------
    median_pe : float
        Median of the sample's NSB, in p.e.
    unknown : Recommendation
        The answer for an unknown (NaN) median; the notebook gives waveform tuning there.
    """
    if math.isnan(median_pe):
        return unknown
    if median_pe < STANDARD_BELOW_PE:
        return Recommendation.STANDARD
    return Recommendation.IMAGE_LEVEL if median_pe < IMAGE_LEVEL_BELOW_PE else Recommendation.WAVEFORM


def sample_nsb(
    nsb_of_runs_pe: NDArray[np.float64],
    subruns: SubrunTable,
    selected_runs: NDArray[np.int64],
    *,
    ignore_unknown: bool,
    spread: bool,
    n_typical: int = 5,
) -> SampleNsb:
    """Describe the NSB of the selected runs.

    Parameters
    ----------
    nsb_of_runs_pe : array of float
        Mean NSB of the selected runs, NaN where unknown.
    subruns : SubrunTable
        Subruns of all loaded runs.
    selected_runs : array of int
        Numbers of the selected runs.
    ignore_unknown : bool
        Leave runs without NSB out of the median; otherwise one of them makes it unknown (as in the notebook).
    spread : bool
        Take typical subruns from as many runs as possible, see `typical_subruns`.
    n_typical : int
    """
    import numpy as np

    missing = np.isnan(nsb_of_runs_pe)
    values = nsb_of_runs_pe[~missing] if ignore_unknown else nsb_of_runs_pe
    median = float(np.median(values)) if len(values) else math.nan
    unknown = Recommendation.UNKNOWN if ignore_unknown or not len(values) else Recommendation.WAVEFORM
    typical = typical_subruns(subruns, selected_runs, median, n_typical, spread=spread)
    return SampleNsb(median, int(missing.sum()), recommend(median, unknown), typical)


def _nearest(
    rows: NDArray[np.int64], distance: NDArray[np.float64], run_number: NDArray[np.int64], n_runs: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the nearest rows, as many as hold the nearest row of each of the `n_runs` nearest runs.

    Of a million subruns a few hundred are enough, and sorting them all is what would cost.
    """
    import numpy as np

    few = 100 * n_runs
    while few < len(rows):
        near = distance <= np.partition(distance, few - 1)[few - 1]
        if len(np.unique(run_number[rows[near]])) >= n_runs:
            return rows[near], distance[near]
        few *= 10
    return rows, distance


def typical_subruns(
    subruns: SubrunTable, selected_runs: NDArray[np.int64], median_pe: float, n_typical: int = 5, *, spread: bool
) -> tuple[TypicalSubrun, ...]:
    """Return the subruns of selected runs whose NSB is nearest to the median.

    Parameters
    ----------
    spread : bool
        If true, a run gives its second subrun only when every other run has given its first, too short is what is
        clearly shorter than the subruns of the selected runs, and an unknown median gives no subruns. If false, as the
        notebook does it:
        the nearest ones, be they all of one run; shorter than the median of *all* loaded subruns is too short; and the
        order for an unknown median is whatever sorting leaves.
    """
    import numpy as np

    ours = np.isin(subruns.run_number, selected_runs)
    has_nsb = np.isfinite(subruns.diffuse_nsb_std_pe)
    lengths = subruns.elapsed_time_s[ours] if spread else subruns.elapsed_time_s
    if not len(lengths) or not np.any(np.isfinite(lengths)) or (spread and math.isnan(median_pe)):
        return ()
    usual = np.nanmedian(lengths)
    long_enough = subruns.elapsed_time_s >= _SHORT * usual if spread else subruns.elapsed_time_s > usual
    rows = np.flatnonzero(ours & has_nsb & long_enough)
    distance = np.abs(subruns.diffuse_nsb_std_pe[rows] - median_pe)
    if spread:
        rows, distance = _nearest(rows, distance, subruns.run_number, n_typical)
        # the place of each subrun among those of its run, then all by place and distance
        order = np.lexsort((subruns.subrun[rows], distance, subruns.run_number[rows]))
        runs = subruns.run_number[rows][order]
        place = np.arange(len(order)) - np.searchsorted(runs, runs)
        order = order[np.lexsort((distance[order], place))]
    else:
        order = np.argsort(distance)
    return tuple(
        TypicalSubrun(
            Night.parse(f"{int(subruns.night[row]):08d}"),
            int(subruns.run_number[row]),
            int(subruns.subrun[row]),
            float(subruns.diffuse_nsb_std_pe[row]),
        )
        for row in rows[order[:n_typical]]
    )
