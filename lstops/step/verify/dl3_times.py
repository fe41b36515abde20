"""Good time intervals of DL3 files.

The intervals must be in order and hold every event. A file whose run is not whole (it has several intervals, or the
card that names its dropped subruns) must also say the same everywhere, to 0.1 s: ONTIME is the sum of the intervals,
LIVETIME that sum times DEADC (as gammapy takes it), TSTART and TSTOP are the ends, and no interval reaches into a
dropped subrun. Another whole run is as lstchain wrote it: its ONTIME and LIVETIME leave out gaps of 10 ms and more.
Interruptions of the data (`breaks`) are no good time in any file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from lstops.step.model import ArtifactKind
from lstops.step.verify.common import Facts, InputFacts

#: header card of EVENTS that names the dropped subruns: "3,7,8"
DROPPED_CARD = "SUBDROP"
#: seconds between the header's epoch, counted as lstchain does (without leap seconds since 2018), and 1970
_DAY_S, _UNIX_MJD = 86400.0, 40587
#: times are doubles counted from 2018 (lstchain's LST_EPOCH): 2e8 s, so 1e-6 s is 30 times their resolution
_RESOLUTION_S = 1e-6
_TOLERANCE_S = 0.1
#: where a subrun begins is known to the next event only
_SPAN_TOLERANCE_S = 1.0
#: showers come by the hundred a second: for so long without one nothing was recorded (a subrun is missing, say)
BREAK_S = 1.0


def breaks(times_s: NDArray[np.float64]) -> NDArray[np.float64]:
    """The interruptions between showers.

    Parameters
    ----------
    times_s : ndarray, shape (n_showers,)
        Seconds, in any order.

    Returns
    -------
    ndarray, shape (n_breaks, 2)
        Last shower before and first one after each.
    """
    ordered = np.sort(times_s)
    before = np.flatnonzero(np.diff(ordered) > BREAK_S)
    return np.stack([ordered[before], ordered[before + 1]], axis=1)


def examine(gti: fits.BinTableHDU, events: fits.BinTableHDU, findings: list[str]) -> Facts:
    """Facts of the intervals; what is wrong is added to the findings."""
    if not {"START", "STOP"} <= set(gti.columns.names) or not len(gti.data):
        findings.append("GTI has no intervals")
        return {}
    start = np.asarray(gti.data["START"], dtype=float)
    stop = np.asarray(gti.data["STOP"], dtype=float)
    if not ((stop > start).all() and (start[1:] >= stop[:-1]).all()):
        findings.append("GTI intervals are empty, overlap, or are not in order")
    if "TIME" in events.columns.names and len(events.data):
        times = np.asarray(events.data["TIME"], dtype=float)
        index = np.clip(np.searchsorted(start, times + _RESOLUTION_S, side="right") - 1, 0, None)
        outside = (times < start[index] - _RESOLUTION_S) | (times > stop[index] + _RESOLUTION_S)
        if outside.any():
            findings.append(f"{int(outside.sum())} of {len(times)} events lie outside the good time intervals")
    header = events.header
    dropped = [int(word) for word in str(header.get(DROPPED_CARD, "")).split(",") if word.strip().isdigit()]
    if len(start) > 1 or dropped:
        findings += _consistent(header, float((stop - start).sum()), (float(start[0]), float(stop[-1])))
    facts: Facts = {"gti": len(start), "gti_s": float((stop - start).sum())}
    if len(start) > 1 or dropped:
        offset = (header["MJDREFI"] - _UNIX_MJD + header.get("MJDREFF", 0.0)) * _DAY_S if "MJDREFI" in header else 0.0
        facts |= {"dropped_subruns": dropped} if dropped else {}
        facts["intervals_unix_s"] = [[float(a) + offset, float(b) + offset] for a, b in zip(start, stop, strict=True)]
    return facts


def _consistent(header: fits.Header, good_s: float, ends: tuple[float, float]) -> list[str]:
    wanted = {"ONTIME": good_s, "LIVETIME": good_s * float(header.get("DEADC", np.nan)), "TSTART": ends[0],
              "TSTOP": ends[1]}  # fmt: skip
    return [
        f"{key} is {header.get(key)}, the good time intervals say {value:.3f} s"
        for key, value in wanted.items()
        if not abs(float(header.get(key, np.nan)) - value) <= _TOLERANCE_S
    ]


def against_dropped(facts: Facts, expected: Sequence[int], inputs: Sequence[InputFacts]) -> list[str]:
    """Compare the intervals with the subruns that must be left out.

    Parameters
    ----------
    facts : dict
        Of the file.
    expected : sequence of int
        Numbers of these subruns.
    inputs : sequence of InputFacts
        Of the step: those of kind DL1 are these subruns, that of kind DL2 is the whole run.
    """
    found = facts.get("dropped_subruns", [])
    if found != sorted(expected):
        return [f"it is without the subruns {found or 'none'}, not without {sorted(expected) or 'none'}"]
    times = [(i.path.name, i.facts["t_start"], i.facts["t_stop"]) for i in inputs if i.kind is ArtifactKind.DL1]
    intervals = facts.get("intervals_unix_s", [])
    findings = []
    for name, start, stop in times:
        inside = sum(max(0.0, min(b, stop) - max(a, start)) for a, b in intervals)
        if inside > _TOLERANCE_S:
            findings.append(f"{inside:.3f} s of the dropped {name} are good time")
    data = next((i.facts for i in inputs if i.kind is ArtifactKind.DL2), {})
    if {"t_start", "t_stop"} <= set(data) and (times or "breaks_unix_s" in data):
        spans = [(start, stop) for _, start, stop in times]
        left = recorded_s(data, spans)
        if abs(facts.get("gti_s", 0.0) - left) > _SPAN_TOLERANCE_S:
            findings.append(f"the good time is {facts.get('gti_s', 0.0):.3f} s, {left:.3f} s of the run are left")
            if "breaks_unix_s" not in data:
                findings.append("its DL2 was made before interruptions were noted: remove it, it is made again")
    return findings


def recorded_s(data: Mapping[str, Any], without: Sequence[tuple[float, float]] = ()) -> float:
    """Time during which a DL2 file holds showers, without interruptions and some spans (seconds since 1970)."""
    begin, end = float(data["t_start"]), float(data["t_stop"])
    covered, lost = begin, 0.0
    for start, stop in sorted([*without, *map(tuple, data.get("breaks_unix_s", ()))]):
        low, high = max(start, covered), min(stop, end)
        if high > low:
            lost += high - low
            covered = high
    return end - begin - lost
