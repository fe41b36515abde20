"""Files of the local scheduler: one folder a job, written atomically, and locks that say who is alive.

```
<spool>/next-id                   last number given out
<spool>/slots/NN.lock             locked while a process uses the slot
<spool>/jobs/ID/job.json          options (written once)
<spool>/jobs/ID/script            copy of the batch script
<spool>/jobs/ID/tasks/N.json      state of each array task (N is "-" for a job that is no array)
<spool>/jobs/ID/cancel            who cancelled it
<spool>/jobs/ID/alive.lock        locked by the supervisor as long as it lives
```
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path

#: states after which nothing changes any more
FINAL = frozenset({"COMPLETED", "FAILED", "TIMEOUT", "OUT_OF_MEMORY", "CANCELLED", "NODE_FAIL"})
#: SLURM's MinJobAge: how long squeue -t all still shows a finished job
MIN_JOB_AGE_S = 300.0
#: how long sacct remembers
KEEP_S = 30 * 86400.0


@dataclass(frozen=True)
class JobOptions:
    """What sbatch was asked for. `positions` is None for a job that is no array; times in seconds, memory in MB."""

    name: str
    positions: tuple[int, ...] | None
    at_once: int
    time_s: float
    mem_mb: float | None
    cpus: int
    output: str
    chdir: str
    comment: str = ""
    job: int = 0
    uid: int = 0
    submitted: float = 0.0


@dataclass(frozen=True)
class TaskState:
    """State of one array task. Times are seconds since 1970."""

    state: str = "PENDING"
    reason: str = "None"
    started: float | None = None
    ended: float | None = None
    exit_code: int = 0
    signal: int = 0
    max_rss_kb: int = 0
    cpu_s: float = 0.0
    pid: int | None = None
    pid_started: str = ""
    cancelled_by: int | None = None

    @property
    def final(self) -> bool:
        """True if nothing changes any more."""
        return self.state in FINAL


@dataclass(frozen=True)
class Job:
    """A job as it lies in the spool."""

    folder: Path
    options: JobOptions
    tasks: dict[int | None, TaskState] = field(default_factory=dict)

    @property
    def number(self) -> int:
        """The job's number."""
        return self.options.job

    @property
    def final(self) -> bool:
        """True if no task can change any more."""
        return all(task.final for task in self.tasks.values())

    @property
    def ended(self) -> float:
        """When the last task ended."""
        return max((task.ended or 0.0 for task in self.tasks.values()), default=0.0)


def write(path: Path, text: str) -> None:
    """Write so that a reader sees the old text or the new one."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(text)
    os.replace(temporary, path)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def try_lock(path: Path) -> int | None:
    """Descriptor of the locked file (close it to unlock), or None if somebody else holds it."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        return None
    return handle


class Spool:
    """The folder of a local scheduler."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.jobs = root / "jobs"

    def add(self, options: JobOptions, script: str) -> tuple[Job, int]:
        """Store a new job; returns it with the descriptor of its lock, already held."""
        self.jobs.mkdir(parents=True, exist_ok=True)
        with locked(self.root / "lock"):
            counter = self.root / "next-id"
            number = int(counter.read_text()) + 1 if counter.exists() else 1
            write(counter, str(number))
        options = replace(options, job=number, uid=os.getuid(), submitted=time.time())
        job = Job(self.jobs / str(number), options, {p: TaskState() for p in options.positions or (None,)})
        # the folder appears under its name only when it is complete, with its lock held
        draft = self.jobs / f".{number}"
        (draft / "tasks").mkdir(parents=True)
        (draft / "script").write_text(script)
        (draft / "job.json").write_text(json.dumps(asdict(options)))
        handle = try_lock(draft / "alive.lock")
        if handle is None:
            raise RuntimeError(f"{draft / 'alive.lock'} is held by somebody else")
        draft.rename(job.folder)
        return job, handle

    def read(self, number: int) -> Job | None:
        """One job, or None."""
        folder = self.jobs / str(number)
        try:
            raw = json.loads((folder / "job.json").read_text())
        except (FileNotFoundError, NotADirectoryError):
            return None
        raw["positions"] = None if raw["positions"] is None else tuple(raw["positions"])
        options = JobOptions(**raw)
        return Job(folder, options, {p: self._task(folder, p) for p in options.positions or (None,)})

    @staticmethod
    def _task(folder: Path, position: int | None) -> TaskState:
        try:
            raw = json.loads(task_file(folder, position).read_text())
        except FileNotFoundError:
            return TaskState()
        known = {f.name for f in fields(TaskState)}
        return TaskState(**{key: value for key, value in raw.items() if key in known})

    def all(self) -> list[Job]:
        """Every job, by number."""
        if not self.jobs.is_dir():
            return []
        numbers = sorted(int(entry.name) for entry in self.jobs.iterdir() if entry.name.isdecimal())
        return [job for number in numbers if (job := self.read(number))]

    def forget_old(self) -> None:
        """Remove what ended long ago."""
        for job in self.all():
            if job.final and job.ended < time.time() - KEEP_S:
                shutil.rmtree(job.folder)


def task_file(folder: Path, position: int | None) -> Path:
    """File of a task's state."""
    return folder / "tasks" / f"{'-' if position is None else position}.json"


def write_task(folder: Path, position: int | None, task: TaskState) -> None:
    """Store a task's state."""
    write(task_file(folder, position), json.dumps(asdict(task)))
