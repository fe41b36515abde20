"""Productions that runs wait for: one request a level, cleaning, line and version, however many runs."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from lstops.nsb.finder import RunNsb
from lstops.nsb.tailcuts import Tailcut


@dataclass(frozen=True)
class LevelRequest:
    """A level that is missing, and the runs that wait for it."""

    level_ghz: float
    tailcut: Tailcut
    runs: tuple[int, ...]


def group_requests(
    waiting: Iterable[RunNsb], open_requests: Sequence[LevelRequest], tolerance_ghz: float
) -> tuple[LevelRequest, ...]:
    """Requests for these runs: the open ones with the runs that they also serve, and new ones for the rest.

    A run is served by an open request of its cleaning within the tolerance. The rest goes together from the darkest run
    on, as long as the middle of a group serves both of its ends. Only requests that change or are new are returned.
    """
    changed: dict[LevelRequest, list[int]] = {}
    rest: list[RunNsb] = []
    for run in sorted(waiting, key=lambda run: (run.tailcut, run.extra_ghz, run.run_number)):
        fits = [
            r for r in open_requests if r.tailcut == run.tailcut and abs(r.level_ghz - run.extra_ghz) <= tolerance_ghz
        ]
        if any(run.run_number in request.runs for request in fits):
            continue  # it waits already, perhaps not for the nearest: a request that was filed later may be nearer
        if fits:
            nearest = min(fits, key=lambda r: abs(r.level_ghz - run.extra_ghz))
            changed.setdefault(nearest, []).append(run.run_number)
        else:
            rest.append(run)
    served = [replace(r, runs=tuple(sorted({*r.runs, *runs}))) for r, runs in changed.items()]
    return (*served, *(_new(group) for group in _groups(rest, tolerance_ghz)))


def _groups(runs: Sequence[RunNsb], tolerance_ghz: float) -> list[list[RunNsb]]:
    groups: list[list[RunNsb]] = []
    for run in runs:
        first = groups[-1][0] if groups else None
        if first and first.tailcut == run.tailcut and run.extra_ghz - first.extra_ghz <= tolerance_ghz:
            groups[-1].append(run)
        else:
            groups.append([run])
    return groups


def _new(group: Sequence[RunNsb]) -> LevelRequest:
    level = max(0.0, round(statistics.median(run.extra_ghz for run in group), 2))
    return LevelRequest(level, group[0].tailcut, tuple(sorted(run.run_number for run in group)))
