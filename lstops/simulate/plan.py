"""What a synthetic site holds: the night's runs, the Monte Carlo nodes and their truth (pure; no lstchain needed)."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from enum import Enum
from typing import Any

from lstops.errors import ConfigError
from lstops.simulate.physics import CRAB, Spectrum, ThrownVolume

#: Raise it when the model changes: everything is made again.
MODEL_VERSION = 3
#: The same for what concerns the night only
NIGHT_VERSION = 2
#: Picture thresholds and the edges in the 95 % quantile of the pedestal charge (lstchain_find_tailcuts), p.e.
TAILCUT_EDGES_PE = (5.85, 7.25, 8.75, 10.3, 11.67)
TAILCUT_PICTURE_PE = (8, 10, 12, 14, 16, 18)


class Atmosphere(Enum):
    """Transmission of the atmosphere relative to good nights."""

    GOOD = 1.0
    DUST = 0.72
    CLOUD = 0.6


@dataclass(frozen=True)
class RunSpec:
    """One run of the night.

    Attributes
    ----------
    run_id : int
    run_type : str
        As in the run summary: DATA or PEDCALIB (the latter has no files here).
    start : str
        UTC, ISO format.
    wobble_pa_deg : float
        Position angle of the pointing as seen from the source.
    n_subruns : int
    subrun_s : float
        Length of a subrun (s).
    nsb_ghz : float
        Rate of NSB photoelectrons a pixel.
    transmission : float
        Light relative to good nights.
    clouded : tuple of int
        Subruns under a cloud, which lets `Atmosphere.CLOUD` of the light through.
    pedestal_hz : float
        Rate of interleaved pedestals; 0 when they were forgotten.
    cause : str
        Why the run must be rejected; empty for a good run.
    """

    run_id: int
    start: str
    run_type: str = "DATA"
    wobble_pa_deg: float = 0.0
    n_subruns: int = 2
    subrun_s: float = 5.0
    nsb_ghz: float = 0.30
    transmission: float = Atmosphere.GOOD.value
    clouded: tuple[int, ...] = ()
    pedestal_hz: float = 100.0
    cause: str = ""

    @property
    def good(self) -> bool:
        """Whether the data check must accept the run."""
        return self.run_type == "DATA" and not self.cause

    def transmission_of(self, subrun: int) -> float:
        """Light in a subrun relative to good nights."""
        return self.transmission * (Atmosphere.CLOUD.value if subrun in self.clouded else 1.0)


@dataclass(frozen=True)
class SourceSpec:
    """What shines: name as in the run catalogue, position (ICRS, deg) and spectrum."""

    name: str
    ra_deg: float
    dec_deg: float
    spectrum: Spectrum


@dataclass(frozen=True)
class NodeSpec:
    """One node of the Monte Carlo: what, where and how many triggered events."""

    dataset: str
    particle: str
    zenith_deg: float
    azimuth_deg: float
    n_events: int
    volume: ThrownVolume
    run_id: int

    @property
    def name(self) -> str:
        """Directory name as lstmcpipe has it, trailing underscore included."""
        infix = "corsika_" if self.particle == "GammaDiffuse" else ""
        return f"node_{infix}theta_{self.zenith_deg:.3f}_az_{self.azimuth_deg:.3f}_"


#: Azimuths (deg) of the training nodes: both sides of the Crab's culmination
TRAIN_AZIMUTHS_DEG = (100.0, 257.0)
#: Azimuths (deg) of the test nodes: they span sin(B_DELTA), so that IRFs can be interpolated
TEST_AZIMUTHS_DEG = (175.0, 355.0)


@dataclass(frozen=True)
class SiteSize:
    """How much is made; see `SIZES`."""

    name: str
    good_subrun_s: float
    other_subrun_s: float
    train_zeniths_deg: tuple[float, ...]
    test_zeniths_deg: tuple[float, ...]
    gammas: int
    protons: int
    test_gammas: int
    simtel_events: int
    runs: tuple[int, ...] = ()
    test_azimuths_deg: tuple[float, ...] = TEST_AZIMUTHS_DEG


SIZES = {
    "small": SiteSize("small", 1.5, 1.0, (10.0, 35.0), (10.0, 35.0), 60, 60, 60, 40, runs=(2001, 2007)),
    "demo": SiteSize("demo", 2.0, 1.5, (10.0, 35.0), (10.0, 23.0, 35.0), 1500, 1500, 2000, 150),
}

GAMMA_DIFFUSE = ThrownVolume(0.02, 20.0, -2.0, 350.0, 0.0, 2.5)
PROTON_DIFFUSE = ThrownVolume(0.05, 100.0, -2.0, 500.0, 0.0, 4.5)
#: Harder than sim_telarray's -2, so that the bins of the effective area up to 2 TeV are filled with few events
GAMMA_RING = ThrownVolume(0.02, 20.0, -1.7, 350.0, 0.4, 0.4)


#: The Crab of the demo, 40 times brighter than it is, so that seconds suffice
BRIGHT_CRAB = SourceSpec("Crab", 83.6324, 22.0174, CRAB.times(40.0))


@dataclass(frozen=True)
class SitePlan:
    """Everything that determines a synthetic site.

    Attributes
    ----------
    night : str
        YYYYMMDD, the date before midnight.
    version_dir : str
        Pipeline version directory, as lstosa names it (v0.12).
    production : str
        Name of the base Monte Carlo production.
    mc_nsb_ghz : float
        NSB of the Monte Carlo (dark sky).
    """

    seed: int
    size: SiteSize
    runs: tuple[RunSpec, ...]
    nodes: tuple[NodeSpec, ...]
    lstchain_version: str
    night: str = "20240115"
    version_dir: str = "v0.12"
    production: str = "20240601_v0.12.3_sim_dark"
    dec_line: str = "dec_2276"
    source: SourceSpec = BRIGHT_CRAB
    wobble_offset_deg: float = 0.4
    mc_nsb_ghz: float = 0.245
    flatfield_hz: float = 30.0
    model_version: int = MODEL_VERSION
    bad_pixels: tuple[int, ...] = field(default=(3, 77, 500))

    def common(self) -> dict[str, Any]:
        """What every product depends on."""
        keys = (
            "seed",
            "lstchain_version",
            "night",
            "version_dir",
            "production",
            "dec_line",
            "wobble_offset_deg",
            "mc_nsb_ghz",
            "flatfield_hz",
            "model_version",
            "bad_pixels",
        )
        return {key: getattr(self, key) for key in keys} | {"source": asdict(self.source)}

    def digest(self) -> str:
        """SHA-256 of the whole plan."""
        return digest_of(asdict(self))


def digest_of(value: Any) -> str:
    """SHA-256 of a JSON-able value."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


