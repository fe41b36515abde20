"""What the catalogue holds, without what only numbers rows or tells when they were written."""

from __future__ import annotations

from typing import Any

from sqlalchemy import select

from lstops.catalog.database import catalog_session
from lstops.catalog.tables import LineageRow, NightRow, ProductRow, RunRow, VerdictRow

Dump = dict[str, list[tuple[Any, ...]]]


def derivable() -> Dump:
    """Products and lineage, in order."""
    columns = [c for c in ProductRow.__table__.columns if c.name != "id"]
    with catalog_session() as session:
        products = session.execute(select(*columns)).all()
        lineage = session.execute(
            select(
                ProductRow.path,
                ProductRow.sha256,
                LineageRow.input_path,
                LineageRow.input_sha256,
                LineageRow.input_kind,
            ).join(LineageRow, LineageRow.product_id == ProductRow.id)
        ).all()
    return {
        "product": sorted((tuple(row) for row in products), key=str),
        "lineage": sorted((tuple(row) for row in lineage), key=str),
    }


def of_nights() -> Dump:
    """Nights, runs and verdicts, in order, without when they were ingested and judged."""
    found = {}
    with catalog_session() as session:
        for table in (NightRow, RunRow, VerdictRow):
            columns = [c for c in table.__table__.columns if c.name not in ("ingested_at", "judged_at")]
            found[table.__tablename__] = sorted((tuple(row) for row in session.execute(select(*columns))), key=str)
    return found
