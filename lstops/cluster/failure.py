"""Why a step failed and what helps, from the job's state, its memory and what the step itself reported."""

from __future__ import annotations

import signal
from dataclasses import dataclass
from enum import Enum

from lstops.cluster.rows import AccountingRow
from lstops.cluster.states import StateClass, base_state
from lstops.step.model import Resources
from lstops.step.report import StepReport

#: from this part of the request on, a kill is taken for lack of memory (SLURM samples every 30 s and misses the peak)
_NEARLY_ALL = 0.9
_NOBODYS_FAULT = frozenset({"PREEMPTED", "REVOKED"})


class Cause(str, Enum):
    """What kind of failure it was; decides what happens next."""

    INFRASTRUCTURE = "infrastructure"
    MEMORY = "memory"
    TIME = "time"
    PERMANENT = "permanent"
    CANCELLED = "cancelled"
    UNKNOWN = "unknown"

    @property
    def retried(self) -> bool:
        """True if the same step may work another time."""
        return self in (Cause.INFRASTRUCTURE, Cause.MEMORY, Cause.TIME)


@dataclass(frozen=True)
class Failure:
    """One failed attempt at a step.

    Attributes
    ----------
    what, remedy : str
        For people.
    node : str
        Node to avoid next time, if it was the node's fault.
    peak_mb : float or None
        Memory used.
    """

    cause: Cause
    what: str
    remedy: str
    node: str = ""
    peak_mb: float | None = None
    log_tail: str = ""


# Errors that a step reports by itself (names of classes in lstops.errors) and what they mean for a retry.
_REPORTED = {
    "BusyError": Cause.INFRASTRUCTURE,
    "StorageError": Cause.INFRASTRUCTURE,
    "TransportError": Cause.INFRASTRUCTURE,
    # by SIGKILL, which nobody but the kernel and administrators send
    "StepKilled": Cause.MEMORY,
}


def reported(report: StepReport, peak_mb: float | None) -> Failure:
    """The failure that a step reported by itself."""
    # a SIGTERM that the job's state does not explain came from outside: an administrator, a node that goes down
    cause = Cause.INFRASTRUCTURE if asked_to_end(report) else _REPORTED.get(report.error, Cause.PERMANENT)
    return Failure(cause, report.what, report.remedy, "", peak_mb, report.log_tail)


def asked_to_end(report: StepReport) -> bool:
    """True if the job's state knows better why the step ended: SIGTERM reached it or, a moment earlier, its command."""
    return report.error == "TerminatedError" or report.signal == signal.SIGTERM


def starved(asked: Resources) -> float:
    """Peak memory (MB) from which on a kill is taken for lack of memory."""
    return _NEARLY_ALL * asked.mem_mb


def classify(
    parent: AccountingRow | None, batch: AccountingRow | None, report: StepReport | None, asked: Resources
) -> Failure | None:
    """Judge one array task.

    Parameters
    ----------
    parent, batch : AccountingRow or None
        sacct's rows of the task and of its batch step.
    report : StepReport or None
        What the step wrote in *this* attempt, if it got so far.
    asked : Resources
        What the job asked for.

    Returns
    -------
    Failure or None
        None only for COMPLETED with 0:0 in both rows.
    """
    if parent is None:
        # A slurmctld that is killed forgets the jobs of its last seconds. Running the step again is safe: if the job is
        # there after all, the step's lock and manifest keep it from being made twice.
        return Failure(
            Cause.INFRASTRUCTURE,
            "the scheduler knows nothing about this step's job.",
            "it is run again; if it happens often, tell the administrators of the cluster.",
        )
    peak = max((row.max_rss_mb or 0.0 for row in (parent, batch) if row), default=0.0) or None
    node = parent.node
    state = parent.state_class
    if state is StateClass.COMPLETED and parent.succeeded and (batch is None or batch.succeeded):
        return None
    if state.active or (parent.succeeded and batch is not None and batch.unfinished):
        # it is judged only once the queue says that it has ended, or no longer lists it
        told = "" if state.active else " of its batch step"
        return Failure(
            Cause.INFRASTRUCTURE,
            f"its job is over, but the accounting was never told of the end{told}.",
            "it is looked at again, and run again if its product is not whole; if it happens often, look at slurmdbd.",
            peak_mb=peak,
        )
    full = peak is not None and peak >= starved(asked)
    killed = signal.SIGKILL in (parent.signal, batch.signal if batch else 0) or parent.exit_code == 128 + signal.SIGKILL
    if state is StateClass.MEMORY or (full and (killed or state is StateClass.INFRASTRUCTURE)):
        used = f" (used {peak:.0f} MB)" if peak else ""
        return Failure(
            Cause.MEMORY,
            f"it needed more than the {asked.mem_mb} MB it asked for{used}.",
            "it is run again with more memory; if that is not enough, raise `resources` in the site file.",
            peak_mb=peak,
        )
    if state is StateClass.TIME:
        return Failure(
            Cause.TIME,
            f"it was not finished after {asked.time_min} min.",
            "it is run again with more time; if that is not enough, raise `time_min` in the site file.",
            peak_mb=peak,
        )
    if state is StateClass.CANCELLED:
        by = f" by user {parent.cancelled_by}" if parent.cancelled_by is not None else ""
        return Failure(
            Cause.CANCELLED, f"the job was cancelled{by}.", "clear the task in Airflow to run it again.", peak_mb=peak
        )
    if state is StateClass.INFRASTRUCTURE:
        # a job that had to make room for another says nothing about its node
        blamed = node if base_state(parent.state) not in _NOBODYS_FAULT and "None" not in node else ""
        return Failure(
            Cause.INFRASTRUCTURE,
            f"{parent.state} on node {node or '?'}.",
            f"it is run again{' on another node' if blamed else ''}; if it happens often, tell the administrators of "
            "the cluster.",
            blamed,
            peak,
        )
    if report is not None and report.error:
        return reported(report, peak)
    if killed:
        return Failure(
            Cause.MEMORY,
            f"it was killed (SIGKILL){f', having used {peak:.0f} MB' if peak else ''}; the usual cause is memory.",
            "it is run again with more memory; if it is killed again, ask the administrators of the cluster.",
            peak_mb=peak,
        )
    if state is StateClass.FAILED:
        return Failure(
            Cause.PERMANENT,
            f"it ended with exit status {parent.exit_code}:{parent.signal} before it could report why.",
            "read its log; check the site's environment and paths with `lstops site check`.",
            peak_mb=peak,
        )
    return Failure(
        Cause.UNKNOWN,
        f"the scheduler says {parent.state!r}, which lstops does not take for an end.",
        "look at `sacct` on the login node; clear the task to run it again.",
        peak_mb=peak,
    )
