"""Good time intervals of a run with holes, and how a DL3 file tells them.

lstchain_create_dl3_file writes one interval from the first to the last selected event, and LIVETIME and ONTIME that
leave out gaps; gammapy takes the sum of the intervals times DEADC. Without the correction here the time of dropped
subruns and of interruptions would count as observed, and that before the first of a few selected events would not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lstops.errors import DataError
from lstops.step.verify.dl3_times import BREAK_S, DROPPED_CARD, breaks

#: event_type of showers in lstchain's tables; lstchain's effective time counts these only
SHOWER = 32
#: events of neighbouring subruns may overlap by that much (four readout streams); more is a disorder
OVERLAP_S = 0.05
#: the dead time of an interval comes from the smallest of its time differences
MIN_EVENTS = 20
#: an interval of lstchain that misses more than a thousandth of the time with showers is corrected; within these bounds
_MISSED, _MISSED_S = 1e-3, (0.1, 0.5)


@dataclass(frozen=True)
class Span:
    """From the first to the last event of something, seconds since 1970 (UTC)."""

    start_s: float
    stop_s: float


@dataclass(frozen=True, eq=False)
class DroppedSubrun:
    """A subrun whose events are left out.

    Attributes
    ----------
    subrun : int
    event_ids : ndarray of int
        Ascending.
    span : Span
        Of all its events, interleaved ones too.
    """

    subrun: int
    event_ids: NDArray[np.int64]
    span: Span


@dataclass(frozen=True)
class Interval:
    """A good time interval and its dead time correction (live time per elapsed time)."""

    span: Span
    deadc: float

    @property
    def length_s(self) -> float:
        """Elapsed time."""
        return self.span.stop_s - self.span.start_s


def split_at(times_s: NDArray[np.float64], dropped: Sequence[DroppedSubrun]) -> list[NDArray[np.int64]]:
    """Split kept events where subruns were dropped.

    Parameters
    ----------
    times_s : ndarray, shape (n_events,)
        Seconds since 1970.

    Returns
    -------
    list of ndarray
        Positions of the events of each block, in the order given, without empty blocks.

    Raises
    ------
    DataError
        If kept events lie within a dropped subrun: it is not of this run, or the clock jumped.
    """
    spans = sorted((item.span for item in dropped), key=lambda span: span.start_s)
    for span in spans:
        inside = (times_s > span.start_s + OVERLAP_S) & (times_s < span.stop_s - OVERLAP_S)
        if inside.any():
            raise DataError(
                f"{int(inside.sum())} events that are kept lie within a dropped subrun "
                f"({span.start_s:.3f} to {span.stop_s:.3f} s since 1970).",
                "the clock jumped within the run, or the subrun's file is of other data: exclude the run.",
            )
    middles = np.array([(span.start_s + span.stop_s) / 2 for span in spans])
    block = np.searchsorted(middles, times_s)
    return [np.flatnonzero(block == number) for number in np.unique(block)]


def good_intervals(
    times_s: NDArray[np.float64],
    delta_t_s: NDArray[np.float64],
    dropped: Sequence[DroppedSubrun],
    effective_time: Callable[[NDArray[np.float64], NDArray[np.float64]], tuple[float, float]],
) -> tuple[Interval, ...]:
    """Return the good time intervals of the showers that are kept: one for each part without interruption.

    Parameters
    ----------
    times_s, delta_t_s : ndarray, shape (n_events,)
        Time of each shower, and since the triggered event before it.
    dropped : sequence of DroppedSubrun
    effective_time : callable
        lstchain's method: from the two columns to effective and elapsed time in seconds.

    Raises
    ------
    DataError
        If the events between dropped subruns are too few to tell the dead time, an interruption follows another, or
        the time goes back.
    """
    _require_order(times_s)
    intervals = []
    for rows in split_at(times_s, dropped):
        span = Span(float(times_s[rows].min()), float(times_s[rows].max()))
        if len(rows) < MIN_EVENTS:
            raise DataError(
                f"only {len(rows)} showers are left in one piece "
                f"({span.start_s:.3f} to {span.stop_s:.3f} s since 1970): too few to tell the dead time.",
                "drop that part of the run too.",
            )
        # lstchain leaves interruptions out of both
        effective_s, elapsed_s = effective_time(times_s[rows], delta_t_s[rows])
        intervals += [Interval(part, effective_s / elapsed_s) for part in _parts(times_s[rows])]
    return tuple(intervals)


def _require_order(times_s: NDArray[np.float64]) -> None:
    """A subrun that was merged twice doubles the events of its time; lstchain's live time does not notice."""
    back = np.flatnonzero(np.diff(times_s) < -BREAK_S)
    if len(back):
        before, after = times_s[back[0]], times_s[back[0] + 1]
        raise DataError(
            f"the time of the showers goes back by {before - after:.3f} s, from {before:.3f} s since 1970: a subrun is "
            "in the file twice, or the clock jumped.",
            "merge the run's DL1 again from its own subruns; if the clock jumped, drop that part of the run.",
        )


