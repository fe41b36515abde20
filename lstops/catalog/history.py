"""The whole history of runs, as columns: what a request with new cuts is answered from, without opening a data check.

::

    with catalog_session() as session:
        history = load_history(session, since=Night.parse("20191201"))
        selection = select_history(session, history, load_profile("standard"), request)
        subruns = load_subruns(session, runs=[1739])
"""

from __future__ import annotations

import io
import struct
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, fields
from datetime import date, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import ColumnElement, Select, func, literal_column, select
from sqlalchemy.dialects.postgresql import aggregate_order_by
from sqlalchemy.orm import InstrumentedAttribute, Session

from lstops.catalog.blocks import WIDTH, dtype_of, subrun_offset, unpack_joined
from lstops.catalog.nights import check_range
from lstops.catalog.tables import NightRow, RunRow, SubrunBlockRow
from lstops.errors import DataError
from lstops.night import Night
from lstops.quality.judge import judge
from lstops.quality.profiles import Profile
from lstops.quality.quantities import RunTable
from lstops.quality.request import SelectionRequest
from lstops.quality.select import Selection, selection_of
from lstops.quality.tables import BoolArray, FloatArray, IntArray, SubrunTable

#: Columns that the typical subruns of a sample are found by.
TYPICAL_COLUMNS = ("night", "run_number", "subrun", "elapsed_time_s", "diffuse_nsb_std_pe")
# of PostgreSQL's binary COPY format: signature, flags and length of the header extension; and the end mark
_COPY_HEADER, _COPY_END = 19, -1


@dataclass(frozen=True, eq=False)
class History:
    """Runs of many nights. All columns have the table's length and order.

    Parameters
    ----------
    table : RunTable
        Run-wise quantities, in ascending order of run number.
    source_name : tuple of str
        What the observers entered; empty if the run catalogue does not tell.
    source_ra_deg, source_dec_deg : array of float, shape (n_runs,)
        NaN where unknown.
    run_type : tuple of str
    run_start : tuple of (datetime or None)
        Of the run summary.
    nights : tuple of Night
        Nights of the range that the catalogue holds, in order; also those without runs.
    n_without_flatfield : int
        How many of them have no flatfield table.
    """

    table: RunTable
    source_name: tuple[str, ...]
    source_ra_deg: FloatArray
    source_dec_deg: FloatArray
    run_type: tuple[str, ...]
    run_start: tuple[datetime | None, ...]
    nights: tuple[Night, ...]
    n_without_flatfield: int

    def __len__(self) -> int:
        return len(self.table)

    def take(self, rows: BoolArray | IntArray) -> History:
        """Return the history with only some runs (mask or row numbers); the nights stay."""
        places = np.arange(len(self))[rows].tolist()
        return History(
            self.table.take(rows),
            tuple(self.source_name[place] for place in places),
            self.source_ra_deg[rows],
            self.source_dec_deg[rows],
            tuple(self.run_type[place] for place in places),
            tuple(self.run_start[place] for place in places),
            self.nights,
            self.n_without_flatfield,
        )


def load_history(session: Session, since: Night | None = None, until: Night | None = None) -> History:
    """Load the run-wise quantities of all nights from `since` until `until`, both included.

    Raises
    ------
    ConfigError
        If the range is the wrong way round.
    DataError
        If the quantities were stored by a newer lstops.
    """
    check_range(since, until)
    nights = session.execute(
        select(NightRow.night, NightRow.has_flatfield)
        .where(NightRow.version > 0, *_between(NightRow.night, since, until))
        .order_by(NightRow.night)
    ).all()
    within, order = _between(RunRow.night, since, until), (RunRow.run_id, RunRow.night)
    table = _quantities(session, within)
    # what the run summary says is text: a query of its own, so that the numbers come as bytes
    what = (RunRow.source_name, RunRow.source_ra_deg, RunRow.source_dec_deg, RunRow.run_type, RunRow.run_start)
    said = session.execute(select(*what).where(*within).order_by(*order)).all()
    names, ra_deg, dec_deg, kinds, starts = zip(*said, strict=True) if said else ((),) * 5
    return History(
        table,
        tuple(name or "" for name in names),
        np.array(ra_deg, dtype=np.float64),
        np.array(dec_deg, dtype=np.float64),
        kinds,
        starts,
        tuple(Night(row.night) for row in nights),
        sum(not row.has_flatfield for row in nights),
    )


def load_subruns(
    session: Session,
    runs: Collection[int] | None = None,
    nights: Collection[Night] | None = None,
    columns: Sequence[str] | None = None,
) -> SubrunTable:
    """Load subrun-wise columns, night by night, in the order of the data check files.

    Parameters
    ----------
    runs : collection of int, optional
        Only subruns of these runs.
    nights : collection of Night, optional
        Only these nights are read; if not given, those of `runs`. Neither: everything (some 270 MB per 1000 nights).
    columns : sequence of str, optional
        Names of `SubrunTable`; only these are read, the others are NaN (0 for whole numbers).

    Raises
    ------
    DataError
        If the catalogue has no subruns of a night, because it was ingested by an older lstops.
    """
    wanted = [item.name for item in fields(SubrunTable)] if columns is None else list(columns)
    read = list(dict.fromkeys([*wanted, "run_number"])) if runs is not None else wanted
    chosen = _nights_of(session, runs, nights)
    blocks = _blocks(session, chosen, read)
    loaded = {
        name: np.concatenate([block[name] for block in blocks] or [np.empty(0, dtype=dtype_of(SubrunTable, name))])
        for name in read
    }
    if runs is not None:
        ours = np.isin(loaded["run_number"], np.array(sorted(runs), dtype=np.int64))
        loaded = {name: values[ours] for name, values in loaded.items()}
    length = len(next(iter(loaded.values()))) if loaded else 0
    # one number that looks like a column: what was not asked for costs nothing
    unknown = {
        item.name: np.broadcast_to(np.array(0 if item.type == "IntArray" else np.nan), length)
        for item in fields(SubrunTable)
    }
    return SubrunTable(**(unknown | {name: loaded[name] for name in wanted}))


