"""Every way to be interrupted: an operation runs in forked processes, each of which is hit at another moment.

Python tells audit hooks of every change of the file system before it happens, SQLAlchemy of every statement. There
the process is killed, the disk is full from then on, what was just written is cut as by a power failure, or the
database goes.
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

from lstops.errors import StorageError, TransportError

_CHANGES = (
    "os.chmod", "os.link", "os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.symlink", "os.truncate",
)  # fmt: skip
#: what a full disk refuses; names can be removed and modes changed
_NEEDS_ROOM = ("open", "os.fsync", "os.link", "os.mkdir", "os.rename", "os.symlink", "os.truncate")
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
#: exit status of a child
_DONE, _NO_ROOM, _FAILED, _LOST = 0, 3, 4, 5
#: called with what is about to happen, and where: an open file, a connection, nothing
Callback = Callable[[str, Any], None]


class Fault(str, Enum):
    """What happens at the change."""

    KILLED = "killed"
    #: killed after half of what was written had reached the disk
    TORN = "torn"
    DISK_FULL = "disk full"
    DATABASE_LOST = "database lost"


def moments_of(operation: Callable[[], object], watch: Callable[[Callback], None]) -> tuple[str, ...]:
    """What `watch` tells of while an operation runs, by name, in order."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        made: list[str] = []
        watch(lambda what, _: made.append(what))

        def told() -> None:
            operation()
            os.write(writing, "\n".join(made).encode())

        _end_with(told)
    os.close(writing)
    with os.fdopen(reading) as stream:
        seen = tuple(stream.read().split("\n"))
    assert os.waitpid(child, 0)[1] == 0, "the operation fails by itself"
    return seen


def interrupt(
    operation: Callable[[], object], fault: Fault, at: int, watch: Callable[[Callback], None] | None = None
) -> str:
    """Run an operation in a child that is hit at its moment number `at`; how it ended.

    Returns
    -------
    str
        "killed", "done", "no room" or "no database".

    Raises
    ------
    AssertionError
        If the operation ended in another way: a full disk and a lost database are to be named as such.
    """
    child = os.fork()
    if child == 0:
        left = [at]

        def hit(what: str, where: Any) -> None:
            left[0] -= 1
            if left[0] < 0:
                _strike(fault, what, where)

        (watch or file_changes)(hit)
        _end_with(operation)
    status = os.waitpid(child, 0)[1]
    ended = {signal.SIGKILL: "killed", _DONE << 8: "done", _NO_ROOM << 8: "no room", _LOST << 8: "no database"}
    assert status in ended, f"{fault.value} at moment {at}: the operation ended with {status}"
    return ended[status]


def _strike(fault: Fault, what: str, where: Any) -> None:
    if fault is Fault.DISK_FULL:
        if what in _NEEDS_ROOM:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return
    if fault is Fault.DATABASE_LOST:
        _lose(where)
        return
    if fault is Fault.TORN and where is not None:
        name = f"/proc/self/fd/{where}"
        if os.path.isfile(name):
            os.truncate(name, os.stat(name).st_size // 2)
    os.kill(os.getpid(), signal.SIGKILL)


def _lose(connection: Any) -> None:
    """The server ends this connection, and is not there any more for the next one."""
    import psycopg2
    from sqlalchemy import make_url

    driver = connection.connection.dbapi_connection
    if url := os.environ.pop("LSTOPS_DATABASE_URL", None):
        other = psycopg2.connect(make_url(url).set(drivername="postgresql").render_as_string(hide_password=False))
        with other.cursor() as cursor:
            cursor.execute("SELECT pg_terminate_backend(%s)", (driver.info.backend_pid,))
        other.close()
    os.environ["LSTOPS_DATABASE_URL"] = "postgresql://nobody@127.0.0.1:1/none"


def sweep(operation: Callable[[], object], every: int = 1) -> Iterator[tuple[Fault, int]]:
    """All faults at all (or every n-th) of an operation's changes; TORN only where something is made durable."""
    changes = moments_of(operation, file_changes)
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
    except TransportError:
        status = _LOST
    finally:
        if status == _FAILED:
            traceback.print_exc()
        os._exit(status)


def statements(callback: Callback) -> None:
    """Call back before every statement and commit of this process, for the rest of its life."""
    from sqlalchemy import Engine, event

    event.listen(Engine, "before_cursor_execute", lambda connection, *_: callback("statement", connection))
    event.listen(Engine, "commit", lambda connection: callback("commit", connection))


def file_changes(callback: Callback) -> None:
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
