"""The versions in a destination folder, as they are on disk."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import re
import shutil
import socket
import time
from collections.abc import Iterator, Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from lstops.errors import ConfigError, JobFailure, StorageError
from lstops.publish import model
from lstops.publish.model import VersionInfo, VersionState
from lstops.publish.notices import supersession_of, withdrawal_of, write_notice
from lstops.site.layout import Layout
from lstops.step.digest import sha256_file
from lstops.walk import walk

#: everything that is published lies below it
ROOT = "DL3"
_VERSION = re.compile(r"^v(\d{4,})$")
#: hidden names of what is not finished; removed by the next writer, who holds the lock
STAGE_PREFIX = ".stage-"
POINTER_PREFIX = ".current-"
#: beside the versions; held by whoever writes
LOCK = ".lock"
_LOCK_POLL_S = 0.1
#: content beside the DL3 files
_CONTENT = frozenset(
    (model.HDU_INDEX, model.OBS_INDEX, model.RUNS, model.CUTS, model.DECISIONS, model.PROVENANCE, model.PROV,
     model.OBSCORE)
)  # fmt: skip
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def version_numbers(folder: Path) -> list[int]:
    """Numbers of all versions, ascending, withdrawn ones too."""
    if not folder.is_dir():
        return []
    # a link is no version: what it points to may lie anywhere
    folders = (p for p in folder.iterdir() if p.is_dir() and not p.is_symlink())
    return sorted(int(m.group(1)) for p in folders if (m := _VERSION.match(p.name)))


def version_name(number: int) -> str:
    """Folder name of a version."""
    return f"v{number:04d}"


def split_version(path: str) -> tuple[str, str]:
    """Folder and version of "DL3/.../v0001", relative to the site's base.

    Raises
    ------
    ConfigError
        If it does not end in a version.
    """
    folder, _, version = path.rstrip("/").rpartition("/")
    if not folder.startswith(f"{ROOT}/") or not _VERSION.match(version):
        raise ConfigError(
            f"{path!r} is no published version.", "name it as DL3/.../v0001; see `lstops published list`."
        )
    return folder, version


def version_folders(layout: Layout, unreadable: list[OSError] | None = None) -> tuple[str, ...]:
    """Every folder below DL3/ that holds versions, relative to the site's base.

    Parameters
    ----------
    unreadable : list of OSError, optional
        Takes the folders that cannot be read; without it they are errors.
    """
    found = []
    for here, names, _ in walk(layout.absolute(ROOT), unreadable):
        versions = [name for name in names if _VERSION.match(name) and not (here / name).is_symlink()]
        if versions:
            found.append(layout.relative(here))
        names[:] = [name for name in names if name not in versions]
    return tuple(sorted(found))


def current_version(folder: Path) -> str | None:
    """What `current` points to, None if there is no pointer.

    Raises
    ------
    ConfigError
        If `current` is something else than a pointer to a version beside it.
    """
    pointer = folder / model.CURRENT
    if not pointer.is_symlink():
        if pointer.exists():
            raise ConfigError(
                f"{pointer} is not a symbolic link; lstops did not make it.", "move it away and find out who made it."
            )
        return None
    target = os.readlink(pointer)
    if not _VERSION.match(target) or not (folder / target).is_dir():
        raise ConfigError(
            f"{pointer} points to {target!r}, which is no version beside it.",
            "remove the link; the next publication sets it again.",
        )
    return target


def bundle_of(version: Path) -> dict[str, Any]:
    """The version's description; empty where it is missing, damaged or unreadable (`problems` then says so)."""
    try:
        document = json.loads((version / model.BUNDLE).read_text())
    except (OSError, ValueError):
        return {}
    return document if isinstance(document, dict) else {}


def list_versions(folder: str, layout: Layout) -> tuple[VersionInfo, ...]:
    """All versions in a destination folder, oldest first."""
    absolute = layout.absolute(folder)
    current = current_version(absolute)
    numbers = version_numbers(absolute)
    found = []
    for number in numbers:
        version = absolute / version_name(number)
        withdrawal, supersession = withdrawal_of(version), supersession_of(version, layout)
        document = bundle_of(version)
        state = VersionState.SUPERSEDED
        if version.name == current and not supersession:
            state = VersionState.CURRENT
        elif not supersession and is_beside(version, absolute / current if current else None):
            state = VersionState.BESIDE
        found.append(
            VersionInfo(
                version=version.name,
                path=layout.relative(version),
                state=VersionState.WITHDRAWN if withdrawal else state,
                digest=str(document.get("digest", "")),
                published_at=str(document.get("published_at", "")),
                withdrawal=withdrawal,
                supersession=supersession,
            )
        )
    return tuple(found)


def is_beside(version: Path, current: Path | None) -> bool:
    """Whether a version was published to be compared only, nobody took it up, and nothing newer has become current."""
    newer = current is None or int(current.name[1:]) < int(version.name[1:])
    return newer and was_beside(version) and not (version / model.TAKEN_UP).exists()


