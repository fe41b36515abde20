"""Statistics of the subruns of a run, group by group."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lstops.quality.tables import BoolArray, FloatArray, IntArray

#: Width of the window in r422, in events/(s p.e.) (notebook data_quality.ipynb, find_fraction_in_mode).
MODE_WINDOW = 0.15
#: Angular frequencies (rad/s) of the periodogram (notebook data_quality.ipynb, cell of the periodogram).
PERIODOGRAM_ANGULAR_FREQUENCIES = np.logspace(-3, -1, 100)


@dataclass(frozen=True, eq=False)
class Grouping:
    """The rows of a table grouped by run.

    Parameters
    ----------
    keys : array of int, shape (n_groups,)
        The run numbers, ascending.
    group : array of int, shape (n_rows,)
        Index into `keys` of each row.
    first : array of int, shape (n_groups,)
        First row of each group.
    """

    keys: IntArray
    group: IntArray
    first: IntArray

    @classmethod
    def by(cls, values: IntArray) -> Grouping:
        """Group rows by equal values."""
        keys, first, group = np.unique(values, return_index=True, return_inverse=True)
        return cls(keys, group, first)

    @property
    def counts(self) -> IntArray:
        """Number of rows of each group."""
        return np.bincount(self.group, minlength=len(self.keys))

    def rows(self) -> list[IntArray]:
        """Return the rows of each group, in the table's order."""
        order = np.argsort(self.group, kind="stable")
        return np.split(order, np.cumsum(self.counts)[:-1]) if len(self.keys) else []

    def mean(self, values: FloatArray, keep: BoolArray | None = None) -> FloatArray:
        """Return the mean of each group over the rows kept; NaN for a group without rows.

        The sums run over the rows in order, as `scipy.stats.binned_statistic` does, so that the result is the same to
        the last bit.
        """
        group, values = self._kept(values, keep)
        n = len(self.keys)
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            return np.bincount(group, weights=values, minlength=n) / np.bincount(group, minlength=n)

    def std(self, values: FloatArray, keep: BoolArray | None = None) -> FloatArray:
        """Return the standard deviation (ddof = 0) of each group over the rows kept; NaN for a group without rows."""
        group, kept = self._kept(values, keep)
        n = len(self.keys)
        mean = self.mean(values, keep)
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            delta = kept - mean[group]
            return np.sqrt(np.bincount(group, weights=delta * delta, minlength=n) / np.bincount(group, minlength=n))

    def circular_mean_deg(self, angle_deg: FloatArray) -> FloatArray:
        """Return the mean direction of each group in degrees, from 0 to 360."""
        with np.errstate(invalid="ignore"):
            angle = np.deg2rad(angle_deg)
            mean = np.arctan2(self.mean(np.sin(angle)), self.mean(np.cos(angle)))
        return np.rad2deg(np.where(mean < 0, mean + 2 * np.pi, mean))

    def _kept(self, values: FloatArray, keep: BoolArray | None) -> tuple[IntArray, FloatArray]:
        return (self.group, values) if keep is None else (self.group[keep], values[keep])


