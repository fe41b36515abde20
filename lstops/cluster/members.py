"""Which step of an array task is to blame for what, where a task runs several."""

from __future__ import annotations

import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lstops.cluster.failure import Cause, Failure, asked_to_end, classify, reported, starved
from lstops.cluster.rows import AccountingRow
from lstops.cluster.states import StateClass
from lstops.step.model import Resources
from lstops.step.report import Ending, StepReport


@dataclass(frozen=True)
class Verdict:
    """What one step's attempt came to.

    Attributes
    ----------
    failure : Failure or None
        None: nothing says that it failed.
    blameless : bool
        Another step ended the task before this one's turn came: the attempt does not count.
    """

    failure: Failure | None
    blameless: bool = False


def classify_task(
    indices: Sequence[int],
    reports: Mapping[int, StepReport],
    parent: AccountingRow | None,
    batch: AccountingRow | None,
    asked: Resources,
) -> dict[int, Verdict]:
    """Judge the steps of one array task.

    A step alone in its task is judged by the task's state. Of several, each is judged by its own report; the state of
    the task only tells what became of those without one, which are the step that ran last and those after it.

    Parameters
    ----------
    indices : sequence of int
        In the order in which they run.
    reports : mapping
        By index; of this attempt only.
    asked : Resources
        For each step.
    """
    if len(indices) == 1:
        return {indices[0]: Verdict(classify(parent, batch, reports.get(indices[0]), asked))}
    oom = parent is not None and parent.state_class is StateClass.MEMORY
    # a job of SLURM is OUT_OF_MEMORY if any of its processes was killed for that; whose parent may have lived on
    unexplained = oom and not any(report.signal == signal.SIGKILL for report in reports.values())
    whole = asked.model_copy(update={"time_min": asked.time_min * len(indices)})
    found: dict[int, Verdict] = {}
    blamed = False
    for index in indices:
        report = reports.get(index)
        if report is not None and report.ending is not Ending.FAILED:
            found[index] = Verdict(None)
        elif report is not None and not asked_to_end(report):
            found[index] = Verdict(_own_failure(report, oom, unexplained, asked))
        else:
            failure = classify(parent, batch, report, whole)
            ended_by_another = blamed and failure is not None and failure.cause in (Cause.MEMORY, Cause.TIME)
            found[index] = Verdict(failure, ended_by_another)
            blamed = True
    return found


def _own_failure(report: StepReport, oom: bool, unexplained: bool, asked: Resources) -> Failure:
    peak = report.max_rss_mb or None
    killed = report.signal == signal.SIGKILL and (oom or (peak is not None and peak >= starved(asked)))
    if killed or (unexplained and report.error == "JobFailure"):
        used = f" (used {peak:.0f} MB)" if peak else ""
        return Failure(
            Cause.MEMORY,
            f"it needed more than the {asked.mem_mb} MB it asked for{used}.",
            "it is run again with more memory; if that is not enough, raise `resources` in the site file.",
            peak_mb=peak,
        )
    return reported(report, peak)
