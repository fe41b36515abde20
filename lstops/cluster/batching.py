"""How the steps of a round are spread over the tasks of an array."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from lstops.cluster.records import Tasks
from lstops.site.cluster import Cluster, SchedulerKind
from lstops.step.model import CORE_ENVIRONMENT, Resources, Step

#: at most so many steps a task unless the site says otherwise: of nine seconds that each would need to begin alone, one
#: is left, and a task that dies takes few unfinished ones with it
DEFAULT_BATCH = 10


def batch_size(cluster: Cluster, steps: Collection[Step], resources: Resources) -> int:
    """How many of these steps one array task takes.

    As many as the site allows for every kind among them, but never so many that tasks which could run at the same time
    are missing, or that the sum of the steps' times is more than the partition allows. Where the site file knows no
    limit of the partition, one, unless it says more.

    Parameters
    ----------
    resources : Resources
        What each step asks for.
    """
    local = cluster.scheduler is SchedulerKind.LOCAL
    at_once = cluster.slots if local else cluster.array_limit
    limits = cluster.partitions.get(resources.partition or "")
    # SLURM lets a job wait for ever that asks for more time than its partition has
    unless_told = DEFAULT_BATCH if local or limits else 1
    allowed = min(_allowed(cluster, step, unless_told) for step in steps)
    in_time = limits.max_time_min // resources.time_min if limits else allowed
    return max(1, min(allowed, -(-len(steps) // at_once), in_time))


def _allowed(cluster: Cluster, step: Step, unless_told: int) -> int:
    fallback = 1 if step.environment == CORE_ENVIRONMENT else cluster.batch.get("default", unless_told)
    return cluster.batch.get(step.kind, fallback)


def make_tasks(indices: Sequence[int], tries: Mapping[int, int], size: int, most: int) -> Tasks:
    """Spread steps over at most `most` tasks of `size`; a step that is tried again gets a task of its own.

    So a step that dies again takes nothing with it, and is the only one to get more memory or time next time.
    """
    alone = [(index,) for index in indices if tries.get(index, 1) > 1]
    others = [index for index in indices if tries.get(index, 1) == 1]
    shared = [tuple(others[first : first + size]) for first in range(0, len(others), size)]
    return tuple(sorted([*alone, *shared])[:most])
