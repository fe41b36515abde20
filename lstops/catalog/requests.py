"""Requests for productions in the catalogue."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import select
from sqlalchemy.orm import Session

from lstops.catalog.database import one_at_a_time
from lstops.catalog.tables import ProductionRequestRow, ProductionRow
from lstops.nsb.finder import RunNsb
from lstops.nsb.request import LevelRequest, group_requests
from lstops.nsb.tailcuts import Tailcut
from lstops.production.reuse import SAME_LEVEL_GHZ

OPEN, DONE = "open", "done"


def production_requests(
    session: Session, line: str | None = None, version: str | None = None, status: str | None = OPEN
) -> list[ProductionRequestRow]:
    """Requests, by line and level."""
    order = (ProductionRequestRow.line, ProductionRequestRow.level_ghz, ProductionRequestRow.id)
    query = select(ProductionRequestRow).order_by(*order)
    for column, value in (
        (ProductionRequestRow.line, line),
        (ProductionRequestRow.lstchain_version, version),
        (ProductionRequestRow.status, status),
    ):
        if value is not None:
            query = query.where(column == value)
    return list(session.scalars(query))


def file_requests(
    session: Session, line: str, version: str, waiting: Iterable[RunNsb], tolerance_ghz: float
) -> list[ProductionRequestRow]:
    """File requests for runs that no production fits; filing again changes nothing.

    Returns
    -------
    list of ProductionRequestRow
        Those that are new or serve more runs now.
    """
    # two nights that file at the same moment wait for each other here: one level, one request
    one_at_a_time(session, "production requests")
    rows = {_level(row): row for row in production_requests(session, line, version)}
    filed = []
    for request in group_requests(waiting, list(rows), tolerance_ghz):
        row = next((row for key, row in rows.items() if _same(key, request)), None)
        if row is None:
            row = ProductionRequestRow(
                line=line, lstchain_version=version, tailcut=request.tailcut.directory, level_ghz=request.level_ghz,
                runs=[], status=OPEN,
            )  # fmt: skip
            session.add(row)
        row.runs = sorted({*row.runs, *request.runs})
        filed.append(row)
    session.flush()
    return filed


def close_requests(session: Session, production: ProductionRow, tolerance_ghz: float) -> list[ProductionRequestRow]:
    """Requests that a production answers are done."""
    one_at_a_time(session, "production requests")
    closed = []
    for row in production_requests(session, production.line, production.lstchain_version):
        near = abs(row.level_ghz - production.nsb_level_ghz) <= tolerance_ghz
        if near and row.tailcut == production.tailcut:
            row.status, row.production = DONE, production.name
            closed.append(row)
    session.flush()
    return closed


def _level(row: ProductionRequestRow) -> LevelRequest:
    return LevelRequest(row.level_ghz, Tailcut.parse(row.tailcut), tuple(row.runs))


def _same(one: LevelRequest, other: LevelRequest) -> bool:
    return one.tailcut == other.tailcut and abs(one.level_ghz - other.level_ghz) < SAME_LEVEL_GHZ
