"""Nights, runs and verdicts in the catalogue."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np
from sqlalchemy import delete, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from lstops.catalog.tables import NightRow, QuarantineRow, RunRow
from lstops.errors import DataError
from lstops.night import Night, Run
from lstops.quality.quantities import RunTable


@dataclass(frozen=True)
class Ingested:
    """What an ingest did."""

    night: Night
    version: int
    n_runs: int
    is_new: bool


def ingest_night(
    session: Session, night: Night, path: str, sha256: str, runs: Sequence[Run], table: RunTable
) -> Ingested:
    """Store a night's runs and quantities.

    The same datacheck again changes nothing; another content is a new version of the night and replaces its runs (and
    with them their verdicts, which no longer apply).

    Parameters
    ----------
    path, sha256 : str
        The datacheck that `table` comes from.
    runs : sequence of Run
        From the run summary. Runs of the table that are not in it are stored without start and source.
    """
    old = session.get(NightRow, night.date)
    if old is not None and old.datacheck_sha256 == sha256 and not old.problem:
        return Ingested(night, old.version, old.n_runs, False)
    version = old.version + 1 if old is not None else 1
    session.execute(delete(NightRow).where(NightRow.night == night.date))
    session.flush()
    known = {run.number: run for run in runs}
    columns = table.arrays()
    session.add(
        NightRow(
            night=night.date,
            datacheck_path=path,
            datacheck_sha256=sha256,
            version=version,
            n_runs=len(table),
            problem="",
        )
    )
    session.flush()
    for row, number in enumerate(table.run_number):
        run = known.get(int(number))
        source = run.source if run else None
        session.add(
            RunRow(
                night=night.date,
                run_id=int(number),
                run_type=run.run_type.value if run else "DATA",
                n_subruns=int(table.n_subruns[row]),
                run_start=run.start if run else None,
                source_name=source.name if source else None,
                source_ra_deg=source.ra_deg if source else None,
                source_dec_deg=source.dec_deg if source else None,
                quantities={name: values[row].item() for name, values in columns.items()},
            )
        )
    session.flush()
    return Ingested(night, version, len(table), True)


def record_problem(session: Session, night: Night, path: str, problem: str) -> None:
    """Remember that a night could not be ingested, and why; runs of an earlier version stay."""
    values = {"datacheck_path": path, "datacheck_sha256": "", "n_runs": 0, "problem": problem, "version": 1}
    statement = insert(NightRow).values(night=night.date, **values)
    session.execute(statement.on_conflict_do_update(index_elements=["night"], set_={"problem": problem}))


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
    plans = [plan for plan in (row.reduction_plan, row.collection_plan) if plan]
    query = select(QuarantineRow).where(QuarantineRow.plan_id.in_(plans)).order_by(QuarantineRow.subject)
    return list(session.scalars(query.where(QuarantineRow.subject == f"run {run_id}") if run_id else query))
