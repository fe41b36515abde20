"""Shower images: an ellipse of photoelectrons as a function of energy, impact and zenith, and a trigger.

The model is simple on purpose; what matters is that the night and the Monte Carlo share it, that cosmic rays give the
intensity spectrum of good LST-1 data (1.74 events/s/p.e. at 422 p.e., index -2.24) and that gammas can be told apart.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np
import numpy.typing as npt

from lstops.simulate.camera import Array32, lst1_camera
from lstops.simulate.physics import FloatArray

#: Sum of 7 pixels that triggers, and its fluctuation (p.e.)
TRIGGER_THRESHOLD_PE = 40.0
TRIGGER_SPREAD_PE = 6.0
#: Light pool: flat to this distance, then exponential (m)
POOL_RADIUS_M, POOL_TAIL_M = 120.0, 70.0
#: Light on the telescope grows with this power of cos(zenith)
ZENITH_POWER = 1.5


class Particle(Enum):
    """Primary particle; the value is CORSIKA's number as lstchain writes it (mc_type)."""

    GAMMA = 0
    PROTON = 101


@dataclass(frozen=True)
class LightLaw:
    """Photoelectrons on the camera: norm * E^power, with a log-normal spread."""

    norm_pe: float
    power: float
    spread: float


LIGHT = {
    Particle.GAMMA: LightLaw(1.2e4, 1.08, 0.12),
    Particle.PROTON: LightLaw(2650.0, 1.0, 0.466),
}


@dataclass(frozen=True)
class Showers:
    """Showers of one kind before imaging; all arrays (n,).

    ``source_x_m``, ``source_y_m`` is the image of the primary's direction in the camera.
    """

    particle: Particle
    energy_tev: FloatArray
    impact_m: FloatArray
    core_phi_rad: FloatArray
    source_x_m: FloatArray
    source_y_m: FloatArray

    def __len__(self) -> int:
        return len(self.energy_tev)

    def take(self, index: npt.NDArray[Any]) -> Showers:
        """The showers at ``index``."""
        return Showers(
            self.particle,
            self.energy_tev[index],
            self.impact_m[index],
            self.core_phi_rad[index],
            self.source_x_m[index],
            self.source_y_m[index],
        )


@dataclass(frozen=True)
class Images:
    """Images of the showers that triggered.

    ``pe`` and ``time_ns`` have shape (m, n_pixels); ``index`` (m,) points into the showers.
    """

    pe: Array32
    time_ns: Array32
    index: npt.NDArray[np.intp]


def light_yield_pe(rng: np.random.Generator, showers: Showers, zenith_rad: float, transmission: float) -> FloatArray:
    """Photoelectrons that the showers put on the camera."""
    law = LIGHT[showers.particle]
    cosine = np.cos(zenith_rad)
    distance = showers.impact_m * cosine
    pool = np.where(distance < POOL_RADIUS_M, 1.0, np.exp(-(distance - POOL_RADIUS_M) / POOL_TAIL_M))
    spread = np.exp(rng.normal(0.0, law.spread, len(showers)))
    mean = law.norm_pe * transmission * cosine**ZENITH_POWER * showers.energy_tev**law.power
    return np.asarray(mean * pool * spread)


