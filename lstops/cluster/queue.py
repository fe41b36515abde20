"""What the scheduler says about jobs, array by array, and in plain words."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from lstops.cluster.parsers import parse_sacct, parse_squeue
from lstops.cluster.rows import AccountingRow, QueueRow, Waiting
from lstops.cluster.states import StateClass, base_state, describe_reason, hopeless_reason
from lstops.errors import TransportError


@dataclass(frozen=True)
class JobView:
    """One job or array at one moment.

    Attributes
    ----------
    counts : dict
        Number of tasks by state.
    reasons : tuple of str
        Of the waiting tasks.
    starts : str
        When the scheduler expects to start the waiting ones, empty if it does not say.
    elapsed_s, limit_s : int or None
        Of the task that runs longest.
    ahead : int or None
        Number of waiting jobs that stand before it in its partition, whoever's they are; None if not asked for.
    """

    job: str
    counts: dict[str, int]
    reasons: tuple[str, ...] = ()
    starts: str = ""
    elapsed_s: int | None = None
    limit_s: int | None = None
    from_accounting: bool = False
    name: str = ""
    partition: str = ""
    ahead: int | None = None

    def number(self, wanted: StateClass) -> int:
        """Number of tasks whose state is of a class."""
        from lstops.cluster.states import classify_state

        return sum(count for state, count in self.counts.items() if classify_state(state) is wanted)

    @property
    def active(self) -> bool:
        """True while a task waits or runs."""
        return bool(self.number(StateClass.WAITING) or self.number(StateClass.RUNNING))

    @property
    def hopeless(self) -> str | None:
        """Why it can never start, if nothing runs and what waits is stuck for good."""
        if self.number(StateClass.RUNNING) or not self.reasons:
            return None
        found = [hopeless_reason(reason) for reason in self.reasons]
        return found[0] if all(found) else None

    def describe(self) -> str:
        """What the job is doing, in words."""
        parts = []
        if running := self.number(StateClass.RUNNING):
            clock = f", longest {_minutes(self.elapsed_s)} of {_minutes(self.limit_s)}" if self.elapsed_s else ""
            parts.append(f"{running} running{clock}")
        if waiting := self.number(StateClass.WAITING):
            why = " and ".join(dict.fromkeys(describe_reason(reason) for reason in self.reasons)) or "for its turn"
            expected = f", expected to start {self.starts}" if self.starts else ""
            place = "" if self.ahead is None else f", {_before(self.ahead)} in partition {self.partition or '?'}"
            parts.append(f"{waiting} waiting {why}{place}{expected}")
        ended = sum(self.counts.values()) - running - self.number(StateClass.WAITING)
        if ended:
            good = self.number(StateClass.COMPLETED)
            parts.append(f"{good} completed" if good == ended else f"{good} completed, {ended - good} failed")
        return f"job {self.job}: " + "; ".join(parts or ["nothing known"])


def _before(ahead: int) -> str:
    return {0: "next", 1: "1 job before it"}.get(ahead, f"{ahead} jobs before it")


def _minutes(seconds: int | None) -> str:
    if seconds is None:
        return "no limit"
    return f"{seconds // 3600}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"


def _tasks(row: QueueRow | AccountingRow) -> int:
    return max(len(row.task.positions), 1)


def _refuse(unreadable: tuple[str, ...], program: str) -> None:
    if unreadable:
        raise TransportError(
            f"{program} answered {unreadable[0][:200]!r}, which is no row.", "nothing is concluded; it is tried again."
        )


def views_of_queue(text: str, everybody: bool = False) -> dict[str, JobView]:
    """Views by job number from squeue's text; with their places if everybody's jobs were asked for.

    Raises
    ------
    TransportError
        If a line is damaged: a job that seems missing might be on it.
    """
    parsed = parse_squeue(text)
    _refuse(parsed.unreadable, "squeue")
    by_job: dict[str, list[QueueRow]] = {}
    for row in parsed.rows:
        by_job.setdefault(row.task.job, []).append(row)
    views = {job: _view(job, rows) for job, rows in by_job.items()}
    if everybody:
        places = _places(parsed.rows, parsed.others)
        views = {job: replace(view, ahead=places.get(job)) for job, view in views.items()}
    return views


def _places(rows: Sequence[QueueRow], others: Sequence[Waiting]) -> dict[str, int]:
    """How many waiting jobs stand before each of ours: of higher priority, or of the same and older."""
    ours = [
        Waiting(int(row.task.job), tuple(row.partition.split(",")), row.priority)
        for row in rows
        if row.state_class is StateClass.WAITING and row.priority is not None
    ]
    return {
        str(one.job): len(
            {
                other.job
                for other in (*ours, *others)
                if set(other.partitions) & set(one.partitions)
                and (-other.priority, other.job) < (-one.priority, one.job)
            }
        )
        for one in ours
    }


def _view(job: str, rows: list[QueueRow]) -> JobView:
    counts: dict[str, int] = {}
    for row in rows:
        counts[base_state(row.state)] = counts.get(base_state(row.state), 0) + _tasks(row)
    waiting = [row for row in rows if row.state_class is StateClass.WAITING]
    running = [row for row in rows if row.state_class is StateClass.RUNNING]
    longest = max(running, key=lambda row: row.elapsed_s or 0, default=None)
    starts = sorted(row.start for row in waiting if row.start[:1].isdigit())
    return JobView(
        job,
        counts,
        tuple(dict.fromkeys(row.reason for row in waiting)),
        starts[0] if starts else "",
        longest.elapsed_s if longest else None,
        longest.limit_s if longest else None,
        name=rows[0].name,
        partition=rows[0].partition,
    )


def views_of_accounting(text: str) -> dict[str, JobView]:
    """Views by job number from the text of `sacct -X`.

    Raises
    ------
    TransportError
        If a line is damaged.
    """
    parsed = parse_sacct(text)
    _refuse(parsed.unreadable, "sacct")
    counts: dict[str, dict[str, int]] = {}
    for row in parsed.rows:
        of_job = counts.setdefault(row.task.job, {})
        of_job[base_state(row.state)] = of_job.get(base_state(row.state), 0) + _tasks(row)
    return {job: JobView(job, of_job, from_accounting=True) for job, of_job in counts.items()}


def missing_jobs(views: dict[str, JobView], jobs: Collection[str]) -> tuple[str, ...]:
    """Those of `jobs` that squeue does not list."""
    return tuple(sorted(set(jobs) - set(views), key=int))
