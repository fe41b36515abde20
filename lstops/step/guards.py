"""What can happen to a step from outside: a full disk, a scheduler that asks it to end."""

from __future__ import annotations

import contextlib
import errno
import signal
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

from lstops.errors import LstOpsError, StorageError

_FULL_DISK = (errno.ENOSPC, errno.EDQUOT)


class TerminatedError(LstOpsError):
    """The scheduler or a person asked the process to end."""

    exit_code = 143


@contextlib.contextmanager
def storage_errors(base: Path) -> Iterator[None]:
    """Turn errors of a full or read-only file system into `StorageError`."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL_DISK:
            raise StorageError(
                f"no space left below {base} ({error.strerror}).", "free space, then run again; nothing was kept."
            ) from error
        if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
            raise StorageError(
                f"{error.filename or base} is not writable ({error.strerror}).", "correct the permissions."
            ) from error
        raise


@contextlib.contextmanager
def terminable() -> Iterator[None]:
    """Turn SIGTERM (time limit, scancel) into an exception, so that staging is removed and a report written.

    Once is enough: a second one must not interrupt that, so it is ignored from then on.
    """

    def on_term(signum: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise TerminatedError("the step was asked to end (SIGTERM).", "see the job: time limit or cancelled?")

    previous = signal.signal(signal.SIGTERM, on_term)
    try:
        yield
    finally:
        if signal.getsignal(signal.SIGTERM) is on_term:
            signal.signal(signal.SIGTERM, previous)
