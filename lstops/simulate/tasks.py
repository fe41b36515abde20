"""Run dependent tasks in forked children of one warm process, and make nothing twice.

A task's record (``<base>/.simulate/<name>.json``) holds its key and the size of each file it made. A task whose record
has the same key, and whose files are all there with these sizes, is not run again.
"""

from __future__ import annotations

import fcntl
import json
import multiprocessing
import multiprocessing.connection
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lstops.errors import JobFailure, StorageError
from lstops.simulate.plan import digest_of

STATE_DIR = ".simulate"
#: Folders in which files are made before they are renamed
SCRATCH_PREFIX = ".making-"


@dataclass(frozen=True)
class Task:
    """One piece of work.

    Attributes
    ----------
    name : str
        Unique, fit for a file name.
    spec : object
        JSON-able; what determines the result besides the tasks it needs.
    outputs : tuple of Path
        Files that it makes.
    action : callable
        Makes them (each under a temporary name, then renamed).
    needs : tuple of str
        Names of tasks that must be done before.
    """

    name: str
    spec: Any
    outputs: tuple[Path, ...]
    action: Callable[[], None]
    needs: tuple[str, ...] = field(default=())


class TaskRunner:
    """Runs tasks in at most ``nproc`` children at a time.

    Parameters
    ----------
    base : Path
        Folder of the site; records and logs go below ``.simulate``.
    warm_up : callable
        Called once before the first child is forked, if there is anything to do.
    echo : callable
        Gets one line per finished task.
    """

    def __init__(
        self, base: Path, nproc: int, warm_up: Callable[[], None], echo: Callable[[str], None] = print
    ) -> None:
        self._base, self._state = base, base / STATE_DIR
        self._nproc, self._warm_up, self._echo = nproc, warm_up, echo

    def run(self, tasks: Sequence[Task]) -> int:
        """Bring all tasks up to date; they must be given in an order that respects their needs.

        Returns
        -------
        int
            Number of tasks that were run.

        Raises
        ------
        JobFailure
            If a task failed; those that need it were not run, the others were.
        StorageError
            If another process makes the same site.
        """
        (self._state / "logs").mkdir(parents=True, exist_ok=True)
        with self._alone():
            self._remove_leftovers()
            return self._run(tasks)

    def _run(self, tasks: Sequence[Task]) -> int:
        keys: dict[str, str] = {}
        for task in tasks:
            keys[task.name] = digest_of([task.name, task.spec, [keys[name] for name in task.needs]])
        waiting = {task.name: task for task in tasks if not self._is_done(task, keys[task.name])}
        total = len(waiting)
        if total:
            self._warm_up()
        running: dict[Any, tuple[Task, Any, float]] = {}
        failed: list[str] = []
        done = 0
        try:
            while waiting or running:
                self._start(waiting, running, failed, keys)
                for sentinel in multiprocessing.connection.wait(list(running)) if running else ():
                    task, child, started = running.pop(sentinel)
                    child.join()
                    done += 1
                    if child.exitcode == 0:
                        self._echo(f"[{done:3d}/{total}] {task.name} ({time.monotonic() - started:.1f} s)")
                    else:
                        failed.append(task.name)
                        self._echo(f"[{done:3d}/{total}] {task.name} FAILED, see {self._log(task.name)}")
        finally:
            for _, child, _ in running.values():
                child.terminate()
                child.join()
        if failed:
            raise JobFailure(
                f"{len(failed)} of {len(tasks)} tasks were not done: {', '.join(failed[:5])}.",
                f"Read {self._log(failed[0])} and run the same command again; what is done is kept.",
            )
        return total

    def _start(
        self,
        waiting: dict[str, Task],
        running: dict[Any, tuple[Task, Any, float]],
        failed: list[str],
        keys: dict[str, str],
    ) -> None:
        """Start what may start; drop what needs a failed task."""
        for name, task in list(waiting.items()):
            busy = {other.name for other, _, _ in running.values()}
            if any(need in failed for need in task.needs):
                failed.append(name)
                del waiting[name]
            elif len(running) < self._nproc and not any(need in waiting or need in busy for need in task.needs):
                del waiting[name]
                child = self._fork(task, keys[name])
                running[child.sentinel] = (task, child, time.monotonic())

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Hold the site's lock.

        Raises
        ------
        StorageError
            If another process makes the same site.
        """
        with open(self._state / "lock", "w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise StorageError(
                    f"Another process is making the site {self._state.parent}.", "Wait for it, or use another folder."
                ) from None
            yield

    def _remove_leftovers(self) -> None:
        """Remove what an interrupted call left; the lock makes sure that nobody uses it."""
        for scratch in self._state.parent.rglob(f"{SCRATCH_PREFIX}*"):
            shutil.rmtree(scratch)

    def _log(self, name: str) -> Path:
        return self._state / "logs" / f"{name}.log"

    def _record(self, name: str) -> Path:
        return self._state / f"{name}.json"

    def _name(self, path: Path) -> str:
        # relative: a site may be moved
        return path.relative_to(self._base).as_posix()

    def _is_done(self, task: Task, key: str) -> bool:
        try:
            record = json.loads(self._record(task.name).read_text())
            same = record["key"] == key
            sizes = record["sizes"]
        except (FileNotFoundError, json.JSONDecodeError, KeyError, TypeError):
            return False
        return same and all(
            path.is_file() and sizes.get(self._name(path)) == path.stat().st_size for path in task.outputs
        )

    def _fork(self, task: Task, key: str) -> Any:
        # not a daemon: lstchain_check_dl1 makes a pool of its own
        child = multiprocessing.get_context("fork").Process(target=self._child, args=(task, key))
        child.start()
        return child

    def _child(self, task: Task, key: str) -> None:
        self._record(task.name).unlink(missing_ok=True)
        with open(self._log(task.name), "w") as log:
            os.dup2(log.fileno(), sys.stdout.fileno())
            os.dup2(log.fileno(), sys.stderr.fileno())
            # an error ends up in the log, with its traceback, and as the child's exit status
            for path in task.outputs:
                path.parent.mkdir(parents=True, exist_ok=True)
            task.action()
            sizes = {self._name(path): path.stat().st_size for path in task.outputs}
            print(f"{task.name}: {time.process_time():.1f} s of CPU")
            record = self._record(task.name)
            partial = record.with_suffix(".tmp")
            partial.write_text(json.dumps({"key": key, "sizes": sizes}, indent=1))
            partial.replace(record)
