"""Files of which nothing is known but that they must not be empty."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lstops.errors import DataError
from lstops.step.model import Output
from lstops.step.verify.common import MAKE_AGAIN, Facts, InputFacts


def inspect(path: Path) -> Facts:
    """Size of the file.

    Raises
    ------
    DataError
        If it is missing or empty.
    """
    if not path.is_file():
        raise DataError(f"{path} does not exist or is not a file.", "restore it, or run the step that makes it.")
    size = path.stat().st_size
    if size == 0:
        raise DataError(f"{path} is empty (0 bytes).", MAKE_AGAIN)
    return {"size": size}


def check(output: Output, path: Path, inputs: Sequence[InputFacts]) -> Facts:
    """Same as `inspect`."""
    return inspect(path)
