"""One stage of a plan as a series of arrays: what to submit, and what became of it.

Airflow-free, so that the operator stays thin. A *round* is one submission; failed steps go into the next round with
more memory or time, or away from a bad node, until they work or are beyond help.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from lstops.cluster.batching import batch_size, make_tasks
from lstops.cluster.client import ClusterClient, Submission
from lstops.cluster.failure import Cause, Failure
from lstops.cluster.members import Verdict, classify_task
from lstops.cluster.parsers import AccountingRow
from lstops.cluster.records import JobRecord, Owner, Tasks, jobs_dir, read_record, write_record
from lstops.cluster.resources import Escalation, combine, escalate
from lstops.cluster.script import MAX_TASKS, ArrayScript, index_list, render
from lstops.errors import ConfigError
from lstops.site.layout import Layout
from lstops.site.model import ScienceEnvironment, Site
from lstops.step.assess import Assessment, Standing, assess
from lstops.step.manifest import make_folder, write_atomically
from lstops.step.model import CORE_ENVIRONMENT, Plan, Resources, Step
from lstops.step.plans import load_plan
from lstops.step.report import StepReport, read_report


@dataclass(frozen=True)
class StageContext:
    """A stage of a plan at a site."""

    site: Site
    plan: Plan
    stage: str

    @classmethod
    def load(cls, site: Site, plan_id: str, stage: str) -> StageContext:
        """Read the plan from the site's work area.

        Raises
        ------
        ConfigError
            If there is no such plan or stage.
        """
        plan = load_plan(Layout(site.base, site.work).plan_file(plan_id))
        plan.stage(stage)
        return cls(site, plan, stage)

    @property
    def layout(self) -> Layout:
        """Paths of the site."""
        return Layout(self.site.base, self.site.work)

    @property
    def plan_id(self) -> str:
        """Identity of the plan."""
        return self.plan.plan_id

    @property
    def quarantine(self) -> bool:
        """True if a step beyond help does not fail the stage."""
        return self.plan.stage(self.stage).quarantine

    def step(self, index: int) -> Step:
        """The step of an index."""
        return self.plan.steps()[index]

    def assess(self) -> tuple[Assessment, ...]:
        """Where each step of the stage stands."""
        return assess(self.plan, self.layout, self.site, self.stage)


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


def wanted_resources(context: StageContext, indices: Collection[int]) -> Resources:
    """What the first array over `indices` asks for: what the steps want, within the partition's default."""
    asked = combine(context.step(index).resources for index in indices)
    partition = asked.partition or context.site.cluster.default_partition
    return asked.model_copy(update={"partition": partition})


def environment_of(context: StageContext, indices: Collection[int]) -> ScienceEnvironment:
    """The science environment of an array.

    Raises
    ------
    ConfigError
        If its steps need different ones.
    """
    names = {context.step(index).environment for index in indices} - {CORE_ENVIRONMENT}
    if len(names) > 1:
        raise ConfigError(
            f"stage {context.stage!r} of {context.plan_id} mixes the environments {sorted(names)}.",
            "put steps of different lstchain versions into different stages.",
        )
    # steps without lstchain run where lstops' core is installed too
    return context.site.environment(names.pop() if names else context.plan.lstchain_version)


def prepare(
    context: StageContext,
    name: str,
    indices: Sequence[int],
    resources: Resources,
    tries: dict[int, int],
    exclude: tuple[str, ...] = (),
    comment: str = "",
    max_tasks: int = MAX_TASKS,
    nice: int | None = None,
    owner: Owner | None = None,
) -> JobRecord:
    """Write record, list of indices and script of a round; what is there already under this name is kept.

    Keeping it matters: if the job was submitted and its number lost, its list of indices is the old one.

    Parameters
    ----------
    max_tasks : int
        Most array tasks; what does not fit is for another round.
    nice : int or None
        Default: the site's.
    """
    layout, site = context.layout, context.site
    folder = jobs_dir(layout, context.plan_id)
    if (old := read_record(layout, context.plan_id, name)) and script_path(layout, old).exists():
        return old
    tasks = _tasks(context, indices, resources, tries, max_tasks)
    chosen = tuple(index for group in tasks for index in group)
    environment = environment_of(context, chosen)
    log_folder = layout.plan_dir(context.plan_id) / "logs"
    make_folder(log_folder)
    text = render(
        ArrayScript(
            name=name,
            comment=comment,
            plan=layout.plan_file(context.plan_id),
            indices=folder / f"{name}.indices",
            folder=layout.plan_dir(context.plan_id),
            log_folder=log_folder,
            tasks=len(tasks),
            resources=resources.model_copy(update={"time_min": resources.time_min * max(map(len, tasks))}),
            environment=environment,
            array_limit=site.cluster.array_limit,
            account=site.cluster.account,
            nice=site.cluster.nice if nice is None else nice,
            exclude=exclude,
        )
    )
    record = JobRecord(
        name=name,
        plan_id=context.plan_id,
        stage=context.stage,
        indices=chosen,
        tasks=tasks,
        tries={index: tries.get(index, 1) for index in chosen},
        resources=resources,
        exclude=exclude,
        comment=comment,
        submitted=time.time(),
        owner=owner,
    )
    write_record(layout, record)
    write_atomically(folder / f"{name}.indices", index_list(tasks))
    write_atomically(script_path(layout, record), text)
    return record


def array_size(
    context: StageContext,
    indices: Sequence[int],
    resources: Resources | None = None,
    tries: Mapping[int, int] = MappingProxyType({}),
) -> int:
    """Array tasks that a round over `indices` takes."""
    return len(_tasks(context, indices, resources or wanted_resources(context, indices), tries, len(indices)))


def _tasks(
    context: StageContext, indices: Sequence[int], resources: Resources, tries: Mapping[int, int], most: int
) -> Tasks:
    size = batch_size(context.site.cluster, [context.step(index) for index in indices], resources)
    return make_tasks(indices, tries, size, most)


def script_path(layout: Layout, record: JobRecord) -> Path:
    """Batch script of a record."""
    return jobs_dir(layout, record.plan_id) / f"{record.name}.sh"


def log_path(layout: Layout, record: JobRecord, index: int) -> Path:
    """Job log of one step of a record."""
    folder = layout.plan_dir(record.plan_id) / "logs"
    return folder / f"{record.name}-{record.job}_{record.position(index)}.log"


def submit(context: StageContext, client: ClusterClient, record: JobRecord) -> tuple[JobRecord, Submission]:
    """Submit a prepared round, or adopt its job if it exists.

    Raises
    ------
    SubmitError, TransportError
        See `ClusterClient.submit_or_adopt`.
    """
    found = client.submit_or_adopt(record.name, script_path(context.layout, record))
    if record.job != found.job:
        record = record.model_copy(update={"job": found.job})
        write_record(context.layout, record)
    return record, found


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
