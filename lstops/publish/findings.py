"""What an audit finds, and how what cannot be read becomes a finding instead of the audit's end."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from lstops.errors import LstOpsError
from lstops.site.layout import Layout

_READ_AGAIN = "look at its permissions and at the disk, then run the audit again."


class Code(str, Enum):
    """What is wrong."""

    DAMAGED = "damaged"
    WRITABLE = "writable"
    POINTER = "pointer"
    FOREIGN = "foreign"
    LEFTOVER = "leftover"
    MISSING = "missing"
    CHANGED = "changed"
    STALE = "stale"
    UNREADABLE = "unreadable"
    UNFINISHED = "unfinished"
    UNRECORDED = "unrecorded"
    UNKNOWN = "unknown"
    STATUS = "status"


@dataclass(frozen=True, order=True)
class Finding:
    """One thing that is not as it should be.

    Attributes
    ----------
    path : str
        Relative to the site's base.
    what, remedy : str
        For people.
    """

    code: Code
    path: str
    what: str
    remedy: str


def guarded(path: str, layout: Layout, findings: Iterable[Finding]) -> Iterator[Finding]:
    """Findings about one thing; if it cannot be looked at, that is one of them, and the next thing has its turn."""
    try:
        yield from findings
    except OSError as error:
        yield cannot_read(path, layout, error)
    except LstOpsError as error:
        yield Finding(Code.UNREADABLE, path, f"cannot be looked at: {error.what}", error.remedy or _READ_AGAIN)


def cannot_read(path: str, layout: Layout, error: OSError) -> Finding:
    """The finding of a file or folder (that of the error, if it has one, else `path`) that cannot be read."""
    if error.filename and Path(str(error.filename)).is_relative_to(layout.base):
        path = layout.relative(Path(str(error.filename)))
    return Finding(Code.UNREADABLE, path, f"cannot be read ({error.strerror or error})", _READ_AGAIN)
