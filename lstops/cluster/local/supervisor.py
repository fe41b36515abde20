"""The process that runs one job: takes slots, starts the array's tasks, watches limits, writes states.

A task's process leads a session of its own. Limits on memory are watched once a second (an address-space limit would be
wrong for numpy, which reserves far more than it uses).
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from dataclasses import dataclass, replace
from pathlib import Path

from lstops.cluster.local.processes import end_tree, memory_kb, read_process, tree
from lstops.cluster.local.spool import Job, Spool, TaskState, try_lock, write_task

_TICK_S = 0.1
_MEMORY_EVERY_S = 1.0
#: SLURM's KillWait is 30 s; a laptop's jobs need less
KILL_WAIT_S = 5.0
# what must not leak from the submitter (Airflow's worker) into a job
_PRIVATE_PREFIXES = ("AIRFLOW", "_AIRFLOW", "PYTHON", "VIRTUAL_ENV", "CONDA_", "LSTOPS_LOCAL_", "SLURM_")
_PRIVATE_PARTS = ("PASSWORD", "PASSWD", "SECRET", "TOKEN", "DATABASE", "CREDENTIAL", "SQL_ALCHEMY")


@dataclass
class _Running:
    process: subprocess.Popen[bytes]
    slots: list[int]
    state: TaskState
    started: float
    verdict: str = ""
    kill_at: float | None = None


def job_environment(job: Job, position: int | None) -> dict[str, str]:
    """Variables of a task: the submitter's without secrets and Airflow's own, and SLURM's."""
    kept = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(_PRIVATE_PREFIXES) and not any(part in key.upper() for part in _PRIVATE_PARTS)
    }
    # the submitter's virtual environment is not the job's
    if venv := os.environ.get("VIRTUAL_ENV"):
        kept["PATH"] = ":".join(part for part in kept.get("PATH", "").split(":") if part != f"{venv}/bin")
    options = job.options
    kept |= {
        "SLURM_JOB_ID": str(job.number),
        "SLURM_JOB_NAME": options.name,
        "SLURM_CPUS_PER_TASK": str(options.cpus),
        "SLURM_SUBMIT_DIR": options.chdir,
        "SLURMD_NODENAME": os.uname().nodename,
    }
    if options.mem_mb is not None:
        kept["SLURM_MEM_PER_NODE"] = str(int(options.mem_mb))
    if position is not None:
        kept |= {"SLURM_ARRAY_JOB_ID": str(job.number), "SLURM_ARRAY_TASK_ID": str(position)}
    return kept


def log_path(job: Job, position: int | None) -> Path:
    """The `--output` pattern with `%A`, `%a`, `%j`, `%x`, `%%` filled in."""
    options = job.options
    values = {
        "A": str(job.number),
        "a": "" if position is None else str(position),
        "j": str(job.number),
        "x": options.name,
        "%": "%",
    }
    parts, text = [], options.output
    while "%" in text:
        before, _, text = text.partition("%")
        parts += [before, values.get(text[:1], f"%{text[:1]}")]
        text = text[1:]
    return Path(options.chdir, "".join([*parts, text]))


