"""Walks of folder trees that hide nothing: what cannot be read is told, not passed over as `Path.glob` does."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path


def walk(root: Path, unreadable: list[OSError] | None = None) -> Iterator[tuple[Path, list[str], list[str]]]:
    """`os.walk`, the names in order.

    Parameters
    ----------
    unreadable : list of OSError, optional
        Takes the folders that cannot be read; without it the first one ends the walk.

    Raises
    ------
    OSError
        If a folder cannot be read and nobody wants to know. A missing one is an empty one.
    """

    def tell(error: OSError) -> None:
        if isinstance(error, FileNotFoundError):
            return
        if unreadable is None:
            raise error
        unreadable.append(error)

    for parent, names, files in os.walk(root, onerror=tell):
        names.sort()
        yield Path(parent), names, sorted(files)
