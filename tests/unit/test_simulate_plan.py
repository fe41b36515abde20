"""Plan and physics of the synthetic observatory."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lstops.errors import ConfigError
from lstops.production.grid import parse_node
from lstops.simulate.campaign import campaign_plans
from lstops.simulate.physics import (
    COSMIC_RAYS,
    CRAB,
    SOURCE_GAMMAS,
    ThrownVolume,
    throw_impact,
    throw_offset,
    throw_power_law,
    throw_spectrum,
)
from lstops.simulate.plan import Atmosphere, make_plan, tailcut_of


def test_demo_has_good_wobble_pairs_and_one_run_of_each_fault() -> None:
    plan = make_plan(1, "demo", "0.12.3")
    good = [run for run in plan.runs if run.good]
    assert len(good) == 4
    assert {run.wobble_pa_deg for run in good} == {0.0, 180.0}
    faults = [run for run in plan.runs if run.run_type == "DATA" and not run.good]
    assert len({run.cause for run in faults}) == len(faults) == 3
    assert [run.run_type for run in plan.runs].count("PEDCALIB") == 1


def test_node_names_are_those_of_the_productions() -> None:
    plan = make_plan(1, "demo", "0.12.3")
    for node in plan.nodes:
        _, parsed = parse_node(node.name)
        assert (parsed.zd_deg, parsed.az_deg) == (node.zenith_deg, node.azimuth_deg)
        assert node.name.endswith("_")
        assert ("corsika" in node.name) == (node.particle == "GammaDiffuse")
    assert len({node.run_id for node in plan.nodes}) == len(plan.nodes)


def test_digest_changes_with_seed_size_and_version() -> None:
    plans = [make_plan(*args) for args in [(1, "demo", "0.12.3"), (2, "demo", "0.12.3"), (1, "small", "0.12.3")]]
    plans.append(replace(plans[0], lstchain_version="0.12.4"))
    assert len({plan.digest() for plan in plans}) == 4
    assert make_plan(1, "demo", "0.12.3").digest() == plans[0].digest()


@pytest.mark.parametrize(("seed", "size", "named"), [(1, "huge", "huge"), (-1, "demo", "-1")])
def test_bad_request_is_named(seed: int, size: str, named: str) -> None:
    with pytest.raises(ConfigError, match=named) as error:
        make_plan(seed, size, "0.12.3")
    assert error.value.remedy


def test_campaign_has_what_a_closure_needs() -> None:
    plans = campaign_plans(1, "0.12.3")
    runs = [run for plan in plans for run in plan.runs]
    assert [plan.night for plan in plans] == [f"202401{day}" for day in range(10, 16)]
    assert len({run.run_id for run in runs}) == len(runs)
    assert len({run.nsb_ghz for run in runs}) == 3
    assert len({plan.source.name for plan in plans}) == 2
    (clouded,) = [run for run in runs if run.clouded]
    light = [clouded.transmission_of(subrun) for subrun in range(clouded.n_subruns)]
    assert light.count(1.0) == clouded.n_subruns - 1
    assert min(light) == Atmosphere.CLOUD.value
    # the Monte Carlo is made once, with the first night; its first node is the one that the site file names
    assert [bool(plan.nodes) for plan in plans] == [True, *[False] * 5]
    assert (plans[0].nodes[0].zenith_deg, plans[0].nodes[0].azimuth_deg) == (10.0, 100.0)


def test_a_shorter_campaign_is_the_beginning_of_the_whole_one() -> None:
    assert campaign_plans(1, "0.12.3", 2) == campaign_plans(1, "0.12.3")[:2]
    for nights, seed, named in [(0, 1, "not 0"), (7, 1, "not 7"), (2, -1, "-1")]:
        with pytest.raises(ConfigError, match=named):
            campaign_plans(seed, "0.12.3", nights)


@pytest.mark.parametrize(("q95", "cuts"), [(4.6, (8, 4)), (5.85, (10, 5)), (8.4, (12, 6)), (20.0, (18, 9))])
def test_tailcut_edges(q95: float, cuts: tuple[int, int]) -> None:
    assert tailcut_of(q95) == cuts


def test_crab_at_one_tev_and_its_boost() -> None:
    assert CRAB.flux(1.0) == pytest.approx(3.23e-11)
    assert CRAB.times(40.0).integral(0.1, 20.0) == pytest.approx(40 * CRAB.integral(0.1, 20.0))
    # a power law of index -2.47 - 0.24*log10(E) between 1 and 10 TeV: integral by hand with 1e5 steps
    energy = np.geomspace(1, 10, 100001)
    assert CRAB.integral(1, 10) == pytest.approx(float(np.trapezoid(CRAB.flux(energy), energy)), rel=1e-4)


def test_energies_follow_their_spectra() -> None:
    rng = np.random.default_rng(1)
    energy = throw_power_law(rng, 200_000, COSMIC_RAYS)
    assert energy.min() >= COSMIC_RAYS.e_min_tev
    assert energy.max() <= COSMIC_RAYS.e_max_tev
    # fraction above 10 times the threshold: 10^(index + 1), up to the upper limit
    assert (energy > 0.2).mean() == pytest.approx(10**-1.78, rel=0.05)
    crab = throw_spectrum(rng, 200_000, SOURCE_GAMMAS, CRAB)
    wanted = CRAB.integral(0.1, 20.0) / CRAB.integral(0.02, 20.0)
    assert (crab > 0.1).mean() == pytest.approx(wanted, rel=0.02)


def test_positions_are_uniform_over_disc_and_cone() -> None:
    rng = np.random.default_rng(2)
    volume = ThrownVolume(0.1, 1.0, -2.0, 300.0, 0.4, 0.4)
    impact, _ = throw_impact(rng, 100_000, volume)
    assert (impact < 150).mean() == pytest.approx(0.25, abs=0.01)
    offset, _ = throw_offset(rng, 100, volume)
    assert offset == pytest.approx(np.full(100, 0.4))
