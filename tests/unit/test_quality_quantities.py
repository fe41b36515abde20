"""Run-wise quantities: the notebook's definitions, its slips, and what bad values do."""

from __future__ import annotations

import resource
import time
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from lstops.quality.quantities import RunTable, run_table
from lstops.quality.statistics import (
    PERIODOGRAM_ANGULAR_FREQUENCIES,
    Grouping,
    fraction_around_mode,
    fraction_in_window,
    periodogram,
    periodogram_maximum,
)
from lstops.quality.tables import FlatfieldTable, SubrunTable
from tests.unit.datachecks import flatfield_of, subruns, summary


def fraction_with_a_histogram(values, width=0.15):
    """The definition, with all the bins."""
    low, high = values.min(), values.max()
    if high == low:
        return np.nan
    if high - low < width:
        return 1.0
    step = width / 100
    counts, _ = np.histogram(values, int((high - low) // step + 2), (low - step, high + step))
    cumulative = np.cumsum(counts) / counts.sum()
    n = int(width // step)
    return np.nanmax(cumulative[n:] - cumulative[:-n])


rates = st.floats(0.01, 4.0, allow_nan=False) | st.sampled_from([1.5, 1.65, 1.7, 1.8, 0.15, 0.3])


@settings(max_examples=300, deadline=None)
@given(hnp.arrays(np.float64, st.integers(1, 40), elements=rates))
def test_fraction_around_mode_is_that_of_the_histogram(values):
    assert fraction_around_mode(values) == pytest.approx(fraction_with_a_histogram(values), abs=0, nan_ok=True)


@settings(max_examples=200, deadline=None)
@given(hnp.arrays(np.float64, st.integers(1, 30), elements=rates))
def test_fraction_in_window_is_that_of_all_windows(values):
    brute = max(np.mean((values >= value) & (values <= value + 0.15)) for value in values)
    assert fraction_in_window(values) == pytest.approx(brute)
    notebook = fraction_around_mode(values)
    # the notebook's window is narrower by a bin and never holds the lowest bin: it cannot hold more
    assert np.isnan(notebook) or notebook <= fraction_in_window(values) + 1e-9


def test_the_slip_at_the_edge_of_the_window():
    values = np.array([1.0] * 8 + [1.2] * 2)
    assert fraction_in_window(values) == 0.8
    assert fraction_around_mode(values) == pytest.approx(0.2)


@pytest.mark.parametrize("outlier", [1e5, 1e12, 1e300])
def test_an_outlier_costs_nothing(outlier):
    values = np.append(np.random.default_rng(1).normal(1.74, 0.02, 100), outlier)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.process_time()
    fraction = fraction_around_mode(values)
    assert time.process_time() - start < 0.05
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 5000  # kB
    assert 0.9 < fraction < 1


@pytest.mark.parametrize("values", [[], [1.7], [1.7, 1.7], [1.7, np.inf], [-np.inf, np.inf]])
def test_fraction_that_the_notebook_does_not_know(values):
    assert np.isnan(fraction_around_mode(np.array(values)))


def test_periodogram_finds_a_period_in_seconds():
    time_s = 10.0 * np.arange(120)
    power, period_s = periodogram_maximum(time_s, 1.7 + 0.1 * np.sin(2 * np.pi * time_s / 200))
    assert period_s == pytest.approx(200, rel=0.05)
    # power of a sine: N A^2 / 4
    assert power == pytest.approx(120 * 0.01 / 4, rel=0.05)
    assert np.isnan(periodogram_maximum(np.array([]), np.array([]))).all()
    assert np.isnan(periodogram_maximum(time_s, np.full(120, np.inf))).all()


def test_periodogram_is_the_least_squares_fit():
    rng = np.random.default_rng(3)
    time_s, values = np.sort(rng.uniform(0, 1000, 50)), rng.normal(1.7, 0.1, 50)
    gains = []
    for omega in PERIODOGRAM_ANGULAR_FREQUENCIES:
        design = np.column_stack([np.ones(50), np.cos(omega * time_s), np.sin(omega * time_s)])
        residual = values - design @ np.linalg.lstsq(design, values, rcond=None)[0]
        gains.append((np.var(values) - np.mean(residual**2)) * 50 / 2)
    power, _ = periodogram_maximum(time_s, values)
    assert power == pytest.approx(max(gains), rel=1e-6)


def test_means_over_the_rows_of_the_specification():
    nan = np.nan
    table = subruns(
        4,
        r422=[1.0, 2.0, nan, 3.0],
        index=[-2.0, nan, -3.0, -4.0],
        fit_p_value=[0.1, 0.9, 0.2, 0.3],
        intensity_at_reference_rate_pe=[400.0, 1000.0, nan, 500.0],
        light_yield=[1.0, 9.0, 9.0, 2.0],
        intensity_at_half_peak_rate_pe=[40.0, -1.0, nan, 60.0],
        intensity_at_peak_rate_pe=[50.0, nan, nan, 70.0],
        diffuse_nsb_std_pe=[1.5, nan, nan, 2.5],
        dec_deg=[20.0, 20.0, 20.0, nan],
        picture_threshold_pe=[8, 8, 10, 10],
    )
    run = run_table(table, summary(2001, elapsed_s=40.0), flatfield_of(table))
    assert run.mean_r422 == pytest.approx([2.0])
    assert run.std_r422 == pytest.approx([np.std([1, 2, 3])])
    assert run.mean_index == pytest.approx([-3.0])
    assert run.mean_fit_p_value == pytest.approx([0.2])  # where the index is known
    assert run.fit_p_value_sigma == pytest.approx([(0.2 - 0.5) * np.sqrt(48)])  # but all subruns count
    assert run.mean_intensity_at_reference_rate_pe == pytest.approx([450.0])
    assert run.mean_light_yield == pytest.approx([1.5])
    assert run.mean_intensity_threshold_pe == pytest.approx([33.0])
    assert run.mean_valid_intensity_threshold_pe == pytest.approx([50.0])
    assert run.mean_intensity_at_peak_rate_pe == pytest.approx([60.0])
    assert run.mean_diffuse_nsb_std_pe == pytest.approx([2.0])
    assert np.isnan(run.mean_dec_deg[0])
    assert np.isnan(run.std_dec_deg[0])
    assert run.picture_threshold_pe == [9.0]
    assert run.n_subruns == [4]
    assert run.elapsed_time_s == [40.0]
    assert run.mean_flatfield_charge_pe == [75.0]


def test_right_ascension_across_zero():
    run = run_table(subruns(4, ra_deg=[359.9, 0.1, 359.8, 0.1]), summary(2001))
    assert run.mean_ra_deg == pytest.approx([359.975])


def test_outliers_and_infinities_do_not_reach_the_mended_quantities():
    table = subruns(20)
    bad = table.r422.copy()
    bad[[3, 7, 11, 15]] = [1e5, np.inf, -np.inf, -1.0]
    good = np.isin(np.arange(20), [3, 7, 11, 15], invert=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run = run_table(subruns(20, r422=bad), summary(2001))
        rest = run_table(table.take(good), summary(2001))
    assert run.n_believable_r422 == [16]
    assert run.mean_believable_r422 == pytest.approx(rest.mean_r422)
    assert run.fraction_in_window_r422 == [1.0]
    assert run.max_lsc_believable == pytest.approx(rest.max_lsc, rel=1e-3)
    assert np.isnan(run.fraction_around_mode_r422[0])
    assert np.isnan(run.max_lsc[0])


def test_runs_missing_on_one_side():
    table = SubrunTable.concatenate([subruns(run=2003), subruns(run=2001)])
    run = run_table(table, summary(2001, 2002))
    assert run.run_number.tolist() == [2001, 2003]
    assert run.elapsed_time_s[0] == 200
    assert np.isnan(run.elapsed_time_s[1])
    assert np.isnan(run.num_pedestals[1])


def test_nothing_at_all():
    run = run_table(SubrunTable.empty(), summary(), FlatfieldTable.empty())
    assert len(run) == 0
    assert len(RunTable.concatenate([run, run])) == 0


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 5), st.floats(-10, 10) | st.just(np.nan)), min_size=1, max_size=40),
)
def test_groups_do_not_mix(rows):
    keys, values = np.array([key for key, _ in rows]), np.array([value for _, value in rows])
    groups = Grouping.by(keys)
    keep = ~np.isnan(values)
    for i, key in enumerate(groups.keys):
        mine = values[(keys == key) & keep]
        assert groups.counts[i] == (keys == key).sum()
        if len(mine):
            assert groups.mean(values, keep)[i] == pytest.approx(np.mean(mine), abs=1e-12)
            assert groups.std(values, keep)[i] == pytest.approx(np.std(mine), abs=1e-7)
        else:
            assert np.isnan(groups.mean(values, keep)[i])


def test_order_of_rows_of_other_runs_does_not_matter():
    one, two = subruns(run=2001), subruns(run=2002)
    together = SubrunTable.concatenate([one, two])
    order = np.argsort(np.tile(np.arange(20), 2), kind="stable")
    mixed = run_table(together.take(order), summary(2001, 2002))
    for name, values in run_table(together, summary(2001, 2002)).arrays().items():
        assert np.array_equal(values, getattr(mixed, name), equal_nan=True), name


def test_the_periodogram_is_that_of_scipy():
    lombscargle = pytest.importorskip("scipy.signal").lombscargle
    rng = np.random.default_rng(0)
    for n in (1, 2, 3, 7, 40, 113, 120):
        time_s, rate = np.sort(rng.uniform(0, 1200, n)), rng.normal(1.7, 0.02, n)
        with np.errstate(all="ignore"):
            wanted = lombscargle(time_s, rate, PERIODOGRAM_ANGULAR_FREQUENCIES, normalize="power", floating_mean=True)
        np.testing.assert_array_equal(periodogram(time_s, rate), wanted)
    assert np.isnan(periodogram(np.arange(3.0), np.array([1.0, np.inf, 1.0]))).any()
