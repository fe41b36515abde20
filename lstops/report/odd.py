"""The run whose rate of cosmics oscillates most, and its periodogram."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from lstops.quality.quantities import RunTable, believable_r422
from lstops.quality.statistics import PERIODOGRAM_ANGULAR_FREQUENCIES, periodogram
from lstops.quality.tables import BoolArray, FloatArray, SubrunTable

#: with fewer subruns the sums of the periodogram cancel, and its maximum says nothing (see `lstops.quality.statistics`)
_LEAST_SUBRUNS = 10


@dataclass(frozen=True, eq=False)
class OddRun:
    """A run's rate against time.

    Parameters
    ----------
    run_number : int
    time_s : array of float, shape (n,)
        Seconds since the run's first subrun.
    r422 : array of float, shape (n,)
        Believable rates at 422 p.e. in 1/(s p.e.).
    """

    run_number: int
    time_s: FloatArray
    r422: FloatArray

    @property
    def periods_s(self) -> FloatArray:
        """Periods of `power`, descending."""
        periods: FloatArray = 2 * np.pi / PERIODOGRAM_ANGULAR_FREQUENCIES
        return periods

    @cached_property
    def power(self) -> FloatArray:
        """Lomb-Scargle power in 1/(s p.e.)^2 at `periods_s`."""
        return periodogram(self.time_s, self.r422)

    @property
    def peak(self) -> tuple[float, float]:
        """Period (s) and power of the maximum."""
        highest = int(np.nanargmax(self.power))
        return float(self.periods_s[highest]), float(self.power[highest])

    @property
    def words(self) -> str:
        """What the periodogram says."""
        period, power = self.peak
        # a maximum beyond the length of the run is a drift, not an oscillation
        kind = "a drift over the run, no oscillation" if period > self.time_s[-1] else f"a period of {period:.0f} s"
        return f"largest power {power:.2g} (1/(s p.e.))², {kind}"


def oddest(table: RunTable, among: BoolArray) -> int | None:
    """The run with the largest power of the periodogram; None if no run has enough subruns for one."""
    known = among & np.isfinite(table.max_lsc_believable) & (table.n_believable_r422 >= _LEAST_SUBRUNS)
    if not known.any():
        return None
    rows = np.flatnonzero(known)
    return int(table.run_number[rows[np.argmax(table.max_lsc_believable[rows])]])


def odd_run_of(subruns: SubrunTable, run_number: int) -> OddRun | None:
    """A run's rates from a table of subruns; None if it holds too few of this run."""
    rows = np.flatnonzero((subruns.run_number == run_number) & believable_r422(subruns) & np.isfinite(subruns.time_s))
    rows = rows[np.argsort(subruns.time_s[rows], kind="stable")]
    if len(rows) < _LEAST_SUBRUNS:
        return None
    run = OddRun(run_number, subruns.time_s[rows] - subruns.time_s[rows[0]], subruns.r422[rows])
    return None if np.all(np.isnan(run.power)) else run
