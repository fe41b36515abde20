"""Executes PlanStageOperators, each in a process of its own, which can be made to die at a chosen point.

Arguments: a JSON list of runs. The processes are forked after the imports, which cost more than all the rest.

The points are the moments before and after each thing that lasts: a value stored in Airflow, a file written, a script
run on the cluster.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any


class FileStore:
    """Stands for Airflow's task state store, which is a database row: it outlives the process."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def get(self, key: str) -> Any:
        return json.loads(self.path.read_text()).get(key) if self.path.exists() else None

    def set(self, key: str, value: Any) -> None:
        values = json.loads(self.path.read_text()) if self.path.exists() else {}
        draft = self.path.with_suffix(".new")
        draft.write_text(json.dumps({**values, key: value}))
        os.replace(draft, self.path)


class Points:
    """Counts points and dies at one of them."""

    def __init__(self, kill_at: int | None) -> None:
        self.kill_at, self.passed = kill_at, 0

    def reach(self) -> None:
        if self.passed == self.kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        self.passed += 1

    def around(self, owner: Any, name: str) -> None:
        inner: Callable[..., Any] = getattr(owner, name)

        def wrapped(*args: Any, **kwargs: Any) -> Any:
            self.reach()
            result = inner(*args, **kwargs)
            self.reach()
            return result

        setattr(owner, name, wrapped)


def execute(config: dict[str, Any]) -> None:
    from lstops.airflow.operator import PlanStageOperator
    from lstops.cluster import records, stage
    from lstops.cluster.client import ArrayTooLargeError, ClusterClient, Submission
    from lstops.cluster.ssh import SshTransport
    from lstops.step import manifest

    points = Points(config["kill_at"])
    points.around(FileStore, "set")
    points.around(SshTransport, "_run_once")
    for module in (manifest, stage, records):
        points.around(module, "write_atomically")
    operator = PlanStageOperator(
        task_id="toy", plan_id=config["plan_id"], stage="one", site=config["site"], wait_s=config.get("wait_s", 600.0)
    )
    if config.get("killed_while_submitting"):
        submit = ClusterClient.submit_or_adopt

        def killed(self: ClusterClient, name: str, script: Path) -> Submission:
            # as the handler of a signal does, which comes back to where it was called
            operator.on_kill()
            return submit(self, name, script)

        ClusterClient.submit_or_adopt = killed  # type: ignore[method-assign]
    if config.get("later_arrays_are_refused"):
        submit = ClusterClient.submit_or_adopt
        sizes: list[bool] = []

        def refused(self: ClusterClient, name: str, script: Path) -> Submission:
            sizes.append("--array=0-0" not in script.read_text())
            if sizes[1:] and sizes[-1]:
                raise ArrayTooLargeError("Invalid job array specification", "make it smaller.")
            return submit(self, name, script)

        ClusterClient.submit_or_adopt = refused  # type: ignore[method-assign]
    context = {
        "ti": SimpleNamespace(dag_id="drive", run_id=config["run_id"], task_id="toy", map_index=-1, try_number=1),
        "dag_run": SimpleNamespace(start_date="2026-11-22"),
        "task_state_store": FileStore(Path(config["store"])),
    }
    if "event" in config:
        result = operator.resume(context, config["event"])
    elif "admitted" in config:
        result = operator.admitted(context, config["admitted"])
    else:
        result = operator.execute(context)
    print(json.dumps({"result": result, "points": points.passed}))


def fork(config: dict[str, Any]) -> int:
    """Start a run; its output goes to the file `output`."""
    pid = os.fork()
    if pid:
        return pid
    handle = os.open(config["output"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    # pytest has put files of its own in their place
    sys.stdout, sys.stderr = os.fdopen(os.dup(1), "w"), os.fdopen(os.dup(2), "w")
    status = 0
    try:
        execute(config)
    except BaseException:  # noqa: BLE001 - the child must not return into its parent's work; a deferral is no Exception
        traceback.print_exc()
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def drive(configs: list[dict[str, Any]]) -> list[int]:
    """Execute several operators at the same time; returns the exit statuses of their processes."""
    import lstops.airflow.operator
    import lstops.cluster.ssh  # noqa: F401

    pids = [fork(config) for config in configs]
    return [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]


if __name__ == "__main__":
    print(json.dumps(drive(json.loads(sys.argv[1]))))
