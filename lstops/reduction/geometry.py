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
from numpy.typing import NDArray

from lstops.quality.sky import separation_deg

Points = NDArray[np.float64]
#: nodes whose coordinates spread less than this to one side lie on a line
_FLAT = 1e-6
#: a pointing on an edge of the triangle may have a weight below zero by rounding
_OUTSIDE = 1e-9
#: how well a run's mean pointing is known before its events are
_POINTING_DEG = 0.3
#: a corner with less weight does not matter
_NEGLIGIBLE = 1e-3


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
    cuts_sha256 : str or None
        Digest of the cut set that it was made with, if that is known.
    other_cuts : str
        What is other than in the cut set of the reduction, if a configuration, not a cut set, says how it was made.
    empty_bins_tev : tuple of (low, high)
        True-energy bins without effective area between filled ones.
    gamma_dl2 : str or None
        DL2 of the simulated gammas that it was made from, relative to the base, if its manifest says so.
    """

    path: str
    zd_deg: float
    az_deg: float
    delta_deg: float
    sha256: str | None = None
    cuts_sha256: str | None = None
    empty_bins_tev: tuple[tuple[float, float], ...] = ()
    gamma_dl2: str | None = None
    other_cuts: str = ""

    @property
    def where(self) -> str:
        """Its pointing for a person."""
        return f"zd {self.zd_deg:g} az {self.az_deg:g}"


@dataclass(frozen=True)
class NodeWeight:
    """A node that the responses are interpolated from; the weights of a pointing add up to 1."""

    node: IrfNode
    weight: float


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


def weights(zd_deg: float, az_deg: float, delta_deg: float, nodes: Sequence[IrfNode]) -> tuple[NodeWeight, ...]:
    """The nodes that lstchain interpolates the responses of a pointing from, with their weights.

    They are the corners of the Delaunay triangle of (cos zd, sin delta) that holds the pointing, with its barycentric
    coordinates. Where several nodes are at one place of that plane, lstchain takes the nearest in azimuth
    (check_in_delaunay_triangle, get_nearest_az_node), and scipy's linear interpolation goes between the three.

    Parameters
    ----------
    delta_deg : float
        Angle between the field and the pointing.
    nodes : sequence of IrfNode
        In the order of their file names, as lstchain takes them.

    Returns
    -------
    tuple of NodeWeight
        Empty if the nodes span no area, or the pointing lies outside of them.
    """
    from scipy.spatial import Delaunay, QhullError

    if len(nodes) < 3:
        return ()
    target, points = _coordinates(zd_deg, delta_deg), _points(nodes)
    try:
        triangles = Delaunay(points)
    except QhullError:
        return ()
    found = int(triangles.find_simplex(target))
    if found < 0:
        return ()
    rounded = np.around(points, 3)
    corners = [_nearest_twin(corner, rounded, nodes, az_deg) for corner in triangles.simplices[found].tolist()]
    triangle = np.vstack([points[corners].T, np.ones(3)])
    if len(set(corners)) < 3 or abs(np.linalg.det(triangle)) < _FLAT:
        return ()
    shares = np.linalg.solve(triangle, np.append(target, 1.0))
    if shares.min() < -_OUTSIDE:
        return ()
    return tuple(NodeWeight(nodes[corner], float(share)) for corner, share in zip(corners, shares, strict=True))


def around(zd_deg: float, az_deg: float, field: Field, nodes: Sequence[IrfNode]) -> tuple[IrfNode, ...]:
    """The nodes that the responses of a pointing, or one close to it, are interpolated from, in the order given.

    The mean pointing of the events, which lstchain takes, is known to a fraction of a degree before there is DL2.
    """
    found = {
        item.node.path
        for zd in (zd_deg - _POINTING_DEG, zd_deg, zd_deg + _POINTING_DEG)
        for az in (az_deg - _POINTING_DEG, az_deg, az_deg + _POINTING_DEG)
        for item in weights(zd, az, field.delta_deg(zd, az), nodes)
    }
    return tuple(node for node in nodes if node.path in found)


def nearest(zd_deg: float, az_deg: float, nodes: Sequence[IrfNode]) -> tuple[IrfNode, float]:
    """The node with the smallest angle to a pointing, and that angle in degrees.

    Not lstchain's nearest node: that one is nearest in (cos zd, sin delta), a plane in which degrees of zenith distance
    count for little (a run at 25 deg got the node at 10 deg).
    """
    azimuths, altitudes = (np.array(values) for values in zip(*((n.az_deg, 90 - n.zd_deg) for n in nodes), strict=True))
    distances = separation_deg(azimuths, altitudes, (az_deg, 90 - zd_deg))
    found = int(distances.argmin())
    return nodes[found], float(distances[found])


def why_not(zd_deg: float, az_deg: float, nodes: Sequence[IrfNode], field: Field) -> str | None:
    """Say why the responses cannot be interpolated to a pointing, or None if they can.

    Parameters
    ----------
    zd_deg, az_deg : float
        Mean pointing of the run.
    field : Field
        At the time of the run.
    """
    where = f"pointing zd {zd_deg:.2f} az {az_deg:.2f} deg"
    listed = ", ".join(n.where for n in nodes[:8])
    if len(nodes) < 3:
        return f"{where}: {len(nodes)} IRF node(s) ({listed}) span no area, interpolation needs at least three."
    points = _points(nodes)
    if np.linalg.matrix_rank(points - points[0], tol=_FLAT) < 2:
        return f"{where}: the IRF nodes ({listed}) lie on one line of (cos zd, sin delta) and cannot be interpolated."
    delta_deg = field.delta_deg(zd_deg, az_deg)
    if weights(zd_deg, az_deg, delta_deg, nodes):
        return None
    target = _coordinates(zd_deg, delta_deg)
    low, high = min(n.zd_deg for n in nodes), max(n.zd_deg for n in nodes)
    return (
        f"{where} (cos zd {target[0]:.4f}, sin delta {target[1]:.4f}) lies outside the {len(nodes)} IRF nodes, "
        f"which reach from zd {low:g} to {high:g} deg and from sin delta {points[:, 1].min():.4f} to "
        f"{points[:, 1].max():.4f}."
    )


def collapsing(chosen: Sequence[NodeWeight], useful_tev: tuple[float, float]) -> str | None:
    """Say where an empty bin at a node would collapse the interpolated area, or None.

    lstchain interpolates the logarithm of the area with a floor of 1 m2: one empty bin at one corner of the triangle
    takes orders of magnitude off the area between filled ones.
    """
    low_tev, high_tev = useful_tev
    for item in chosen:
        bins = [b for b in item.node.empty_bins_tev if b[0] >= low_tev * 0.999 and b[1] <= high_tev * 1.001]
        if bins and item.weight > _NEGLIGIBLE:
            told = ", ".join(f"{low:.3g} to {high:.3g}" for low, high in bins)
            return (
                f"the IRF node {item.node.where} (weight {item.weight:.2f}) has no effective area at {told} TeV: the "
                "interpolated area would collapse there."
            )
    return None


def _nearest_twin(corner: int, rounded: Points, nodes: Sequence[IrfNode], az_deg: float) -> int:
    twins = np.flatnonzero((rounded == rounded[corner]).all(axis=1)).tolist()
    return int(min(twins, key=lambda twin: abs(nodes[twin].az_deg - az_deg)))


def _points(nodes: Sequence[IrfNode]) -> Points:
    return np.array([_coordinates(n.zd_deg, n.delta_deg) for n in nodes])


def _coordinates(zd_deg: float, delta_deg: float) -> Points:
    # numpy's functions, as lstchain's: a last digit may decide between two triangulations of nodes on one circle
    return np.array([np.cos(math.radians(zd_deg)), np.sin(math.radians(delta_deg))])
