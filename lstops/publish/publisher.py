"""Acts on a planned bundle: stage, verify, promote by one rename, move `current`.

Whoever dies at any point leaves hidden leftovers that the next publication removes, or a complete version to which
`current` does not point yet, which the next publication finishes.
"""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path

from lstops.errors import DataError, ProductInvalid
from lstops.publish import model, texts
from lstops.publish.index import check_index, read_index
from lstops.publish.model import Bundle, CopiedFile, Published, PublishedFile
from lstops.publish.notices import supersession_of, withdrawal_of
from lstops.publish.versions import (
    STAGE_PREFIX,
    bundle_of,
    current_version,
    locked,
    point_current,
    problems,
    remove_leftovers,
    remove_tree,
    storage_errors,
    sync_folder,
    take_up,
    version_name,
    version_numbers,
)
from lstops.site.layout import Layout

_CHUNK = 4 * 1024 * 1024
Progress = Callable[[str], None]


class WithdrawnContentError(DataError):
    """The same content was published before and withdrawn by a person."""


def _silent(message: str) -> None:
    """Progress that nobody reads."""


def publish(bundle: Bundle, layout: Layout, *, progress: Progress = _silent, wait_s: float = 60.0) -> Published:
    """Publish a bundle as a new version, or find that it is published already.

    Parameters
    ----------
    progress : callable
        Told in words what was just done.
    wait_s : float
        How long to wait for another publication to the same folder.

    Raises
    ------
    StorageError
        If the file system is full or not writable.
    DataError
        If a file changed while it was copied, or the same content was withdrawn before.
    ProductInvalid
        If what was staged is not what was planned.
    JobFailure
        If another publication holds the folder.
    """
    folder = layout.absolute(bundle.request.folder)
    with storage_errors(folder), locked(folder, wait_s):
        for name in remove_leftovers(folder):
            progress(f"removed leftover {name}")
        before = current_version(folder)
        numbers = version_numbers(folder)
        _refuse_withdrawn(bundle, folder, numbers)
        note = ""
        # the newest one too: a publication may have died between its promotion and the move of `current`
        newest = version_name(numbers[-1]) if numbers else None
        # and what a person replaced: its content does not come back by publishing it again
        replaced = [n for n in map(version_name, numbers) if supersession_of(folder / n, layout)]
        for same in dict.fromkeys([before, newest, *replaced]):
            if same is None or bundle_of(folder / same).get("digest") != bundle.digest:
                continue
            if not (damage := problems(folder / same)):
                return _already(bundle, folder / same, before, layout, progress)
            note = f"{same} has the same content but is damaged ({'; '.join(damage)}); it is superseded."
        version = version_name(numbers[-1] + 1 if numbers else 1)
        final = folder / version
        stage = folder / f"{STAGE_PREFIX}{version}-{os.getpid()}"
        try:
            files = _stage(bundle, stage, version, progress)
            _verify(stage)
            progress("verified")
            _seal(stage)
            progress("sealed")
            os.rename(stage, final)
            sync_folder(folder)
        except BaseException:
            if stage.exists():
                remove_tree(stage)
            raise
        progress(f"promoted {version}")
        if not bundle.request.beside:
            point_current(folder, version)
            progress(f"current is {version}")
        return Published(version, layout.relative(final), True, files, bundle.digest, before, note)


def _refuse_withdrawn(bundle: Bundle, folder: Path, numbers: list[int]) -> None:
    for number in numbers:
        version = folder / version_name(number)
        notice = withdrawal_of(version)
        if notice and bundle_of(version).get("digest") == bundle.digest:
            raise WithdrawnContentError(
                f"{version} has exactly this content and was withdrawn by {notice.author}: {notice.reason}",
                "correct the cause and process the night again; the same content is not published twice.",
            )


def _already(bundle: Bundle, found: Path, before: str | None, layout: Layout, progress: Progress) -> Published:
    note = f"{found.name} already has this content; nothing was written."
    if notice := supersession_of(found, layout):
        note += f" It stays superseded by {notice.by} ({notice.author}: {notice.reason})."
    elif not bundle.request.beside:
        if before != found.name:
            point_current(found.parent, found.name)
            note = f"{found.name} had been promoted, but `current` did not point to it; now it does."
        take_up(found, bundle.request.published_by, bundle.request.reason or "published again")
    progress(note)
    listed = bundle_of(found)["files"]
    files = tuple(PublishedFile(name, f["sha256"], f["size"]) for name, f in sorted(listed.items()))
    return Published(found.name, layout.relative(found), False, files, bundle.digest, None, note)


def _stage(bundle: Bundle, stage: Path, version: str, progress: Progress) -> tuple[PublishedFile, ...]:
    stage.mkdir(mode=0o700)
    progress("staging")
    files: list[PublishedFile] = []
    for item in bundle.copied:
        _copy(item, stage / item.name)
        files.append(PublishedFile(item.name, item.sha256, item.size))
        progress(f"copied {item.name}")
    for name, content in sorted(bundle.written.items()):
        files.append(_write(stage / name, content))
    request = bundle.request
    now = datetime.now(timezone.utc).isoformat(timespec="seconds")
    readme = texts.readme(request, version, now, files).encode()
    software: dict[str, set[str]] = defaultdict(set)
    for manifest in bundle.manifests:
        for package, number in manifest.versions.items():
            software[package].add(number)
    citation = texts.citation(request, version, now, bundle.digest, software).encode()
    files += [_write(stage / model.README, readme), _write(stage / model.CITATION, citation)]
    files.sort(key=lambda f: f.name)
    document = texts.bundle_json(request, version, now, bundle.digest, files)
    described = _write(stage / model.BUNDLE, document.encode())
    _write(stage / model.CHECKSUMS, texts.checksums([*files, described]).encode())
    progress("written")
    return tuple(files)


def _copy(item: CopiedFile, target: Path) -> None:
    """Copy a file, comparing what was read with its manifest: a link would share its modes and its fate."""
    digest = hashlib.sha256()
    with item.source.open("rb") as source, target.open("xb") as stream:
        while chunk := source.read(_CHUNK):
            digest.update(chunk)
            stream.write(chunk)
        stream.flush()
        os.fsync(stream.fileno())
    if digest.hexdigest() != item.sha256:
        raise DataError(
            f"{item.source} has not the content that its manifest records "
            f"({digest.hexdigest()[:12]}, recorded {item.sha256[:12]}).",
            "remove it, run its step again, and check the disk.",
        )


def _write(path: Path, content: bytes) -> PublishedFile:
    with path.open("xb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
    return PublishedFile(path.name, hashlib.sha256(content).hexdigest(), len(content))


def _verify(stage: Path) -> None:
    """Read the staged version again as a stranger would.

    Raises
    ------
    ProductInvalid
        If a digest differs, a file is missing or foreign, or the index is not that of the files.
    """
    if found := problems(stage):
        raise ProductInvalid(f"{stage}: {'; '.join(found)}.", "publish again; if it happens twice, check the disk.")
    content = read_index((stage / model.HDU_INDEX).read_bytes(), (stage / model.OBS_INDEX).read_bytes())
    check_index(content, sorted(stage.glob("dl3_*")))


def _seal(stage: Path) -> None:
    """Make it read-only and durable."""
    for path in stage.iterdir():
        path.chmod(0o440)
    stage.chmod(0o550)
    sync_folder(stage)
