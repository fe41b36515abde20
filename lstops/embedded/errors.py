"""The error of the embedded services."""

from __future__ import annotations

from pathlib import Path

from lstops.errors import LstOpsError


class ServiceError(LstOpsError):
    """An embedded service could not be started, reached or stopped."""

    exit_code = 69


def log_tail(path: Path, lines: int = 15) -> str:
    """Return the last lines of a log file, or a note that there is none.

    Parameters
    ----------
    path : pathlib.Path
        The log file.
    lines : int
        How many lines at most.
    """
    if not path.exists():
        return f"({path} was never written)"
    text = path.read_text(errors="replace").splitlines()
    return "\n".join(text[-lines:]) if text else f"({path} is empty)"
