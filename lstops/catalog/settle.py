"""What a data check file means for the catalogue: a new night, a correction, nothing, or a contradiction."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from lstops.catalog.reading import FileStamp, ReadNight, Unreadable
from lstops.catalog.storing import refill, store
from lstops.catalog.tables import (
    DatacheckFileRow,
    NightRow,
    NightVersionRow,
    RunRow,
)
from lstops.night import Night, Run

#: State of a file that is not there.
_ABSENT = FileStamp(-1, -1)
_CHOOSE = "Remove the file that is wrong and ingest again, or name the right one: lstops quality ingest --replace FILE."


class Standing(str, Enum):
    """What became of a file."""

    NEW = "new"
    CORRECTED = "corrected"
    #: read, and the catalogue says the same
    SAME = "same"
    #: not read, because it is as it was when it was read last
    UNCHANGED = "unchanged"
    #: what an earlier version of the night said
    OUTDATED = "outdated"
    DISAGREES = "disagrees"
    FAILED = "failed"


@dataclass(frozen=True)
class FileOutcome:
    """What became of a file.

    Parameters
    ----------
    path : Path
    night : Night or None
        None if a file that cannot be read is named for no night.
    standing : Standing
    version, n_runs : int
        Of the night in the catalogue; 0 if it holds none.
    what, remedy : str
        What is wrong, and what helps; empty if nothing.
    """

    path: Path
    night: Night | None
    standing: Standing
    version: int = 0
    n_runs: int = 0
    what: str = ""
    remedy: str = ""

    @property
    def is_new(self) -> bool:
        """Whether the catalogue holds something new of the night."""
        return self.standing in (Standing.NEW, Standing.CORRECTED)

    @property
    def is_bad(self) -> bool:
        """Whether a person has to look at it."""
        return self.standing in (Standing.DISAGREES, Standing.FAILED)

    @property
    def message(self) -> str:
        """What is wrong and what helps."""
        return f"{self.what} Remedy: {self.remedy}" if self.what else ""


def standing_of(
    content: str, current: str | None, superseded: Collection[str], n_holders: int, *, replace: bool
) -> Standing:
    """Decide what a readable file is to a night.

    Parameters
    ----------
    content : str
        Digest of what the file says.
    current : str or None
        That of the night in the catalogue; None if it holds none.
    superseded : collection of str
        Those of its earlier versions.
    n_holders : int
        How many other files say what the catalogue says, as far as is known.
    replace : bool
        Whether a person chose this file.
    """
    if current is None:
        return Standing.NEW
    if content == current:
        return Standing.SAME
    if n_holders and not replace:
        return Standing.OUTDATED if content in superseded else Standing.DISAGREES
    return Standing.CORRECTED


def settle(
    session: Session, found: ReadNight | Unreadable, runs: Sequence[Run] = (), *, replace: bool = False
) -> FileOutcome:
    """Store what a file says, and what is wrong with the files of its night.

    Runs, verdicts, plans and decisions of a night stay when it is corrected, except the verdicts on runs whose
    quantities changed.

    Parameters
    ----------
    found : ReadNight or Unreadable
    runs : sequence of Run
        What the run summary and the run catalogue say of the night's runs.
    replace : bool
        The file is right even if others say something else.
    """
    if isinstance(found, Unreadable):
        return _fail(session, found, found.night)
    row = session.get(NightRow, found.night.date)
    others = _present_files(session, found.night, found.path)
    superseded = _superseded(session, found.night) if row is not None else set()
    known = row is not None and row.version > 0
    if row is not None and known and not row.content_sha256 and row.datacheck_sha256 == found.sha256:
        row.content_sha256 = found.content_sha256  # a night of an older lstops
    current = row.content_sha256 if row is not None and known else None
    holders = sum(other.content_sha256 == current for other in others)
    standing = standing_of(found.content_sha256, current, superseded, holders, replace=replace)
    if standing in (Standing.NEW, Standing.CORRECTED):
        elsewhere = _runs_of_other_nights(session, found)
        if elsewhere:
            return _fail(session, Unreadable(found.path, found.state, found.night, *elsewhere), found.night)
    _remember(session, found.path, found.night, found.state, found.sha256, found.content_sha256)
    if standing in (Standing.NEW, Standing.CORRECTED):
        row = store(session, found, row)
    elif standing is Standing.SAME:
        refill(session, found)
    if standing in (Standing.NEW, Standing.CORRECTED, Standing.SAME):
        describe_runs(session, found.night, runs)
    assert row is not None
    if standing is Standing.CORRECTED:
        superseded = _superseded(session, found.night)
    _state_problem(session, row, superseded)
    what = _disagreement(row, str(found.path)) if standing is Standing.DISAGREES else ""
    return FileOutcome(found.path, found.night, standing, row.version, row.n_runs, what, _CHOOSE if what else "")


def describe_runs(session: Session, night: Night, runs: Sequence[Run]) -> None:
    """Note when the night's runs began and what they were pointed at, where that is known."""
    known = {run.number: run for run in runs}
    for row in session.scalars(select(RunRow).where(RunRow.night == night.date)) if known else ():
        run = known.get(row.run_id)
        if run is not None:
            source = run.source
            row.run_type, row.run_start = run.run_type.value, run.start
            row.source_name = source.name if source else None
            row.source_ra_deg, row.source_dec_deg = (source.ra_deg, source.dec_deg) if source else (None, None)
    session.flush()


