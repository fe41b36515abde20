"""The run-wise quantities on which runs are judged.

Columns whose source is a name of the notebook are computed exactly as its data-quality notebook does. The columns
after them mend its slips; a profile chooses between the two by naming the column (see docs/selection.md).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np

from lstops.quality.statistics import Grouping, fraction_around_mode, fraction_in_window, periodogram_maximum
from lstops.quality.tables import (
    BoolArray,
    ColumnTable,
    DatacheckNight,
    FlatfieldTable,
    FloatArray,
    IntArray,
    RunSummaryTable,
    SubrunTable,
    of,
)

#: Above it the fit of the intensity spectrum is taken for failed (notebook data_quality.ipynb).
MAX_INTENSITY_AT_REFERENCE_RATE_PE = 1000.0
#: Largest believable r422 in events/(s p.e.). Nominal is 1.74 at light yield 1, and the rate goes with the light yield
#: to the power of 1.24: ten would need four times the light that the telescope ever collected.
MAX_R422 = 10.0


@dataclass(frozen=True, eq=False)
class RunTable(ColumnTable):
    """Run-wise quantities, a row a run, in ascending order of run number."""

    run_number: IntArray = field(metadata=of("runlist"))
    night: IntArray = field(metadata=of("rundate"))
    n_subruns: IntArray = field(metadata=of("nsubruns"))
    mean_r422: FloatArray = field(metadata=of("mean_R422", "1/(s p.e.)"))
    std_r422: FloatArray = field(metadata=of("std_R422", "1/(s p.e.)"))
    fraction_around_mode_r422: FloatArray = field(metadata=of("fraction_around_mode_R422"))
    mean_intensity_at_reference_rate_pe: FloatArray = field(metadata=of("mean_intensity_at_reference_rate", "p.e."))
    std_intensity_at_reference_rate_pe: FloatArray = field(metadata=of("std_intensity_at_reference_rate", "p.e."))
    mean_light_yield: FloatArray = field(metadata=of("mean_light_yield"))
    std_light_yield: FloatArray = field(metadata=of("std_light_yield"))
    mean_index: FloatArray = field(metadata=of("mean_index"))
    std_index: FloatArray = field(metadata=of("std_index"))
    mean_fit_p_value: FloatArray = field(metadata=of("mean_fit_p_value"))
    mean_intensity_threshold_pe: FloatArray = field(metadata=of("mean_intensity_threshold", "p.e."))
    std_intensity_threshold_pe: FloatArray = field(metadata=of("std_intensity_threshold", "p.e."))
    mean_intensity_at_peak_rate_pe: FloatArray = field(metadata=of("mean_intensity_at_peak_rate", "p.e."))
    std_intensity_at_peak_rate_pe: FloatArray = field(metadata=of("std_intensity_at_peak_rate", "p.e."))
    mean_ra_deg: FloatArray = field(metadata=of("mean_ra", "deg"))
    mean_dec_deg: FloatArray = field(metadata=of("mean_dec", "deg"))
    std_dec_deg: FloatArray = field(metadata=of("std_dec", "deg"))
    mean_coszd: FloatArray = field(metadata=of("mean_coszd"))
    picture_threshold_pe: FloatArray = field(metadata=of("picture_threshold", "p.e."))
    mean_diffuse_nsb_std_pe: FloatArray = field(metadata=of("mean_diffuse_nsb_std", "p.e."))
    max_lsc: FloatArray = field(metadata=of("max_lsc", "1/(s p.e.)^2"))
    elapsed_time_s: FloatArray = field(metadata=of("elapsed_time", "s"))
    num_pedestals: FloatArray = field(metadata=of("num_pedestals"))
    num_flatfield: FloatArray = field(metadata=of("num_flatfield"))
    #: significance of the mean p-value: (mean - 0.5) sqrt(12 n)
    fit_p_value_sigma: FloatArray = field(metadata=of("", "sigma"))
    # From here on: what mends the notebook's slips, and what helps a person to see why.
    lsc_period_s: FloatArray = field(metadata=of("", "s"))
    n_believable_r422: IntArray = field(metadata=of(""))
    mean_believable_r422: FloatArray = field(metadata=of("", "1/(s p.e.)"))
    fraction_in_window_r422: FloatArray = field(metadata=of(""))
    max_lsc_believable: FloatArray = field(metadata=of("", "1/(s p.e.)^2"))
    mean_cos_zenith: FloatArray = field(metadata=of(""))
    mean_valid_intensity_threshold_pe: FloatArray = field(metadata=of("", "p.e."))
    mean_flatfield_charge_pe: FloatArray = field(metadata=of("", "p.e."))
    start_s: FloatArray = field(metadata=of("", "s"))
    #: rate of images between 80 and 120 p.e., at the zenith; not in data check files, see `lstops.quality.spectra`
    rate_80_120_hz: FloatArray = field(metadata=of("", "Hz"))

    @classmethod
    def partial(cls, run_number: IntArray, **columns: FloatArray | IntArray) -> RunTable:
        """Return a table of which only some columns are known; the others are NaN, or 0 where they are counts."""
        n = len(run_number)
        unknown: dict[str, Any] = {
            item.name: np.zeros(n, dtype=np.int64) if item.type == "IntArray" else np.full(n, np.nan)
            for item in fields(cls)
        }
        return cls(**(unknown | {"run_number": run_number} | columns))

    @property
    def zenith_deg(self) -> FloatArray:
        """Zenith distance of the run, in degrees."""
        return np.rad2deg(np.arccos(np.clip(self.mean_cos_zenith, -1, 1)))


#: Columns that are made from periodograms.
PERIODOGRAM_COLUMNS = ("max_lsc", "lsc_period_s", "max_lsc_believable")
#: Columns of the run table that the notebook has too, with its names for them.
NOTEBOOK_COLUMNS = {
    name: item.metadata["source"] for name, item in RunTable.__dataclass_fields__.items() if item.metadata["source"]
}


def run_quantities(night: DatacheckNight) -> RunTable:
    """Compute the run-wise quantities of a night.

    Runs of the run summary without any row in the spectrum table are left out; a run without a row in the run summary
    stays, with unknown (NaN) elapsed time and interleaved events.
    """
    return run_table(night.subruns, night.runs, night.flatfield)


def run_table(
    subruns: SubrunTable,
    runs: RunSummaryTable,
    flatfield: FlatfieldTable | None = None,
    *,
    periodograms: bool = True,
) -> RunTable:
    """Compute the run-wise quantities from the tables of one or several nights.

    Parameters
    ----------
    periodograms : bool
        Without them the columns of `PERIODOGRAM_COLUMNS` are NaN, and it takes a quarter of the time.
    """
    groups = Grouping.by(subruns.run_number)
    counts = groups.counts
    has_r422 = ~np.isnan(subruns.r422)
    has_index = ~np.isnan(subruns.index)
    has_threshold = ~np.isnan(subruns.intensity_at_half_peak_rate_pe)
    has_peak = ~np.isnan(subruns.intensity_at_peak_rate_pe)
    has_intensity = subruns.intensity_at_reference_rate_pe < MAX_INTENSITY_AT_REFERENCE_RATE_PE
    believable = believable_r422(subruns)
    valid_threshold = has_threshold & np.isfinite(subruns.intensity_at_half_peak_rate_pe)
    valid_threshold &= subruns.intensity_at_half_peak_rate_pe > 0
    mean_fit_p_value = groups.mean(subruns.fit_p_value, has_index)
    if periodograms:
        period = _periodograms(groups, subruns, has_r422, believable)
    else:
        unknown = np.full(len(groups.keys), np.nan)
        period = _Periodograms(unknown, unknown, unknown)
    return RunTable(
        run_number=groups.keys,
        night=subruns.night[groups.first],
        n_subruns=counts,
        mean_r422=groups.mean(subruns.r422, has_r422),
        std_r422=groups.std(subruns.r422, has_r422),
        fraction_around_mode_r422=_per_run(groups, subruns.r422, has_r422, fraction_around_mode),
        mean_intensity_at_reference_rate_pe=groups.mean(subruns.intensity_at_reference_rate_pe, has_intensity),
        std_intensity_at_reference_rate_pe=groups.std(subruns.intensity_at_reference_rate_pe, has_intensity),
        mean_light_yield=groups.mean(subruns.light_yield, has_intensity),
        std_light_yield=groups.std(subruns.light_yield, has_intensity),
        mean_index=groups.mean(subruns.index, has_index),
        std_index=groups.std(subruns.index, has_index),
        mean_fit_p_value=mean_fit_p_value,
        mean_intensity_threshold_pe=groups.mean(subruns.intensity_at_half_peak_rate_pe, has_threshold),
        std_intensity_threshold_pe=groups.std(subruns.intensity_at_half_peak_rate_pe, has_threshold),
        mean_intensity_at_peak_rate_pe=groups.mean(subruns.intensity_at_peak_rate_pe, has_peak),
        std_intensity_at_peak_rate_pe=groups.std(subruns.intensity_at_peak_rate_pe, has_peak),
        mean_ra_deg=groups.circular_mean_deg(subruns.ra_deg),
        mean_dec_deg=groups.mean(subruns.dec_deg),
        std_dec_deg=groups.std(subruns.dec_deg),
        # the notebook takes the cosine for an angle in degrees
        mean_coszd=groups.circular_mean_deg(subruns.cos_zenith),
        picture_threshold_pe=groups.mean(subruns.picture_threshold_pe),
        mean_diffuse_nsb_std_pe=groups.mean(subruns.diffuse_nsb_std_pe, ~np.isnan(subruns.diffuse_nsb_std_pe)),
        max_lsc=period.power,
        elapsed_time_s=_looked_up(groups.keys, runs.run_number, runs.elapsed_time_s),
        num_pedestals=_looked_up(groups.keys, runs.run_number, runs.num_pedestals),
        num_flatfield=_looked_up(groups.keys, runs.run_number, runs.num_flatfield),
        fit_p_value_sigma=(mean_fit_p_value - 0.5) * (12 * counts) ** 0.5,
        lsc_period_s=period.period_s,
        n_believable_r422=np.bincount(groups.group[believable], minlength=len(groups.keys)),
        mean_believable_r422=groups.mean(subruns.r422, believable),
        fraction_in_window_r422=_per_run(groups, subruns.r422, believable, fraction_in_window),
        max_lsc_believable=period.power_believable,
        mean_cos_zenith=groups.mean(subruns.cos_zenith),
        mean_valid_intensity_threshold_pe=groups.mean(subruns.intensity_at_half_peak_rate_pe, valid_threshold),
        mean_flatfield_charge_pe=_flatfield_charge(groups.keys, flatfield),
        start_s=subruns.time_s[groups.first],
        rate_80_120_hz=np.full(len(groups.keys), np.nan),
    )


def believable_r422(subruns: SubrunTable) -> BoolArray:
    """Tell for which subruns the rate is a number that the telescope can have measured."""
    with np.errstate(invalid="ignore"):
        return (subruns.r422 > 0) & (subruns.r422 < MAX_R422)


@dataclass(frozen=True, eq=False)
class _Periodograms:
    power: FloatArray
    period_s: FloatArray
    power_believable: FloatArray


def _periodograms(groups: Grouping, subruns: SubrunTable, has_r422: BoolArray, believable: BoolArray) -> _Periodograms:
    n = len(groups.keys)
    power, period, power_believable = np.full(n, np.nan), np.full(n, np.nan), np.full(n, np.nan)
    for i, rows in enumerate(groups.rows()):
        time = subruns.time_s[rows] - subruns.time_s[rows[0]]
        keep, trusted = has_r422[rows], believable[rows]
        power[i], found = periodogram_maximum(time[keep], subruns.r422[rows][keep])
        power_believable[i], period[i] = power[i], found
        if not np.array_equal(keep, trusted):  # rare, and a periodogram is what costs most
            power_believable[i], period[i] = periodogram_maximum(time[trusted], subruns.r422[rows][trusted])
    return _Periodograms(power, period, power_believable)


def _per_run(
    groups: Grouping, values: FloatArray, keep: BoolArray, statistic: Callable[[FloatArray], float]
) -> FloatArray:
    return np.array([statistic(values[rows[keep[rows]]]) for rows in groups.rows()], dtype=np.float64)


def _looked_up(wanted: IntArray, run_number: IntArray, values: FloatArray) -> FloatArray:
    """Return the value of each wanted run; NaN where it has none."""
    result = np.full(len(wanted), np.nan)
    if len(run_number):
        order = np.argsort(run_number)
        position = np.minimum(np.searchsorted(run_number[order], wanted), len(order) - 1)
        found = run_number[order][position] == wanted
        result[found] = values[order][position][found]
    return result


def _flatfield_charge(wanted: IntArray, flatfield: FlatfieldTable | None) -> FloatArray:
    if flatfield is None:
        return np.full(len(wanted), np.nan)
    groups = Grouping.by(flatfield.run_number)
    return _looked_up(wanted, groups.keys, groups.mean(flatfield.charge_mean_pe, ~np.isnan(flatfield.charge_mean_pe)))
