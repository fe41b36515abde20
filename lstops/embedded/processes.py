"""Detached processes with a pid file and a log, and how to end them together with what they started."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from lstops.embedded.errors import ServiceError, log_tail

#: psutil gives the start of a process with the resolution of the kernel's clock tick (10 ms)
CLOCK_TICK_S = 0.02

#: daemons outlive whoever started them; Popen would warn of each when it is collected
_started: list[subprocess.Popen[bytes]] = []


@dataclass(frozen=True)
class PidRecord:
    """Which process a pid file means: a pid alone may belong to somebody else by now."""

    pid: int
    started: float

    @classmethod
    def read(cls, path: Path) -> PidRecord | None:
        """Return the record of a pid file, or None if there is none or it was cut off by a crash."""
        try:
            data = json.loads(path.read_text())
            return cls(int(data["pid"]), float(data["started"]))
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None

    def write(self, path: Path) -> None:
        """Write the pid file atomically."""
        staged = path.with_name(f".{path.name}.new")
        staged.write_text(json.dumps({"pid": self.pid, "started": self.started}) + "\n")
        staged.replace(path)

    def process(self) -> psutil.Process | None:
        """Return the process if it still is the one that was recorded and no zombie."""
        try:
            process = psutil.Process(self.pid)
            same = abs(process.create_time() - self.started) < CLOCK_TICK_S
            return process if same and process.status() != psutil.STATUS_ZOMBIE else None
        except psutil.NoSuchProcess:
            return None


@dataclass(frozen=True)
class Daemon:
    """A process that outlives whoever started it, in a session of its own.

    Parameters
    ----------
    name : str
        What people call it.
    argv : sequence of str
        The command.
    folder : pathlib.Path
        Where ``<name>.pid`` and ``<name>.log`` go; also the working directory.
    env : mapping of str to str
        The whole environment of the process.
    """

    name: str
    argv: Sequence[str]
    folder: Path
    env: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def pid_path(self) -> Path:
        """The pid file."""
        return self.folder / f"{self.name}.pid"

    @property
    def log_path(self) -> Path:
        """Standard output and error of the process."""
        return self.folder / f"{self.name}.log"

    def running(self) -> psutil.Process | None:
        """Return the process, or None if it does not run."""
        _collect()
        record = PidRecord.read(self.pid_path)
        return record.process() if record else None

    def start(self) -> bool:
        """Start the process unless it runs; what a killed predecessor left behind is ended first.

        Returns
        -------
        bool
            True if a process was started, False if it ran already.
        """
        if self.running():
            return False
        self.stop()
        self.folder.mkdir(parents=True, exist_ok=True)
        with self.log_path.open("ab") as log:
            child = subprocess.Popen(
                list(self.argv),
                env=dict(self.env),
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        _started.append(child)
        try:
            PidRecord(child.pid, psutil.Process(child.pid).create_time()).write(self.pid_path)
        except psutil.NoSuchProcess as error:
            raise self.died() from error
        return True

    def died(self) -> ServiceError:
        """Return the error that tells why the process ended: the end of its log."""
        return ServiceError(
            f"{self.name} ended on its own. The end of {self.log_path}:\n{log_tail(self.log_path)}\n",
            "Correct the cause named in the log and start again.",
        )

    def stop(self, grace_s: float = 15.0, polite: signal.Signals = signal.SIGTERM) -> bool:
        """End the process and everything in its session, first politely.

        Parameters
        ----------
        grace_s : float
            How long the process may take before its session is ended without it, in seconds.
        polite : signal.Signals
            What the process is sent first.

        Returns
        -------
        bool
            True if something was running.
        """
        record = PidRecord.read(self.pid_path)
        if record is None:
            return False
        leader = record.process()
        members = _session(record)
        if leader is not None:
            members |= set(leader.children(recursive=True))
            _signal({leader}, polite)
            _wait({leader}, grace_s)
            members |= _session(record)
        _signal(members, signal.SIGTERM)
        survivors = _wait(members, 5.0)
        _signal(survivors, signal.SIGKILL)
        stuck = _wait(survivors, 60.0)
        if stuck:
            raise ServiceError(
                f"{self.name}: processes {sorted(p.pid for p in stuck)} do not end, not even after SIGKILL.",
                "They wait for a disk or network file system; look at `ps -o pid,stat,wchan,args` of them.",
            )
        self.pid_path.unlink(missing_ok=True)
        _collect()
        return bool(members) or leader is not None


def _collect() -> None:
    """Collect the dead among our own children: others take a zombie for a living process."""
    _started[:] = [child for child in _started if child.poll() is None]


def _session(record: PidRecord) -> set[psutil.Process]:
    """Return the living members of the session that the recorded process led.

    The kernel gives no new process a pid that is still the id of a session, so members without their leader are
    ours; a leader with another start time means that the session is over and the pid belongs to a stranger.
    """
    try:
        if abs(psutil.Process(record.pid).create_time() - record.started) >= CLOCK_TICK_S:
            return set()
    except psutil.NoSuchProcess:
        pass
    members = set()
    for process in psutil.process_iter():
        try:
            if os.getsid(process.pid) == record.pid and process.status() != psutil.STATUS_ZOMBIE:
                members.add(process)
        except (ProcessLookupError, PermissionError, psutil.NoSuchProcess):
            continue
    return members


def _signal(processes: set[psutil.Process], number: signal.Signals) -> None:
    for process in processes:
        try:
            process.send_signal(number)
        except psutil.NoSuchProcess:
            continue


def _wait(processes: set[psutil.Process], timeout_s: float) -> set[psutil.Process]:
    """Wait for the end of processes and return those that still live; zombies of other parents count as ended."""
    deadline = time.monotonic() + timeout_s
    alive = set(processes)
    while alive:
        _, waiting = psutil.wait_procs(alive, timeout=0.1)
        alive = {process for process in waiting if not _is_zombie(process)}
        if time.monotonic() > deadline:
            break
    return alive


def _is_zombie(process: psutil.Process) -> bool:
    try:
        return bool(process.status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True
