"""Which files the folders of a production hold, before and after the steps of its plan, without looking at any disk.

lstmcpipe names folders and finds the files when a job runs. A plan names files, so the planner follows them from stage
to stage: what r0_to_dl1 makes of a folder, which part of it the split hands to training, what a merge collects.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from pathlib import PurePosixPath
from typing import Protocol

import numpy as np

from lstops.errors import ConfigError
from lstops.step.model import relative_path

#: Seed of lstmcpipe's split (scripts/script_train_test_splitting.py).
SPLIT_SEED = 42

#: what lstchain takes off a name before it adds .h5 (lstchain/paths.py, EXTENSIONS_TO_REMOVE)
_EXTENSIONS = (".simtel.gz", ".simtel.zst", ".simtel")


class Lister(Protocol):
    """Looks for files that exist before the plan."""

    def __call__(self, folder: str, pattern: str) -> Sequence[str]:
        """Paths, relative to the site's base, of the files below `folder` that match `pattern` (as `Path.glob`)."""


def relative_to_base(path: str, roots: Sequence[tuple[str, str]]) -> str:
    """Path below the site's base of an absolute path of a configuration.

    Raises
    ------
    ConfigError
        If it is below none of the roots, climbs out of one or holds control characters, or if a root is not
        below the base.
    """
    for prefix, below in roots:
        if path.startswith(prefix) and ".." not in path.split("/"):
            rest = path[len(prefix) :].lstrip("/")
            try:
                return relative_path(f"{below}/{rest}" if below else rest or ".")
            except ValueError:
                break
    raise ConfigError(
        f"{path if path.isprintable() else repr(path)} is not below {' or '.join(prefix for prefix, _ in roots)}.",
        "say where it is below the site's base (roots), or correct the path.",
    )


def dl1_name(simtel: str) -> str:
    """Name that lstchain gives to the DL1 of a simulated file (lstchain/paths.py, r0_to_dl1_filename)."""
    name = PurePosixPath(simtel).name
    for extension in _EXTENSIONS:
        name = name.removesuffix(extension)
    return f"dl1_{name}.h5"


class FileIndex:
    """Files by the folder in which later stages look for them.

    The split moves nothing: a file stays where it was made, and is only listed under the folder of its part.
    """

    def __init__(self, lister: Lister) -> None:
        self._lister = lister
        self._listed: dict[str, list[str]] = {}
        self._below: dict[tuple[str, int], list[str]] = defaultdict(list)

    def add(self, folder: str, files: Iterable[str]) -> None:
        """List the files that a step puts into a folder.

        Raises
        ------
        ConfigError
            If another step fills the same folder: what belongs to which would be lost.
        """
        if folder in self._listed:
            raise ConfigError(
                f"two steps fill the folder {folder}.", "give each its own; `lstops production lint` lists them all."
            )
        self._listed[folder] = list(files)
        path = PurePosixPath(folder)
        for depth, ancestor in enumerate((path, *path.parents)):
            self._below[str(ancestor), depth].append(folder)

    def take(self, folder: str) -> list[str]:
        """Files listed under a folder, which from now on lists none; those on disk if no step lists any there."""
        if folder in self._listed:
            files, self._listed[folder] = self._listed[folder], []
            return files
        return self._on_disk(folder, "*.h5")

    def find(self, folder: str, pattern: str) -> list[str]:
        """Files that a merge of `folder` with lstchain's `pattern` would collect, sorted.

        Raises
        ------
        ConfigError
            If there are none, or two of the same name (a folder of links could not hold both).
        """
        *way, name = pattern.split("/")
        files = []
        for listed in self._below.get((folder, len(way)), ()):
            parts = PurePosixPath(listed).relative_to(folder).parts
            if all(fnmatchcase(part, wanted) for part, wanted in zip(parts, way, strict=True)):
                files += [f for f in self._listed[listed] if fnmatchcase(PurePosixPath(f).name, name)]
        files = sorted(files) or self._on_disk(folder, pattern)
        names = [PurePosixPath(file).name for file in files]
        if len(set(names)) < len(names):
            twice = next(n for n in names if names.count(n) > 1)
            raise ConfigError(
                f"{folder} has two files called {twice} to be merged.",
                "names must differ within a merge; make the file names carry node and run.",
            )
        return files

    def _on_disk(self, folder: str, pattern: str) -> list[str]:
        files = sorted(self._lister(folder, pattern))
        if not files:
            raise ConfigError(
                f"no file {pattern} in {folder}, and no step of this plan makes one.",
                "run the production that makes them, or correct the path.",
            )
        return files


def split_files(files: Sequence[str], test_ratio: float, seed: int = SPLIT_SEED) -> tuple[list[str], list[str]]:
    """Split files at random into a training and a test part.

    The numbers are those of scikit-learn's `train_test_split(files, test_size=test_ratio, random_state=seed)`, which
    lstmcpipe uses. The order of `files` decides too: lstmcpipe takes the file system's, here they are sorted.

    Returns
    -------
    train, test : list of str
        Each sorted.

    Raises
    ------
    ConfigError
        If a part would be empty.
    """
    ordered = sorted(files)
    n_test = math.ceil(test_ratio * len(ordered))
    if not 0 < n_test < len(ordered):
        raise ConfigError(
            f"{len(ordered)} file(s) cannot be split with a test part of {test_ratio:g}"
            + (f" in {PurePosixPath(ordered[0]).parent}." if ordered else "."),
            "give at least two files, and a ratio between 0 and 1.",
        )
    shuffled = np.random.RandomState(seed).permutation(len(ordered))  # numpy keeps this generator's numbers for ever
    test = {int(i) for i in shuffled[:n_test]}
    return [f for i, f in enumerate(ordered) if i not in test], [f for i, f in enumerate(ordered) if i in test]
