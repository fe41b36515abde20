"""Writing the content of a data check file into the catalogue."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import LargeBinary, delete, func, select, type_coerce
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from lstops.catalog.blocks import SUBRUN_FORMAT, pack_runs
from lstops.catalog.reading import FileStamp, ReadNight
from lstops.catalog.tables import NightRow, NightVersionRow, RunRow, SubrunBlockRow, VerdictRow


def store(session: Session, found: ReadNight, row: NightRow | None) -> NightRow:
    """Store a night's content as its next version; what it replaces stays on record.

    Plans stay, and verdicts on runs whose quantities are the same to the last bit.

    Parameters
    ----------
    row : NightRow or None
        The night as the catalogue holds it.
    """
    if row is None:
        row = NightRow(night=found.night.date, version=0)
        session.add(row)
    elif row.version > 0:
        names = ("datacheck_path", "datacheck_sha256", "content_sha256", "n_runs", "version", "ingested_at")
        session.add(NightVersionRow(night=row.night, **{name: getattr(row, name) for name in names}))
    row.datacheck_path, row.datacheck_sha256 = str(found.path), found.sha256
    row.content_sha256, row.has_flatfield = found.content_sha256, found.has_flatfield
    row.version, row.n_runs = row.version + 1, len(found.table)
    row.ingested_at = func.now()  # the database's clock
    session.flush()
    _store_runs(session, found)
    _store_subruns(session, found)
    return row


def _store_runs(session: Session, found: ReadNight) -> None:
    night = found.night.date
    packed = dict(zip(found.table.run_number.tolist(), pack_runs(found.table), strict=True))
    counts = dict(zip(found.table.run_number.tolist(), found.table.n_subruns.tolist(), strict=True))
    raw = type_coerce(RunRow.quantities, LargeBinary)
    old = {run: bytes(value) for run, value in session.execute(select(RunRow.run_id, raw).where(RunRow.night == night))}
    gone = set(old) - set(packed)
    if gone:
        session.execute(delete(RunRow).where(RunRow.night == night, RunRow.run_id.in_(gone)))
    changed = [run for run, value in packed.items() if old.get(run) != value]
    if changed:
        session.execute(delete(VerdictRow).where(VerdictRow.night == night, VerdictRow.run_id.in_(changed)))
        rows = [
            {"night": night, "run_id": n, "run_type": "DATA", "n_subruns": counts[n], "quantities": packed[n]}
            for n in changed
        ]
        # rows beside the statement, and no ORM: it is compiled once for all nights
        statement = insert(RunRow)
        same = {name: statement.excluded[name] for name in ("n_subruns", "quantities")}
        statement = statement.on_conflict_do_update(index_elements=["night", "run_id"], set_=same)
        session.connection().execute(statement, rows)
    session.expire_all()


def _store_subruns(session: Session, found: ReadNight) -> None:
    values = {"format": SUBRUN_FORMAT, "n_subruns": found.n_subruns, "data": found.subruns}
    statement = insert(SubrunBlockRow).values(night=found.night.date, **values)
    session.execute(statement.on_conflict_do_update(index_elements=["night"], set_=values))


def refill(session: Session, found: ReadNight) -> None:
    """Add what an older lstops did not store."""
    row = session.get_one(NightRow, found.night.date)
    if FileStamp.of(Path(row.datacheck_path)) is None:
        row.datacheck_path = str(found.path)
    if row.datacheck_path == str(found.path):
        row.datacheck_sha256 = found.sha256
    if session.scalar(select(SubrunBlockRow.format).where(SubrunBlockRow.night == row.night)) != SUBRUN_FORMAT:
        row.has_flatfield = found.has_flatfield
        _store_runs(session, found)
        _store_subruns(session, found)
