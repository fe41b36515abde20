"""Nights and runs in the catalogue, and what could not be processed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime

import numpy as np
from sqlalchemy import delete, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from lstops.catalog.tables import NightRow, NightVersionRow, QuarantineRow, RunRow, SubrunBlockRow
from lstops.errors import ConfigError, DataError
from lstops.night import Night
from lstops.quality.quantities import RunTable


@dataclass(frozen=True)
class NightVersion:
    """A version of a night that was replaced by a corrected datacheck."""

    version: int
    path: str
    sha256: str
    n_runs: int
    ingested_at: datetime
    superseded_at: datetime


@dataclass(frozen=True)
class NightRecord:
    """What the catalogue holds of a night.

    Parameters
    ----------
    night : Night
    version : int
        0 if no good datacheck was ever seen.
    n_runs : int
    n_subruns : int or None
        None for a night that an older lstops ingested: its subruns are not stored yet.
    path, sha256 : str
        The datacheck that it comes from.
    ingested_at : datetime
    problem : str
        What is wrong with the night's files; empty if nothing.
    earlier : tuple of NightVersion
        Versions that were replaced, the oldest first.
    """

    night: Night
    version: int
    n_runs: int
    n_subruns: int | None
    path: str
    sha256: str
    ingested_at: datetime
    problem: str
    earlier: tuple[NightVersion, ...]


def check_range(since: Night | None, until: Night | None) -> None:
    """Refuse a range of nights that is the wrong way round.

    Raises
    ------
    ConfigError
        If it is.
    """
    if since is not None and until is not None and until < since:
        raise ConfigError(
            f"the nights are the wrong way round: {since.iso} is after {until.iso}.", "exchange --since and --until."
        )


def list_nights(
    session: Session, since: Night | None = None, until: Night | None = None, *, problems: bool = False
) -> list[NightRecord]:
    """Nights from `since` until `until`, both included, in order; only those with a problem if asked for.

    Raises
    ------
    ConfigError
        If the range is the wrong way round.
    """
    check_range(since, until)
    earlier: dict[object, list[NightVersion]] = {}
    for old in session.scalars(select(NightVersionRow).order_by(NightVersionRow.night, NightVersionRow.version)):
        version = NightVersion(
            old.version, old.datacheck_path, old.datacheck_sha256, old.n_runs, old.ingested_at, old.superseded_at
        )
        earlier.setdefault(old.night, []).append(version)
    query = select(NightRow, SubrunBlockRow.n_subruns).outerjoin(SubrunBlockRow, SubrunBlockRow.night == NightRow.night)
    if since is not None:
        query = query.where(NightRow.night >= since.date)
    if until is not None:
        query = query.where(NightRow.night <= until.date)
    if problems:
        query = query.where(NightRow.problem != "")
    return [
        NightRecord(
            Night(row.night),
            row.version,
            row.n_runs,
            n_subruns if row.version else 0,
            row.datacheck_path,
            row.datacheck_sha256,
            row.ingested_at,
            row.problem,
            tuple(earlier.get(row.night, ())),
        )
        for row, n_subruns in session.execute(query.order_by(NightRow.night))
    ]


def night_runs(session: Session, night: Night) -> list[RunRow]:
    """The runs of a night, in order."""
    return list(session.scalars(select(RunRow).where(RunRow.night == night.date).order_by(RunRow.run_id)))


def run_table(rows: Sequence[RunRow]) -> RunTable:
    """The run-wise quantities of stored runs, as they were when ingested."""
    empty = RunTable.empty().arrays()
    columns = {}
    for item in fields(RunTable):
        values = [row.quantities.get(item.name) for row in rows]
        numbers = [math.nan if value is None else float(value) for value in values]
        columns[item.name] = np.array(numbers).astype(empty[item.name].dtype)
    return RunTable(**columns)


def find_night(session: Session, night: Night) -> NightRow:
    """The night's row.

    Raises
    ------
    DataError
        If it was never ingested.
    """
    row = session.get(NightRow, night.date)
    if row is None:
        raise DataError(f"the catalogue does not know the night {night.iso}.", "ingest it: start the DAG `nightly`.")
    return row


def find_run(session: Session, run_id: int) -> RunRow:
    """The run of that number.

    Raises
    ------
    DataError
        If the catalogue does not know it.
    """
    row = session.scalars(select(RunRow).where(RunRow.run_id == run_id).order_by(RunRow.night.desc())).first()
    if row is None:
        raise DataError(f"the catalogue knows no run {run_id}.", "ingest its night: lstops quality ingest DIR.")
    return row


def save_quarantine(
    session: Session, night: Night | None, plan_id: str, stage: str, causes: Mapping[str, tuple[str, str]]
) -> None:
    """Store the subjects that a stage of a plan could not process: subject -> (cause, remedy).

    What the stage said before goes. The first stage that stopped a subject keeps it: what comes later only follows.
    """
    session.execute(delete(QuarantineRow).where(QuarantineRow.plan_id == plan_id, QuarantineRow.stage == stage))
    for subject, (cause, remedy) in causes.items():
        values = {"night": night.date if night else None, "stage": stage, "cause": cause, "remedy": remedy}
        statement = insert(QuarantineRow).values(plan_id=plan_id, subject=subject, **values)
        session.execute(statement.on_conflict_do_nothing(index_elements=["plan_id", "subject"]))


def quarantine_of(session: Session, night: Night, run_id: int | None = None) -> list[QuarantineRow]:
    """What the plans of the night's last reduction could not process; of one run if given."""
    row = find_night(session, night)
    found = quarantine_of_plans(session, [plan for plan in (row.reduction_plan, row.collection_plan) if plan])
    return [q for q in found if run_id is None or q.subject == f"run {run_id}"]


def quarantine_of_plans(session: Session, plans: Sequence[str]) -> list[QuarantineRow]:
    """What plans could not process, by subject."""
    query = select(QuarantineRow).where(QuarantineRow.plan_id.in_(plans)).order_by(QuarantineRow.subject)
    return list(session.scalars(query))
