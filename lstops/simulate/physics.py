"""What falls from the sky: spectra, thrown areas and rates. Energies in TeV, lengths in m, angles in deg, times s."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.floating[Any]]

M2_TO_CM2 = 1.0e4


@dataclass(frozen=True)
class Spectrum:
    """Log parabola dN/dE = norm E^(index + curvature log10 E), E in TeV; norm in 1/(TeV cm2 s) at 1 TeV."""

    norm: float
    index: float
    curvature: float

    def flux(self, energy_tev: FloatArray | float) -> FloatArray:
        """Differential flux, 1/(TeV cm2 s)."""
        energy = np.asarray(energy_tev, dtype=float)
        return np.asarray(self.norm * energy ** (self.index + self.curvature * np.log10(energy)))

    def integral(self, e_min_tev: float, e_max_tev: float) -> float:
        """Integral flux between two energies, 1/(cm2 s)."""
        energy = np.logspace(np.log10(e_min_tev), np.log10(e_max_tev), 2001)
        return float(np.trapezoid(self.flux(energy), energy))

    def times(self, factor: float) -> Spectrum:
        """The same spectrum, brighter."""
        return replace(self, norm=factor * self.norm)

    def rate_hz(self, volume: ThrownVolume) -> float:
        """Gammas per second thrown over a volume's disc."""
        return self.integral(volume.e_min_tev, volume.e_max_tev) * volume.area_cm2


#: Crab Nebula, log parabola of MAGIC, JHEAp 5-6 (2015) 30
CRAB = Spectrum(3.23e-11, -2.47, -0.24)


@dataclass(frozen=True)
class ThrownVolume:
    """Where and with which spectrum events are thrown.

    Attributes
    ----------
    e_min_tev, e_max_tev, index : float
        Limits and index of the thrown power law dN/dE.
    radius_m : float
        Radius of the disc of impact points, perpendicular to the shower axis.
    cone_min_deg, cone_max_deg : float
        Inner and outer radius of the cone of directions around the pointing.
    """

    e_min_tev: float
    e_max_tev: float
    index: float
    radius_m: float
    cone_min_deg: float = 0.0
    cone_max_deg: float = 0.0

    @property
    def area_cm2(self) -> float:
        """Thrown area (cm2)."""
        return float(np.pi * self.radius_m**2 * M2_TO_CM2)

    @property
    def solid_angle_sr(self) -> float:
        """Solid angle of the cone (sr)."""
        inner, outer = np.cos(np.deg2rad([self.cone_min_deg, self.cone_max_deg]))
        return float(2 * np.pi * (inner - outer))


#: Cosmic rays of the night: all-particle-like proton spectrum that gives LST-1's intensity spectrum (see showers.py)
COSMIC_RAYS = ThrownVolume(0.02, 100.0, -2.78, 500.0, 0.0, 4.5)
#: Flux of the cosmic rays at 1 TeV, 1/(m2 s sr TeV)
COSMIC_RAY_NORM = 0.093
#: Gammas of a source in the night; their energies follow the source's own spectrum
SOURCE_GAMMAS = ThrownVolume(0.02, 20.0, CRAB.index, 350.0)


def cosmic_ray_rate_hz(volume: ThrownVolume, norm: float = COSMIC_RAY_NORM) -> float:
    """Cosmic rays per second thrown over the volume's disc and cone."""
    slope = volume.index + 1.0
    integral = norm * (volume.e_min_tev**slope - volume.e_max_tev**slope) / -slope
    return float(integral * np.pi * volume.radius_m**2 * volume.solid_angle_sr)


def throw_power_law(rng: np.random.Generator, n: int, volume: ThrownVolume) -> FloatArray:
    """Draw ``n`` energies (TeV) from the volume's power law."""
    slope = volume.index + 1.0
    low, high = volume.e_min_tev**slope, volume.e_max_tev**slope
    return np.asarray((low + rng.random(n) * (high - low)) ** (1.0 / slope))


def throw_spectrum(rng: np.random.Generator, n: int, volume: ThrownVolume, spectrum: Spectrum) -> FloatArray:
    """Draw ``n`` energies (TeV) from a spectrum within the volume's limits."""
    energy = np.logspace(np.log10(volume.e_min_tev), np.log10(volume.e_max_tev), 2001)
    flux = spectrum.flux(energy)
    cumulative = np.concatenate([[0.0], np.cumsum(0.5 * (flux[1:] + flux[:-1]) * np.diff(energy))])
    return np.asarray(np.interp(rng.random(n) * cumulative[-1], cumulative, energy))


def throw_impact(rng: np.random.Generator, n: int, volume: ThrownVolume) -> tuple[FloatArray, FloatArray]:
    """Draw ``n`` impact distances (m) and azimuths of the core (rad), uniform over the disc."""
    return volume.radius_m * np.sqrt(rng.random(n)), rng.uniform(0.0, 2 * np.pi, n)


def throw_offset(rng: np.random.Generator, n: int, volume: ThrownVolume) -> tuple[FloatArray, FloatArray]:
    """Draw ``n`` offsets from the pointing (deg) and their position angles (rad), uniform over the cone."""
    inner, outer = volume.cone_min_deg**2, volume.cone_max_deg**2
    return np.sqrt(inner + (outer - inner) * rng.random(n)), rng.uniform(0.0, 2 * np.pi, n)
