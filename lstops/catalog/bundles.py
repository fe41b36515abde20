"""Published versions in the catalogue, as the folders tell of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from datetime import date, datetime
from typing import Any

from sqlalchemy import select, tuple_
from sqlalchemy.orm import Session

from lstops.catalog.products import (
    BESIDE,
    BUNDLE,
    CANDIDATE,
    CURRENT,
    SUPERSEDED,
    WITHDRAWN,
    NewProduct,
    record_manifests,
    record_products,
)
from lstops.catalog.tables import LineageRow, ProductRow
from lstops.night import Night
from lstops.publish import model
from lstops.publish.model import PublishedVersion, VersionInfo
from lstops.publish.provenance import manifests_in
from lstops.publish.versions import bundle_of, list_versions
from lstops.site.layout import Layout
from lstops.step.manifest import Manifest
from lstops.step.model import ArtifactKind

_IN_A_BUNDLE = (ArtifactKind.DL3, ArtifactKind.DL3_INDEX)


def record_versions(session: Session, layout: Layout, folder: str) -> int:
    """Store the versions of a folder with their state, and what that makes of the products in them.

    The folder is the truth: doing it again changes nothing, and what a dead process left out is caught up. Versions
    whose description is damaged keep what the catalogue says; `lstops audit` names them.

    Returns
    -------
    int
        Number of versions that were not known before.
    """
    return sum(record_version(session, layout, version) for version in list_versions(folder, layout) if version.digest)


def record_version(session: Session, layout: Layout, version: VersionInfo) -> int:
    """Store one version; how many were not known before."""
    new, document = 0, bundle_of(layout.absolute(version.path))
    query = select(ProductRow).where(ProductRow.path == version.path, ProductRow.sha256 == version.digest)
    known = session.scalar(query)
    if known is None:
        manifests = manifests_in(layout.absolute(version.path) / model.PROVENANCE)
        record_manifests(session, manifests)
        new = record_products(session, [_bundle(version, document, manifests)])
        session.flush()
        known = session.scalars(query).one()
    known.status, known.facts = version.state.value, _facts(version, document)
    session.flush()
    _update_contents(session, known.id)
    return new


def _bundle(version: VersionInfo, document: dict[str, Any], manifests: Collection[Manifest]) -> NewProduct:
    published_at = datetime.fromisoformat(version.published_at)
    made_from = sorted(
        (o.path, o.state.sha256, o.kind.value) for m in manifests for o in m.outputs if o.kind in _IN_A_BUNDLE
    )
    values = {
        "path": version.path,
        "kind": BUNDLE,
        "sha256": version.digest,
        "size": sum(f["size"] for f in document["files"].values()),
        "step_key": "",
        "plan_id": "",
        "night": _night(document["night"]),
        "run_id": None,
        "production": document["production"],
        "status": version.state.value,
        "facts": _facts(version, document),
        "made_at": published_at,
        "published_at": published_at,
    }
    return NewProduct(values, tuple(made_from))


def _night(text: str) -> date | None:
    """The bundle's night; None for a request over several ("20240115-20240131")."""
    return None if "-" in text else Night.parse(text).date


def _facts(version: VersionInfo, document: dict[str, Any]) -> dict[str, Any]:
    facts = {
        key: document.get(key) for key in ("night", "source", "profile", "cuts", "runs", "publication", "synthetic")
    }
    if notice := version.withdrawal:
        facts["withdrawn"] = {"author": notice.author, "reason": notice.reason, "at": notice.at}
    if replaced := version.supersession:
        facts["superseded"] = {
            "by": replaced.by, "author": replaced.author, "reason": replaced.reason, "at": replaced.at
        }  # fmt: skip
    return facts


def others_with(session: Session, path: str) -> list[tuple[ProductRow, int]]:
    """Other versions that may be used and hold runs of a version, with how many."""
    rows = session.scalars(select(ProductRow).where(ProductRow.kind == BUNDLE).order_by(ProductRow.path)).all()
    own = {run for row in rows if row.path == path for run in row.facts.get("runs") or ()}
    usable = [row for row in rows if row.path != path and row.status in (CURRENT, BESIDE)]
    found = [(row, len(own & set(row.facts.get("runs") or ()))) for row in usable]
    return [(row, shared) for row, shared in found if shared]


def status_of(states: Collection[str], is_newest: bool) -> str:
    """Status of a product that is in versions of these states.

    What is in a version that may be used is not withdrawn, whatever became of other versions.
    """
    for state in (CURRENT, BESIDE, SUPERSEDED, WITHDRAWN):
        if state in states:
            return state
    return CANDIDATE if is_newest else SUPERSEDED


def _update_contents(session: Session, bundle_id: int) -> None:
    links = session.execute(
        select(LineageRow.input_path, LineageRow.input_sha256).where(LineageRow.product_id == bundle_id)
    ).all()
    keys = [(path, sha256) for path, sha256 in links]
    states: dict[tuple[str, str], list[tuple[str, datetime | None]]] = defaultdict(list)
    for path, sha256, state, at in session.execute(
        select(LineageRow.input_path, LineageRow.input_sha256, ProductRow.status, ProductRow.published_at)
        .join(ProductRow, ProductRow.id == LineageRow.product_id)
        .where(ProductRow.kind == BUNDLE, tuple_(LineageRow.input_path, LineageRow.input_sha256).in_(keys))
    ):
        states[path, sha256].append((state, at))
    for row in session.scalars(
        select(ProductRow).where(ProductRow.kind != BUNDLE, tuple_(ProductRow.path, ProductRow.sha256).in_(keys))
    ):
        found = states[row.path, row.sha256]
        row.status = status_of([state for state, _ in found], is_newest=True)
        row.published_at = min(at for _, at in found if at is not None)
    session.flush()


def as_published(row: ProductRow, made_from: Collection[tuple[str, str, str]]) -> PublishedVersion:
    """A stored version as the provenance tells of it."""
    publication = row.facts.get("publication") or {}
    ended = row.facts.get("withdrawn") or row.facts.get("superseded") or {}
    return PublishedVersion(
        path=row.path,
        digest=row.sha256,
        state=row.status,
        published_at=row.made_at.isoformat(),
        author=publication.get("by") or "lstops",
        reason=publication.get("reason") or "",
        made_from=tuple(made_from),
        ended_at=ended.get("at", ""),
        ended_by=ended.get("author", ""),
        ended_reason=ended.get("reason", ""),
    )
