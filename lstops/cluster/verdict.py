"""What became of a round of a stage: each step done, to be tried again, or beyond help."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lstops.cluster.failure import Cause, Failure
from lstops.cluster.members import Verdict, classify_task
from lstops.cluster.records import JobRecord
from lstops.cluster.resources import Escalation, combine, escalate
from lstops.cluster.rows import AccountingRow
from lstops.cluster.stage import StageContext, log_path
from lstops.step.assess import Assessment, Standing
from lstops.step.model import Resources
from lstops.step.report import StepReport, read_report


@dataclass(frozen=True)
class Retry:
    """A step for the next round; `blameless` if its turn did not come in this one."""

    index: int
    resources: Resources
    avoid: str
    why: Failure
    blameless: bool = False


@dataclass(frozen=True)
class StepTrouble:
    """A step that is beyond help."""

    index: int
    label: str
    subject: str
    cause: str
    what: str
    remedy: str
    log: str = ""
    log_tail: str = ""


@dataclass(frozen=True)
class Judgement:
    """What became of a round."""

    done: tuple[int, ...]
    retries: tuple[Retry, ...]
    beyond_help: tuple[StepTrouble, ...]
    cancelled: bool


def blocked_steps(assessments: Sequence[Assessment]) -> tuple[StepTrouble, ...]:
    """Steps that cannot run because an input is missing."""
    return tuple(
        StepTrouble(
            found.index,
            found.step.label,
            found.step.subject,
            "blocked",
            f"{found.reason}.",
            "provide the input (or repair the step that makes it), then clear the task.",
        )
        for found in assessments
        if found.state in (Standing.BLOCKED, Standing.WAITING)
    )


def settled(record: JobRecord, rows: Sequence[AccountingRow]) -> bool:
    """True if accounting knows an end for every task (it can lag behind the queue)."""
    parents, batches = _by_position(rows)
    ended = {position for position, row in parents.items() if not row.state_class.active}
    # the batch step's row is completed after its job's: a moment, or as long as slurmdbd was down
    late = {p for p, row in batches.items() if p in ended and parents[p].succeeded and row.unfinished}
    return ended - late >= set(range(len(record.groups)))


def judge(
    context: StageContext,
    record: JobRecord,
    rows: Sequence[AccountingRow],
    assessments: Sequence[Assessment],
    escalation: Escalation,
) -> Judgement:
    """Decide for each step of an ended round: done, once more, or beyond help.

    Done is COMPLETED with 0:0 *and* a product that is there and whole; in a task of several steps a step's own report
    counts instead of the task's state, since another step may have failed.
    """
    parents, batches = _by_position(rows)
    standing = {found.index: found for found in assessments}
    done: list[int] = []
    retries: list[Retry] = []
    beyond: list[StepTrouble] = []
    cancelled = False
    verdicts: dict[int, Verdict] = {}
    for position, group in enumerate(record.groups):
        reports = _reports(context, record, position, group)
        verdicts |= classify_task(group, reports, parents.get(position), batches.get(position), record.resources)
    for index, verdict in verdicts.items():
        failure = verdict.failure
        if failure is None and standing[index].state is Standing.DONE:
            done.append(index)
            continue
        if failure is None:
            failure = Failure(
                Cause.INFRASTRUCTURE,
                f"its job completed, but the product is not up to date here: {standing[index].reason}.",
                "it is run again; if it stays so, look whether this host and the nodes see the same file system.",
            )
        cancelled = cancelled or failure.cause is Cause.CANCELLED
        if verdict.blameless:
            retries.append(Retry(index, record.resources, failure.node, failure, blameless=True))
            continue
        again = _next(context, record, index, failure, escalation)
        if again is not None:
            retries.append(again)
        else:
            beyond.append(_trouble(context, record, index, failure))
    return Judgement(tuple(done), tuple(retries), tuple(beyond), cancelled)


def _reports(context: StageContext, record: JobRecord, position: int, group: Sequence[int]) -> dict[int, StepReport]:
    """What the steps of one array task reported; a report of an earlier attempt says nothing about this one."""
    found = {index: read_report(context.layout.step_report(record.plan_id, index)) for index in group}
    return {i: report for i, report in found.items() if report and report.job == f"{record.job}_{position}"}


def _by_position(
    rows: Sequence[AccountingRow],
) -> tuple[dict[int, AccountingRow], dict[int, AccountingRow]]:
    parents: dict[int, AccountingRow] = {}
    batches: dict[int, AccountingRow] = {}
    for row in rows:
        for position in row.task.positions:
            if not row.task.step:
                parents[position] = row
            elif row.task.step == "batch":
                batches[position] = row
    return parents, batches


def _next(
    context: StageContext, record: JobRecord, index: int, failure: Failure, escalation: Escalation
) -> Retry | None:
    if not failure.cause.retried or record.tries[index] >= context.site.cluster.submit_attempts:
        return None
    limits = context.site.cluster.partitions.get(record.resources.partition or "")
    resources = escalate(record.resources, failure, escalation.rise(context.step(index).kind), limits)
    return None if resources is None else Retry(index, resources, failure.node, failure)


def _trouble(context: StageContext, record: JobRecord, index: int, failure: Failure) -> StepTrouble:
    step = context.step(index)
    log = log_path(context.layout, record, index)
    times = record.tries[index]
    what = failure.what.removeprefix(f"{step.label}: ")
    if times > 1:
        what += f" It was tried {times} times."
    remedy = failure.remedy
    if failure.cause in (Cause.MEMORY, Cause.TIME):
        word = "memory (mem_mb)" if failure.cause is Cause.MEMORY else "time (time_min)"
        remedy = f"no more {word} may be had: raise the ceiling in config/escalation.yaml or the partition's limit."
    elif failure.cause is Cause.INFRASTRUCTURE:
        remedy = f"{failure.remedy} When the cluster is well again, clear the task."
    return StepTrouble(index, step.label, step.subject, failure.cause.value, what, remedy, str(log), failure.log_tail)


def next_round(record: JobRecord, retries: Sequence[Retry]) -> tuple[Resources, dict[int, int], tuple[str, ...]]:
    """Resources, tries and nodes to avoid of the round after `record`."""
    resources = combine(retry.resources for retry in retries)
    tries = {retry.index: record.tries[retry.index] + (not retry.blameless) for retry in retries}
    nodes = {retry.avoid for retry in retries if retry.avoid}
    return resources, tries, tuple(sorted({*record.exclude, *nodes}))
