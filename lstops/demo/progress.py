"""What the demo says while it works: one line a change, with the elapsed time."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from rich.console import Console

from lstops.embedded.rest import AirflowClient, TaskInstance
from lstops.errors import JobFailure

FINISHED = frozenset({"success", "skipped"})
BAD = frozenset({"failed", "upstream_failed"})


@dataclass
class Progress:
    """Prints lines with the time since the demo began.

    Attributes
    ----------
    timings : dict
        Wall time (s) of each part, for the table of benchmarks.
    """

    console: Console = field(default_factory=lambda: Console(highlight=False, soft_wrap=True))
    began: float = field(default_factory=time.monotonic)
    timings: dict[str, float] = field(default_factory=dict)

    def say(self, text: str) -> None:
        """Print one line."""
        elapsed = int(time.monotonic() - self.began)
        self.console.print(f"[dim]{elapsed // 60:3d}:{elapsed % 60:02d}[/dim]  {text}", markup=True)

    def timed(self, name: str, work: Callable[[], object]) -> None:
        """Run one part and keep its wall time."""
        started = time.monotonic()
        work()
        self.timings[name] = time.monotonic() - started


def follow(
    client: AirflowClient,
    dag_id: str,
    run_id: str,
    progress: Progress,
    steps_done: Callable[[], dict[str, tuple[int, int]]],
    timeout_s: float = 3600.0,
) -> None:
    """Show a DAG run until it ends.

    Parameters
    ----------
    steps_done : callable
        Returns (done, total) by stage of the plan in work, as far as it is known.

    Raises
    ------
    JobFailure
        If the run fails or does not end in time; the message has the end of the log of the task that failed.
    """
    shown: dict[str, str] = {}
    deadline = time.monotonic() + timeout_s
    while True:
        run = client.run(dag_id, run_id)
        tasks = client.task_instances(dag_id, run_id)
        counts = steps_done()
        for task in sorted(tasks, key=lambda t: (t.start is None, str(t.start))):
            line = _line(task, counts.get(task.task_id))
            if task.state and shown.get(task.task_id) != line:
                shown[task.task_id] = line
                done = sum(t.state in FINISHED for t in tasks)
                progress.say(f"{dag_id}: {line} [dim]({done} of {len(tasks)} tasks)[/dim]")
            if task.end and task.start and task.state == "success":
                progress.timings[f"{dag_id} {task.task_id}"] = (task.end - task.start).total_seconds()
        if run.finished:
            break
        if time.monotonic() > deadline:
            raise JobFailure(f"{dag_id} has not ended after {timeout_s / 60:.0f} min.", "see the web page.")
        time.sleep(2)
    if run.state != "success":
        raise JobFailure(f"{dag_id} failed.\n{_log_of_failure(client, tasks)}", "see the task's log in the web page.")


def _line(task: TaskInstance, count: tuple[int, int] | None) -> str:
    state = {"deferred": "waits for its job", "up_for_retry": "will be tried again"}.get(task.state or "", task.state)
    steps = f", {count[0]} of {count[1]} steps done" if count and count[1] else ""
    colour = "green" if task.state in FINISHED else "red" if task.state in BAD else "cyan"
    return f"{task.task_id:<11} [{colour}]{state}[/{colour}]{steps}"


def _log_of_failure(client: AirflowClient, tasks: list[TaskInstance]) -> str:
    failed = [task for task in tasks if task.state == "failed"]
    if not failed:
        return "No task says why; look at the scheduler's log."
    tail = client.log(failed[0]).splitlines()[-25:]
    return f"Task {failed[0].task_id}:\n  " + "\n  ".join(tail)
