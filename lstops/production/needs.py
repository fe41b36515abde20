"""What of the simulated sky a request needs: declination lines, and the test nodes around the pointings."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone

import numpy as np
from numpy.typing import NDArray

from lstops.errors import ConfigError
from lstops.production.grid import Grid, Line, Node
from lstops.reduction.geometry import Field

Floats = NDArray[np.float64]

#: Runs point this far beside their target (wobble offset of LST-1, degrees).
WOBBLE_DEG = 0.4
#: Steps of the hour angle along a track (degrees); test nodes are 5 deg and more apart.
_STEP_DEG = 1.0
#: When LSTProd2 was simulated: the field of its nodes (lstchain/reco/utils.py, GEOMAG_DEC).
_SIMULATED = datetime(2021, 11, 29, tzinfo=timezone.utc)


@dataclass(frozen=True)
class ZenithRange:
    """Zenith distances in degrees, both ends included."""

    low_deg: float
    high_deg: float

    @classmethod
    def parse(cls, text: str) -> ZenithRange:
        """Read "0:35"; "35" alone reaches from the zenith down to 35 deg.

        Raises
        ------
        ConfigError
            If it is no such range.
        """
        first, colon, last = text.partition(":")
        try:
            low, high = (float(first), float(last)) if colon else (0.0, float(first))
        except ValueError:
            low = high = math.nan
        if not 0 <= low < high < 90:
            raise ConfigError(f"{text!r} is no range of zenith distances.", "write degrees such as 0:35, below 90.")
        return cls(low, high)

    def __contains__(self, zd_deg: float) -> bool:
        return self.low_deg <= zd_deg <= self.high_deg

    def __str__(self) -> str:
        return f"{self.low_deg:g}-{self.high_deg:g} deg"


@dataclass(frozen=True)
class Pointing:
    """A direction in degrees."""

    zd_deg: float
    az_deg: float


@dataclass(frozen=True)
class Around:
    """Test nodes around pointings.

    Attributes
    ----------
    nodes : tuple of Node
        In the order of the grid.
    outside : tuple of Pointing
        Pointings that not even the whole grid encloses: no response can be interpolated to them.
    """

    nodes: tuple[Node, ...]
    outside: tuple[Pointing, ...]


def nearest_line(declination_deg: float, grid: Grid, tolerance_deg: float = 20.0) -> Line:
    """The declination line to train on for a source.

    lstosa's rule (osa/utils/utils.py): the nearest one. Dense variants of a line are only used by name.

    Raises
    ------
    ConfigError
        If even the nearest line is further away than `tolerance_deg`.
    """
    line = min(main_lines(grid), key=lambda line: (abs(line.declination_deg - declination_deg), line.name))
    distance = abs(line.declination_deg - declination_deg)
    if distance > tolerance_deg:
        raise ConfigError(
            f"the nearest declination line, {line.name}, is {distance:.1f} deg from {declination_deg:.2f} deg.",
            "simulate a line nearer to the source, or name a line with --line.",
        )
    return line


def track(declination_deg: float, latitude_deg: float, zenith: ZenithRange) -> tuple[Pointing, ...]:
    """Pointings of a night's observations of a source, with its wobble positions in declination.

    Raises
    ------
    ConfigError
        If the source never is in that range.
    """
    found = [
        pointing
        for declination in (declination_deg - WOBBLE_DEG, declination_deg, declination_deg + WOBBLE_DEG)
        for pointing in _track(declination, latitude_deg)
        if pointing.zd_deg in zenith
    ]
    if not found:
        lowest = abs(latitude_deg - declination_deg)
        raise ConfigError(
            f"at a declination of {declination_deg:.2f} deg nothing is ever seen in {zenith} of zenith distance.",
            f"it culminates at {lowest:.1f} deg: choose a range that holds that.",
        )
    return tuple(found)


def _track(declination_deg: float, latitude_deg: float) -> list[Pointing]:
    dec, lat = math.radians(declination_deg), math.radians(latitude_deg)
    hour = np.radians(np.arange(-180.0, 180.0, _STEP_DEG))
    sine = math.sin(lat) * math.sin(dec) + math.cos(lat) * math.cos(dec) * np.cos(hour)
    east = -math.cos(dec) * np.sin(hour)
    north = math.cos(lat) * math.sin(dec) - math.sin(lat) * math.cos(dec) * np.cos(hour)
    zd = np.degrees(np.arccos(np.clip(sine, -1, 1)))
    az = np.degrees(np.arctan2(east, north)) % 360
    return [Pointing(float(z), float(a)) for z, a in zip(zd, az, strict=True) if z < 90]


def nodes_around(pointings: Sequence[Pointing], nodes: Sequence[Node]) -> Around:
    """The test nodes between which responses are interpolated to the pointings.

    Those are the corners of the triangles on the sky that hold a pointing, so that the nodes are like the data.
    lstchain interpolates in (cos zenith distance, sin delta), where a triangle of the sky is folded along the magnetic
    meridian; where the corners do not enclose a pointing there, those of the triangle of that plane are added.
    """
    if len(nodes) < 4:
        return Around(tuple(nodes), ())
    field = Field.at(_SIMULATED)
    corners = _plane([(n.zd_deg, field.delta_deg(n.zd_deg, n.az_deg)) for n in nodes])
    targets = _plane([(p.zd_deg, field.delta_deg(p.zd_deg, p.az_deg)) for p in pointings])
    chosen = _sky_corners(pointings, nodes)
    open_ = np.flatnonzero(_triangles_of(corners[sorted(chosen)], targets)[0] < 0)
    found, triangles = _triangles_of(corners, targets[open_])
    added = {int(i) for face in set(found.tolist()) if face >= 0 for i in triangles[face]}
    outside = tuple(pointings[i] for i in open_[found < 0])
    return Around(tuple(nodes[i] for i in sorted(chosen | added)), outside)


def _sky_corners(pointings: Sequence[Pointing], nodes: Sequence[Node]) -> set[int]:
    from scipy.spatial import ConvexHull

    corners = _vectors([(n.zd_deg, n.az_deg) for n in nodes])
    targets = _vectors([(p.zd_deg, p.az_deg) for p in pointings])
    chosen = {int(i) for i in np.argmax(targets @ corners.T, axis=1)}  # the nearest, whatever encloses
    hull = ConvexHull(corners)
    # seen from the ground, the far faces are the triangles of the sky; the near ones close the hull below it
    for face in hull.simplices[hull.equations[:, 3] < -1e-9]:
        weights = np.linalg.solve(corners[face].T, targets.T)
        if bool((weights >= -1e-9).all(axis=0).any()):
            chosen.update(int(i) for i in face)
    return chosen


def _triangles_of(corners: Floats, targets: Floats) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """The Delaunay triangle that holds each target (-1: none), and the corners of each triangle."""
    from scipy.spatial import Delaunay, QhullError

    try:
        triangles = Delaunay(corners)
    except QhullError:  # fewer than three corners, or all on one line
        return np.full(len(targets), -1), np.empty((0, 3), dtype=np.intp)
    return triangles.find_simplex(targets), triangles.simplices


def _vectors(directions: Sequence[tuple[float, float]]) -> Floats:
    zd, az = np.radians(np.array(directions)).T
    return np.stack([np.sin(zd) * np.cos(az), np.sin(zd) * np.sin(az), np.cos(zd)], axis=1)


def _plane(points: Sequence[tuple[float, float]]) -> Floats:
    zd, delta = np.radians(np.array(points)).T
    return np.stack([np.cos(zd), np.sin(delta)], axis=1)


def main_lines(grid: Grid) -> list[Line]:
    """The lines without their dense variants."""
    return [line for line in grid.lines.values() if line.name.removeprefix("dec_min_").removeprefix("dec_").isdigit()]


def all_sky_submissions(grid: Grid) -> int:
    """Submissions of one NSB level of lstmcpipe's all-sky grid: 3 375 for lstprod2.

    R0 to DL1 of both particles and of the test nodes; split of the gammas; merges of each split node's test part, of
    the lines and of the test nodes; forests; DL2 and IRF of each line at all test nodes and at its own nodes.
    """
    lines = main_lines(grid)
    training, tests = sum(len(line.nodes) for line in lines), len(grid.test_nodes)
    dl2 = len(lines) * tests + training
    return (2 * training + tests) + training + (training + 2 * len(lines) + tests) + len(lines) + 2 * dl2
