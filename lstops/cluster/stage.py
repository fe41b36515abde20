"""One stage of a plan as a series of arrays: what to submit (what became of it: `verdict`).

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
from lstops.cluster.records import JobRecord, Owner, Tasks, jobs_dir, read_record, write_record
from lstops.cluster.resources import combine
from lstops.cluster.script import MAX_TASKS, ArrayScript, index_list, render
from lstops.errors import ConfigError
from lstops.site.layout import Layout
from lstops.site.model import ScienceEnvironment, Site
from lstops.step.assess import Assessment, assess
from lstops.step.manifest import make_folder, write_atomically
from lstops.step.model import CORE_ENVIRONMENT, Plan, Resources, Step
from lstops.step.plans import load_plan


@dataclass(frozen=True)
class StageContext:
    """A stage of a plan at a site, or one branch in it."""

    site: Site
    plan: Plan
    stage: str
    branch: str | None = None

    @classmethod
    def load(cls, site: Site, plan_id: str, stage: str, branch: str | None = None) -> StageContext:
        """Read the plan from the site's work area.

        Raises
        ------
        ConfigError
            If there is no such plan or stage.
        """
        plan = load_plan(Layout(site.base, site.work).plan_file(plan_id))
        plan.stage(stage)
        return cls(site, plan, stage, branch)

    @property
    def layout(self) -> Layout:
        """Paths of the site."""
        return Layout(self.site.base, self.site.work)

    @property
    def plan_id(self) -> str:
        """Identity of the plan."""
        return self.plan.plan_id

    @property
    def name(self) -> str:
        """For people."""
        return f"{self.stage} of {self.branch}" if self.branch else self.stage

    @property
    def quarantine(self) -> bool:
        """True if a step beyond help does not fail the stage."""
        return self.plan.stage(self.stage).quarantine

    def step(self, index: int) -> Step:
        """The step of an index."""
        return self.plan.steps()[index]

    def assess(self) -> tuple[Assessment, ...]:
        """Where each step of the stage stands."""
        return assess(self.plan, self.layout, self.site, self.stage, self.branch)


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
