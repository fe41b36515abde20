"""Readers of the run summary and the run catalogue of a night (structured ECSV files)."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from lstops.errors import DataError
from lstops.night.model import Night, Run, RunSource, RunType

_FILE_NAME = re.compile(r"Run(?:Summary|Catalog)_([0-9]{8})\.ecsv")
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
# The time stamps of the run summary count TAI seconds (ctapipe_io_lst/event_time.py, time_from_unix_tai_ns);
# TAI-UTC has been 37 s since 2017-01-01, before the first light of LST-1.
_TAI_MINUS_UTC_S = 37


def read_run_summary(path: Path, night: Night | None = None) -> tuple[Run, ...]:
    """Read `RunSummary_D.ecsv`.

    Parameters
    ----------
    path : Path
    night : Night, optional
        Taken from the file's name if not given.

    Returns
    -------
    tuple of Run
        In ascending order, without sources; empty for a night without observations.

    Raises
    ------
    DataError
        If the file is missing, unreadable, lacks a column, or names a run twice.
    """
    night = night or _night_of_file(path)
    table = _read_ecsv(path, ("run_id", "n_subruns", "run_type"))
    runs: dict[int, Run] = {}
    for row in table:
        number = _integer(row["run_id"], "run_id", path)
        if number in runs:
            raise DataError(f"{path} lists run {number} twice.", "Have the run summary of this night made again.")
        n_subruns = _integer(row["n_subruns"], "n_subruns", path)
        if n_subruns < 0:
            raise DataError(f"{path}: run {number} has {n_subruns} subruns.", "Have the run summary made again.")
        text = _text(row["run_type"])
        start = _start(row["run_start"]) if "run_start" in table.colnames else None
        runs[number] = Run(number, night, RunType.parse(text), n_subruns, start, None, text)
    return tuple(runs[number] for number in sorted(runs))


def read_run_catalog(path: Path) -> dict[int, RunSource]:
    """Read `RunCatalog_D.ecsv`: the source of each run.

    Returns
    -------
    dict of RunSource by run number
        Runs whose row has no source name are left out, as runs without a row are.

    Raises
    ------
    DataError
        If the file is missing, unreadable, lacks a column, or gives a run two different sources.
    """
    table = _read_ecsv(path, ("run_id", "source_name", "source_ra", "source_dec"))
    sources: dict[int, RunSource] = {}
    for row in table:
        name = _text(row["source_name"])
        if not name:
            continue
        number = _integer(row["run_id"], "run_id", path)
        source = RunSource(name, _coordinate(row["source_ra"]), _coordinate(row["source_dec"]))
        if sources.setdefault(number, source) != source:
            raise DataError(
                f"{path} gives run {number} two sources, {sources[number].name!r} and {name!r}.",
                "Leave one row for the run in the catalogue.",
            )
    return sources


def read_runs(summary: Path, catalog: Path | None = None, night: Night | None = None) -> tuple[Run, ...]:
    """Read the runs of a night together with their sources.

    Parameters
    ----------
    summary : Path
        The night's `RunSummary_D.ecsv`.
    catalog : Path, optional
        The night's `RunCatalog_D.ecsv`; lstosa writes none for a night without source information, so a file that is
        not there means runs without source.
    """
    runs = read_run_summary(summary, night)
    sources = read_run_catalog(catalog) if catalog is not None and catalog.exists() else {}
    return with_sources(runs, sources)


def with_sources(runs: tuple[Run, ...], sources: Mapping[int, RunSource]) -> tuple[Run, ...]:
    """Return the runs with their source attached where there is one."""
    return tuple(
        Run(run.number, run.night, run.run_type, run.n_subruns, run.start, sources.get(run.number), run.type_text)
        for run in runs
    )


def _night_of_file(path: Path) -> Night:
    match = _FILE_NAME.fullmatch(path.name)
    if match is None:
        raise DataError(f"{path}: the file name holds no night.", "Name the file RunSummary_YYYYMMDD.ecsv.")
    return Night.parse(match.group(1))


def _read_ecsv(path: Path, columns: tuple[str, ...]) -> Any:
    from astropy.table import Table

    remedy = "Copy the file again from the site, or have it made again."
    try:
        table = Table.read(path, format="ascii.ecsv")
    except FileNotFoundError as error:
        raise DataError(f"{path} does not exist.", "Check the night and the base path of the site.") from error
    # astropy's readers raise ValueError for content, and a few other kinds for damaged YAML headers
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        raise DataError(f"{path} cannot be read as an ECSV table: {str(error).splitlines()[:1]}.", remedy) from error
    missing = [name for name in columns if name not in table.colnames]
    if missing:
        raise DataError(f"{path} has no column {', '.join(missing)} (it has {', '.join(table.colnames)}).", remedy)
    return table


def _is_masked(value: Any) -> bool:
    import numpy as np

    return value is np.ma.masked


def _text(value: Any) -> str:
    return "" if value is None or _is_masked(value) else str(value).strip()


def _integer(value: Any, column: str, path: Path) -> int:
    try:
        if not _is_masked(value) and float(value) == int(value):
            return int(value)
    except (TypeError, ValueError, OverflowError):
        pass  # reported below with the value
    raise DataError(f"{path}: {value!r} in column {column} is not a whole number.", "Have the file made again.")


def _coordinate(value: Any) -> float | None:
    if value is None or _is_masked(value):
        return None
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def _start(value: Any) -> datetime | None:
    # -1 stands for a start that the data acquisition did not record
    if _is_masked(value) or (not isinstance(value, (int, float)) and not hasattr(value, "dtype")):
        return None
    try:
        nanoseconds = int(value)
    except (TypeError, ValueError, OverflowError):
        return None
    if nanoseconds <= 0:
        return None
    return _EPOCH + timedelta(microseconds=nanoseconds // 1000) - timedelta(seconds=_TAI_MINUS_UTC_S)
