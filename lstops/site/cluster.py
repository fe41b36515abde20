"""The part of the site file that says who runs the jobs, how to reach it, and how much of it lstops takes."""

from __future__ import annotations

from datetime import time
from enum import Enum
from pathlib import Path
from typing import Annotated

from pydantic import Field, model_validator

from lstops.step.model import Frozen


class SchedulerKind(str, Enum):
    """Who runs the batch scripts."""

    SLURM = "slurm"
    LOCAL = "local"


class SshAccess(Frozen):
    """How to reach the login node. The host key must be in `known_hosts`; keys only, no passwords."""

    host: str
    port: int = 22
    user: str
    key_file: Path
    known_hosts: Path


class Partition(Frozen):
    """Limits of one partition: of one job, as the scheduler enforces them, and of the number of ours in it.

    Attributes
    ----------
    max_tasks, max_waiting : int or None
        As in `QueueLimits`, for this partition.
    """

    max_time_min: int
    max_mem_mb: int
    max_cpus: int
    max_tasks: int | None = Field(default=None, ge=1)
    max_waiting: int | None = Field(default=None, ge=1)


class Hours(Frozen):
    """Hours of every day (UTC) in which others go first; past midnight if `until` is not after `start`.

    Attributes
    ----------
    nice : int or None
        How far our jobs stand back then; None: nothing is submitted.
    """

    start: time
    until: time
    nice: int | None = Field(default=None, ge=0)


class QueueLimits(Frozen):
    """How much of the queue lstops takes.

    Attributes
    ----------
    max_tasks, max_waiting : int or None
        Most of our array tasks in the queue at a time, all of them and the waiting ones.
    max_array : int
        Most tasks of one array: the scheduler's MaxArraySize less one, and no more than 1000 (its default).
    hours : tuple of Hours
        When others go first.
    submissions_at_once : int
        Size of Airflow's pool for tasks that submit: sshd drops connections when more than ten log in at once
        (sshd_config(5), MaxStartups 10:30:100).
    """

    max_tasks: int | None = Field(default=None, ge=1)
    max_waiting: int | None = Field(default=None, ge=1)
    max_array: int = Field(default=1000, ge=1, le=1000)
    hours: tuple[Hours, ...] = ()
    submissions_at_once: int = Field(default=4, ge=1)


class Cluster(Frozen):
    """The scheduler.

    Attributes
    ----------
    ssh : SshAccess or None
        None runs the scheduler's commands on this machine.
    slots : int
        Local scheduler: processes at a time.
    array_limit : int
        Tasks of one array that may run at the same time.
    poll_s : float
        Shortest interval between two looks at the queue.
    deadline_h : float
        A job not finished this long after submission is cancelled.
    batch : dict
        By kind of step (`default` for the others; 10 unless given, or 1 where `partitions` lacks the one in use): how
        many steps one array task runs one after the other, at most; fewer if more tasks could run at the same time or
        the partition's time would not do. 1 gives each step its own task. Steps without lstchain are batched only where
        their kind is named.
    warm : bool
        Whether the steps of a task share one import of lstchain; False starts every command by itself.
    """

    name: str
    scheduler: SchedulerKind
    ssh: SshAccess | None = None
    account: str | None = None
    default_partition: str | None = None
    partitions: dict[str, Partition] = Field(default_factory=dict)
    slots: int = Field(default=2, ge=1)
    array_limit: int = Field(default=100, ge=1)
    nice: int = Field(default=0, ge=0)
    poll_s: float = Field(default=10.0, gt=0)
    deadline_h: float = Field(default=72.0, gt=0)
    submit_attempts: int = Field(default=4, ge=1)
    batch: dict[str, Annotated[int, Field(ge=1)]] = Field(default_factory=dict)
    warm: bool = True
    queue: QueueLimits = QueueLimits()

    @model_validator(mode="after")
    def _partition_known(self) -> Cluster:
        if self.default_partition and self.partitions and self.default_partition not in self.partitions:
            raise ValueError(f"default_partition {self.default_partition!r} is not one of {sorted(self.partitions)}")
        return self
