"""Products, lineage and published versions filled anew from the manifests and the published folders."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone

from sqlalchemy import delete, func, select, text
from sqlalchemy.orm import Session

from lstops.catalog.bundles import record_versions
from lstops.catalog.products import record_manifests
from lstops.catalog.tables import OverlayRow, ProductRow
from lstops.errors import DataError, LstOpsError
from lstops.publish import model
from lstops.publish.versions import list_versions, version_folders
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
    manifests = [*store.history(), *store.all()]
    if before and not manifests:
        raise DataError(
            f"{layout.manifests} holds no manifest, the catalogue {before} products.",
            "check LSTOPS_SITE and whether the site's base is mounted; nothing was changed.",
        )
    session.execute(delete(ProductRow))
    session.expunge_all()
    products = record_manifests(session, manifests)
    progress(f"{products} products")
    versions, skipped = 0, []
    for folder in version_folders(layout):
        try:
            with session.begin_nested():
                versions += record_versions(session, layout, folder)
        except LstOpsError as error:
            skipped.append(f"{folder}: {error}")
    progress(f"{versions} versions")
    return RebuiltProducts(before, products, versions, tuple(skipped))


def restore_decisions(session: Session, layout: Layout) -> int:
    """Take people's decisions about runs from the published versions; those that are known stay as they are.

    Only what was exported with a bundle can come back: decisions about runs that were never published are lost with the
    database, and a revocation after the publication is not in the bundle.

    Returns
    -------
    int
        Number of decisions that were not known.
    """
    known = {
        (row.run_id, row.action, row.author, row.reason, row.created_at) for row in session.scalars(select(OverlayRow))
    }
    restored = 0
    for folder in version_folders(layout):
        for version in list_versions(folder, layout):
            path = layout.absolute(version.path) / model.DECISIONS
            for item in json.loads(path.read_text()) if path.is_file() else []:
                made = datetime.fromisoformat(item["created_at"].replace("Z", "+00:00")).astimezone(timezone.utc)
                key = (item["run_id"], item["action"], item["author"], item["reason"], made)
                if key in known:
                    continue
                known.add(key)
                restored += 1
                names = ("run_id", "action", "author", "reason", "created_at")
                session.add(OverlayRow(subruns=item["subruns"], **dict(zip(names, key, strict=True))))
    session.flush()
    return restored
