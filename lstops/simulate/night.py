"""Subruns of the synthetic night: cosmic rays, gammas of the source, interleaved pedestals and flat-fields."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import astropy.units as u
import numpy as np
import numpy.typing as npt

from lstops.simulate.camera import Array32, lst1_camera
from lstops.simulate.dl1 import Event, EventKind, dl1_writer
from lstops.simulate.monitoring import FLATFIELD_PE, FLATFIELD_SPREAD_PE, monitoring_container, write_muons
from lstops.simulate.noise import PixelNoise
from lstops.simulate.physics import (
    COSMIC_RAYS,
    SOURCE_GAMMAS,
    FloatArray,
    Spectrum,
    cosmic_ray_rate_hz,
    throw_impact,
    throw_offset,
    throw_power_law,
    throw_spectrum,
)
from lstops.simulate.plan import RunSpec, SitePlan
from lstops.simulate.showers import (
    TRIGGER_THRESHOLD_PE,
    Particle,
    Showers,
    cleaned_light,
    image_showers,
    light_yield_pe,
)

#: Cosmic rays with less light than this (p.e.) are thinned with probability (N / N1)^k: the intensity spectrum is
#: judged between 316 and 562 p.e. and must not be touched (at most 0.3 % with 200 p.e.)
THIN_BELOW_PE, THIN_POWER, THIN_MIN = 200.0, 8.0, 0.003
#: The cosmic rays are every n-th, sorted by the light that cleaning will keep, of n times as many: a run of 4 s then
#: has the intensity spectrum of a longer one, or good runs would fail the cut on its index once in four times
STRATA = 5
#: Readout dead time (s)
DEAD_TIME_S = 7e-6
_CHUNK, _IMAGES = 400_000, 2000


@dataclass(frozen=True)
class Track:
    """Pointing and position of the source in the camera during a subrun, at the times ``unix_s``."""

    unix_s: FloatArray
    alt_rad: FloatArray
    az_rad: FloatArray
    source_x_m: FloatArray
    source_y_m: FloatArray

    @property
    def zenith_rad(self) -> float:
        """Mean zenith distance."""
        return float(np.pi / 2 - self.alt_rad.mean())


@dataclass(frozen=True)
class _Batch:
    """Events of one kind: times (n,), charges and peak times (n, n_pixels)."""

    kind: EventKind
    unix_s: FloatArray
    charge: Array32
    peak_time: Array32


def start_of(run: RunSpec, subrun: int) -> float:
    """Start of a subrun (unix, s)."""
    from astropy.time import Time

    return float(Time(run.start, scale="utc").unix) + subrun * run.subrun_s


def pointing_of(plan: SitePlan, run: RunSpec) -> Any:
    """Pointing of a run (ICRS SkyCoord): the wobble offset from the source."""
    from astropy.coordinates import SkyCoord

    source = SkyCoord(plan.source.ra_deg * u.deg, plan.source.dec_deg * u.deg, frame="icrs")
    return source.directional_offset_by(run.wobble_pa_deg * u.deg, plan.wobble_offset_deg * u.deg)


def track_of(plan: SitePlan, run: RunSpec, subrun: int) -> Track:
    """Pointing of a subrun: the source at the wobble offset, followed over the sky."""
    from astropy.coordinates import AltAz, SkyCoord
    from astropy.time import Time
    from ctapipe_io_lst.constants import LST1_LOCATION
    from lstchain.reco.utils import radec_to_camera

    camera = lst1_camera()
    source = SkyCoord(plan.source.ra_deg * u.deg, plan.source.dec_deg * u.deg, frame="icrs")
    start = start_of(run, subrun)
    unix = np.linspace(start, start + run.subrun_s, 9)
    time = Time(unix, format="unix", scale="utc")
    horizontal = pointing_of(plan, run).transform_to(AltAz(obstime=time, location=LST1_LOCATION))
    seen = radec_to_camera(source, time, horizontal.alt, horizontal.az, camera.effective_focal_length)
    return Track(unix, horizontal.alt.rad, horizontal.az.rad, seen.x.to_value(u.m), seen.y.to_value(u.m))


def throw_cosmic_rays(
    rng: np.random.Generator, duration_s: float, zenith_rad: float, light: float
) -> tuple[Showers, FloatArray]:
    """Cosmic rays that give enough light to trigger, thinned at low light.

    Returns
    -------
    showers : Showers
    light_pe : ndarray
        Their light on the camera (p.e.).
    """
    volume, deg = COSMIC_RAYS, lst1_camera().metres_per_degree
    thrown = int(rng.poisson(cosmic_ray_rate_hz(volume) * duration_s))
    kept: list[tuple[FloatArray, ...]] = []
    for first in range(0, thrown, _CHUNK):
        n = min(_CHUNK, thrown - first)
        energy = throw_power_law(rng, n, volume)
        impact, phi = throw_impact(rng, n, volume)
        zeros = np.zeros(n)
        pe = light_yield_pe(rng, Showers(Particle.PROTON, energy, impact, phi, zeros, zeros), zenith_rad, light)
        probability = np.clip((pe / THIN_BELOW_PE) ** THIN_POWER, THIN_MIN, 1.0)
        ok = (pe > 0.9 * TRIGGER_THRESHOLD_PE) & (rng.random(n) < probability)
        kept.append(tuple(values[ok] for values in (energy, impact, phi, pe)))
    energy, impact, phi, pe = (np.concatenate(parts) for parts in zip(*kept, strict=True))
    offset, angle = throw_offset(rng, len(pe), volume)
    x, y = offset * np.cos(angle) * deg, offset * np.sin(angle) * deg
    return Showers(Particle.PROTON, energy, impact, phi, x, y), pe


def _cosmic_batches(
    rng: np.random.Generator, noise: PixelNoise, run: RunSpec, track: Track, transmission: float
) -> Iterator[_Batch]:
    showers, light = throw_cosmic_rays(rng, STRATA * run.subrun_s, track.zenith_rad, transmission)
    for first in range(0, len(light), _IMAGES):
        some = np.arange(first, min(first + _IMAGES, len(light)))
        images = image_showers(rng, showers.take(some), light[some], track.zenith_rad)
        pick = np.argsort(cleaned_light(images.pe))[int(rng.integers(STRATA)) :: STRATA]
        times = track.unix_s[0] + run.subrun_s * rng.random(len(pick))
        yield _Batch(EventKind.SHOWER, times, *noise.observe(images.pe[pick], images.time_ns[pick]))


def _gamma_batches(
    rng: np.random.Generator,
    noise: PixelNoise,
    run: RunSpec,
    track: Track,
    transmission: float,
    spectrum: Spectrum,
) -> Iterator[_Batch]:
    thrown = int(rng.poisson(spectrum.rate_hz(SOURCE_GAMMAS) * run.subrun_s))
    for first in range(0, thrown, _IMAGES):
        n = min(_IMAGES, thrown - first)
        times = track.unix_s[0] + run.subrun_s * rng.random(n)
        impact, phi = throw_impact(rng, n, SOURCE_GAMMAS)
        showers = Showers(
            Particle.GAMMA,
            throw_spectrum(rng, n, SOURCE_GAMMAS, spectrum),
            impact,
            phi,
            np.interp(times, track.unix_s, track.source_x_m),
            np.interp(times, track.unix_s, track.source_y_m),
        )
        pe = light_yield_pe(rng, showers, track.zenith_rad, transmission)
        images = image_showers(rng, showers, pe, track.zenith_rad)
        yield _Batch(EventKind.SHOWER, times[images.index], *noise.observe(images.pe, images.time_ns))


def _interleaved_batches(
    rng: np.random.Generator, noise: PixelNoise, run: RunSpec, track: Track, flatfield_hz: float
) -> Iterator[_Batch]:
    start = track.unix_s[0]
    n_pedestals = int(run.pedestal_hz * run.subrun_s)
    if n_pedestals:
        times = start + (np.arange(n_pedestals) + 0.31) / run.pedestal_hz
        yield _Batch(EventKind.PEDESTAL, times, *noise.pedestals(n_pedestals))
    n_flat, n_pixels = int(flatfield_hz * run.subrun_s), lst1_camera().n_pixels
    charge = rng.normal(FLATFIELD_PE, FLATFIELD_SPREAD_PE, (n_flat, n_pixels)).astype(np.float32)
    peak = 18.0 + rng.normal(0, 0.4, (n_flat, 1)) + rng.normal(0, 0.35, (n_flat, n_pixels))
    times = start + (np.arange(n_flat) + 0.77) / flatfield_hz
    yield _Batch(EventKind.FLATFIELD, times, charge, peak.astype(np.float32))


def make_subrun(plan: SitePlan, run: RunSpec, subrun: int, dl1: Path, muons: Path) -> int:
    """Make the DL1 file and the muon rings of a subrun.

    Returns
    -------
    int
        Number of events written.
    """
    from lstchain.io import standard_config

    rng = np.random.default_rng([plan.seed, run.run_id, subrun])
    noise = PixelNoise(run.nsb_ghz, seed=int(rng.integers(2**31)))
    moments = noise.moments()
    track, transmission = track_of(plan, run, subrun), run.transmission_of(subrun)
    batches = [
        *_cosmic_batches(rng, noise, run, track, transmission),
        *_gamma_batches(rng, noise, run, track, transmission, plan.source.spectrum),
        *_interleaved_batches(rng, noise, run, track, plan.flatfield_hz),
    ]
    # the first pass over a night always has the standard cleaning (tailcut84), whatever the NSB
    with dl1_writer(dl1, copy.deepcopy(standard_config), run.run_id) as writer:
        start = float(track.unix_s[0])
        for unix_s, interleaved in ((start - 3600.0, False), (start, True)):
            writer.monitoring(monitoring_container(rng, unix_s, moments.std12, plan.bad_pixels, interleaved))
        for event in _in_order(batches, track, first_id=1 + subrun * 1_000_000):
            writer.add(event)
        n_events = writer.n_events
    write_muons(muons, rng, start, run.subrun_s, track.zenith_rad, transmission)
    return n_events


def _in_order(batches: list[_Batch], track: Track, first_id: int) -> Iterator[Event]:
    """The events of all batches in the order of time, without those within the dead time."""
    times = np.concatenate([batch.unix_s for batch in batches])
    source = np.concatenate([np.full(len(batch.unix_s), i) for i, batch in enumerate(batches)])
    within: npt.NDArray[Any] = np.concatenate([np.arange(len(batch.unix_s)) for batch in batches])
    alt = np.interp(times, track.unix_s, track.alt_rad)
    az = np.interp(times, track.unix_s, track.az_rad)
    last, event_id = -np.inf, first_id
    for k in np.argsort(times):
        if times[k] - last < DEAD_TIME_S:
            continue
        last = times[k]
        batch, i = batches[source[k]], within[k]
        yield Event(
            event_id, batch.charge[i], batch.peak_time[i], float(times[k]), batch.kind, float(alt[k]), float(az[k])
        )
        event_id += 1
