"""People's decisions about runs in the catalogue: nothing is deleted, a revoked decision stays with who and why."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import datetime, timezone

from sqlalchemy import select
from sqlalchemy.orm import Session

from lstops.catalog.history import load_subruns
from lstops.catalog.nights import find_run
from lstops.catalog.tables import OverlayRow, RunRow
from lstops.errors import ConfigError, DataError
from lstops.quality.overlay import OverlayAction, OverlayRecord, check_new
from lstops.words import checked_words, one_line


def add_decision(
    session: Session, run_number: int, action: OverlayAction, author: str, reason: str, subruns: Iterable[int] = ()
) -> OverlayRecord:
    """Store a person's decision about a run.

    Parameters
    ----------
    subruns : iterable of int, optional
        For `OverlayAction.DROP_SUBRUNS`.

    Raises
    ------
    DataError
        If the catalogue does not know the run.
    ConfigError
        If the decision says nothing, or repeats or contradicts one that holds.
    """
    find_run(session, run_number)
    # Two people who decide about the run at once: the second waits, and then sees what the first decided.
    session.execute(select(RunRow.run_id).where(RunRow.run_id == run_number).with_for_update())
    known = load_subruns(session, runs=[run_number]).subrun.tolist() if action is OverlayAction.DROP_SUBRUNS else []
    row = OverlayRow(
        run_id=run_number,
        action=action.value,
        subruns=sorted(set(subruns)),
        author=one_line(author),
        reason=one_line(reason),
        created_at=datetime.now(timezone.utc),
    )
    check_new(_record(row, identity=0), active_decisions(session, [run_number]).get(run_number, ()), known)
    session.add(row)
    session.flush()
    return _record(row)


def revoke_decision(session: Session, identity: int, author: str, reason: str) -> OverlayRecord:
    """Revoke a decision; it stays on record.

    Raises
    ------
    DataError
        If there is no such decision.
    ConfigError
        If it is revoked already, or author or reason are missing.
    """
    row = session.get(OverlayRow, identity, with_for_update=True)
    if row is None:
        raise DataError(f"There is no decision {identity}.", "See `lstops overlay list --all`.")
    if row.revoked_at is not None:
        raise ConfigError(f"Decision {identity} is revoked: {_record(row).words}.", "Nothing needs to be done.")
    author, reason = checked_words(f"the revocation of decision {identity}", author, reason)
    row.revoked_at = datetime.now(timezone.utc)
    row.revoked_by, row.revoked_reason = author, reason
    session.flush()
    return _record(row)


def list_decisions(
    session: Session, runs: Collection[int] | None = None, *, revoked: bool = False
) -> tuple[OverlayRecord, ...]:
    """Return decisions in order of run and time.

    Parameters
    ----------
    runs : collection of int, optional
        All runs if not given.
    revoked : bool
        Also those that no longer hold.
    """
    query = select(OverlayRow).order_by(OverlayRow.run_id, OverlayRow.id)
    if runs is not None:
        query = query.where(OverlayRow.run_id.in_(runs))
    if not revoked:
        query = query.where(OverlayRow.revoked_at.is_(None))
    return tuple(_record(row) for row in session.scalars(query))


def active_decisions(session: Session, runs: Collection[int] | None = None) -> dict[int, tuple[OverlayRecord, ...]]:
    """Return the decisions that hold, by run number."""
    found: dict[int, tuple[OverlayRecord, ...]] = {}
    for record in list_decisions(session, runs):
        found[record.run_number] = (*found.get(record.run_number, ()), record)
    return found


def _record(row: OverlayRow, identity: int | None = None) -> OverlayRecord:
    return OverlayRecord(
        row.id if identity is None else identity,
        row.run_id,
        OverlayAction(row.action),
        row.author,
        row.reason,
        row.created_at,
        tuple(row.subruns),
        row.revoked_at,
        row.revoked_by or "",
        row.revoked_reason or "",
    )
