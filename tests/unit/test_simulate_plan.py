"""Plan and physics of the synthetic observatory."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lstops.errors import ConfigError
from lstops.production.grid import parse_node
from lstops.simulate.physics import (
    COSMIC_RAYS,
    CRAB_GAMMAS,
    ThrownVolume,
    crab_flux,
    crab_integral,
    throw_crab,
    throw_impact,
    throw_offset,
    throw_power_law,
)
from lstops.simulate.plan import make_plan, tailcut_of


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


@pytest.mark.parametrize(("q95", "cuts"), [(4.6, (8, 4)), (5.85, (10, 5)), (8.4, (12, 6)), (20.0, (18, 9))])
def test_tailcut_edges(q95: float, cuts: tuple[int, int]) -> None:
    assert tailcut_of(q95) == cuts


def test_crab_at_one_tev_and_its_boost() -> None:
    assert crab_flux(1.0) == pytest.approx(3.23e-11)
    assert crab_integral(0.1, 20.0, 40.0) == pytest.approx(40 * crab_integral(0.1, 20.0))
    # a power law of index -2.47 - 0.24*log10(E) between 1 and 10 TeV: integral by hand with 1e5 steps
    energy = np.geomspace(1, 10, 100001)
    assert crab_integral(1, 10) == pytest.approx(float(np.trapezoid(crab_flux(energy), energy)), rel=1e-4)


def test_energies_follow_their_spectra() -> None:
    rng = np.random.default_rng(1)
    energy = throw_power_law(rng, 200_000, COSMIC_RAYS)
    assert energy.min() >= COSMIC_RAYS.e_min_tev
    assert energy.max() <= COSMIC_RAYS.e_max_tev
    # fraction above 10 times the threshold: 10^(index + 1), up to the upper limit
    assert (energy > 0.2).mean() == pytest.approx(10**-1.78, rel=0.05)
    crab = throw_crab(rng, 200_000, CRAB_GAMMAS)
    wanted = crab_integral(0.1, 20.0) / crab_integral(0.02, 20.0)
    assert (crab > 0.1).mean() == pytest.approx(wanted, rel=0.02)


def test_positions_are_uniform_over_disc_and_cone() -> None:
    rng = np.random.default_rng(2)
    volume = ThrownVolume(0.1, 1.0, -2.0, 300.0, 0.4, 0.4)
    impact, _ = throw_impact(rng, 100_000, volume)
    assert (impact < 150).mean() == pytest.approx(0.25, abs=0.01)
    offset, _ = throw_offset(rng, 100, volume)
    assert offset == pytest.approx(np.full(100, 0.4))