def select_history(
    session: Session, history: History, profile: Profile, request: SelectionRequest | None = None
) -> Selection:
    """Select from the history: the same answer as `lstops.quality.select.select` gives from the files.

    Of the subruns only the columns and nights are loaded that the typical subruns need.

    Raises
    ------
    ConfigError
        If the request changes a limit that the profile does not have.
    """
    judgement = judge(history.table, profile, request)
    nights: Collection[Night] = history.nights
    if profile.sample.spread_typical_subruns:  # the notebook's depend on all that is loaded
        nights = [Night.parse(night) for night in np.unique(history.table.night[judgement.selected]).tolist()]
    return selection_of(judgement, load_subruns(session, nights=nights, columns=TYPICAL_COLUMNS))


def _between(night: InstrumentedAttribute[date], since: Night | None, until: Night | None) -> list[ColumnElement[bool]]:
    low = [] if since is None else [night >= since.date]
    return low if until is None else [*low, night <= until.date]


def _quantities(session: Session, within: Sequence[ColumnElement[bool]]) -> RunTable:
    """The run-wise quantities, in ascending order of run number and night."""
    packed, width = RunRow.quantities, func.octet_length(RunRow.quantities)
    # the database joins the runs of each format: one value comes, not one for each of many thousand runs
    joined = func.string_agg(packed, aggregate_order_by(literal_column("''::bytea"), RunRow.run_id, RunRow.night))
    parts = _copied(session, select(width, joined).where(*within).group_by(width))
    tables = [unpack_joined(content, int.from_bytes(size, "big")) for size, content in parts]
    table = RunTable.concatenate(tables)
    return table if len(tables) < 2 else table.take(np.lexsort((table.night, table.run_number)))


def _nights_of(session: Session, runs: Collection[int] | None, nights: Collection[Night] | None) -> set[date] | None:
    """The nights to read; None for all."""
    if nights is not None:
        return {night.date for night in nights}
    if runs is None:
        return None
    return set(session.scalars(select(RunRow.night).where(RunRow.run_id.in_(runs)).distinct()))


def _blocks(session: Session, nights: set[date] | None, columns: Sequence[str]) -> list[dict[str, NDArray[Any]]]:
    """Columns of the nights' subruns, in order of night."""
    there = {night: version for night, version in session.execute(select(SubrunBlockRow.night, SubrunBlockRow.format))}
    known = session.scalars(select(NightRow.night).where(NightRow.version > 0))
    wanted = sorted(night for night in known if nights is None or night in nights)
    missing = [night for night in wanted if night not in there]
    if missing:
        raise DataError(
            f"the catalogue has no subruns of {len(missing)} nights, such as {missing[0].isoformat()}: an older lstops "
            "ingested them.",
            "ingest their data check files again: lstops quality ingest DIR.",
        )
    found: dict[date, dict[str, NDArray[Any]]] = {}
    for version in sorted({there[night] for night in wanted}):
        found |= _blocks_of(session, version, [night for night in wanted if there[night] == version], columns)
    return [found[night] for night in wanted]


def _blocks_of(
    session: Session, version: int, nights: Sequence[date], columns: Sequence[str]
) -> dict[date, dict[str, NDArray[Any]]]:
    length = WIDTH * SubrunBlockRow.n_subruns
    places = {name: subrun_offset(version, name) for name in columns}
    parts = [
        func.substr(SubrunBlockRow.data, 1 + place * length, length) for place in places.values() if place is not None
    ]
    query = select(SubrunBlockRow.n_subruns, *parts).where(SubrunBlockRow.night.in_(nights))
    found = {}
    for night, (count, *values) in zip(nights, _copied(session, query.order_by(SubrunBlockRow.night)), strict=True):
        n_rows, stored = int.from_bytes(count, "big"), iter(values)
        found[night] = {
            name: np.full(n_rows, np.nan).astype(dtype_of(SubrunTable, name))
            if place is None
            else np.frombuffer(next(stored), dtype=dtype_of(SubrunTable, name))
            for name, place in places.items()
        }
    return found


def _copied(session: Session, query: Select[Any]) -> Iterator[list[memoryview]]:
    """Rows of a query as bytes, by PostgreSQL's binary COPY: ten times faster than as text. No value may be null."""
    connection = session.connection()
    statement = query.compile(connection, compile_kwargs={"literal_binds": True})
    buffer = io.BytesIO()
    driver: Any = connection.connection  # psycopg2's own, which SQLAlchemy does not describe
    with driver.cursor() as cursor:
        cursor.copy_expert(f"COPY ({statement}) TO STDOUT WITH BINARY", buffer)
    content, place = buffer.getbuffer(), _COPY_HEADER
    while True:
        (n_fields,) = struct.unpack_from(">h", content, place)
        place += 2
        if n_fields == _COPY_END:
            return
        row = []
        for _ in range(n_fields):
            (length,) = struct.unpack_from(">i", content, place)
            row.append(content[place + 4 : place + 4 + length])
            place += 4 + length
        yield row