def fraction_around_mode(values: FloatArray, width: float = MODE_WINDOW) -> float:
    """Return the fraction of values in the fullest window, exactly as the notebook does (its slips included).

    The notebook fills a histogram of bins a hundredth of the window wide and slides the window over it; the lowest bin
    is never inside. An outlier makes millions of empty bins, so here only the occupied ones are looked at: the edges
    and the sums are those of `numpy.histogram` and `cumsum`, at a cost that depends on the number of values alone.

    Parameters
    ----------
    values : array of float, shape (n,)
        Values without NaN.
    width : float
        Width of the window.

    Returns
    -------
    float
        NaN for no values, a single one or equal ones, and where one is infinite (the notebook raises there).
    """
    if not len(values):
        return np.nan
    low, high = float(np.min(values)), float(np.max(values))
    if high == low or not np.isfinite(high - low):
        return np.nan
    if high - low < width:
        return 1.0
    step = width / 100
    n_bins = int((high - low) // step + 2)
    if n_bins > 2**50:  # bins narrower than the spacing of floating-point numbers mean nothing
        return fraction_in_window(values, width)
    bins, counts = np.unique(_histogram_bins(values, low - step, high + step, n_bins), return_counts=True)
    n_window = int(width // step)
    cumulative = np.concatenate(([0], np.cumsum(counts))) / len(values)

    def up_to(bin_number: IntArray) -> FloatArray:
        return cumulative[np.searchsorted(bins, bin_number, side="right")]

    # the sum over the window changes only where an occupied bin enters or leaves it
    starts = np.concatenate(([0], bins, bins - n_window))
    starts = starts[(starts >= 0) & (starts <= n_bins - 1 - n_window)]
    return float(np.max(up_to(starts + n_window) - up_to(starts)))


def _histogram_bins(values: FloatArray, first: float, last: float, n_bins: int) -> IntArray:
    """Return the bin of each value in `numpy.histogram(values, n_bins, (first, last))` without making the histogram."""
    width = (last - first) / n_bins

    def edge(number: IntArray) -> FloatArray:
        # the arithmetic of numpy.linspace; its last edge is set apart but only compared from the bin before
        return np.where(number == n_bins, last, number * width + first)

    index = ((values - first) / (last - first) * n_bins).astype(np.int64)
    index[index == n_bins] -= 1
    index[values < edge(index)] -= 1
    index[(values >= edge(index + 1)) & (index != n_bins - 1)] += 1
    return index


def fraction_in_window(values: FloatArray, width: float = MODE_WINDOW) -> float:
    """Return the largest fraction of values that a window of the given width holds, without bins.

    Parameters
    ----------
    values : array of float, shape (n,)
        Finite values.
    width : float
        Width of the window, its edges included.

    Returns
    -------
    float
        1 for a single value; NaN for none.
    """
    if not len(values):
        return np.nan
    ordered = np.sort(values)
    inside = np.searchsorted(ordered, ordered + width, side="right") - np.arange(len(ordered))
    return float(inside.max() / len(ordered))


def periodogram(time_s: FloatArray, values: FloatArray) -> FloatArray:
    """Return the Lomb-Scargle periodogram (floating mean, not normalised) at `PERIODOGRAM_ANGULAR_FREQUENCIES`.

    The formulae of Zechmeister and Kuerster (2009, A&A 496, 577) with equal weights, in the order of operations of
    `scipy.signal.lombscargle` (1.15 and later, BSD-3), so that the result is the same to the last bit. That function is
    not called because its import costs a second and a half of CPU, more than a night of data.

    Parameters
    ----------
    time_s : array of float, shape (n,)
        Seconds since the start of the run.
    values : array of float, shape (n,)
        Values without NaN; at least one.

    Returns
    -------
    array of float, shape (100,)
        In the square of the unit of `values`.
    """
    n = len(values)
    weight = np.full((1, n), 1.0 / n)
    weighted = (weight.T * values.reshape(-1, 1)).T
    phase = PERIODOGRAM_ANGULAR_FREQUENCIES.reshape(1, -1) * time_s.reshape(-1, 1)
    with np.errstate(all="ignore"):
        mean = np.dot(weight, values.reshape(-1, 1))
        cosine, sine = np.cos(phase), np.sin(phase)
        cc = np.dot(weight, cosine * cosine)
        ss, cs = 1.0 - cc, np.dot(weight, cosine * sine)
        c, s = np.dot(weight, cosine), np.dot(weight, sine)
        cc, ss, cs = cc - c * c, ss - s * s, cs - c * s
        # the offset at which cosine and sine are independent
        phase -= 0.5 * np.arctan2(2.0 * cs, cc - ss)
        cosine, sine = np.cos(phase), np.sin(phase)
        cc = np.dot(weight, cosine * cosine)
        ss = 1.0 - cc
        c, s = np.dot(weight, cosine), np.dot(weight, sine)
        yc = np.dot(weighted, cosine) - mean * c
        ys = np.dot(weighted, sine) - mean * s
        cc, ss = cc - c * c, ss - s * s
        smallest = np.finfo(np.float64).epsneg
        cc[cc < smallest], ss[ss < smallest] = smallest, smallest
        power: FloatArray = np.squeeze(2.0 * (yc / cc * yc + ys / ss * ys)) * (n / 4.0)
    return power


def periodogram_maximum(time_s: FloatArray, values: FloatArray) -> tuple[float, float]:
    """Return the maximum of the Lomb-Scargle periodogram (floating mean) and its period.

    A run of a few subruns spans a thousandth of the longest period, so that the sums cancel: below about ten subruns
    the result has only seven digits, and the others depend on the matrix kernels that numpy finds for the processor.

    Parameters
    ----------
    time_s : array of float, shape (n,)
        Seconds since the start of the run.
    values : array of float, shape (n,)
        Values without NaN.

    Returns
    -------
    power : float
        In the square of the unit of `values`, not normalised; NaN for no values and where one is infinite.
    period_s : float
        The period that belongs to it, 2 pi divided by the angular frequency (the notebook prints 1 divided by it).
    """
    if not len(values):
        return np.nan, np.nan
    power = periodogram(time_s, values)
    if np.all(np.isnan(power)):
        return np.nan, np.nan
    highest = int(np.nanargmax(power))
    return float(power[highest]), float(2 * np.pi / PERIODOGRAM_ANGULAR_FREQUENCIES[highest])