def tailcut_of(q95_pe: float) -> tuple[int, int]:
    """Picture and boundary threshold (p.e.) that lstchain_find_tailcuts chooses for a pedestal quantile."""
    picture = TAILCUT_PICTURE_PE[sum(q95_pe >= edge for edge in TAILCUT_EDGES_PE)]
    return picture, picture // 2


def _night_runs(size: SiteSize) -> tuple[RunSpec, ...]:
    good, other = size.good_subrun_s, size.other_subrun_s
    day, after = "2024-01-15T", "2024-01-16T"
    runs = (
        RunSpec(2000, day + "20:40:00", run_type="PEDCALIB", n_subruns=1, pedestal_hz=0.0),
        RunSpec(2001, day + "21:05:00", wobble_pa_deg=0.0, subrun_s=good),
        RunSpec(2002, day + "21:20:00", wobble_pa_deg=180.0, subrun_s=good),
        RunSpec(
            2003,
            day + "21:40:00",
            wobble_pa_deg=0.0,
            transmission=Atmosphere.DUST.value,
            cause="bad atmosphere: dR/dI at 422 p.e. and light yield too low",
            subrun_s=other,
        ),
        RunSpec(
            2004,
            day + "22:00:00",
            wobble_pa_deg=180.0,
            pedestal_hz=0.0,
            cause="no interleaved pedestals",
            subrun_s=other,
        ),
        RunSpec(2005, after + "00:15:00", wobble_pa_deg=0.0, subrun_s=good),
        RunSpec(2006, after + "00:30:00", wobble_pa_deg=180.0, subrun_s=good),
        RunSpec(
            2007,
            after + "00:50:00",
            wobble_pa_deg=0.0,
            nsb_ghz=1.0,
            cause="moonlight: diffuse NSB above 2.3 p.e.",
            subrun_s=good,
        ),
    )
    return tuple(run for run in runs if not size.runs or run.run_id in size.runs or run.run_type == "PEDCALIB")


def make_nodes(size: SiteSize) -> tuple[NodeSpec, ...]:
    """The Monte Carlo of a size."""
    nodes: list[NodeSpec] = []

    def add(dataset: str, particle: str, zenith: float, azimuth: float, n: int, volume: ThrownVolume) -> None:
        nodes.append(NodeSpec(dataset, particle, zenith, azimuth, n, volume, 10001 + len(nodes)))

    for zenith in size.train_zeniths_deg:
        for azimuth in TRAIN_AZIMUTHS_DEG:
            add("TrainingDataset", "GammaDiffuse", zenith, azimuth, size.gammas, GAMMA_DIFFUSE)
            add("TrainingDataset", "Protons", zenith, azimuth, size.protons, PROTON_DIFFUSE)
    for zenith in size.test_zeniths_deg:
        for azimuth in size.test_azimuths_deg:
            add("TestingDataset", "Gamma", zenith, azimuth, size.test_gammas, GAMMA_RING)
    return tuple(nodes)


def make_plan(seed: int, size: str, lstchain_version: str) -> SitePlan:
    """The plan of a site.

    Raises
    ------
    ConfigError
        If the size is not known or the seed is negative.
    """
    if size not in SIZES:
        raise ConfigError(f"Unknown size {size!r} of a synthetic site.", f"Choose one of {', '.join(SIZES)}.")
    if seed < 0:
        raise ConfigError(f"The seed {seed} is negative.", "Give a seed of 0 or more.")
    chosen = SIZES[size]
    return SitePlan(seed, chosen, _night_runs(chosen), make_nodes(chosen), lstchain_version)
