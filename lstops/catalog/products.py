"""Products and their lineage in the catalogue, taken from manifests."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone

from sqlalchemy import select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from lstops.catalog.tables import LineageRow, ProductionRow, ProductRow
from lstops.errors import DataError
from lstops.night import Night
from lstops.step.manifest import ArtifactRecord, Manifest

CANDIDATE, CURRENT, SUPERSEDED, WITHDRAWN = "candidate", "current", "superseded", "withdrawn"


def record_manifests(session: Session, manifests: Iterable[Manifest]) -> int:
    """Store the outputs of manifests and what they were made from.

    Returns
    -------
    int
        Number of products that were not known before. Recording again changes nothing.
    """
    new = 0
    for manifest in manifests:
        for output in manifest.outputs:
            new += _record(session, manifest, output)
    return new


def _record(session: Session, manifest: Manifest, output: ArtifactRecord) -> int:
    context = manifest.plan_context
    night = context.get("night")
    statement = insert(ProductRow).values(
        path=output.path,
        kind=output.kind.value,
        sha256=output.state.sha256,
        size=output.state.size,
        step_key=manifest.key,
        plan_id=manifest.plan_id,
        night=Night.parse(night).date if night else None,
        run_id=_run_of(manifest.subject),
        production=context.get("production"),
        status=CANDIDATE,
        facts=output.facts,
        made_at=datetime.fromisoformat(manifest.ended),
    )
    product_id = session.scalar(
        statement.on_conflict_do_nothing(index_elements=["path", "sha256"]).returning(ProductRow.id)
    )
    if product_id is None:
        return 0
    for item in manifest.inputs:
        session.add(
            LineageRow(
                product_id=product_id, input_path=item.path, input_sha256=item.state.sha256, input_kind=item.kind.value
            )
        )
    session.flush()
    return 1


def _run_of(subject: str) -> int | None:
    word, _, number = subject.partition(" ")
    return int(number) if word == "run" and number.isdigit() else None


def mark_published(session: Session, paths: Sequence[str]) -> None:
    """Products at these paths are published now; others of the same paths are superseded."""
    for path in paths:
        rows = session.scalars(
            select(ProductRow).where(ProductRow.path == path).order_by(ProductRow.made_at.desc())
        ).all()
        if not rows:
            raise DataError(f"the catalogue has no product {path}.", "record its manifest first.")
        newest, *others = rows
        newest.status = CURRENT
        newest.published_at = newest.published_at or datetime.now(timezone.utc)
        for other in others:
            other.status = SUPERSEDED


def products(
    session: Session, kind: str | None = None, run_id: int | None = None, night: Night | None = None
) -> list[ProductRow]:
    """Products, the newest first."""
    query = select(ProductRow).order_by(ProductRow.made_at.desc(), ProductRow.path)
    if kind:
        query = query.where(ProductRow.kind == kind)
    if run_id is not None:
        query = query.where(ProductRow.run_id == run_id)
    if night is not None:
        query = query.where(ProductRow.night == night.date)
    return list(session.scalars(query))


@dataclass(frozen=True)
class RegisteredProduction:
    """A production as it is registered."""

    name: str
    line: str
    lstchain_version: str
    tailcut: str
    nsb_level_ghz: float
    models_path: str
    models_sha256: str
    irf_dir: str
    config: dict[str, object]
    facts: dict[str, object]
    plan_id: str


def register_production(session: Session, production: RegisteredProduction) -> None:
    """Register a production as current; the same name again replaces the record (its products keep their history)."""
    values = {name: getattr(production, name) for name in production.__dataclass_fields__}
    values["status"] = CURRENT
    statement = insert(ProductionRow).values(**values)
    rest = {k: v for k, v in values.items() if k not in ("name", "line")}
    session.execute(statement.on_conflict_do_update(index_elements=["name", "line"], set_=rest))


def current_productions(session: Session, line: str | None = None) -> list[ProductionRow]:
    """Registered productions that may be used."""
    query = select(ProductionRow).where(ProductionRow.status == CURRENT).order_by(ProductionRow.nsb_level_ghz)
    return list(session.scalars(query.where(ProductionRow.line == line) if line else query))


def set_production_status(session: Session, name: str, status: str) -> None:
    """Change the status of a production on all its lines."""
    session.execute(update(ProductionRow).where(ProductionRow.name == name).values(status=status))
