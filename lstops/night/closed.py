"""Whether the on-site analysis has finished a night."""

from __future__ import annotations

from pathlib import Path

from lstops.errors import StorageError


def is_night_closed(flag: Path) -> bool:
    """Tell whether lstosa has closed the night, that is, whether its flag file is there.

    Parameters
    ----------
    flag : Path
        The night's `NightFinished.txt`. lstops waits for this file and never writes it; its content says nothing.

    Raises
    ------
    StorageError
        If the directory cannot be read: "not closed" would make lstops wait for ever for a night that is.
    """
    try:
        return flag.is_file()
    except OSError as error:
        raise StorageError(
            f"Cannot look for the flag {flag}: {error.strerror or error}.",
            "Check that the file system is mounted and that this account may read the closer's directory.",
        ) from error
