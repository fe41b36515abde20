"""How many array tasks may be submitted now, and how far they stand back: the site's limits against the queue.

Pure decisions; the operator asks before each submission, and a trigger asks again at each look at the queue.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, time, timezone

from lstops.cluster.commands import JOB_PREFIX
from lstops.cluster.queue import JobView
from lstops.cluster.states import StateClass
from lstops.site.cluster import Cluster, Hours

#: a stage that does not fit as a whole is submitted in portions of at least this part of the limit, not in crumbs
_SMALLEST_PART = 1 / 4


@dataclass(frozen=True)
class Admission:
    """What may be submitted now.

    Attributes
    ----------
    tasks : int
        Array tasks, 0 if none.
    nice : int
        sbatch's `--nice`.
    why : str
        What is waited for, in words, if it is not all of them.
    """

    tasks: int
    nice: int
    why: str = ""


@dataclass(frozen=True)
class Load:
    """Array tasks of ours in the queue."""

    waiting: int = 0
    running: int = 0

    @property
    def tasks(self) -> int:
        """All of them."""
        return self.waiting + self.running


def load_of(views: Collection[JobView], partition: str | None = None) -> Load:
    """Count what lstops has in the queue, or in one of its partitions.

    Other programs may work under the same account: only jobs with our names count.
    """
    ours = [
        view
        for view in views
        if view.name.startswith(JOB_PREFIX) and (partition is None or partition in view.partition.split(","))
    ]
    return Load(
        sum(view.number(StateClass.WAITING) for view in ours), sum(view.number(StateClass.RUNNING) for view in ours)
    )


def within(hours: Hours, now: time) -> bool:
    """True within these hours; they may go past midnight."""
    if hours.start < hours.until:
        return hours.start <= now < hours.until
    return now >= hours.start or now < hours.until


def limited(cluster: Cluster, partition: str | None) -> bool:
    """True if what is in the queue matters for what may be submitted."""
    limits = cluster.partitions.get(partition or "")
    bounds = [cluster.queue.max_tasks, cluster.queue.max_waiting]
    bounds += [limits.max_tasks, limits.max_waiting] if limits else []
    return any(bound is not None for bound in bounds)


def admit(
    cluster: Cluster,
    partition: str | None,
    wanted: int,
    views: Collection[JobView],
    now: datetime,
    whole: bool = False,
) -> Admission:
    """Decide how many of `wanted` array tasks may be submitted.

    Parameters
    ----------
    views : collection of JobView
        What squeue shows of our user.
    now : datetime
        Aware; this host's clock, not the cluster's.
    whole : bool
        All or none (failed steps that are tried again). They are let in anyway when nothing of ours is there.
    """
    clock = now.astimezone(timezone.utc).time().replace(tzinfo=None)
    current = [hours for hours in cluster.queue.hours if within(hours, clock)]
    nice = max((hours.nice for hours in current if hours.nice is not None), default=cluster.nice)
    nice = max(nice, cluster.nice)
    if closed := next((hours for hours in current if hours.nice is None), None):
        return Admission(0, nice, f"nothing is submitted between {closed.start:%H:%M} and {closed.until:%H:%M} UTC")
    room, bound, why = _room(cluster, partition, views)
    room = min(room, cluster.queue.max_array)
    if room >= wanted:
        return Admission(wanted, nice)
    if whole:
        return Admission(0, nice, why) if load_of(views).tasks else Admission(wanted, nice)
    if room < max(1, int(bound * _SMALLEST_PART)):
        return Admission(0, nice, why)
    return Admission(room, nice, why)


def _room(cluster: Cluster, partition: str | None, views: Collection[JobView]) -> tuple[int, int, str]:
    """Smallest room under the limits, the limit that makes it, and words about it."""
    everywhere, here = load_of(views), load_of(views, partition)
    limits = cluster.partitions.get(partition or "")
    found = [
        (cluster.queue.max_array, cluster.queue.max_array, f"an array has at most {cluster.queue.max_array} tasks")
    ]
    for bound, number, what in (
        (cluster.queue.max_tasks, everywhere.tasks, "in the queue"),
        (cluster.queue.max_waiting, everywhere.waiting, "waiting"),
        (limits.max_tasks if limits else None, here.tasks, f"in partition {partition}"),
        (limits.max_waiting if limits else None, here.waiting, f"waiting in partition {partition}"),
    ):
        if bound is not None:
            found.append((max(0, bound - number), bound, f"{number} tasks of ours are {what}, the limit is {bound}"))
    return min(found, key=lambda one: one[0])


def after_refusal(tasks: int, array_too_large: bool, busy: bool) -> int:
    """How many tasks to try at once after the scheduler refused an array for its size or for a limit of the user.

    Parameters
    ----------
    busy : bool
        True if something of our user is in the queue: then room will come by itself.

    Returns
    -------
    int
        0: wait and submit the same again.
    """
    if tasks > 1 and (array_too_large or not busy):
        return tasks // 2
    return 0
