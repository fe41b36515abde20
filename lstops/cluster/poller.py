"""One look at the queue for any number of jobs, and what one job concludes from a series of looks.

`snapshots` does the looking (one connection, one squeue an interval, at most one sacct for the jobs that squeue no
longer lists); `JobWatcher` decides, without any input or output.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import AsyncIterator, Callable
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import TYPE_CHECKING

from lstops.cluster.client import AsyncClusterClient
from lstops.cluster.queue import JobView, missing_jobs
from lstops.cluster.states import StateClass
from lstops.errors import LstOpsError

if TYPE_CHECKING:
    from collections.abc import Iterator

log = logging.getLogger(__name__)

#: an interval is this part of the age of the youngest job: a short job is noticed soon, a long one costs little
_AGE_PART = 1 / 20
_SLOWEST_S = 60.0
_BACKOFF_MAX_S = 60.0
# sacct may still say RUNNING for a while after the end, and may know a new job late
_ACCOUNTING_LAG_S = 600.0
_MISSING_S, _MISSING_LOOKS = 120.0, 3
_HOPELESS_S = 30.0
_REPEAT_LOG_S = 600.0
#: where others' jobs stand is asked for while ours wait, in place of a look of the usual kind
_PLACES_EVERY_S = 60.0


@dataclass(frozen=True)
class Snapshot:
    """One look. Times are seconds of the monotonic clock: a clock that is set does not matter.

    Attributes
    ----------
    accounting : dict or None
        Of the watched jobs that the queue does not list; None if sacct did not answer.
    error : str
        Why there is nothing to see, empty if there is.
    """

    taken: float
    queue: dict[str, JobView] = field(default_factory=dict)
    accounting: dict[str, JobView] | None = None
    error: str = ""


class Watchlist:
    """The jobs that somebody waits for, with the moment each was submitted (monotonic seconds)."""

    def __init__(self) -> None:
        self._jobs: dict[str, list[float]] = {}
        self.changed = asyncio.Event()

    @contextmanager
    def watching(self, job: str, submitted: float) -> Iterator[None]:
        """Watch a job for a while."""
        self._jobs.setdefault(job, []).append(submitted)
        self.changed.set()
        try:
            yield
        finally:
            self._jobs[job].remove(submitted)
            if not self._jobs[job]:
                del self._jobs[job]

    @property
    def jobs(self) -> tuple[str, ...]:
        """Numbers of the watched jobs."""
        return tuple(self._jobs)

    def youngest_age(self, now: float) -> float:
        """Age (s) of the youngest watched job."""
        return min((now - submitted for times in self._jobs.values() for submitted in times), default=0.0)


def interval(age_s: float, shortest_s: float) -> float:
    """Time to the next look: short for young jobs, long for old ones, bounded."""
    return min(max(shortest_s, age_s * _AGE_PART), max(shortest_s, _SLOWEST_S))


def backoff(failures: int, shortest_s: float) -> float:
    """Time to the next attempt after `failures` in a row, spread so that clients do not come back together."""
    spread = random.uniform(0.7, 1.3)  # noqa: S311
    return float(min(_BACKOFF_MAX_S, shortest_s * 2 ** min(failures, 8)) * spread)


async def snapshots(
    open_client: Callable[[], AsyncClusterClient], watch: Watchlist, shortest_s: float
) -> AsyncIterator[Snapshot]:
    """Look for ever; a look that fails is a snapshot with an error, never an end.

    Yields
    ------
    Snapshot
    """
    client = open_client()
    failures = 0
    places = _Places()
    try:
        while True:
            watch.changed.clear()
            try:
                queue = places.learn(await client.queue(places.wanted()), watch.jobs)
            except LstOpsError as error:
                failures += 1
                yield Snapshot(time.monotonic(), error=str(error))
                await asyncio.sleep(backoff(failures, min(shortest_s, 2.0)))
                continue
            accounting: dict[str, JobView] | None = {}
            if gone := missing_jobs(queue, watch.jobs):
                try:
                    accounting = await client.accounting(gone)
                except LstOpsError as error:
                    log.warning("sacct does not answer: %s", error)
                    accounting = None
            failures = 0
            now = time.monotonic()
            yield Snapshot(now, queue, accounting)
            await _sleep(watch, interval(watch.youngest_age(now), shortest_s), shortest_s)
    finally:
        await client.close()


@dataclass
class _Places:
    """Where our waiting jobs stand in the queue, as last seen."""

    known: dict[str, int] = field(default_factory=dict)
    _waiting: bool = False
    _asked: float = float("-inf")

    def wanted(self) -> bool:
        """True if the next look should be one at everybody's jobs."""
        if not self._waiting or time.monotonic() - self._asked < _PLACES_EVERY_S:
            return False
        self._asked = time.monotonic()
        return True

    def learn(self, queue: dict[str, JobView], jobs: tuple[str, ...]) -> dict[str, JobView]:
        """Remember what this look says, and fill in what it does not."""
        waiting = {job for job in jobs if job in queue and queue[job].number(StateClass.WAITING)}
        self._waiting = bool(waiting)
        seen = {job: view.ahead for job, view in queue.items() if view.ahead is not None}
        self.known = {job: place for job, place in {**self.known, **seen}.items() if job in waiting}
        return {job: replace(view, ahead=self.known.get(job)) for job, view in queue.items()}


