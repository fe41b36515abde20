"""Ingesting data check files: what is known is not read again, what fails stops itself only."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import select, text
from sqlalchemy.orm import Session

from lstops.catalog.blocks import SUBRUN_FORMAT
from lstops.catalog.database import catalog_sessions
from lstops.catalog.reading import FileStamp, ReadNight, Unreadable, read_files
from lstops.catalog.settle import FileOutcome, Standing, settle
from lstops.catalog.tables import DatacheckFileRow, NightRow, SubrunBlockRow
from lstops.errors import LstOpsError
from lstops.night import Night, Run
from lstops.quality.datacheck import find_datachecks

#: Nights of one transaction: what a kill can lose.
BATCH = 20
# Two ingests at once would each see only half of what the files say.
_INGEST_LOCK = 7_315_002


@dataclass(frozen=True)
class IngestReport:
    """What an ingest did.

    Parameters
    ----------
    outcomes : tuple of FileOutcome
        One for each file.
    """

    outcomes: tuple[FileOutcome, ...]

    @property
    def bad(self) -> tuple[FileOutcome, ...]:
        """Files that a person has to look at."""
        return tuple(outcome for outcome in self.outcomes if outcome.is_bad)

    def text(self) -> str:
        """Return the counts as a sentence."""
        counts = Counter(outcome.standing for outcome in self.outcomes)
        words = ", ".join(f"{counts[standing]} {standing.value}" for standing in Standing if counts[standing])
        return f"{len(self.outcomes)} files: {words or 'nothing to do'}"


def find_files(places: Iterable[Path]) -> tuple[Path, ...]:
    """Return the data check files of directories and single files, each once, however many links lead to it.

    Raises
    ------
    DataError
        If a directory holds none.
    """
    paths = (path for place in places for path in (find_datachecks(place) if place.is_dir() else (place,)))
    return tuple(dict.fromkeys(path.resolve() for path in paths))


def ingest_files(
    paths: Sequence[Path],
    *,
    jobs: int = 1,
    url: str | None = None,
    runs_of: Callable[[Night], Sequence[Run]] | None = None,
    replace: bool = False,
    reread: bool = False,
    on_outcome: Callable[[FileOutcome], None] = lambda outcome: None,
) -> IngestReport:
    """Bring the catalogue up to date with data check files.

    Every twenty files are stored in a transaction of their own: what a kill loses is read again by the next ingest.

    Parameters
    ----------
    paths : sequence of Path
        From `find_files`.
    jobs : int
        Processes that read.
    url : str, optional
        Address of the catalogue, see `lstops.catalog.database.catalog_engine`.
    runs_of : callable, optional
        Gives what the run summary and the run catalogue say of a night's runs.
    replace : bool
        These files are right, even where the catalogue has another file's word.
    reread : bool
        Read also files of unchanged size and time.
    on_outcome : callable
        Called for each file as soon as what it says is stored.

    Raises
    ------
    TransportError
        If the database cannot be reached.
    DataError
        If a reading process is killed.
    """
    outcomes: list[FileOutcome] = []

    def tell(items: Iterable[FileOutcome]) -> None:
        for outcome in items:
            outcomes.append(outcome)
            on_outcome(outcome)

    with catalog_sessions(url) as sessions:
        with sessions.begin() as session:
            unchanged = {} if reread else _unchanged(session, paths)
        tell(unchanged.values())
        batch: list[ReadNight | Unreadable] = []
        for found in read_files([path for path in paths if path not in unchanged], jobs):
            batch.append(found)
            if len(batch) == BATCH:
                with sessions.begin() as session:
                    stored = _settle(session, batch, runs_of, replace)
                tell(stored)
                batch.clear()
        if batch:
            with sessions.begin() as session:
                stored = _settle(session, batch, runs_of, replace)
            tell(stored)
    return IngestReport(tuple(outcomes))


def _unchanged(session: Session, paths: Sequence[Path]) -> dict[Path, FileOutcome]:
    """Files that are as they were when they were read, of nights about which nothing is in doubt."""
    rows = session.execute(
        select(
            DatacheckFileRow.path, DatacheckFileRow.size, DatacheckFileRow.mtime_ns, NightRow.night, NightRow.version,
            NightRow.n_runs,
        )
        .join(NightRow, NightRow.night == DatacheckFileRow.night)
        .join(SubrunBlockRow, SubrunBlockRow.night == NightRow.night)
        .where(
            NightRow.problem == "",
            DatacheckFileRow.content_sha256 == NightRow.content_sha256,
            SubrunBlockRow.format == SUBRUN_FORMAT,
        )
    )  # fmt: skip
    known = {row.path: row for row in rows}
    found = {}
    for path in paths:
        row = known.get(str(path))
        if row is not None and FileStamp.of(path) == FileStamp(row.size, row.mtime_ns):
            found[path] = FileOutcome(path, Night(row.night), Standing.UNCHANGED, row.version, row.n_runs)
    return found


def _settle(
    session: Session,
    batch: Sequence[ReadNight | Unreadable],
    runs_of: Callable[[Night], Sequence[Run]] | None,
    replace: bool,
) -> list[FileOutcome]:
    session.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _INGEST_LOCK})
    outcomes = []
    for found in batch:
        runs: Sequence[Run] = ()
        if runs_of is not None and isinstance(found, ReadNight):
            try:
                runs = runs_of(found.night)
            except LstOpsError as error:
                found = Unreadable(found.path, found.state, found.night, error.what, error.remedy)
        outcomes.append(settle(session, found, runs, replace=replace))
    return outcomes
