"""Audit of what is published: every version against its own digests, modes and pointer. Reads, changes nothing."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from lstops.errors import LstOpsError
from lstops.publish import model
from lstops.publish.findings import Code, Finding, cannot_read, guarded
from lstops.publish.notices import damaged_notices, is_usable, withdrawal_of
from lstops.publish.provenance import manifests_in
from lstops.publish.versions import (
    LOCK,
    POINTER_PREFIX,
    ROOT,
    STAGE_PREFIX,
    bundle_of,
    checksums_of,
    content_digest,
    is_beside,
    problems,
    version_folders,
    version_name,
    version_numbers,
)
from lstops.site.layout import Layout
from lstops.walk import walk

Chosen = Callable[[str], bool]
_REPUBLISH = "publish the night again (`lstops publish`): a damaged version is superseded, not repaired."


def audit_published(layout: Layout, read_whole: Chosen, is_old: Callable[[Path], bool]) -> Iterator[Finding]:
    """Findings below DL3/.

    Parameters
    ----------
    read_whole : callable
        Of a version's path: whether its files are read again. Of the others, names, sizes and modes are compared.
    is_old : callable
        Whether a file was left alone long enough to be no work in progress.
    """
    # folders that cannot be read are named by `_others`, which sees them too
    folders = version_folders(layout, unreadable=[])
    for folder in folders:
        yield from guarded(folder, layout, _folder(folder, layout, read_whole))
    yield from guarded(ROOT, layout, _others(layout, folders, is_old))


def _folder(folder: str, layout: Layout, read_whole: Chosen) -> Iterator[Finding]:
    yield from guarded(f"{folder}/{model.CURRENT}", layout, _pointer(folder, layout))
    for number in version_numbers(layout.absolute(folder)):
        path = f"{folder}/{version_name(number)}"
        yield from guarded(path, layout, _version(path, layout, read_whole(path)))


def _version(path: str, layout: Layout, whole: bool) -> Iterator[Finding]:
    version = layout.absolute(path)
    for found in problems(version) if whole else _quick_problems(version):
        yield Finding(Code.DAMAGED, path, found, _REPUBLISH)
    for name in damaged_notices(version):
        remedy = "restore it from a backup, or from what the catalogue says (`lstops products --kind bundle`)."
        yield Finding(Code.DAMAGED, f"{path}/{name}", "cannot be read: the version stays out of use", remedy)
    if whole:
        yield from _against_provenance(path, version)
    for file in (version, *sorted(version.iterdir())):
        if file.lstat().st_mode & 0o222 and not file.is_symlink():
            yield Finding(
                Code.WRITABLE,
                layout.relative(file),
                "can be written",
                "chmod a-w, and find out who changed it; `lstops audit --full` tells whether its content was altered.",
            )


def _quick_problems(version: Path) -> Iterator[str]:
    """Names and sizes only."""
    listed = bundle_of(version).get("files", {})
    if not listed:
        yield f"{model.BUNDLE} cannot be read"
        return
    found = {p.name for p in version.iterdir()}
    for name in sorted(set(listed) - found):
        yield f"{name} is missing"
    for name in sorted(found - set(listed) - {model.BUNDLE, model.CHECKSUMS, *model.NOTICES}):
        yield f"{name} does not belong to it"
    for name in sorted(found & set(listed)):
        if (version / name).is_symlink() or (version / name).stat().st_size != listed[name]["size"]:
            yield f"{name} was changed"


def _against_provenance(path: str, version: Path) -> Iterator[Finding]:
    """A file that is altered together with its checksum still differs from the content or from what its step made."""
    if content_digest(checksums_of(version)) != bundle_of(version).get("digest"):
        what = f"its files are not the content that {model.BUNDLE} describes"
        yield Finding(Code.DAMAGED, path, what, _REPUBLISH)
    try:
        made = {o.state.sha256 for m in manifests_in(version / model.PROVENANCE) for o in m.outputs}
    except LstOpsError:
        return  # its own digest differs or is missing, and is named
    for name, digest in checksums_of(version).items():
        if name.startswith("dl3_") and digest not in made:
            what = f"{name} is not the file that its step made ({model.PROVENANCE})"
            yield Finding(Code.DAMAGED, path, what, _REPUBLISH)


def _pointer(folder: str, layout: Layout) -> Iterator[Finding]:
    absolute = layout.absolute(folder)
    pointer = absolute / model.CURRENT
    names = [version_name(n) for n in version_numbers(absolute)]
    path = f"{folder}/{model.CURRENT}"
    if not pointer.is_symlink():
        if pointer.exists():
            yield Finding(Code.POINTER, path, "is no symbolic link", "move it away; lstops did not make it.")
        elif usable := [n for n in names if is_usable(absolute / n, layout) and not is_beside(absolute / n, None)]:
            yield Finding(
                Code.POINTER,
                path,
                f"is missing, though {usable[-1]} may be used",
                "publish the night again: it is set.",
            )
        return
    target = os.readlink(pointer)
    if target not in names:
        yield Finding(
            Code.POINTER, path, f"points to {target!r}, which is no version", "remove it, then publish again."
        )
    elif not is_usable(absolute / target, layout):
        verb = "withdraw" if withdrawal_of(absolute / target) else "supersede"
        yield Finding(
            Code.POINTER, path, f"points to {target}, which must not be used", f"run `lstops {verb}` for it once more."
        )


def _others(layout: Layout, folders: tuple[str, ...], is_old: Callable[[Path], bool]) -> Iterator[Finding]:
    """What lies below DL3/ and is part of no version."""
    root = layout.absolute(ROOT)
    known = {layout.absolute(folder) for folder in folders}
    unreadable: list[OSError] = []
    for here, names, files in walk(root, unreadable):
        is_folder = here in known
        versions = {version_name(n) for n in version_numbers(here)} if is_folder else set()
        hidden = (STAGE_PREFIX, POINTER_PREFIX)
        for name in sorted([*names, *files]):
            path = here / name
            if name.startswith(hidden):
                if is_old(path):
                    yield Finding(
                        Code.LEFTOVER,
                        layout.relative(path),
                        "was left behind by a publication that died",
                        "nothing to do: the next publication into this folder removes it.",
                    )
            elif (name in files or path.is_symlink()) and name != LOCK and not (is_folder and name == model.CURRENT):
                remedy = "move it away: below DL3/ there are published versions only."
                yield Finding(Code.FOREIGN, layout.relative(path), "was not published by lstops", remedy)
        # in place, as os.walk wants it: versions were looked into, links are not followed
        names[:] = [n for n in names if n not in versions and not n.startswith(hidden)]
    yield from (cannot_read(ROOT, layout, error) for error in unreadable)
