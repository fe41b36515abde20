"""Audit of a site: files against manifests, manifests against catalogue, published versions against their digests.

It reads and tells; it never removes, repairs or records anything.
"""

from __future__ import annotations

import fcntl
import hashlib
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from sqlalchemy import select

from lstops.catalog.database import catalog_session
from lstops.catalog.products import BUNDLE, CANDIDATE, CURRENT
from lstops.catalog.tables import ProductRow
from lstops.errors import ConfigError, LstOpsError
from lstops.operations.nightly import layout_of
from lstops.publish.audit import audit_published
from lstops.publish.findings import Code, Finding, cannot_read, guarded
from lstops.publish.model import VersionInfo
from lstops.publish.versions import list_versions, version_folders, version_numbers
from lstops.site.layout import Layout
from lstops.site.model import Site
from lstops.step.manifest import RETIRED, ArtifactRecord, FileState, Manifest, ManifestStore, full_state, quick_state
from lstops.walk import walk

#: part of the files whose content is read in a daily audit; another part every day
SHARE = 0.05
#: what was changed less than this ago (s) may be work in progress
GRACE_S = 3600.0
_RUN_AGAIN = "run its plan again: what is not up to date is made anew."
_FOREIGN_LINK = f"find out who put the link there, remove it, then {_RUN_AGAIN}"
_REBUILD = "run `lstops catalog rebuild`."


@dataclass(frozen=True)
class AuditReport:
    """What an audit found.

    Attributes
    ----------
    n_products, n_versions, n_read : int
        What was looked at, and of how many products and versions the content was read.
    """

    findings: tuple[Finding, ...]
    n_products: int
    n_versions: int
    n_read: int

    def text(self) -> str:
        """For the log and the web page."""
        looked = f"{self.n_products} products and {self.n_versions} versions, {self.n_read} read to the last byte"
        if not self.findings:
            return f"nothing found in {looked}"
        counts = Counter(finding.code.value for finding in self.findings)
        lines = [f"{len(self.findings)} finding(s) in {looked}: {', '.join(f'{n} {c}' for c, n in counts.items())}"]
        lines += [f"{f.code.value}: {f.path}: {f.what}. Remedy: {f.remedy}" for f in self.findings]
        return "\n".join(lines)


class _Reader:
    """Decides what is read in full, and counts it."""

    def __init__(self, full: bool, share: float, day: str) -> None:
        self.full, self.share, self.day = full, share, day
        self.n_read = 0

    def chosen(self, path: str) -> bool:
        digest = hashlib.sha256(f"{self.day} {path}".encode()).digest()
        chosen = self.full or int.from_bytes(digest[:4], "big") < self.share * 2**32
        self.n_read += chosen
        return chosen


def audit_site(
    site: Site, *, full: bool = False, catalogue: bool = True, share: float = SHARE, grace_s: float = GRACE_S
) -> AuditReport:
    """Look at everything that lstops made at a site.

    Parameters
    ----------
    full : bool
        Read the content of every file, not of a part.
    catalogue : bool
        Compare with the catalogue too.
    share : float
        Part (0 to 1) of the files that is read if not `full`; which ones changes from day to day.
    grace_s : float
        Files younger than this are not called left behind.
    """
    layout = layout_of(site)
    reader = _Reader(full, share, datetime.now(timezone.utc).strftime("%Y%m%d"))
    oldest = time.time() - grace_s

    def is_old(path: Path) -> bool:
        try:
            return path.lstat().st_mtime <= oldest
        except FileNotFoundError:
            return False

    unreadable: list[OSError] = []
    manifests = ManifestStore(layout.manifests).all(unreadable)
    findings = [cannot_read(f"{layout.work}/manifests", layout, error) for error in unreadable]
    findings += _manifest_files(layout, manifests, is_old)
    findings += _products(layout, manifests, reader)
    findings += _sources(layout, manifests)
    if not unreadable:  # what they tell of is not known: nothing is called useless for want of them
        findings += guarded(layout.work, layout, _unfinished(layout, manifests, is_old))
    findings += guarded(layout.relative(layout.staging), layout, _staging(layout, is_old))
    findings += audit_published(layout, reader.chosen, is_old)
    if catalogue:
        findings += _catalogue(layout, manifests, whole=not unreadable)
    folders = version_folders(layout, unreadable=[])
    versions = sum(len(version_numbers(layout.absolute(folder))) for folder in folders)
    n_products = sum(len(m.outputs) for m in manifests)
    return AuditReport(tuple(sorted(set(findings))), n_products, versions, reader.n_read)


