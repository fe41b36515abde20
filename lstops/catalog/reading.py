"""Reading data check files into what the catalogue stores, in one or several processes.

Nothing here knows the database: this is what the reading processes import.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lstops.catalog.blocks import pack_subruns
from lstops.errors import DataError, LstOpsError
from lstops.night import Night
from lstops.quality.datacheck import FILE_NAME, read_datacheck
from lstops.quality.quantities import RunTable, run_quantities
from lstops.quality.tables import ColumnTable, DatacheckNight
from lstops.step.digest import sha256_file

#: A process costs more to start than so few files cost to read.
_ALONE = 8


@dataclass(frozen=True)
class FileStamp:
    """Size and time of a file, by which a change is noticed."""

    size: int
    mtime_ns: int

    @classmethod
    def of(cls, path: Path) -> FileStamp | None:
        """Return the state of a file, None if there is none."""
        try:
            stat = path.stat()
        except OSError:
            return None
        return cls(stat.st_size, stat.st_mtime_ns)


@dataclass(frozen=True, eq=False)
class ReadNight:
    """A data check file that could be read.

    Parameters
    ----------
    path : Path
    state : FileStamp
    night : Night
    sha256 : str
        Of the file.
    content_sha256 : str
        Of what the selection reads of it: two files with the same one say the same.
    table : RunTable
    subruns : bytes
        By `lstops.catalog.blocks.pack_subruns`.
    n_subruns : int
    has_flatfield : bool
    """

    path: Path
    state: FileStamp
    night: Night
    sha256: str
    content_sha256: str
    table: RunTable
    subruns: bytes
    n_subruns: int
    has_flatfield: bool


@dataclass(frozen=True)
class Unreadable:
    """A data check file that could not be read, and why.

    Parameters
    ----------
    path : Path
    state : FileStamp or None
        None if there is no such file.
    night : Night or None
        None if the name does not tell.
    what, remedy : str
    """

    path: Path
    state: FileStamp | None
    night: Night | None
    what: str
    remedy: str


def night_of_name(path: Path) -> Night | None:
    """Return the night that a file is named for, None if it is named for none."""
    match = FILE_NAME.fullmatch(path.name)
    try:
        return Night.parse(match.group(1)) if match else None
    except LstOpsError:  # eight digits that are no day of the calendar
        return None


def read_file(path: Path) -> ReadNight | Unreadable:
    """Read a data check file and compute the quantities of its runs."""
    state = FileStamp.of(path)
    try:
        content = read_datacheck(path)
        table = run_quantities(content)
        sha256 = sha256_file(path)
    except LstOpsError as error:
        return Unreadable(path, state, night_of_name(path), error.what, error.remedy)
    if state is None or FileStamp.of(path) != state:
        return Unreadable(path, None, content.night, f"{path} changed while it was read.", "Ingest it again.")
    return ReadNight(
        path,
        state,
        content.night,
        sha256,
        _content_digest(content),
        table,
        pack_subruns(content.subruns),
        len(content.subruns),
        content.flatfield is not None,
    )


def read_files(paths: Sequence[Path], jobs: int) -> Iterator[ReadNight | Unreadable]:
    """Read data check files, in order, in up to `jobs` processes of their own.

    Raises
    ------
    DataError
        If a reading process is killed.
    """
    if jobs == 1 or len(paths) < _ALONE:
        yield from map(read_file, paths)
        return
    remaining = deque(paths)
    # no more than these are in memory, however slow the database is
    waiting: deque[tuple[Path, Future[ReadNight | Unreadable]]] = deque()
    # not forked: the parent may have threads (a progress bar, a database driver)
    context = multiprocessing.get_context("spawn")
    with _one_thread_each(), ProcessPoolExecutor(jobs, mp_context=context) as pool:
        while remaining or waiting:
            while remaining and len(waiting) < 4 * jobs:
                path = remaining.popleft()
                waiting.append((path, pool.submit(read_file, path)))
            path, future = waiting.popleft()
            try:
                yield future.result()
            except BrokenProcessPool as error:
                raise DataError(
                    f"A reading process was killed at {path} or one of the {len(waiting)} files after it.",
                    "Ingest again with --jobs 1 to see which; what was read before is stored.",
                ) from error


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """Keep the linear algebra of the reading processes from starting a thread for each core."""
    name = "OPENBLAS_NUM_THREADS"
    before = os.environ.get(name)
    os.environ[name] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def _content_digest(content: DatacheckNight) -> str:
    digest = hashlib.sha256(str(content.night).encode())
    tables: tuple[ColumnTable | None, ...] = (content.subruns, content.runs, content.flatfield)
    for table in tables:
        digest.update(b"-" if table is None else type(table).__name__.encode())
        for name, values in table.arrays().items() if table is not None else ():
            # one bit pattern for all NaN, one for both zeros
            plain = np.where(np.isnan(values), np.nan, values + 0) if values.dtype.kind == "f" else values
            digest.update(f"{name} {len(values)} ".encode() + np.ascontiguousarray(plain).tobytes())
    return digest.hexdigest()
