"""Which pointings the IRF nodes of a production can be interpolated to.

lstchain interpolates in (cos zenith distance, sin delta), delta being the angle between the shower and the geomagnetic
field, inside the Delaunay hull of the nodes only. Outside it takes the nearest node with a printed line and exit status
0, so such runs are refused before anything is computed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone

import numpy as np


@dataclass(frozen=True)
class IrfNode:
    """One IRF file and where it was simulated (degrees), as in its header.

    Attributes
    ----------
    path : str
        Relative to the site's base.
    delta_deg : float
        Header B_DELTA.
    sha256 : str or None
        Pins the content.
    """

    path: str
    zd_deg: float
    az_deg: float
    delta_deg: float
    sha256: str | None = None


@dataclass(frozen=True)
class Field:
    """Geomagnetic field: declination and inclination in degrees."""

    declination_deg: float
    inclination_deg: float

    @classmethod
    def at(cls, when: datetime) -> Field:
        """The field at a time, linear in time as lstchain has it (lstchain/reco/utils.py, GEOMAG_DEC and following)."""
        reference = datetime(2021, 11, 29, tzinfo=timezone.utc)
        years = (when - reference).total_seconds() / (365.25 * 86400)
        return cls(-4.8443 + 0.1653 * years, 37.3663 - 0.0700 * years)

    def delta_deg(self, zd_deg: float, az_deg: float) -> float:
        """Angle between the field and a shower from a direction, in degrees."""
        zd, az = math.radians(zd_deg), math.radians(az_deg)
        dec, inc = math.radians(self.declination_deg), math.radians(self.inclination_deg)
        cosine = math.sin(inc) * math.cos(zd) - math.cos(inc) * math.sin(zd) * math.cos(az - dec)
        return math.degrees(math.acos(max(-1.0, min(1.0, cosine))))


def why_not(zd_deg: float, az_deg: float, nodes: Sequence[IrfNode], field: Field) -> str | None:
    """Say why the responses cannot be interpolated to a pointing, or None if they can.

    Parameters
    ----------
    zd_deg, az_deg : float
        Mean pointing of the run.
    field : Field
        Of the *present*: lstchain computes the delta of data with today's field.
    """
    from scipy.spatial import ConvexHull, QhullError

    where = f"pointing zd {zd_deg:.2f} az {az_deg:.2f} deg"
    points = np.array([_coordinates(n.zd_deg, n.delta_deg) for n in nodes])
    listed = ", ".join(f"zd {n.zd_deg:g} az {n.az_deg:g}" for n in nodes[:8])
    if len(points) < 3:
        return f"{where}: {len(nodes)} IRF node(s) ({listed}) span no area, interpolation needs at least three."
    try:
        hull = ConvexHull(points)
    except QhullError:
        return f"{where}: the IRF nodes ({listed}) lie on one line of (cos zd, sin delta) and cannot be interpolated."
    target = _coordinates(zd_deg, field.delta_deg(zd_deg, az_deg))
    if bool((hull.equations[:, :2] @ target + hull.equations[:, 2] <= 1e-12).all()):
        return None
    low, high = min(n.zd_deg for n in nodes), max(n.zd_deg for n in nodes)
    return (
        f"{where} (cos zd {target[0]:.4f}, sin delta {target[1]:.4f}) lies outside the {len(nodes)} IRF nodes, "
        f"which reach from zd {low:g} to {high:g} deg and from sin delta {points[:, 1].min():.4f} to "
        f"{points[:, 1].max():.4f}."
    )


def _coordinates(zd_deg: float, delta_deg: float) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return np.array([math.cos(math.radians(zd_deg)), math.sin(math.radians(delta_deg))])
