"""Fast reader of the night-wise data check files `DL1_datacheck_YYYYMMDD.h5`.

The files hold pandas tables (format "table", every column a data column). pandas and PyTables open an index for each
of the columns, which costs 50 to 100 times what the data cost; so the compound data set is read with h5py.
"""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from lstops.errors import DataError
from lstops.night.model import Night
from lstops.quality.tables import ColumnTable, DatacheckNight, FlatfieldTable, RunSummaryTable, SubrunTable

FILE_NAME = re.compile(r"DL1_datacheck_([0-9]{8})\.h5")
_REMEDY = (
    "Copy the file again from the site; if it is the same there, have the night's data check made again "
    "(lstchain_longterm_dl1_check and lstchain_cherenkov_transparency)."
)
_TableT = TypeVar("_TableT", bound=ColumnTable)


def read_datacheck(path: Path) -> DatacheckNight:
    """Read one night.

    Parameters
    ----------
    path : Path
        A night-wise data check file. The night is that of its rows; for a file without rows, that of its name.

    Raises
    ------
    DataError
        If the file is missing, empty or truncated, lacks a required table or column, holds a column of another kind,
        a subrun twice, or rows of another night than its name says. A missing `flatfield` table is an answer.
    """
    import h5py

    try:
        with h5py.File(path, "r") as file:
            subruns = _read_table(file, path, "cosmics_intensity_spectrum", SubrunTable)
            runs = _read_table(file, path, "runsummary", RunSummaryTable)
            flatfield = (
                _read_table(file, path, "flatfield", FlatfieldTable) if file.get("flatfield") is not None else None
            )
    except FileNotFoundError as error:
        raise DataError(f"{path} does not exist.", "Check the night and the directory.") from error
    # h5py reports damage as OSError (open, read) or, for a broken group or attribute, RuntimeError or KeyError
    except (OSError, RuntimeError, KeyError) as error:
        size = path.stat().st_size if path.is_file() else 0
        raise DataError(
            f"{path} ({size} bytes) is no readable HDF5 file; it may be truncated: {error}.", _REMEDY
        ) from error
    _require_unique(path, "runsummary", runs.run_number)
    _require_unique(path, "cosmics_intensity_spectrum", subruns.run_number, subruns.subrun)
    return DatacheckNight(_night(path, subruns), path, subruns, runs, flatfield)


def find_datachecks(directory: Path) -> tuple[Path, ...]:
    """Return the night-wise data check files of a directory, in order of night.

    Files directly in the directory are taken (symbolic links too); only where there are none, those below it, so that
    the tree `night_wise/VERSION/NIGHT/` with its links on top is not read twice.

    Raises
    ------
    DataError
        If the directory does not exist or holds no such file.
    """
    if not directory.is_dir():
        raise DataError(f"{directory} is not a directory.", "Name the directory of the night-wise data check files.")
    for candidates in (directory.glob("*.h5"), directory.rglob("*.h5")):
        found = [path for path in candidates if FILE_NAME.fullmatch(path.name)]
        if found:
            return tuple(sorted(found, key=lambda path: (path.name, path)))
    raise DataError(
        f"{directory} holds no file DL1_datacheck_YYYYMMDD.h5.",
        "Name the directory of the night-wise data check files.",
    )


def _read_table(file: Any, path: Path, name: str, kind: type[_TableT]) -> _TableT:
    import h5py

    group = file.get(name)
    data = group.get("table") if isinstance(group, h5py.Group) else group
    if not isinstance(data, h5py.Dataset):
        what = "has no table" if group is None else "holds no data set 'table' for the table"
        raise DataError(f"{path} {what} {name!r} (it has {', '.join(sorted(file)) or 'nothing'}).", _REMEDY)
    names = data.dtype.names or ()
    missing = [item.metadata["source"] for item in fields(kind) if item.metadata["source"] not in names]
    if missing:
        raise DataError(f"{path}: table {name!r} has no column {', '.join(map(repr, missing))}.", _REMEDY)
    rows = data[:]
    where = f"{path}: table {name!r}"
    return kind(
        **{
            item.name: (_integers if item.type == "IntArray" else _floats)(
                rows[item.metadata["source"]], f"{where}, column {item.metadata['source']!r}"
            )
            for item in fields(kind)
        }
    )


def _floats(values: NDArray[Any], where: str) -> NDArray[np.float64]:
    if values.dtype.kind not in "iufb" or values.ndim != 1:
        raise DataError(f"{where} holds {values.dtype} of shape {values.shape}, not one number a row.", _REMEDY)
    # float32 to float64 is exact; the copy also makes the column contiguous and of native byte order
    return values.astype(np.float64)


def _integers(values: NDArray[Any], where: str) -> NDArray[np.int64]:
    numbers = _floats(values, where)
    if not np.all(np.isfinite(numbers)) or np.any(numbers != np.floor(numbers)) or np.any(np.abs(numbers) > 2**53):
        raise DataError(f"{where} holds values that are not whole numbers.", _REMEDY)
    return numbers.astype(np.int64)


def _require_unique(path: Path, table: str, *columns: NDArray[np.int64]) -> None:
    order = np.lexsort(columns[::-1])
    if len(order) < 2:
        return
    repeated = np.ones(len(order) - 1, dtype=bool)
    for values in columns:
        repeated &= np.diff(values[order]) == 0
    if repeated.any():
        row = order[int(np.argmax(repeated))]
        name = ".".join(str(values[row]) for values in columns)
        raise DataError(f"{path}: table {table!r} holds run {name} twice.", _REMEDY)


def _night(path: Path, subruns: SubrunTable) -> Night:
    match = FILE_NAME.fullmatch(path.name)
    dates = np.unique(subruns.night).tolist()
    if match is None:
        if len(dates) != 1:
            raise DataError(
                f"{path}: neither the file's name nor its rows (dates {dates}) tell one night.",
                "Name the file DL1_datacheck_YYYYMMDD.h5.",
            )
        return Night.parse(dates[0])
    night = Night.parse(match.group(1))
    if dates and int(night) not in dates:
        raise DataError(
            f"{path} is named for night {night}, but its rows are of {', '.join(map(str, dates))}.",
            "Rename the file after the night of its rows, or copy the right one.",
        )
    return night
