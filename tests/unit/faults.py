"""Every way to be interrupted: an operation runs in forked processes, each of which is hit at another change of a file.

Python tells audit hooks of every change of the file system before it happens. A hook kills the process there, lets the
disk be full from there on, or cuts what was just written, as a power failure would.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from enum import Enum
from typing import Any, NoReturn

from lstops.errors import StorageError

_CHANGES = (
    "os.chmod", "os.link", "os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.symlink", "os.truncate",
)  # fmt: skip
#: what a full disk refuses; names can be removed and modes changed
_NEEDS_ROOM = ("open", "os.fsync", "os.link", "os.mkdir", "os.rename", "os.symlink", "os.truncate")
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
#: exit status of a child
_DONE, _NO_ROOM, _FAILED = 0, 3, 4


class Fault(str, Enum):
    """What happens at the change."""

    KILLED = "killed"
    #: killed after half of what was written had reached the disk
    TORN = "torn"
    DISK_FULL = "disk full"


def changes_of(operation: Callable[[], object]) -> tuple[str, ...]:
    """The changes of files that an operation makes, by their names, in order."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        made: list[str] = []
        _hit(lambda what, _: made.append(what))

        def told() -> None:
            operation()
            os.write(writing, "\n".join(made).encode())

        _end_with(told)
    os.close(writing)
    with os.fdopen(reading) as stream:
        seen = tuple(stream.read().split("\n"))
    assert os.waitpid(child, 0)[1] == 0, "the operation fails by itself"
    return seen


def interrupt(operation: Callable[[], object], fault: Fault, at: int) -> str:
    """Run an operation in a child that is hit at its change number `at`; how it ended: "killed", "done" or "no room".

    Raises
    ------
    AssertionError
        If the operation ended in another way: a full disk is to be named as such.
    """
    child = os.fork()
    if child == 0:
        left = [at]

        def hit(what: str, handle: int | None) -> None:
            left[0] -= 1
            if left[0] >= 0:
                return
            if fault is Fault.DISK_FULL:
                if what in _NEEDS_ROOM:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                return
            if fault is Fault.TORN and handle is not None:
                name = f"/proc/self/fd/{handle}"
                if os.path.isfile(name):
                    os.truncate(name, os.stat(name).st_size // 2)
            os.kill(os.getpid(), signal.SIGKILL)

        _hit(hit)
        _end_with(operation)
    status = os.waitpid(child, 0)[1]
    ended = {signal.SIGKILL: "killed", _DONE << 8: "done", _NO_ROOM << 8: "no room"}.get(status)
    assert ended is not None, f"{fault.value} at change {at}: the operation ended with {status}"
    return ended


def sweep(operation: Callable[[], object], every: int = 1) -> Iterator[tuple[Fault, int]]:
    """All faults at all (or every n-th) of an operation's changes; TORN only where something is made durable."""
    changes = changes_of(operation)
    for at in range(0, len(changes), every):
        yield Fault.KILLED, at
        yield Fault.DISK_FULL, at
    for at in [i for i, what in enumerate(changes) if what == "os.fsync"][::every]:
        yield Fault.TORN, at


def _end_with(operation: Callable[[], object]) -> NoReturn:
    """Run it, and end this process: a copy of the test must not go on."""
    status = _FAILED
    try:
        operation()
        status = _DONE
    except StorageError:
        status = _NO_ROOM
    finally:
        if status == _FAILED:
            traceback.print_exc()
        os._exit(status)


def _hit(callback: Callable[[str, int | None], None]) -> None:
    """Call back before every change of a file in this process, for the rest of its life."""
    inside = [False]

    def tell(what: str, handle: int | None = None) -> None:
        if not inside[0]:
            inside[0] = True
            try:
                callback(what, handle)
            finally:
                inside[0] = False

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            if isinstance(arguments[2], int) and arguments[2] & _WRITING and arguments[0] != os.devnull:
                tell(event)
        elif event in _CHANGES:
            tell(event)

    fsync = os.fsync

    def told_fsync(handle: int) -> None:
        tell("os.fsync", handle)
        fsync(handle)

    os.fsync = told_fsync  # type: ignore[assignment]
    sys.addaudithook(hook)