def _differs(path: Path, state: FileState, whole: bool) -> str:
    """How a file or folder differs from its recorded state; empty if it does not."""
    size, mtime_ns = quick_state(path)
    if size != state.size:
        return f"has {size} bytes, {state.size} were recorded"
    if (whole or mtime_ns != state.mtime_ns) and (digest := full_state(path).sha256) != state.sha256:
        return f"has other content than recorded ({digest[:12]}, recorded {state.sha256[:12]})"
    return ""


def _inside(layout: Layout, path: str) -> Path | None:
    """Absolute path; None if a symbolic link on the way leads out of the base: what lies there is not ours to read."""
    try:
        return layout.absolute(path)
    except ConfigError:
        return None


def _products(layout: Layout, manifests: Collection[Manifest], reader: _Reader) -> Iterator[Finding]:
    for manifest in manifests:
        for output in manifest.outputs:
            yield from guarded(output.path, layout, _product(layout, manifest.label, output, reader))


def _product(layout: Layout, label: str, output: ArtifactRecord, reader: _Reader) -> Iterator[Finding]:
    path = _inside(layout, output.path)
    if path is None:
        yield Finding(Code.CHANGED, output.path, "is a link that leads outside the site's base", _FOREIGN_LINK)
    elif not path.exists():
        yield Finding(Code.MISSING, output.path, f"is gone ({label})", _RUN_AGAIN)
    elif said := _differs(path, output.state, reader.chosen(output.path)):
        remedy = f"find out who changed it, remove it, then {_RUN_AGAIN}"
        yield Finding(Code.CHANGED, output.path, said, remedy)


def _sources(layout: Layout, manifests: Collection[Manifest]) -> Iterator[Finding]:
    """Inputs that no step made (DL1 of lstosa, simulation) and that are others now."""
    made = {output.path for manifest in manifests for output in manifest.outputs}
    inputs: dict[tuple[str, str], tuple[ArtifactRecord, list[str]]] = {}
    for manifest in manifests:
        for record in manifest.inputs:
            if record.path not in made:
                inputs.setdefault((record.path, record.state.sha256), (record, []))[1].append(manifest.label)
    for record, users in inputs.values():
        yield from guarded(record.path, layout, _source(layout, record, users))


def _source(layout: Layout, record: ArtifactRecord, users: Sequence[str]) -> Iterator[Finding]:
    path = _inside(layout, record.path)
    if path is not None and path.exists() and (said := _differs(path, record.state, whole=False)):
        what = f"{said} when it was used for {users[0]}" + (f" and {len(users) - 1} more" if users[1:] else "")
        yield Finding(Code.STALE, record.path, what, _RUN_AGAIN)


def _manifest_files(
    layout: Layout, manifests: Collection[Manifest], is_old: Callable[[Path], bool]
) -> Iterator[Finding]:
    store = ManifestStore(layout.manifests)
    readable = {store.path_of(manifest.outputs[0].path) for manifest in manifests}
    # folders that cannot be read are findings already
    for here, _, names in walk(layout.manifests, unreadable=[]):
        for path in (here / name for name in names):
            if not path.name.startswith("."):
                yield from guarded(layout.relative(path), layout, _manifest_file(path, layout, readable))
            elif is_old(path):
                yield Finding(Code.LEFTOVER, layout.relative(path), "is the rest of a dead writer", "remove it.")


def _manifest_file(path: Path, layout: Layout, readable: Collection[Path]) -> Iterator[Finding]:
    relative = layout.relative(path)
    if path in readable or path.suffix == RETIRED:
        return
    if path.suffix not in (".json", ".link"):
        yield Finding(Code.FOREIGN, relative, "is no manifest", "move it away.")
        return
    # read again, so that a disk that fails is not taken for a damaged manifest
    content = path.read_bytes().decode(errors="replace")
    if path.suffix == ".json":
        what = "cannot be read as a manifest of the product it lies under"
        yield Finding(Code.UNREADABLE, relative, what, "remove it; " + _RUN_AGAIN)
    elif ManifestStore(layout.manifests).path_of(content) not in readable:
        what = f"points to the manifest of {content!r}, which is gone"
        yield Finding(Code.UNREADABLE, relative, what, _RUN_AGAIN)


def _unfinished(layout: Layout, manifests: Collection[Manifest], is_old: Callable[[Path], bool]) -> Iterator[Finding]:
    """Files in the trees of lstops that no finished step made or used."""
    made = {layout.base / record.path for m in manifests for record in (*m.outputs, *m.inputs)}
    for tree in own_trees(layout, manifests):
        yield from guarded(tree, layout, _unfinished_below(tree, layout, made, is_old))


