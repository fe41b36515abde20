"""Monte Carlo nodes: DL1 with images, of gammas and protons seen with the same model as the night."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import astropy.units as u
import numpy as np

from lstops.simulate.camera import Array32, lst1_camera
from lstops.simulate.dl1 import Event, EventKind, TrueShower, dl1_writer
from lstops.simulate.noise import PixelNoise
from lstops.simulate.physics import FloatArray, ThrownVolume, throw_impact, throw_offset, throw_power_law
from lstops.simulate.plan import NodeSpec, SitePlan
from lstops.simulate.showers import Particle, Showers, image_showers, light_yield_pe

#: Geomagnetic field at La Palma as in LSTProd2: total (uT), declination and inclination (rad)
B_TOTAL_UT, B_DECLINATION_RAD, B_INCLINATION_RAD = 38.7, -0.0846, 0.6522
SITE_ALTITUDE_M = 2158.0
#: Histogram of thrown events that sim_telarray writes: log10(E/TeV) and core distance (m)
LOG_E_RANGE, N_LOG_E = (-4.0, 2.0), 120
CORE_RANGE, N_CORE = (0.0, 2000.0), 200
PARTICLES = {"GammaDiffuse": Particle.GAMMA, "Gamma": Particle.GAMMA, "Protons": Particle.PROTON}
_BATCH = {Particle.GAMMA: 1500, Particle.PROTON: 20000}


@dataclass(frozen=True)
class Sample:
    """Showers of a node that triggered, with their images; all arrays (n,) or (n, n_pixels).

    ``thrown_energy_tev`` and ``thrown_impact_m`` belong to all showers that were thrown.
    """

    energy_tev: FloatArray
    alt_rad: FloatArray
    az_rad: FloatArray
    core_x_m: FloatArray
    core_y_m: FloatArray
    pe: Array32
    time_ns: Array32
    thrown_energy_tev: FloatArray
    thrown_impact_m: FloatArray

    def __len__(self) -> int:
        return len(self.energy_tev)


def simulate(rng: np.random.Generator, node: NodeSpec) -> Sample:
    """Throw showers until the node has its number of triggered events (the last batch is used up)."""
    parts: list[tuple[Any, ...]] = []
    thrown: list[tuple[FloatArray, FloatArray]] = []
    n_triggered = 0
    while n_triggered < node.n_events:
        batch = _throw(rng, node)
        parts.append(batch[:7])
        thrown.append(batch[7:])
        n_triggered += len(batch[0])
    energy, alt, az, core_x, core_y, pe, time_ns = (np.concatenate(column) for column in zip(*parts, strict=True))
    thrown_energy, thrown_impact = (np.concatenate(column) for column in zip(*thrown, strict=True))
    return Sample(energy, alt, az, core_x, core_y, pe, time_ns, thrown_energy, thrown_impact)


def _throw(rng: np.random.Generator, node: NodeSpec) -> tuple[Any, ...]:
    from astropy.coordinates import SkyCoord
    from lstchain.reco.utils import sky_to_camera

    camera, volume, particle = lst1_camera(), node.volume, PARTICLES[node.particle]
    zenith, azimuth = np.deg2rad(node.zenith_deg), np.deg2rad(node.azimuth_deg)
    alt = np.pi / 2 - zenith
    n = _BATCH[particle]
    energy = throw_power_law(rng, n, volume)
    impact, phi = throw_impact(rng, n, volume)
    offset, angle = throw_offset(rng, n, volume)
    pointing = SkyCoord(az=azimuth * u.rad, alt=alt * u.rad, frame="altaz")
    source = pointing.directional_offset_by(angle * u.rad, offset * u.deg)
    seen = sky_to_camera(source.alt, source.az, camera.effective_focal_length, alt * u.rad, azimuth * u.rad)
    showers = Showers(particle, energy, impact, phi, seen.x.to_value(u.m), seen.y.to_value(u.m))
    light = light_yield_pe(rng, showers, zenith, 1.0)
    bright = np.flatnonzero(light > 20.0)
    images = image_showers(rng, showers.take(bright), light[bright], zenith)
    i = bright[images.index]
    return (
        energy[i],
        source.alt.rad[i],
        source.az.rad[i],
        impact[i] * np.cos(phi[i]),
        impact[i] * np.sin(phi[i]),
        images.pe,
        images.time_ns,
        energy,
        impact,
    )


def thrown_histogram(sample: Sample) -> dict[str, Any]:
    """sim_telarray's histogram 6 (thrown events against energy and core distance) as lstchain reads it."""
    edges = (np.linspace(*LOG_E_RANGE, N_LOG_E + 1), np.linspace(*CORE_RANGE, N_CORE + 1))
    data, _, _ = np.histogram2d(np.log10(sample.thrown_energy_tev), sample.thrown_impact_m, bins=edges)
    return {
        "id": 6,
        "entries": int(data.sum()),
        "lower_x": CORE_RANGE[0],
        "upper_x": CORE_RANGE[1],
        "n_bins_x": N_CORE,
        "lower_y": LOG_E_RANGE[0],
        "upper_y": LOG_E_RANGE[1],
        "n_bins_y": N_LOG_E,
        "data": data,
        "title": b"Events, without weights (Ra3d, log10(E))",
    }


