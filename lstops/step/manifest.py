"""Manifests: how a product came to be, as a JSON file that is written last.

The manifest of a step lies below `<work>/manifests/` under the path of the step's first output, so that it is found
from the product alone. A product without a manifest is not finished, whatever its size.
"""

from __future__ import annotations

import contextlib
import glob
import hashlib
import json
import os
import tempfile
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from lstops.errors import DataError, StorageError
from lstops.step.digest import sha256_file
from lstops.step.model import ArtifactKind, Frozen, RelativePath
from lstops.walk import walk

MANIFEST_SCHEMA = 1
#: ending of a manifest that was replaced: what was published from the old content stays explained
RETIRED = ".old"


class FileState(Frozen):
    """What was found of a file or folder, and when it was so.

    Attributes
    ----------
    size : int
        Bytes; of a folder, the sum over its files.
    mtime_ns : int
        Latest modification; with the size it tells cheaply whether the digest still holds.
    sha256 : str
        Of a folder: digest of the sorted lines "name digest".
    """

    size: int
    mtime_ns: int
    sha256: str


class ArtifactRecord(Frozen):
    """An input or output as it was when the step ran."""

    name: str
    kind: ArtifactKind
    path: RelativePath
    state: FileState
    facts: dict[str, Any] = Field(default_factory=dict)


class Manifest(Frozen):
    """Record of one finished step."""

    schema_version: int = MANIFEST_SCHEMA
    key: str
    kind: str
    label: str
    subject: str
    commands: tuple[tuple[str, ...], ...]
    files: dict[str, str]
    environment: str
    versions: dict[str, str]
    inputs: tuple[ArtifactRecord, ...]
    outputs: tuple[ArtifactRecord, ...]
    plan_id: str
    plan_context: dict[str, Any]
    index: int
    host: str
    job: str
    started: str
    ended: str
    wall_s: float
    cpu_s: float
    max_rss_mb: float
    log: str

    def output(self, path: str) -> ArtifactRecord | None:
        """The record of the output at `path`, if this step made it."""
        return next((o for o in self.outputs if o.path == path), None)


def _members(path: Path) -> list[Path]:
    return sorted(p for p in path.rglob("*") if p.is_file())


def quick_state(path: Path) -> tuple[int, int]:
    """(size, mtime_ns) of a file or folder without reading its content."""
    stats = [p.stat() for p in _members(path)] if path.is_dir() else [path.stat()]
    return sum(s.st_size for s in stats), max((s.st_mtime_ns for s in stats), default=0)


def full_state(path: Path) -> FileState:
    """State of a file or folder with the digest of its content.

    Raises
    ------
    DataError
        If there is no such file or folder.
    """
    if not path.exists():
        raise DataError(f"{path} does not exist.", "make it or correct the plan.")
    size, mtime_ns = quick_state(path)
    if path.is_dir():
        lines = "".join(f"{p.relative_to(path).as_posix()} {sha256_file(p)}\n" for p in _members(path))
        return FileState(size=size, mtime_ns=mtime_ns, sha256=hashlib.sha256(lines.encode()).hexdigest())
    return FileState(size=size, mtime_ns=mtime_ns, sha256=sha256_file(path))


def unchanged(path: Path, state: FileState) -> bool:
    """True if size and modification time are still those of `state`."""
    return path.exists() and quick_state(path) == (state.size, state.mtime_ns)


def make_folder(path: Path) -> None:
    """Make a folder and those above it, closed to the world whatever the process's umask (mkdir(2) alone would use it).

    Raises
    ------
    OSError
        If it cannot be made.
    """
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    for folder in reversed(missing):
        folder.mkdir(mode=0o750, exist_ok=True)


def write_atomically(path: Path, text: str, mode: int = 0o640) -> None:
    """Write a text file so that a reader sees the old content or the new, never a part.

    Raises
    ------
    StorageError
        If the file system is full or not writable; nothing is left behind then.
    """
    temporary = ""
    try:
        make_folder(path.parent)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:80]}.")
        with os.fdopen(handle, "w") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(temporary, mode)
        os.replace(temporary, path)
    except OSError as error:
        if temporary:
            Path(temporary).unlink(missing_ok=True)
        raise StorageError(
            f"cannot write {path}: {error.strerror}.", "free space or correct the permissions."
        ) from error


