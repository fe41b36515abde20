"""Products and their lineage in the catalogue, taken from manifests."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import and_, any_, delete, exists, func, literal, literal_column, or_, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session, aliased

from lstops.catalog.tables import LineageRow, ProductRow
from lstops.night import Night
from lstops.step.manifest import ArtifactRecord, Manifest

CANDIDATE, CURRENT, SUPERSEDED, WITHDRAWN = "candidate", "current", "superseded", "withdrawn"
#: in a version that is published to be compared with the current one
BESIDE = "beside"
#: kind of a published version; its lineage are the products in it
BUNDLE = "bundle"
_BATCH = 500
_LINEAGE_BATCH = 5000


@dataclass(frozen=True)
class NewProduct:
    """A product as it is stored, with (path, sha256, kind) of what it was made from."""

    values: Mapping[str, Any]
    made_from: tuple[tuple[str, str, str], ...]

    @property
    def key(self) -> tuple[str, str]:
        """Path and content."""
        return self.values["path"], self.values["sha256"]


def record_manifests(session: Session, manifests: Iterable[Manifest]) -> int:
    """Store the outputs of manifests and what they were made from.

    Returns
    -------
    int
        Number of products that were not known before. Recording again changes nothing.
    """
    return record_products(session, (_product(m, output) for m in manifests for output in m.outputs))


def record_products(session: Session, products: Iterable[NewProduct]) -> int:
    """Store products and their lineage; of one content made twice, the later making counts.

    An older content of the same path that was never published is superseded.
    """
    latest: dict[tuple[str, str], NewProduct] = {}
    for product in products:
        known = latest.get(product.key)
        if known is None or known.values["made_at"] <= product.values["made_at"]:
            latest[product.key] = product
    new = 0
    # in one order, whoever stores: two transactions with the same products would wait for each other for ever
    found = sorted(latest.values(), key=lambda product: product.key)
    for start in range(0, len(found), _BATCH):
        new += _store(session, found[start : start + _BATCH])
    return new


def _store(session: Session, batch: Sequence[NewProduct]) -> int:
    statement = insert(ProductRow).values([dict(p.values) for p in batch])
    taken = statement.excluded
    changed = {name: taken[name] for name in ("step_key", "plan_id", "made_at", "night", "run_id", "production")}
    rows: Sequence[Any] = session.execute(
        statement.on_conflict_do_update(
            index_elements=["path", "sha256"], set_=changed, where=taken.made_at > ProductRow.made_at
        ).returning(ProductRow.id, ProductRow.path, ProductRow.sha256, literal_column("xmax = 0"))
    ).all()
    ids = {(path, sha256): product_id for product_id, path, sha256, _ in rows}
    if old := [product_id for product_id, _, _, is_new in rows if not is_new]:
        session.execute(delete(LineageRow).where(LineageRow.product_id.in_(old)))
    links = [
        {"product_id": ids[p.key], "input_path": path, "input_sha256": sha256, "input_kind": kind}
        for p in batch
        if p.key in ids
        for path, sha256, kind in dict.fromkeys(p.made_from)
    ]
    for start in range(0, len(links), _LINEAGE_BATCH):
        part = insert(LineageRow).values(links[start : start + _LINEAGE_BATCH])
        session.execute(part.on_conflict_do_nothing())
    _supersede_older(session, [path for path, _ in ids])
    return sum(is_new for *_, is_new in rows)


def _supersede_older(session: Session, paths: Sequence[str]) -> None:
    newer = aliased(ProductRow)
    is_older = exists().where(newer.path == ProductRow.path, newer.made_at > ProductRow.made_at)
    for known, status, older in ((CANDIDATE, SUPERSEDED, is_older), (SUPERSEDED, CANDIDATE, ~is_older)):
        session.execute(
            update(ProductRow)
            .where(ProductRow.path.in_(paths), ProductRow.status == known, ProductRow.published_at.is_(None), older)
            .values(status=status)
            .execution_options(synchronize_session="fetch")
        )


def _product(manifest: Manifest, output: ArtifactRecord) -> NewProduct:
    context = manifest.plan_context
    run_id = _run_of(manifest.subject)
    # a night's plan names the production by run, that of a request the night too; a production's plan is about one
    by_run = context.get("runs", {}).get(str(run_id), {})
    night = context.get("night") or by_run.get("night")
    return NewProduct(
        {
            "path": output.path,
            "kind": output.kind.value,
            "sha256": output.state.sha256,
            "size": output.state.size,
            "step_key": manifest.key,
            "plan_id": manifest.plan_id,
            "night": Night.parse(night).date if night else None,
            "run_id": run_id,
            "production": context.get("production") or by_run.get("production"),
            "status": CANDIDATE,
            "facts": output.facts,
            "made_at": datetime.fromisoformat(manifest.ended),
        },
        tuple((item.path, item.state.sha256, item.kind.value) for item in manifest.inputs),
    )


def _run_of(subject: str) -> int | None:
    word, _, number = subject.partition(" ")
    return int(number) if word == "run" and number.isdigit() else None


def known_productions(session: Session) -> list[str]:
    """Names of all productions that products are of, those of a version of several apart."""
    names = session.scalars(select(ProductRow.production).where(ProductRow.production.is_not(None)).distinct())
    return sorted({name for several in names for name in str(several).split(", ")})


def products(
    session: Session,
    kind: str | None = None,
    run_id: int | None = None,
    night: Night | None = None,
    *,
    production: str | None = None,
    status: str | None = None,
    ids: Collection[int] | None = None,
    limit: int | None = None,
) -> list[ProductRow]:
    """Products, the newest first."""
    query = select(ProductRow).order_by(ProductRow.made_at.desc(), ProductRow.path).limit(limit)
    wanted = {"kind": kind, "run_id": run_id, "status": status}
    for column, value in wanted.items():
        if value is not None:
            query = query.where(getattr(ProductRow, column) == value)
    if production is not None:
        # a version may be of several, which the list of its folder names one after the other
        several = and_(
            ProductRow.kind == BUNDLE, literal(production) == any_(func.string_to_array(ProductRow.production, ", "))
        )
        query = query.where(or_(ProductRow.production == production, several))
    if night is not None:
        query = query.where(ProductRow.night == night.date)
    if ids is not None:
        query = query.where(ProductRow.id == func.any(sorted(ids)))
    return list(session.scalars(query))