def run_config(node: NodeSpec, n_thrown: int) -> Any:
    """ctapipe's SimulationConfigContainer of a node."""
    from ctapipe.containers import SimulationConfigContainer

    volume: ThrownVolume = node.volume

    def single(value: float, unit: Any) -> Any:
        return u.Quantity(np.float32(value), unit)

    alt, az = np.pi / 2 - np.deg2rad(node.zenith_deg), np.deg2rad(node.azimuth_deg)
    return SimulationConfigContainer(
        run_number=node.run_id,
        n_showers=n_thrown,
        shower_reuse=1,
        energy_range_min=single(volume.e_min_tev, u.TeV),
        energy_range_max=single(volume.e_max_tev, u.TeV),
        spectral_index=volume.index,
        max_scatter_range=single(volume.radius_m, u.m),
        min_scatter_range=single(0.0, u.m),
        min_viewcone_radius=single(volume.cone_min_deg, u.deg),
        max_viewcone_radius=single(volume.cone_max_deg, u.deg),
        diffuse=volume.cone_max_deg > 0,
        min_alt=single(alt, u.rad),
        max_alt=single(alt, u.rad),
        min_az=single(az, u.rad),
        max_az=single(az, u.rad),
        prod_site_B_total=B_TOTAL_UT * u.uT,
        prod_site_B_declination=B_DECLINATION_RAD * u.rad,
        prod_site_B_inclination=B_INCLINATION_RAD * u.rad,
        prod_site_alt=SITE_ALTITUDE_M * u.m,
        atmosphere=36,
        core_pos_mode=1,
        corsika_version=7741,
        simtel_version=1593356843,
        shower_prog_start=0,
        shower_prog_id=1,
        detector_prog_start=0,
        detector_prog_id=1,
        corsika_iact_options=187,
        corsika_low_E_model=2,
        corsika_high_E_model=4,
        corsika_bunchsize=5.0,
        corsika_wlen_min=240 * u.nm,
        corsika_wlen_max=1000 * u.nm,
        corsika_low_E_detail=0,
        corsika_high_E_detail=303,
    )


def make_node(plan: SitePlan, node: NodeSpec, path: Path) -> int:
    """Make the DL1 file of a node.

    Returns
    -------
    int
        Number of events written.
    """
    from ctapipe.io import HDF5TableWriter
    from lstchain.io import HDF5_ZSTD_FILTERS, add_global_metadata, global_metadata
    from lstchain.io.config import get_mc_config
    from lstchain.io.lstcontainers import ThrownEventsHistogram

    rng = np.random.default_rng([plan.seed, node.run_id])
    noise = PixelNoise(plan.mc_nsb_ghz, seed=int(rng.integers(2**31)))
    sample = simulate(rng, node)
    mc_type = PARTICLES[node.particle].value
    alt, az = np.pi / 2 - np.deg2rad(node.zenith_deg), np.deg2rad(node.azimuth_deg)
    with dl1_writer(
        path, copy.deepcopy(get_mc_config()), node.run_id, run_config(node, len(sample.thrown_energy_tev))
    ) as w:
        for first in range(0, len(sample), 1000):
            some = slice(first, first + 1000)
            charge, peak = noise.observe(sample.pe[some], sample.time_ns[some])
            for j in range(len(charge)):
                i = first + j
                truth = TrueShower(
                    mc_type,
                    float(sample.energy_tev[i]),
                    float(sample.alt_rad[i]),
                    float(sample.az_rad[i]),
                    float(sample.core_x_m[i]),
                    float(sample.core_y_m[i]),
                )
                w.add(Event(100 * (i + 1), charge[j], peak[j], 1.6e9 + 1e-3 * i, EventKind.SHOWER, alt, az, truth))
        n_events = w.n_events
    histogram = ThrownEventsHistogram()
    histogram.fill_from_simtel(thrown_histogram(sample))
    histogram.obs_id = node.run_id
    add_global_metadata(histogram, global_metadata())
    with HDF5TableWriter(str(path), group_name="simulation", mode="a", filters=HDF5_ZSTD_FILTERS) as writer:
        writer.write("thrown_event_distribution", [histogram])
    return n_events
