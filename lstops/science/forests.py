"""Forests that several steps of one task use are unpickled once, in the process that forks the steps.

lstchain's `dl1_to_dl2` loads its forests with `joblib.load`, minutes for those of the observatory. Here they are loaded
before the fork, from a folder whose digest has been compared, and a forked step that asks for such a file gets the
object of its parent: the pages are shared until somebody writes to them, and what a step does to its copy dies with it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from lstops.step.model import ArtifactKind, Input, Step

#: the command whose forests are shared
TOOL = "lstchain_dl1_to_dl2"
_PATTERN = "*.sav"


def shared_models(steps: Iterable[Step]) -> Input | None:
    """The folder of models that all DL2 steps of a task use, if there are several and it is one."""
    used = [
        item
        for step in steps
        if any(argv[0] == TOOL for argv in step.commands)
        for item in step.inputs
        if item.kind is ArtifactKind.MODELS
    ]
    return used[0] if len(used) > 1 and len({(item.path, item.sha256) for item in used}) == 1 else None


def preload(folder: Path) -> int:
    """Load the forests of a folder, and let `joblib.load` of this process and its forks return them; how many.

    A file that has changed since (size, time or place on disk) is loaded anew by whoever asks for it.
    """
    import joblib

    loaded = {path.resolve(): (_identity(path), joblib.load(path)) for path in sorted(folder.glob(_PATTERN))}
    original = joblib.load

    def load(filename: Any, *args: Any, **options: Any) -> Any:
        if not args and not options and isinstance(filename, str | os.PathLike):
            path = Path(filename).resolve()
            identity, forest = loaded.get(path, (None, None))
            if identity is not None and identity == _identity(path):
                return forest
        return original(filename, *args, **options)

    joblib.load = load
    return len(loaded)


def _identity(path: Path) -> tuple[int, int, int]:
    found = path.stat()
    return found.st_ino, found.st_size, found.st_mtime_ns
