"""Products, lineage and published versions filled anew from the manifests and the published folders."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from sqlalchemy import delete, func, select, text
from sqlalchemy.orm import Session

from lstops.catalog.bundles import record_version
from lstops.catalog.products import record_manifests
from lstops.catalog.tables import OverlayRow, ProductRow
from lstops.errors import DataError, LstOpsError
from lstops.publish import model
from lstops.publish.model import VersionInfo
from lstops.publish.versions import bundle_of, list_versions, version_folders
from lstops.quality.overlay import OverlayAction
from lstops.site.layout import Layout
from lstops.step.manifest import ManifestStore

Progress = Callable[[str], None]


@dataclass(frozen=True)
class RebuiltProducts:
    """What was found.

    Attributes
    ----------
    before : int
        Products that the catalogue knew before.
    skipped : tuple of str
        What could not be read, and why.
    """

    before: int
    products: int
    versions: int
    skipped: tuple[str, ...]


def rebuild_products(session: Session, layout: Layout, progress: Progress) -> RebuiltProducts:
    """Replace products and lineage within the session's transaction: a kill leaves what was there.

    Others may read meanwhile (they see the old content) and wait with writing.

    Raises
    ------
    DataError
        If there is not one manifest, though the catalogue knows products.
    """
    # The lock comes before the reading: a step that ends meanwhile is registered after us, not lost between.
    session.execute(text("LOCK TABLE product, lineage IN SHARE ROW EXCLUSIVE MODE"))
    before = session.scalar(select(func.count()).select_from(ProductRow)) or 0
    store = ManifestStore(layout.manifests)
    progress("reading manifests")
    unreadable: list[OSError] = []
    manifests = [*store.history(unreadable), *store.all(unreadable)]
    if before and not manifests:
        raise DataError(
            f"{layout.manifests} holds no manifest, the catalogue {before} products.",
            "check LSTOPS_SITE and whether the site's base is mounted; nothing was changed.",
        )
    session.execute(delete(ProductRow))
    session.expunge_all()
    products = record_manifests(session, manifests)
    progress(f"{products} products")
    found, skipped = _versions(layout)
    versions = 0
    for version in found:
        try:
            if not version.digest:
                raise DataError(f"{model.BUNDLE} cannot be read.", "see `lstops audit`.")
            # a damaged version takes nothing with it but itself
            with session.begin_nested():
                versions += record_version(session, layout, version)
        except (LstOpsError, OSError) as error:
            skipped.append(f"{version.path}: {error}")
    skipped += _told(unreadable)
    progress(f"{versions} versions")
    return RebuiltProducts(before, products, versions, tuple(skipped))


def _versions(layout: Layout) -> tuple[list[VersionInfo], list[str]]:
    """All published versions, and the folders that cannot be read, with the reason."""
    found: list[VersionInfo] = []
    skipped, unreadable = [], list[OSError]()
    for folder in version_folders(layout, unreadable):
        try:
            found += list_versions(folder, layout)
        except (LstOpsError, OSError) as error:
            skipped.append(f"{folder}: {error}")
    return found, [*skipped, *_told(unreadable)]


def _told(unreadable: Iterable[OSError]) -> Iterable[str]:
    """Each file and folder once, however often it was looked at."""
    return dict.fromkeys(f"{error.filename}: {error.strerror}" for error in unreadable)


def restore_decisions(session: Session, layout: Layout) -> tuple[int, tuple[str, ...]]:
    """Take people's decisions about runs from the published versions; those that are known stay as they are.

    For each run the version that was published last and tells of it counts: what was revoked before is not in it. Only
    what was exported with a bundle can come back.

    Returns
    -------
    int
        Number of decisions that were not known.
    tuple of str
        What could not be used, and why.
    """
    known = {
        (row.run_id, row.action, row.author, row.reason, row.created_at) for row in session.scalars(select(OverlayRow))
    }
    versions, skipped = _versions(layout)
    told: set[int] = set()
    restored = 0
    for version in sorted(versions, key=lambda v: (v.published_at, v.path), reverse=True):
        path = layout.absolute(version.path) / model.DECISIONS
        try:
            rows = [_overlay(item) for item in json.loads(path.read_text())]
        except (OSError, ValueError, KeyError, TypeError) as error:
            skipped.append(f"{layout.relative(path)}: {error}")
            continue
        for row in rows:
            key = (row.run_id, row.action, row.author, row.reason, row.created_at)
            if row.run_id not in told and key not in known:
                known.add(key)
                session.add(row)
                restored += 1
        told |= {row.run_id for row in rows} | set(bundle_of(path.parent).get("runs", ()))
    session.flush()
    return restored, tuple(skipped)


def _overlay(item: dict[str, Any]) -> OverlayRow:
    made = datetime.fromisoformat(item["created_at"].replace("Z", "+00:00")).astimezone(timezone.utc)
    action = OverlayAction(item["action"]).value
    text_of = {name: str(item[name]) for name in ("author", "reason")}
    subruns = [int(subrun) for subrun in item["subruns"]]
    return OverlayRow(run_id=int(item["run_id"]), action=action, subruns=subruns, created_at=made, **text_of)