def _unfinished_below(
    tree: str, layout: Layout, made: Collection[Path], is_old: Callable[[Path], bool]
) -> Iterator[Finding]:
    unreadable: list[OSError] = []
    for here, names, files in walk(layout.absolute(tree), unreadable):
        # a folder that a step made is compared as a whole
        names[:] = [n for n in names if here / n not in made]
        for name in files:
            if here / name not in made and is_old(here / name):
                what = "was made or used by no finished step"
                remedy = "remove it if no job is writing it; run its plan again if it is needed."
                yield Finding(Code.UNFINISHED, layout.relative(here / name), what, remedy)
    yield from (cannot_read(tree, layout, error) for error in unreadable)


def own_trees(layout: Layout, manifests: Collection[Manifest]) -> tuple[str, ...]:
    """Folders below which only lstops writes (beside DL3/): DL3 in the making, also again, and its productions."""
    names = {m.plan_context["production"] for m in manifests if m.plan_context.get("production")}
    again = _children(layout.absolute(f"{layout.work}/reprocessing"))
    trees = [f"{layout.work}/dl3", *(f"{layout.relative(folder)}/dl3" for folder in again if folder.is_dir())]
    for name in sorted(names):
        trees += [f"{root}/AllSky/{name}" for root in ("models", "mc/DL1", "mc/DL2", "mc/IRF")]
    return tuple(trees)


def _children(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _staging(layout: Layout, is_old: Callable[[Path], bool]) -> Iterator[Finding]:
    for path in _children(layout.staging):
        if is_old(path) and not _held(layout.locks / f"{path.name.split('-')[0]}.lock"):
            what = "was left behind by a step that died"
            yield Finding(
                Code.LEFTOVER, layout.relative(path), what, "remove it; the next attempt of the step does too."
            )


def _held(lock: Path) -> bool:
    """Whether a running step holds its lock."""
    try:
        with lock.open("r+") as stream:
            fcntl.lockf(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def _catalogue(layout: Layout, manifests: Collection[Manifest], whole: bool) -> Iterator[Finding]:
    """Files against catalogue; `whole`: all manifests could be read."""
    with catalog_session() as session:
        rows = session.execute(select(ProductRow.path, ProductRow.sha256, ProductRow.kind, ProductRow.status)).all()
    recorded = {(row.path, row.sha256) for row in rows}
    present = {(o.path, o.state.sha256): m.label for m in manifests for o in m.outputs}
    for (path, digest), label in present.items():
        if (path, digest) not in recorded:
            what = f"has a manifest ({label}) that the catalogue does not know"
            yield Finding(Code.UNRECORDED, path, what, "run the DAG that made it to its end, or " + _REBUILD)
    versions = {v.path: v for folder in version_folders(layout, unreadable=[]) for v in _versions(folder, layout)}
    for row in rows:
        if row.kind == BUNDLE and row.path not in versions and _is_there(layout.base / row.path):
            continue  # its folder cannot be read, which is a finding of its own
        if row.kind == BUNDLE:
            yield from _version_row(row.path, row.sha256, row.status, versions)
        elif whole and row.status in (CANDIDATE, CURRENT) and (row.path, row.sha256) not in present:
            what = f"is {row.status} in the catalogue, but no manifest tells of this content ({row.sha256[:12]})"
            yield Finding(Code.UNKNOWN, row.path, what, _REBUILD)
    for path in sorted(set(versions) - {row.path for row in rows if row.kind == BUNDLE}):
        yield Finding(Code.UNRECORDED, path, "is published, but the catalogue does not know it", _REBUILD)


def _versions(folder: str, layout: Layout) -> tuple[VersionInfo, ...]:
    try:
        return list_versions(folder, layout)
    except (LstOpsError, OSError):
        return ()  # its pointer is broken or a notice cannot be read, which is a finding of its own


def _is_there(path: Path) -> bool:
    """Whether something is there, or may be: what cannot be looked at is not called gone."""
    try:
        path.lstat()
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return True


def _version_row(path: str, digest: str, status: str, versions: dict[str, VersionInfo]) -> Iterator[Finding]:
    version = versions.get(path)
    if version is None:
        remedy = "restore it from a backup: a published version is never deleted."
        yield Finding(Code.MISSING, path, f"was published ({status}) and is gone", remedy)
    elif version.digest != digest:
        what = f"describes other content ({version.digest[:12] or 'none'}) than was published ({digest[:12]})"
        yield Finding(Code.DAMAGED, path, what, "publish the night again: a damaged version is superseded.")
    elif version.state.value != status:
        what = f"is {version.state.value}, the catalogue says {status}"
        yield Finding(Code.STATUS, path, what, "run the same command again, or " + _REBUILD)
