"""Verdicts in the catalogue."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from lstops.catalog.tables import VerdictRow
from lstops.night import Night
from lstops.quality.judge import CutResult, Verdict


def save_verdicts(session: Session, night: Night, profile_sha256: str, verdicts: Iterable[Verdict]) -> None:
    """Store what a profile says of the runs of a night, replacing what it said before."""
    for verdict in verdicts:
        values = {
            "profile_sha256": profile_sha256,
            "selected": verdict.selected,
            "reasons": list(verdict.reasons),
            "cuts": [_cut(result) for result in verdict.results],
        }
        key = {"night": night.date, "run_id": verdict.run_number, "profile": verdict.profile}
        statement = insert(VerdictRow).values(**key, **values)
        session.execute(statement.on_conflict_do_update(index_elements=list(key), set_=values))


def _cut(result: CutResult) -> dict[str, Any]:
    return {
        "cut": result.cut,
        "quantity": result.quantity,
        "value": result.value,
        "relation": result.relation.value,
        "limit": result.limit,
        "unit": result.unit,
        "margin": result.margin,
        "passed": result.passed,
        "reason": result.reason,
    }


def verdicts(session: Session, night: Night, profile: str) -> dict[int, VerdictRow]:
    """Verdicts of a profile by run number."""
    rows = session.scalars(select(VerdictRow).where(VerdictRow.night == night.date, VerdictRow.profile == profile))
    return {row.run_id: row for row in rows}
