"""Intensity spectra of runs, as published with the Crab performance paper (arXiv:2306.12960)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lstops.errors import DataError
from lstops.quality.quantities import RunTable
from lstops.quality.tables import BoolArray, FloatArray, IntArray

_REMEDY = "Expected the four lines of the paper's file: log10(intensity), rate, run number, verdict."


@dataclass(frozen=True, eq=False)
class IntensitySpectra:
    """How many images of which intensity a run has.

    Parameters
    ----------
    run_number : array of int, shape (n_runs,)
    log10_edges : array of float, shape (n_bins + 1,)
        Edges of the bins in log10 of the intensity in p.e.
    rate_hz : array of float, shape (n_runs, n_bins)
        Images per second in each bin.
    published_good : array of bool, shape (n_runs,)
        The published verdict.
    """

    run_number: IntArray
    log10_edges: FloatArray
    rate_hz: FloatArray
    published_good: BoolArray

    def rate_between(self, low_pe: float, high_pe: float) -> FloatArray:
        """Return the rate of images between two intensities for each run, in Hz.

        A bin that a limit divides counts in proportion to the part inside.
        """
        low, high = np.log10([low_pe, high_pe])
        left, right = self.log10_edges[:-1], self.log10_edges[1:]
        inside = (np.minimum(right, high) - np.maximum(left, low)) / (right - left)
        rate: FloatArray = self.rate_hz @ np.clip(inside, 0, 1)
        return rate

    def run_table(self) -> RunTable:
        """Return a run table that knows nothing but the rate between 80 and 120 p.e.

        The published rates are corrected to the zenith; these, as measured, are up to 3 % lower at 35 deg.
        """
        return RunTable.partial(self.run_number, rate_80_120_hz=self.rate_between(80, 120))


def read_spectra(path: Path) -> IntensitySpectra:
    """Read the file `Intensity_spectra.csv` of the paper.

    Raises
    ------
    DataError
        If the file cannot be read, or the spectra of its runs do not share one binning.
    """
    try:
        lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]
        intensity, rate, run, good = (np.array(line.split(","), dtype=np.float64) for line in lines)
        numbers = np.unique(run).astype(np.int64)
        shape = (len(numbers), -1)
        centres, rates, runs, verdicts = (item.reshape(shape) for item in (intensity, rate, run, good))
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.", _REMEDY) from error
    except ValueError as error:
        raise DataError(f"{path} does not hold intensity spectra: {error}.", _REMEDY) from error
    if np.any(centres != centres[0]) or np.any(runs != numbers[:, None]) or centres.shape[1] < 2:
        raise DataError(f"{path}: the spectra of its runs do not share one binning.", _REMEDY)
    half = (centres[0, 1] - centres[0, 0]) / 2
    edges = np.append(centres[0] - half, centres[0, -1] + half)
    return IntensitySpectra(numbers, edges, rates, verdicts[:, 0] > 0)