def _parts(times_s: NDArray[np.float64]) -> list[Span]:
    """Spans of showers between interruptions."""
    holes = breaks(times_s)
    parts = [
        Span(float(start), float(stop))
        for start, stop in zip([times_s.min(), *holes[:, 1]], [*holes[:, 0], times_s.max()], strict=True)
    ]
    if alone := [part for part in parts if not part.stop_s > part.start_s]:
        raise DataError(
            f"a shower at {alone[0].start_s:.3f} s since 1970 stands alone between two interruptions of the data.",
            "its clock jumped: drop that part of the run, or exclude the run.",
        )
    return parts


def is_told(path: Path, intervals: Sequence[Interval]) -> bool:
    """Whether the one interval in a DL3 file of lstchain is, near enough, that of the showers."""
    from astropy.io import fits

    if len(intervals) > 1:
        return False
    rows = fits.getdata(path, "GTI")
    whole_s = intervals[0].length_s
    missed_s = whole_s - float(np.sum(rows["STOP"] - rows["START"]))
    return missed_s <= float(np.clip(_MISSED * whole_s, *_MISSED_S))


def correct_dl3(path: Path, intervals: Sequence[Interval], dropped: Sequence[int]) -> None:
    """Write the good time intervals and what follows from them into a DL3 file of lstchain.

    ONTIME is the sum of the intervals, LIVETIME that of their live times, DEADC their ratio.

    Raises
    ------
    DataError
        If an event of the file lies in no interval.
    """
    import astropy.units as u
    from astropy.io import fits
    from astropy.table import QTable
    from astropy.time import Time
    from lstchain.high_level.hdu_table import time_to_fits

    edges = [Time([i.span.start_s, i.span.stop_s], format="unix", scale="utc") for i in intervals]
    seconds = np.array([time_to_fits(edge).to_value("s") for edge in edges])
    with fits.open(path, memmap=False) as hdus:
        events, old = hdus["EVENTS"], hdus["GTI"]
        place = np.searchsorted(seconds[:, 0], events.data["TIME"] + 1e-6) - 1
        outside = (place < 0) | (events.data["TIME"] > seconds[place, 1] + 1e-6)
        if outside.any():
            raise DataError(
                f"{path}: {int(outside.sum())} of {len(outside)} events lie in no good time interval.",
                "the DL2 file is not the one that the DL3 file was made from; run the step again.",
            )
        on_s = float(sum(i.length_s for i in intervals))
        live_s = float(sum(i.length_s * i.deadc for i in intervals))
        header: dict[str, Any] = {
            "ONTIME": on_s, "LIVETIME": live_s, "DEADC": live_s / on_s,
            "TSTART": seconds[0, 0], "TSTOP": seconds[-1, 1], "TELAPSE": seconds[-1, 1] - seconds[0, 0],
        }  # fmt: skip
        for suffix, time in (("OBS", edges[0][0]), ("END", edges[-1][1])):
            header[f"DATE-{suffix}"], header[f"TIME-{suffix}"] = time.to_value("iso", "date_hms").split(" ")
        # the comments of the cards (units) stay
        for key, value in header.items():
            events.header[key] = value
        if dropped:
            events.header[DROPPED_CARD] = (",".join(map(str, sorted(dropped))), "subruns that are left out")
        rows = QTable({"START": seconds[:, 0] * u.s, "STOP": seconds[:, 1] * u.s})
        kept = old.header.copy(strip=True)
        hdus[hdus.index_of("GTI")] = fits.BinTableHDU(rows, header=kept, name="GTI")
        hdus.writeto(path, overwrite=True)