def _parse(path: Path) -> Manifest | None:
    try:
        return Manifest.model_validate_json(path.read_bytes())
    except (FileNotFoundError, ValidationError):
        return None


def _retired(path: Path) -> Path:
    digest = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    return path.with_name(f"{path.stem}.{digest}{RETIRED}")


class ManifestStore:
    """The manifests below one folder, found by the path of a product."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def path_of(self, product: str) -> Path:
        """Where the manifest of the step whose first output is `product` (relative path) lies."""
        return self.root / f"{product}.json"

    def read(self, product: str) -> Manifest | None:
        """The manifest, or None where there is none; a damaged one counts as none (the step is then run again)."""
        return _parse(self.path_of(product))

    def write(self, manifest: Manifest) -> Path:
        """Store a manifest under its first output, and a pointer under each further output."""
        first, *others = manifest.outputs
        for other in others:
            write_atomically(self.root / f"{other.path}.link", first.path)
        path = self.path_of(first.path)
        text = json.dumps(manifest.model_dump(mode="json"), indent=1, sort_keys=True)
        if path.exists() and path.read_text() != text:
            with contextlib.suppress(FileExistsError):
                os.link(path, _retired(path))
        write_atomically(path, text)
        return path

    def remove(self, product: str) -> None:
        """The product counts as unfinished from now on; the manifest is kept in the history."""
        path = self.path_of(product)
        if path.exists():
            os.replace(path, _retired(path))

    def forget(self, manifest: Manifest) -> None:
        """The same for products that were cleared away: nothing points to where they were any more."""
        first, *others = manifest.outputs
        for other in others:
            (self.root / f"{other.path}.link").unlink(missing_ok=True)
        self.remove(first.path)

    def producer(self, product: str) -> Manifest | None:
        """The manifest of the step that made `product`, be it the first output or another."""
        if manifest := self.read(product):
            return manifest
        link = self.root / f"{product}.link"
        try:
            manifest = self.read(link.read_text())
        except FileNotFoundError:
            return None
        return manifest if manifest and manifest.output(product) else None

    def maker_of(self, product: str, sha256: str) -> Manifest | None:
        """The manifest of the step that made this content of `product`, be it the present one or a replaced one."""
        for manifest in self.makers_of(product):
            if any(o.state.sha256 == sha256 for o in manifest.outputs):
                return manifest
        return None

    def makers_of(self, product: str) -> list[Manifest]:
        """The manifest of the step that made `product`, and those of the steps before it, if they were replaced."""
        candidates = [self.producer(product)]
        with contextlib.suppress(FileNotFoundError):
            product = (self.root / f"{product}.link").read_text()
        path = self.path_of(product)
        candidates += [_parse(p) for p in sorted(path.parent.glob(f"{glob.escape(path.stem)}.*{RETIRED}"))]
        return [manifest for manifest in candidates if manifest]

    def history(self, unreadable: list[OSError] | None = None) -> list[Manifest]:
        """Every manifest that was replaced by a later one, by path; `unreadable` as in `all`."""
        return self._parsed(RETIRED, unreadable)

    def all(self, unreadable: list[OSError] | None = None) -> list[Manifest]:
        """Every manifest, by path; a damaged one counts as none.

        Parameters
        ----------
        unreadable : list of OSError, optional
            Takes the files and folders that cannot be read; without it they are errors.
        """
        return self._parsed(".json", unreadable)

    def _parsed(self, suffix: str, unreadable: list[OSError] | None) -> list[Manifest]:
        paths = [here / name for here, _, names in walk(self.root, unreadable) for name in names]
        found = []
        for path in sorted(path for path in paths if path.suffix == suffix):
            try:
                manifest = _parse(path)
            except OSError as error:
                if unreadable is None:
                    raise
                # a disk that fails in the middle of a file does not say which one
                unreadable.append(OSError(error.errno, error.strerror, str(path)))
                continue
            if manifest:
                found.append(manifest)
        return found
