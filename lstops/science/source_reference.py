"""Published flux points of known sources, and how ours compare with them."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lstops.paths import config_dir
from lstops.report.source import FluxPoint

#: a source is the known one if it is as close as that (deg)
_NEAR_DEG = 0.05


@dataclass(frozen=True)
class KnownSource:
    """A source with published points (ICRS, degrees).

    Attributes
    ----------
    file : str
        In `config/reference`.
    """

    ra_deg: float
    dec_deg: float
    file: str

    def load(self) -> tuple[str, tuple[FluxPoint, ...]]:
        """Name of the publication, and its points."""
        document = json.loads((config_dir() / "reference" / self.file).read_text())
        points = tuple(
            FluxPoint(
                energy_tev=p["energy_tev"], energy_min_tev=p["low_tev"], energy_max_tev=p["high_tev"],
                dnde=p["dnde"], dnde_error=p["dnde_error"], dnde_upper_limit=None, significance=p["significance"],
            )
            for p in document["points"]
        )  # fmt: skip
        return document["name"], points


KNOWN = {"crab": KnownSource(83.6324, 22.0174, "crab-spectrum.json")}


def known_source(ra_deg: float, dec_deg: float) -> str | None:
    """Key of the known source at a position, or None."""
    for key, source in KNOWN.items():
        if is_near(ra_deg, dec_deg, source.ra_deg, source.dec_deg):
            return key
    return None


def is_near(ra_deg: float, dec_deg: float, other_ra_deg: float, other_dec_deg: float) -> bool:
    """Whether two positions are those of one source."""
    east = (ra_deg - other_ra_deg + 180) % 360 - 180
    return math.hypot(east * math.cos(math.radians(dec_deg)), dec_deg - other_dec_deg) < _NEAR_DEG


def compare(ours: Sequence[FluxPoint], published: Sequence[FluxPoint]) -> tuple[float | None, float | None]:
    """Weighted mean of our points over the published ones, and its error; both None without a common energy.

    The published points are interpolated in the logarithms; weights are those of our statistical errors.
    """
    points = [p for p in published if p.dnde]
    energy = np.log(np.array([p.energy_tev for p in points]))
    flux = np.log(np.array([p.dnde or 0.0 for p in points]))
    ratios, errors = [], []
    for p in ours:
        if p.dnde and p.dnde_error and energy[0] <= math.log(p.energy_tev) <= energy[-1]:
            reference = math.exp(np.interp(math.log(p.energy_tev), energy, flux))
            ratios.append(p.dnde / reference)
            errors.append(p.dnde_error / reference)
    if not ratios:
        return None, None
    weights = 1 / np.array(errors) ** 2
    return float(np.sum(np.array(ratios) * weights) / weights.sum()), float(1 / math.sqrt(weights.sum()))