def was_beside(version: Path) -> bool:
    """Whether a version was published to be compared only."""
    return bundle_of(version).get("beside") is True


def take_up(version: Path, author: str, reason: str) -> None:
    """Note that a version published beside another one was made current: from then on it is one like any other."""
    if was_beside(version) and not (version / model.TAKEN_UP).exists():
        at = datetime.now(timezone.utc).isoformat(timespec="seconds")
        write_notice(version, model.TAKEN_UP, {"version": version.name, "author": author, "reason": reason, "at": at})


def checksums_of(version: Path) -> dict[str, str]:
    """Digest by file name; empty where the list is missing, damaged or unreadable."""
    try:
        lines = (version / model.CHECKSUMS).read_text().splitlines()
        return {name: digest for digest, name in (line.split("  ", 1) for line in lines)}
    except (OSError, ValueError):
        return {}


def content_digest(digests: Mapping[str, str]) -> str:
    """Digest of a version's content from those of its files; the source check and the small texts are not content."""
    lines = [f"{digest}  {name}\n" for name, digest in digests.items() if name.startswith("dl3_") or name in _CONTENT]
    return hashlib.sha256("".join(sorted(lines)).encode()).hexdigest()


def problems(version: Path) -> tuple[str, ...]:
    """What is wrong with a version on disk: every digest is read again.

    Returns
    -------
    tuple of str
        Empty if all files are there, unchanged, and no others.
    """
    expected = checksums_of(version)
    if not expected:
        return (f"{version} has no readable {model.CHECKSUMS}",)
    unreadable: list[OSError] = []
    found = {(here / n).relative_to(version).as_posix() for here, _, names in walk(version, unreadable) for n in names}
    said = [f"{name} is missing" for name in sorted(set(expected) - found)]
    said += [
        f"{name} does not belong to it" for name in sorted(found - set(expected) - {model.CHECKSUMS, *model.NOTICES})
    ]
    said += [f"{error.filename} cannot be read ({error.strerror})" for error in unreadable]
    said += [
        f"{name} {differs}"
        for name in sorted(found & set(expected))
        if (differs := _differs(version / name, expected[name]))
    ]
    if not bundle_of(version):
        said.append(f"{model.BUNDLE} cannot be read")
    return tuple(said)


def _differs(path: Path, digest: str) -> str:
    """What is wrong with a published file; empty if nothing is."""
    try:
        changed = path.is_symlink() or sha256_file(path) != digest
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    return "was changed" if changed else ""


def point_current(folder: Path, version: str | None) -> None:
    """Move the pointer by one rename: readers see the old version or the new one, never none."""
    pointer = folder / model.CURRENT
    if version is None:
        pointer.unlink(missing_ok=True)
    else:
        temporary = folder / f"{POINTER_PREFIX}{os.getpid()}"
        temporary.unlink(missing_ok=True)
        try:
            temporary.symlink_to(version)
            os.replace(temporary, pointer)
        finally:
            temporary.unlink(missing_ok=True)
    sync_folder(folder)


def sync_folder(folder: Path) -> None:
    """Make renames in a folder durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def remove_tree(path: Path) -> None:
    """Remove a tree whose folders may be read-only."""
    for folder in [path, *(p for p in path.rglob("*") if p.is_dir() and not p.is_symlink())]:
        folder.chmod(0o700)
    shutil.rmtree(path)


def remove_leftovers(folder: Path) -> tuple[str, ...]:
    """Remove what a dead publication left behind; only for the holder of the lock."""
    left = sorted(p for p in folder.iterdir() if p.name.startswith((STAGE_PREFIX, POINTER_PREFIX)))
    for path in left:
        if path.is_dir() and not path.is_symlink():
            remove_tree(path)
        else:
            path.unlink()
    return tuple(p.name for p in left)


@contextlib.contextmanager
def locked(folder: Path, wait_s: float) -> Iterator[None]:
    """Hold the folder's lock: one writer at a time. The kernel frees it if the holder dies.

    Raises
    ------
    JobFailure
        If another process still holds it after `wait_s` seconds.
    """
    folder.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + wait_s
    with (folder / LOCK).open("a+") as stream:
        while True:
            try:
                # flock, not lockf: it also keeps two threads of one process apart
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    stream.seek(0)
                    raise JobFailure(
                        f"{folder} is being written by another publication ({stream.read().strip() or 'unknown'}).",
                        "wait for it, then publish again.",
                    ) from None
                time.sleep(_LOCK_POLL_S)
        stream.truncate(0)
        stream.write(f"host {socket.gethostname()}, pid {os.getpid()}\n")
        stream.flush()
        yield


@contextlib.contextmanager
def storage_errors(folder: Path) -> Iterator[None]:
    """Turn a full or read-only file system into an error that says so.

    Raises
    ------
    StorageError
    """
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise StorageError(
                f"no space left for {folder} ({error.strerror}).",
                "free space, then publish again; nothing half-written is visible.",
            ) from error
        if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
            raise StorageError(
                f"{error.filename or folder} is not writable ({error.strerror}).", "correct the permissions."
            ) from error
        raise
