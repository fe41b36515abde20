"""Processes of the laboratory: start detached, find again, end.

Only the standard library is used, because this also runs in the container image.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path

#: variable in the environment of every daemon, login and job of one laboratory
MARK = "LSTOPS_LAB"


class LabError(Exception):
    """The laboratory cannot do what was asked; the message says why and what helps."""


def start_time(pid: int) -> int | None:
    """Return the start of a process in clock ticks after boot, None for one that is gone or a zombie."""
    try:
        # the command, in brackets, may contain anything; the fields after it are numbers (proc(5))
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in "ZX" else int(fields[19])


def spawn(name: str, argv: list[str], base: Path, env: dict[str, str] | None = None) -> int:
    """Start a process in a session of its own, write its pid file and return its pid."""
    with (base / "log" / f"{name}.out").open("ab") as log:
        child = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            cwd="/",
            env={**os.environ, MARK: str(base), "SLURM_CONF": str(base / "etc/slurm.conf"), **(env or {})},
        )
    record = {"pid": child.pid, "started": start_time(child.pid)}
    pid_path(base, name).write_text(json.dumps(record) + "\n")
    return child.pid


def pid_path(base: Path, name: str) -> Path:
    """Return the pid file of a daemon: JSON with the pid and the start time."""
    return base / "run" / f"{name}.pid"


def running(base: Path, name: str) -> int | None:
    """Return the pid of a daemon, or None if it does not run."""
    try:
        record = json.loads(pid_path(base, name).read_text())
    except (FileNotFoundError, ValueError):
        return None
    pid = int(record["pid"])
    return pid if record["started"] is not None and start_time(pid) == record["started"] else None


def end(pids: set[int], grace_s: float = 10.0, first: signal.Signals = signal.SIGTERM) -> None:
    """End processes: politely, and after a while by force. Returns when all are gone."""
    alive = _send(pids, first)
    alive = _wait(alive, grace_s)
    alive = _wait(_send(alive, signal.SIGKILL), 10.0)
    if alive:
        raise LabError(f"Processes {sorted(alive)} do not end even after SIGKILL; see `ps -o stat,wchan,args`.")


def descendants(pid: int, command: str | None = None) -> set[int]:
    """Return all processes below one, if asked only those of one command."""
    children: dict[int, set[int]] = {}
    names: dict[int, str] = {}
    for entry in _pids():
        try:
            head, _, tail = Path(f"/proc/{entry}/stat").read_text().rpartition(")")
        except (FileNotFoundError, ProcessLookupError):
            continue
        names[entry] = head.partition("(")[2]
        children.setdefault(int(tail.split()[1]), set()).add(entry)
    found: set[int] = set()
    todo = [pid]
    while todo:
        for child in children.get(todo.pop(), ()):
            found.add(child)
            todo.append(child)
    return {child for child in found if command is None or names[child] == command}


def marked(base: Path) -> set[int]:
    """Return every process of the laboratory by its environment: daemons, logins, job steps and jobs."""
    own = f"{MARK}={base}".encode()
    conf = f"SLURM_CONF={base / 'etc/slurm.conf'}".encode()
    found = set()
    for pid in _pids() - _ancestors():
        try:
            variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
            title = Path(f"/proc/{pid}/cmdline").read_bytes()
        except (OSError, ProcessLookupError):
            continue
        # a shell in which somebody looks at the laboratory has SLURM_CONF too, but is no job; slurmstepd writes its
        # title over the front of its environment
        job = title.startswith(b"slurmstepd:") or any(variable.startswith(b"SLURM_JOB_ID=") for variable in variables)
        if (own in variables or (conf in variables and job)) and start_time(pid) is not None:
            found.add(pid)
    return found


def _ancestors() -> set[int]:
    result, pid = set(), os.getpid()
    while pid > 0:
        result.add(pid)
        try:
            pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        except FileNotFoundError:
            break
    return result


def _pids() -> set[int]:
    return {int(entry) for entry in os.listdir("/proc") if entry.isdigit()}


def _send(pids: set[int], number: signal.Signals) -> set[int]:
    alive = set()
    for pid in pids:
        try:
            os.kill(pid, number)
            alive.add(pid)
        except ProcessLookupError:
            continue
    return alive


def _wait(pids: set[int], timeout_s: float) -> set[int]:
    deadline = time.monotonic() + timeout_s
    alive = set(pids)
    while alive:
        for pid in alive:
            try:
                # reap it where it is our own child; other zombies are somebody else's
                os.waitpid(pid, os.WNOHANG)
            except ChildProcessError:
                continue
        alive = {pid for pid in alive if start_time(pid) is not None}
        if time.monotonic() > deadline:
            break
        time.sleep(0.05)
    return alive