class Supervisor:
    """Runs one job to its end."""

    def __init__(self, spool: Spool, job: Job, slots: int) -> None:
        self.spool, self.job, self.slots = spool, job, slots
        self.tasks = dict(job.tasks)
        self.running: dict[int | None, _Running] = {}
        self.next_memory = 0.0
        (spool.root / "slots").mkdir(parents=True, exist_ok=True)

    def run(self) -> None:
        """Until every task has ended."""
        waiting = [position for position, task in self.tasks.items() if not task.final]
        while waiting or self.running:
            if (user := self._cancelled()) is not None:
                for position in waiting:
                    self._store(position, TaskState("CANCELLED", ended=time.time(), cancelled_by=user))
                waiting = []
                for running in self.running.values():
                    self._condemn(running, f"CANCELLED by {user}")
            while waiting and len(self.running) < self.job.options.at_once and (slots := self._take_slots()):
                self._start(waiting.pop(0), slots)
            self._watch()
            if waiting or self.running:
                time.sleep(_TICK_S)

    def _store(self, position: int | None, task: TaskState) -> None:
        self.tasks[position] = task
        write_task(self.job.folder, position, task)

    def _cancelled(self) -> int | None:
        try:
            return int((self.job.folder / "cancel").read_text())
        except FileNotFoundError:
            return None

    def _take_slots(self) -> list[int]:
        """All the slots a task needs, or none: holding some while waiting for more would be a deadlock."""
        taken: list[int] = []
        for number in range(self.slots):
            handle = try_lock(self.spool.root / "slots" / f"{number:02d}.lock")
            if handle is not None:
                taken.append(handle)
            if len(taken) == min(self.job.options.cpus, self.slots):
                return taken
        for handle in taken:
            os.close(handle)
        return []

    def _start(self, position: int | None, slots: list[int]) -> None:
        now = time.time()
        path = log_path(self.job, position)
        try:
            with path.open("ab") as log:
                process = subprocess.Popen(
                    ["/bin/bash", str(self.job.folder / "script")],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    cwd=self.job.options.chdir,
                    env=job_environment(self.job, position),
                    start_new_session=True,
                )
        except OSError as error:
            # as SLURM does when a log or folder cannot be opened
            (self.job.folder / "supervisor.log").open("a").write(f"task {position}: {error}\n")
            for handle in slots:
                os.close(handle)
            self._store(position, TaskState("FAILED", started=now, ended=now, exit_code=1))
            return
        found = read_process(process.pid)
        state = TaskState("RUNNING", started=now, pid=process.pid, pid_started=found.started if found else "")
        self._store(position, state)
        self.running[position] = _Running(process, slots, state, time.monotonic())

    def _condemn(self, running: _Running, verdict: str) -> None:
        if not running.verdict:
            running.verdict = verdict
            running.kill_at = time.monotonic() + KILL_WAIT_S
            # memory does not wait for a polite end
            end_tree(running.process.pid, signal.SIGKILL if verdict == "OUT_OF_MEMORY" else signal.SIGTERM)

    def _watch(self) -> None:
        now = time.monotonic()
        look_at_memory = now >= self.next_memory
        if look_at_memory:
            self.next_memory = now + _MEMORY_EVERY_S
        for position, running in list(self.running.items()):
            if look_at_memory:
                self._watch_memory(running)
            if now - running.started > self.job.options.time_s:
                self._condemn(running, "TIMEOUT")
            if running.kill_at is not None and now > running.kill_at:
                end_tree(running.process.pid, signal.SIGKILL)
            pid, status, usage = os.wait4(running.process.pid, os.WNOHANG)
            if pid:
                running.process.returncode = os.waitstatus_to_exitcode(status)
                self._finish(position, running, usage.ru_utime + usage.ru_stime, usage.ru_maxrss)

    def _watch_memory(self, running: _Running) -> None:
        limit_mb = self.job.options.mem_mb
        used = memory_kb(tree(running.process.pid), None if limit_mb is None else limit_mb * 1024)
        running.state = replace(running.state, max_rss_kb=max(running.state.max_rss_kb, used))
        if limit_mb is not None and used > limit_mb * 1024:
            self._condemn(running, "OUT_OF_MEMORY")

    def _finish(self, position: int | None, running: _Running, cpu_s: float, max_rss_kb: int) -> None:
        # what the task left behind in its session ends with it, as under SLURM
        end_tree(running.process.pid, signal.SIGKILL)
        for handle in running.slots:
            os.close(handle)
        del self.running[position]
        code = running.process.returncode
        state = replace(
            running.state,
            ended=time.time(),
            cpu_s=cpu_s,
            max_rss_kb=max(running.state.max_rss_kb, max_rss_kb),
            exit_code=max(code, 0),
            signal=max(-code, 0),
        )
        if running.verdict.startswith("CANCELLED"):
            state = replace(state, state="CANCELLED", exit_code=0, signal=15, cancelled_by=int(running.verdict[13:]))
        elif running.verdict == "TIMEOUT":
            state = replace(state, state="TIMEOUT", exit_code=0, signal=15)
        elif running.verdict == "OUT_OF_MEMORY":
            state = replace(state, state="OUT_OF_MEMORY", exit_code=0, signal=125)
        else:
            state = replace(state, state="COMPLETED" if code == 0 else "FAILED")
        self._store(position, state)


def reconcile(spool: Spool) -> None:
    """Jobs whose supervisor died: end what they left running and say NODE_FAIL."""
    for job in spool.all():
        if job.final:
            continue
        handle = try_lock(job.folder / "alive.lock")
        if handle is None:
            continue
        try:
            # read again: it may have ended between the look and the lock
            for position, task in (spool.read(job.number) or job).tasks.items():
                if task.final:
                    continue
                if task.pid is not None:
                    found = read_process(task.pid)
                    if found is None or found.started == task.pid_started:
                        end_tree(task.pid, signal.SIGKILL)
                write_task(job.folder, position, replace(task, state="NODE_FAIL", ended=time.time()))
        finally:
            os.close(handle)