def _fail(session: Session, found: Unreadable, night: Night | None) -> FileOutcome:
    outcome = FileOutcome(found.path, night, Standing.FAILED, what=found.what, remedy=found.remedy)
    if night is None:
        return outcome
    row = session.get(NightRow, night.date)
    if row is None:
        row = NightRow(night=night.date, datacheck_path=str(found.path), datacheck_sha256="")
        session.add(row)
        session.flush()
    _remember(session, found.path, night, found.state or _ABSENT, problem=outcome.message)
    _state_problem(session, row, _superseded(session, night))
    return FileOutcome(found.path, night, Standing.FAILED, row.version, row.n_runs, found.what, found.remedy)


def _present_files(session: Session, night: Night, besides: Path) -> list[DatacheckFileRow]:
    """Other files of the night that are still as they were when they were read; the rest is forgotten."""
    found = []
    query = select(DatacheckFileRow).where(DatacheckFileRow.night == night.date, DatacheckFileRow.path != str(besides))
    for row in session.scalars(query):
        if FileStamp.of(Path(row.path)) == FileStamp(row.size, row.mtime_ns):
            found.append(row)
        else:
            session.delete(row)
    session.flush()
    return found


def _superseded(session: Session, night: Night) -> set[str]:
    return set(session.scalars(select(NightVersionRow.content_sha256).where(NightVersionRow.night == night.date)))


def _runs_of_other_nights(session: Session, found: ReadNight) -> tuple[str, str] | None:
    query = (
        select(RunRow.run_id, NightRow.datacheck_path)
        .join(NightRow, NightRow.night == RunRow.night)
        .where(RunRow.run_id.in_(found.table.run_number.tolist()), RunRow.night != found.night.date)
    )
    clash = session.execute(query.order_by(RunRow.run_id)).first()
    if clash is None:
        return None
    return (
        f"Run {clash.run_id} is in two nights: {clash.datacheck_path} and {found.path}.",
        "Keep the file of the night in which the run was taken.",
    )


def _remember(
    session: Session, path: Path, night: Night, state: FileStamp, sha256: str = "", content: str = "", problem: str = ""
) -> None:
    values: dict[str, Any] = {
        "night": night.date,
        "size": state.size,
        "mtime_ns": state.mtime_ns,
        "sha256": sha256,
        "content_sha256": content,
        "problem": problem,
    }
    statement = insert(DatacheckFileRow).values(path=str(path), **values)
    session.execute(statement.on_conflict_do_update(index_elements=["path"], set_=values))


def _state_problem(session: Session, row: NightRow, superseded: Collection[str]) -> None:
    """Say in the night's row what is wrong with its files."""
    problems = []
    files = select(DatacheckFileRow).where(DatacheckFileRow.night == row.night).order_by(DatacheckFileRow.path)
    for file in session.scalars(files):
        if file.problem:
            problems.append(file.problem)
        elif file.content_sha256 != row.content_sha256 and file.content_sha256 not in superseded:
            problems.append(f"{_disagreement(row, file.path)} Remedy: {_CHOOSE}")
    row.problem = " ".join(problems)
    session.flush()


def _disagreement(row: NightRow, path: str) -> str:
    return f"Two files disagree about night {Night(row.night).iso}: {row.datacheck_path} (in the catalogue) and {path}."