def image_showers(rng: np.random.Generator, showers: Showers, light_pe: FloatArray, zenith_rad: float) -> Images:
    """Make the images of showers with given light and apply the trigger.

    Parameters
    ----------
    showers : Showers
        A few thousand at most: the memory is n x n_pixels.
    light_pe : ndarray (n,)
        From `light_yield_pe`.
    """
    camera = lst1_camera()
    deg = camera.metres_per_degree
    n = len(showers)
    hadron = showers.particle is Particle.PROTON
    log_e = np.log10(showers.energy_tev / 0.1)
    height = (8300.0 - 594.0 * log_e + rng.normal(0, 500.0, n)) / np.cos(zenith_rad)
    offset = np.rad2deg(np.arctan(showers.impact_m / np.clip(height, 3000.0, None)))
    length = 0.07 + 0.14 * offset + 0.02 * log_e + rng.normal(0, 0.012, n)
    width = 0.052 + 0.012 * log_e + rng.normal(0, 0.008, n)
    x0, y0 = showers.source_x_m, showers.source_y_m
    if hadron:
        width = width * np.exp(rng.normal(0.50, 0.30, n))
        length = length * np.exp(rng.normal(0.12, 0.30, n))
        x0 = x0 + rng.normal(0, 0.15, n) * deg
        y0 = y0 + rng.normal(0, 0.15, n) * deg
    length = np.clip(length, 0.06, 1.5)
    width = np.minimum(np.clip(width, 0.03, None), length)
    # the optics' point spread
    length, width = (np.sqrt(size**2 + 0.04**2) * deg for size in (length, width))
    x = x0 + offset * deg * np.cos(showers.core_phi_rad)
    y = y0 + offset * deg * np.sin(showers.core_phi_rad)

    seen = (light_pe > 0.9 * TRIGGER_THRESHOLD_PE) & (np.hypot(x, y) < 2.4 * deg + 2 * length)
    index = np.flatnonzero(seen)
    x, y, length, width, light = (values[index] for values in (x, y, length, width, light_pe))
    psi = showers.core_phi_rad[index]
    m = len(index)
    main = light * (0.7 if hadron else 1.0)
    mean, along = _ellipse(x, y, length, width, main, psi, 0.15 if hadron else 0.25)
    if hadron:
        for fraction in (0.2, 0.1):
            sub, _ = _ellipse(
                x + rng.normal(0, 0.25, m) * deg,
                y + rng.normal(0, 0.25, m) * deg,
                0.6 * length,
                width,
                fraction * light * rng.exponential(1.0, m),
                psi + rng.normal(0, 0.6, m),
                0.0,
            )
            mean += sub
    mean[mean < 1e-3] = 0.0
    pe = np.zeros_like(mean)
    lit = mean > 0
    pe[lit] = rng.poisson(np.minimum(mean[lit], 1e6))
    start = rng.normal(16.0, 1.2, m)
    slope = (showers.impact_m[index] - 60.0) / 60.0 * 2.0 / deg
    time_ns = (start[:, None] + slope[:, None] * along).astype(np.float32)
    trigger = (pe + (camera.neighbours @ pe.T).T).max(axis=1, initial=0.0) + rng.normal(0, TRIGGER_SPREAD_PE, m)
    fired = trigger > TRIGGER_THRESHOLD_PE
    return Images(pe[fired], time_ns[fired], index[fired])


def cleaned_light(pe: Array32) -> FloatArray:
    """Photoelectrons (n,) that the standard image cleaning will about keep, from true images (n, n_pixels).

    Picture 8 p.e. with two picture neighbours, boundary 4 p.e., each half a photoelectron lower for the bias by noise.
    """
    neighbours = lst1_camera().neighbours
    picture = (pe > 7.5).astype(np.float32)
    picture *= (neighbours @ picture.T).T >= 2
    kept = (picture > 0) | ((pe > 3.5) & ((neighbours @ picture.T).T > 0))
    return np.asarray(np.where(kept, pe, 0).sum(axis=1), dtype=float)


def _ellipse(
    x: FloatArray, y: FloatArray, length: FloatArray, width: FloatArray, light: FloatArray, psi: FloatArray, skew: float
) -> tuple[Array32, Array32]:
    """Expected p.e. (n, n_pixels) of skewed Gaussian ellipses, and the coordinate along the axis (m)."""
    camera = lst1_camera()
    x, y, length, width, light, psi = (
        values.astype(np.float32)[:, None] for values in (x, y, length, width, light, psi)
    )
    dx, dy = camera.x_m[None] - x, camera.y_m[None] - y
    cos, sin = np.cos(psi), np.sin(psi)
    along = dx * cos + dy * sin
    across = dy * cos - dx * sin
    sigma = np.where(along < 0, np.float32(1 - skew) * length, np.float32(1 + skew) * length)
    peak = light * np.float32(camera.pixel_area_m2 / (2 * np.pi)) / (length * width)
    mean = peak * np.exp(np.float32(-0.5) * ((along / sigma) ** 2 + (across / width) ** 2))
    return np.asarray(mean, np.float32), np.asarray(along, np.float32)