async def _sleep(watch: Watchlist, length_s: float, shortest_s: float) -> None:
    """Sleep, but not past the shortest interval once a new job is watched."""
    await asyncio.sleep(min(shortest_s, length_s))
    if length_s > shortest_s:
        try:
            await asyncio.wait_for(watch.changed.wait(), length_s - shortest_s)
        except asyncio.TimeoutError:
            return


class Ending(str, Enum):
    """Why waiting for a job is over."""

    ENDED = "ended"
    LOST = "lost"
    HOPELESS = "hopeless"
    DEADLINE = "deadline"


@dataclass(frozen=True)
class Conclusion:
    """Waiting is over."""

    job: str
    ending: Ending
    why: str


@dataclass
class JobWatcher:
    """What one job's observer has seen so far.

    Attributes
    ----------
    deadline : float
        Monotonic seconds after which the job is to be cancelled.
    """

    job: str
    deadline: float
    say: Callable[[str], None]
    _missing_since: float | None = None
    _missing_looks: int = 0
    _lagging_since: float | None = None
    _hopeless_since: float | None = None
    _said: str = ""
    _said_at: float = float("-inf")

    def observe(self, snapshot: Snapshot) -> Conclusion | None:
        """Take one look into account; a conclusion ends the waiting."""
        now = snapshot.taken
        found = self._look(snapshot)
        if found is None and now > self.deadline:
            return Conclusion(self.job, Ending.DEADLINE, self._said or "nothing was seen of it")
        return found

    def _look(self, snapshot: Snapshot) -> Conclusion | None:
        now = snapshot.taken
        if snapshot.error:
            self._tell(f"job {self.job}: the scheduler cannot be asked now: {snapshot.error}", now)
            return None
        view = snapshot.queue.get(self.job)
        if view is not None:
            self._missing_since = self._lagging_since = None
            self._missing_looks = 0
            self._tell(view.describe(), now)
            return self._stuck(view, now) if view.active else Conclusion(self.job, Ending.ENDED, view.describe())
        if snapshot.accounting is None:
            self._tell(f"job {self.job}: left the queue; waiting for the accounting to answer", now)
            return None
        view = snapshot.accounting.get(self.job)
        if view is not None and not view.active:
            return Conclusion(self.job, Ending.ENDED, view.describe())
        if view is not None:
            self._lagging_since = now if self._lagging_since is None else self._lagging_since
            self._tell(f"job {self.job}: left the queue; the accounting is not yet up to date", now)
            if now - self._lagging_since > _ACCOUNTING_LAG_S:
                return Conclusion(self.job, Ending.LOST, f"not in the queue, but {view.describe()} in the accounting")
            return None
        return self._missing(now)

    def _missing(self, now: float) -> Conclusion | None:
        self._missing_since = now if self._missing_since is None else self._missing_since
        self._missing_looks += 1
        self._tell(f"job {self.job}: neither queue nor accounting know it yet", now)
        if self._missing_looks >= _MISSING_LOOKS and now - self._missing_since > _MISSING_S:
            return Conclusion(self.job, Ending.LOST, "neither the queue nor the accounting know it")
        return None

    def _stuck(self, view: JobView, now: float) -> Conclusion | None:
        why = view.hopeless
        if why is None:
            self._hopeless_since = None
            return None
        self._hopeless_since = now if self._hopeless_since is None else self._hopeless_since
        if now - self._hopeless_since >= _HOPELESS_S:
            return Conclusion(self.job, Ending.HOPELESS, why)
        return None

    def _tell(self, text: str, now: float) -> None:
        # running times change at every look: only the words count, and a sign of life now and then
        words = "".join(character for character in text if not character.isdigit())
        if words != self._said or now - self._said_at > _REPEAT_LOG_S:
            self.say(text)
            self._said, self._said_at = words, now
