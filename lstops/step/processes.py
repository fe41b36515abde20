"""Processes of a step: a command that is started, waited for with its own figures, and ended with its parent."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

# prctl(2)
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class Ended:
    """How one process ended.

    Attributes
    ----------
    status : int
        Exit status, or minus the number of the signal that killed it.
    cpu_s, max_rss_mb : float
        Of this process and the children it waited for. The peak of a forked process holds the pages it shares with its
        parent.
    """

    status: int
    cpu_s: float
    max_rss_mb: float


@dataclass(frozen=True)
class Running:
    """A command that leads a session of its own."""

    pid: int
    popen: subprocess.Popen[bytes] | None = None

    def wait(self) -> Ended:
        """Wait for its end."""
        ended = wait_for(self.pid)
        if self.popen is not None:
            self.popen.returncode = ended.status
        return ended

    def kill(self) -> None:
        """End it with its process group, and wait; one that was waited for already is left alone."""
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            os.killpg(self.pid, signal.SIGKILL)
            self.wait()


#: starts a command: words, working directory, all its variables, and where its output goes. FileNotFoundError if there
#: is no such command
Start = Callable[[Sequence[str], Path, dict[str, str], TextIO], Running]


def start_command(argv: Sequence[str], cwd: Path, environ: dict[str, str], log: TextIO) -> Running:
    """Start a command in the ordinary way: as a program of its own."""
    me = os.getpid()
    popen = subprocess.Popen(
        argv,
        cwd=cwd,
        env=environ,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        start_new_session=True,
        preexec_fn=lambda: die_with(me),
    )
    return Running(popen.pid, popen)


def fork(child: Callable[[], int]) -> int:
    """Run a function in a forked process, whose exit status is the function's result; returns the process id.

    The child never returns into the caller's frames: what they would clean up on the way out belongs to the parent.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    parent = os.getpid()
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        die_with(parent)
        status = child()
        sys.stdout.flush()
        sys.stderr.flush()
    except BaseException:  # noqa: BLE001 - shown, and the process ends here whatever it was
        traceback.print_exc()
    finally:
        os._exit(status)


#: instead of a process id: the child that ends first
ANY_CHILD = -1


def wait_for(pid: int) -> Ended:
    """Wait for a child process."""
    _, status, usage = os.wait4(pid, 0)
    return Ended(os.waitstatus_to_exitcode(status), usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def die_with(parent: int) -> None:
    """Have the kernel kill this process when its parent ends (Linux), and leave at once if that is so already."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)


def threads() -> int:
    """Number of threads of this process, also those that Python does not know of; 1 where it cannot be seen."""
    try:
        return len(os.listdir("/proc/self/task"))
    except FileNotFoundError:
        return 1
