"""What the scheduler's programs say, as rows."""

from __future__ import annotations

from dataclasses import dataclass

from lstops.cluster.states import StateClass, cancelled_by, classify_state

#: exit code of a row that has none
UNKNOWN_EXIT = -1


@dataclass(frozen=True)
class TaskId:
    """A job, or some tasks of an array.

    Attributes
    ----------
    job : str
        Number of the job or of the whole array.
    positions : tuple of int
        Array tasks, empty for a job that is no array.
    array : bool
        True for an array, also when `positions` could not be listed.
    cut : bool
        True if SLURM cut the list of positions ("...").
    step : str
        "batch", "extern", "0"... for a job step.
    """

    job: str
    positions: tuple[int, ...] = ()
    array: bool = False
    cut: bool = False
    step: str = ""


@dataclass(frozen=True)
class QueueRow:
    """One line of squeue (`commands.SQUEUE_FORMAT`). Times in seconds."""

    task: TaskId
    state: str
    elapsed_s: int | None
    limit_s: int | None
    start: str
    partition: str
    priority: int | None
    node: str
    name: str
    reason: str

    @property
    def state_class(self) -> StateClass:
        """What the state means."""
        return classify_state(self.state)


@dataclass(frozen=True)
class AccountingRow:
    """One line of sacct (`commands.SACCT_FIELDS`). Memory in MB, times in seconds; None where SLURM says nothing.

    The exit code is `UNKNOWN_EXIT` where there is none.
    """

    task: TaskId
    name: str
    state: str
    exit_code: int
    signal: int
    elapsed_s: int | None
    limit_s: int | None
    max_rss_mb: float | None
    req_mem_mb: float | None
    cpu_s: float | None
    node: str
    submit: str

    @property
    def state_class(self) -> StateClass:
        """What the state means."""
        return classify_state(self.state)

    @property
    def cancelled_by(self) -> int | None:
        """Who cancelled it."""
        return cancelled_by(self.state)

    @property
    def unfinished(self) -> bool:
        """True if the accounting has not been told of its end (a running step has the exit code 0:0)."""
        return self.state_class.active or self.exit_code == UNKNOWN_EXIT

    @property
    def succeeded(self) -> bool:
        """COMPLETED with 0:0."""
        return self.state_class is StateClass.COMPLETED and self.exit_code == 0 and self.signal == 0


@dataclass(frozen=True)
class Waiting:
    """A waiting job of another user: all that matters of it is where it stands."""

    job: int
    partitions: tuple[str, ...]
    priority: int


@dataclass(frozen=True)
class QueueText:
    """Rows of squeue, the lines that are none, and others' waiting jobs where they were asked for."""

    rows: tuple[QueueRow, ...]
    unreadable: tuple[str, ...] = ()
    others: tuple[Waiting, ...] = ()


@dataclass(frozen=True)
class AccountingText:
    """Rows of sacct and the lines that are none."""

    rows: tuple[AccountingRow, ...]
    unreadable: tuple[str, ...] = ()


@dataclass(frozen=True)
class NamedJob:
    """One line of squeue (`commands.comments`)."""

    job: str
    state: str
    name: str
    comment: str
