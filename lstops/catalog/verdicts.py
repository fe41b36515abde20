"""Verdicts in the catalogue: what a profile says of a run, what people decided, and the run's good time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from lstops.catalog.tables import VerdictRow
from lstops.night import Night
from lstops.quality.intervals import CutVerdict
from lstops.quality.judge import CutResult
from lstops.quality.overlay import EffectiveVerdict, OverlayRecord


def save_verdicts(
    session: Session,
    night: Night,
    profile_sha256: str,
    verdicts: Iterable[EffectiveVerdict],
    good_time: Mapping[int, CutVerdict] | None = None,
) -> None:
    """Store what a profile says of the runs of a night and what people decided, replacing what was stored before.

    Parameters
    ----------
    good_time : mapping of int to CutVerdict, optional
        Good time by run number, for a profile with rules for subruns.
    """
    for item in verdicts:
        cut = (good_time or {}).get(item.run_number)
        values = {
            "profile_sha256": profile_sha256,
            "selected": item.verdict.selected,
            "reasons": list(item.verdict.reasons),
            "cuts": [_cut(result) for result in item.verdict.results],
            "effective": item.selected,
            "decisions": [_decision(record) for record in item.records],
            "good_time": None if cut is None else _good_time(cut),
        }
        key = {"night": night.date, "run_id": item.run_number, "profile": item.verdict.profile}
        statement = insert(VerdictRow).values(**key, **values)
        session.execute(statement.on_conflict_do_update(index_elements=list(key), set_=values))


def verdicts(session: Session, night: Night, profile: str) -> dict[int, VerdictRow]:
    """Verdicts of a profile by run number."""
    rows = session.scalars(select(VerdictRow).where(VerdictRow.night == night.date, VerdictRow.profile == profile))
    return {row.run_id: row for row in rows}


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


def _decision(record: OverlayRecord) -> dict[str, Any]:
    return {
        "id": record.id,
        "action": record.action.value,
        "subruns": list(record.subruns),
        "author": record.author,
        "reason": record.reason,
        "created_at": record.created_at.isoformat(),
    }


def _good_time(cut: CutVerdict) -> dict[str, Any]:
    return {
        "good_s": cut.time.good_s,
        "total_s": cut.time.total_s,
        "selected": cut.selected,
        "intervals": [
            {
                "first_subrun": part.first_subrun,
                "last_subrun": part.last_subrun,
                "start_s": part.start_s,
                "stop_s": part.stop_s,
            }
            for part in cut.time.intervals
        ],
    }
