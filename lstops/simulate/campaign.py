"""A campaign of nights with one Monte Carlo: two zenith bands, three NSB levels, a cloud and a second source."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from lstops.errors import ConfigError
from lstops.simulate.physics import Spectrum
from lstops.simulate.plan import RunSpec, SitePlan, SiteSize, SourceSpec, make_nodes

#: Name of the size, beside those of one night
SIZE = "campaign"
#: Bright and hard, so that seconds fill bins up to 3 TeV without flooding the data check near 400 p.e. (45 GeV)
SPECTRUM = Spectrum(2.0e-8, -1.5, -0.5)
CRAB = SourceSpec("Crab", 83.6324, 22.0174, SPECTRUM)
OTHER = SourceSpec("1ES 0647+250", 102.6937, 25.0499, Spectrum(1.6e-8, -1.7, -0.4))
#: NSB (GHz), above the 0.245 of the Monte Carlo. Beyond 0.53 GHz lstchain wants another cleaning
DARK_GHZ, MIDDLE_GHZ, BRIGHT_GHZ = 0.28, 0.38, 0.49
#: Monte Carlo at and around the two zenith bands (22 and 43 deg); the first node is the one of the NSB tuning
MC_SIZE = SiteSize(
    name=SIZE,
    good_subrun_s=2.0,
    other_subrun_s=2.0,
    train_zeniths_deg=(10.0, 22.0, 43.0),
    test_zeniths_deg=(20.0, 24.0, 42.0, 45.0),
    gammas=1400,
    protons=1400,
    test_gammas=2000,
    simtel_events=150,
    # the third keeps the triangles of the interpolation within a band
    test_azimuths_deg=(175.0, 265.0, 355.0),
)
#: Start of a run on the reference day; the sky comes 3.93 minutes earlier a day
_REFERENCE_DAY, _EARLIER = datetime(2024, 1, 15), timedelta(minutes=3.93)
_RISING_22, _FALLING_22, _FALLING_43 = "21:36", "00:38", "02:17"
_OTHER_RISING_22, _OTHER_FALLING_22 = "22:47", "02:01"


@dataclass(frozen=True)
class _Observation:
    """A run: time of day on the reference day, NSB, and the subruns under a cloud (of how many)."""

    clock: str
    nsb_ghz: float
    n_subruns: int = 2
    clouded: tuple[int, ...] = ()


@dataclass(frozen=True)
class _CampaignNight:
    day: int
    source: SourceSpec
    observations: tuple[_Observation, ...]


_NIGHTS = (
    _CampaignNight(10, CRAB, (_Observation(_RISING_22, DARK_GHZ), _Observation(_FALLING_43, DARK_GHZ))),
    _CampaignNight(11, CRAB, (_Observation(_FALLING_22, BRIGHT_GHZ),)),
    _CampaignNight(12, OTHER, (_Observation(_OTHER_RISING_22, MIDDLE_GHZ),)),
    _CampaignNight(13, CRAB, (_Observation(_RISING_22, MIDDLE_GHZ),)),
    _CampaignNight(14, CRAB, (_Observation(_FALLING_22, DARK_GHZ, n_subruns=4, clouded=(2,)),)),
    _CampaignNight(15, OTHER, (_Observation(_OTHER_FALLING_22, MIDDLE_GHZ, n_subruns=4),)),
)
NIGHTS = len(_NIGHTS)


def campaign_plans(seed: int, lstchain_version: str, nights: int = NIGHTS) -> tuple[SitePlan, ...]:
    """The plans of the first nights of the campaign; the first one has the Monte Carlo.

    Raises
    ------
    ConfigError
        If there are not so many nights, or the seed is negative.
    """
    if not 1 <= nights <= NIGHTS:
        raise ConfigError(f"The campaign has {NIGHTS} nights, not {nights}.", f"Ask for 1 to {NIGHTS} nights.")
    if seed < 0:
        raise ConfigError(f"The seed {seed} is negative.", "Give a seed of 0 or more.")
    first = SitePlan(seed, MC_SIZE, (), make_nodes(MC_SIZE), lstchain_version)
    plans: list[SitePlan] = []
    run_id = 3001
    for night in _NIGHTS[:nights]:
        runs = []
        for observation in night.observations:
            runs.append(_run(run_id, night.day, observation, wobble_pa_deg=180.0 * (run_id % 2)))
            run_id += 1
        plan = replace(first, night=f"202401{night.day:02d}", source=night.source, runs=tuple(runs))
        plans.append(plan if not plans else replace(plan, nodes=()))
    return tuple(plans)


def _run(run_id: int, day: int, observation: _Observation, wobble_pa_deg: float) -> RunSpec:
    hour, minute = map(int, observation.clock.split(":"))
    clock = timedelta(hours=hour + 24 * (hour < 12), minutes=minute)
    start = _REFERENCE_DAY + clock - (15 - day) * (timedelta(days=1) - _EARLIER)
    return RunSpec(
        run_id,
        start.isoformat(timespec="seconds"),
        wobble_pa_deg=wobble_pa_deg,
        n_subruns=observation.n_subruns,
        subrun_s=MC_SIZE.good_subrun_s,
        nsb_ghz=observation.nsb_ghz,
        clouded=observation.clouded,
    )
