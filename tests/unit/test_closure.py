"""Verdicts and statistics of the comparison of a campaign with its truth."""

from __future__ import annotations

import math

import numpy as np
import pytest

from lstops.report.closure import Gammas, RatioPoint, Slice, energy_bias, models_closure, pulls_of, slices_of


def part(ratio: float, error: float = 0.1) -> Slice:
    return Slice(run_id=1, start_s=0.0, duration_s=1.0, ratio=ratio, error=error)


def test_pulls_of_a_fair_measurement_have_mean_0_and_width_1() -> None:
    rng = np.random.default_rng(1)
    found = pulls_of([part(1 + 0.1 * x) for x in rng.normal(size=400)])
    assert found.n == 400
    assert abs(found.mean) < 3 * found.mean_error
    assert abs(found.width - 1) < 3 * found.width_error
    assert found.mean_error == pytest.approx(found.width / 20)


def test_pulls_show_a_bias_and_wrong_errors() -> None:
    assert pulls_of([part(1.2), part(1.2)]).mean == pytest.approx(2)
    assert pulls_of([part(0.8), part(1.2)]).width == pytest.approx(2 * math.sqrt(2))
    assert pulls_of([part(1.1)]).width == 0
    with pytest.raises(ValueError, match="no part"):
        pulls_of([])


@pytest.mark.parametrize(
    ("excess", "ratio", "counts", "closes"),
    [(100, 1.15, True, True), (99, 0.86, False, True), (500, 1.16, True, False), (500, 0.84, True, False)],
)
def test_a_bin_is_held_to_the_truth_if_it_has_enough_events(
    excess: float, ratio: float, counts: bool, closes: bool
) -> None:
    point = RatioPoint(energy_min_tev=0.1, energy_max_tev=0.2, excess=excess, ratio=ratio, error=0.05)
    assert (point.counts, point.closes) == (counts, closes)


def test_energy_bias_is_that_of_the_middle_event_and_thin_bins_are_left_out() -> None:
    true = np.concatenate([np.full(101, 0.2), np.full(5, 2.0)])
    shift = np.linspace(-0.5, 0.7, 101)
    reco = np.concatenate([0.2 * (1 + shift), np.full(5, 9.0)])
    (point,) = energy_bias(true, reco, (0.1, 0.3, 1.0, 3.0))
    assert (point.energy_min_tev, point.energy_max_tev, point.n) == (0.1, 0.3, 101)
    assert point.bias == pytest.approx(0.1)
    # the central 68 % of a flat distribution of width 1.2
    assert point.resolution == pytest.approx(0.6826 * 1.2 / 2, rel=1e-3)
    assert point.error == pytest.approx(math.sqrt(math.pi / 2) * point.resolution / math.sqrt(101))


def test_slices_cover_the_interval() -> None:
    assert slices_of(10.0, 14.0, 1.0) == [(10, 11), (11, 12), (12, 13), (13, 14)]
    assert slices_of(0.0, 0.3, 1.0) == [(0.0, 0.3)]
    assert len(slices_of(0.0, 2.6, 1.0)) == 3


def test_models_that_see_another_sky_lose_gammas_and_keep_background() -> None:
    rng = np.random.default_rng(3)
    energy = np.full(1000, 0.2)
    own = Gammas(energy, 0.95 * energy, rng.random(1000))
    seen = Gammas(energy, energy, 0.8 * own.gammaness)
    background = 0.5 * rng.random(2000)
    found = models_closure("dark", own, seen, background, (0.1, 0.3))
    assert found.assumed[0].bias == pytest.approx(-0.05)
    assert found.seen[0].bias == pytest.approx(0.0)
    assert found.cut == pytest.approx(0.3, abs=0.05)
    # the cut of the own gammas is at 0.3; the same share of 0.8 x needs 0.24
    assert found.efficiency == pytest.approx(1 - 0.3 / 0.8, abs=0.05)
    assert found.background_at_equal > found.background
    assert found.background_of == 2000
    same = models_closure("bright", seen, seen, background, (0.1, 0.3))
    assert same.efficiency == pytest.approx(0.7, abs=0.002)
    assert same.background == same.background_at_equal
