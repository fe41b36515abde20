"""What was submitted, beside the plan: `plans/ID/jobs/NAME.json`, written before sbatch and completed afterwards.

With it a job can be found, followed and judged without Airflow.
"""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import Field, ValidationError

from lstops.cluster.limits import limited
from lstops.errors import ConfigError
from lstops.site.layout import Layout
from lstops.site.model import Site
from lstops.step.manifest import write_atomically
from lstops.step.model import Frozen, Resources

#: step indices by array position; one task runs its steps in this order
Tasks = tuple[tuple[int, ...], ...]


class Owner(Frozen):
    """The task of Airflow that waits for a job."""

    dag_id: str
    run_id: str
    task_id: str
    map_index: int = -1


class JobRecord(Frozen):
    """One submission.

    Attributes
    ----------
    indices : tuple of int
        All steps of it.
    tasks : tuple of tuple of int
        The same, by array position; empty: one step a task.
    tries : dict
        Attempts by step index, this one included.
    resources : Resources
        What each step asks for.
    job : str
        The scheduler's number, empty until sbatch has answered.
    submitted : float
        Seconds since 1970, of the intent.
    ending : str
        In words, once the job was judged.
    outcomes : dict
        Step index -> "done" or the cause of its failure.
    owner : Owner or None
        Who waits for it.
    """

    name: str
    plan_id: str
    stage: str
    indices: tuple[int, ...]
    tasks: Tasks = ()
    tries: dict[int, int]
    resources: Resources
    exclude: tuple[str, ...] = ()
    comment: str = ""
    job: str = ""
    submitted: float
    ending: str = ""
    outcomes: dict[int, str] = Field(default_factory=dict)
    owner: Owner | None = None

    @property
    def groups(self) -> Tasks:
        """Step indices by array position."""
        return self.tasks or tuple((index,) for index in self.indices)

    def position(self, index: int) -> int:
        """Array position of the task that runs a step."""
        return next(position for position, group in enumerate(self.groups) if index in group)

    @property
    def task_time_min(self) -> int:
        """Time limit of an array task in minutes: the sum over its steps."""
        return self.resources.time_min * max(len(group) for group in self.groups)


def jobs_dir(layout: Layout, plan_id: str) -> Path:
    """Folder of a plan's job scripts and records."""
    return layout.plan_dir(plan_id) / "jobs"


def write_record(layout: Layout, record: JobRecord) -> Path:
    """Store a record."""
    path = jobs_dir(layout, record.plan_id) / f"{record.name}.json"
    write_atomically(path, record.model_dump_json(indent=1))
    return path


def read_record(layout: Layout, plan_id: str, name: str) -> JobRecord | None:
    """The record called `name`, or None if nothing of that name was ever submitted.

    Raises
    ------
    ConfigError
        If it is damaged: what was submitted is then not known.
    """
    path = jobs_dir(layout, plan_id) / f"{name}.json"
    try:
        return JobRecord.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValidationError as error:
        raise ConfigError(
            f"{path} is damaged: {error}", "cancel its job by name, then remove the file and clear the task."
        ) from error


@contextmanager
def submission_lock(site: Site, partition: str | None) -> Iterator[None]:
    """Let one submission at a time look at the queue and add to it, where the site limits what is in it.

    Otherwise tasks that start together would all see the same room.
    """
    if not limited(site.cluster, partition):
        yield
        return
    path = Layout(site.base, site.work).locks / "submission.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as stream:
        fcntl.lockf(stream, fcntl.LOCK_EX)
        yield


def kill_mark(layout: Layout, record: JobRecord) -> Path:
    """File that says: this job was cancelled by us because its task was failed or cleared, not by a stranger."""
    return jobs_dir(layout, record.plan_id) / f"{record.name}.killed"


def all_records(layout: Layout, touched_last: int | None = None) -> list[JobRecord]:
    """The readable records of a site, latest first; with `touched_last` only so many files, those written last."""
    found = []
    paths = list((layout.base / layout.work / "plans").glob("*/jobs/*.json"))
    if touched_last is not None:
        paths = sorted(paths, key=lambda path: path.stat().st_mtime)[-touched_last:]
    for path in paths:
        try:
            found.append(JobRecord.model_validate_json(path.read_bytes()))
        except ValidationError:
            # a folder may hold other JSON files; what is no record is not ours to judge
            continue
    return sorted(found, key=lambda record: -record.submitted)
