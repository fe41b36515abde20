"""A quick look at each run of a DL3 folder: theta squared, counts map, and rate of events against zenith distance."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lstops.report.source import RateBin, RunLook, Theta2
from lstops.science.source_runs import Usable

#: half the width of a counts map and the size of its bins (deg): the camera's field of view with a margin
MAP_HALF_DEG, MAP_BIN_DEG = 2.4, 0.1
#: time bins of a run: minutes in runs of 20 minutes, but not less than so many seconds, and at least as many as this
_BIN_S, _LEAST_S, _LEAST_BINS = 120.0, 0.5, 4


def look_at(usable: Iterable[Usable], position: Any) -> tuple[RunLook, ...]:
    """Quick looks, in the order given.

    Parameters
    ----------
    position : astropy.coordinates.SkyCoord
        Of the source.
    """
    return tuple(_look(use, position) for use in usable)


def _look(use: Usable, position: Any) -> RunLook:
    events = use.observation.events
    edges = np.arange(-MAP_HALF_DEG, MAP_HALF_DEG + MAP_BIN_DEG / 2, MAP_BIN_DEG)
    east, north = _offsets(use.pointing, events.radec)
    # rows from south to north, columns from west to east
    counts = np.histogram2d(north, east, bins=(edges, edges))[0].astype(int)
    source = _offsets(use.pointing, position)
    return RunLook(
        run_id=int(use.observation.obs_id),
        theta2=theta2([use], position),
        map_edges_deg=tuple(np.round(edges, 6).tolist()),
        counts=tuple(tuple(row) for row in counts.tolist()),
        source_deg=(float(source[0]), float(source[1])),
        outside=int(len(east) - counts.sum()),
        rates=_rates(use.observation),
    )


def _offsets(centre: Any, position: Any) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Distance to the east and to the north (deg) in a frame whose pole is far from the centre."""
    there = position.transform_to(centre.skyoffset_frame())
    return np.asarray(there.lon.wrap_at("180d").deg), np.asarray(there.lat.deg)


def _rates(observation: Any) -> tuple[RateBin, ...]:
    """Events after cuts per second of live time in equal parts of the run, at the zenith distance of its middle."""
    from astropy.time import Time

    intervals = [(float(a), float(b)) for a, b in zip(observation.gti.time_start.unix, observation.gti.time_stop.unix,
                                                      strict=True)]  # fmt: skip
    start, stop = intervals[0][0], intervals[-1][1]
    number = max(_LEAST_BINS, round((stop - start) / _BIN_S))
    number = max(1, min(number, int((stop - start) / _LEAST_S)))
    edges = np.linspace(start, stop, number + 1)
    times = observation.events.time.unix
    counts = np.histogram(times, bins=edges)[0]
    # 1 - dead time, constant through a run in GADF
    live = 1 - float(observation.observation_dead_time_fraction)
    middles = (edges[1:] + edges[:-1]) / 2
    zenith = 90 - observation.get_pointing_altaz(Time(middles, format="unix")).alt.deg
    found = []
    for k in range(number):
        inside = sum(max(0.0, min(b, edges[k + 1]) - max(a, edges[k])) for a, b in intervals)
        if inside < 0.2 * (edges[k + 1] - edges[k]):
            continue  # between two good time intervals
        seconds = inside * live
        found.append(
            RateBin(
                time_unix_s=float(middles[k]),
                zenith_deg=float(zenith[k]),
                rate_hz=float(counts[k] / seconds),
                rate_error_hz=math.sqrt(counts[k]) / seconds,
            )
        )
    return tuple(found)


def theta2(usable: Sequence[Usable], position: Any, bins: int = 25) -> Theta2:
    """Histograms around the source and the off positions, up to half the distance between neighbouring positions."""
    n_off = min(u.n_off for u in usable)
    offset = min(u.offset_deg for u in usable)
    edges = np.linspace(0, min(0.3, (offset * math.sin(math.pi / (n_off + 1))) ** 2), bins + 1)
    on, off = np.zeros(bins), np.zeros(bins)
    for use in usable:
        events = use.observation.events.radec
        on += _histogram(events, position, edges)
        angle, distance = use.pointing.position_angle(position), use.pointing.separation(position)
        for k in range(1, n_off + 1):
            around = use.pointing.directional_offset_by(angle + 2 * math.pi * k / (n_off + 1) * _radian(), distance)
            off += _histogram(events, around, edges)
    return Theta2(
        edges_deg2=tuple(edges.tolist()),
        on=tuple(on.tolist()),
        off=tuple((off / n_off).tolist()),
        off_error=tuple((np.sqrt(off) / n_off).tolist()),
    )


def _radian() -> Any:
    import astropy.units as u

    return u.rad


def _histogram(events: Any, position: Any, edges: NDArray[np.float64]) -> NDArray[np.float64]:
    distance2 = np.asarray(events.separation(position).deg) ** 2
    return np.histogram(distance2, bins=edges)[0].astype(float)
