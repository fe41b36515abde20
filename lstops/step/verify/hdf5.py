"""Reading lstchain's HDF5 files safely.

PyTables and not h5py: the tables are compressed with blosc:zstd, which h5py alone cannot decompress. Only tables and
attributes are read, nothing is unpickled.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tables

from lstops.errors import DataError
from lstops.step.verify.common import MAKE_AGAIN

#: rows read at a time: about 100 MB of DL1 parameters
CHUNK = 200_000


@contextlib.contextmanager
def opened(path: Path) -> Iterator[tables.File]:
    """Open an HDF5 file for reading.

    Raises
    ------
    DataError
        If it is missing, truncated, or damaged; also when the damage shows only while reading in the `with` block.
    """
    if not path.is_file():
        raise DataError(f"{path} does not exist or is not a file.", "restore it, or run the step that makes it.")
    if path.stat().st_size == 0:
        raise DataError(f"{path} is empty (0 bytes).", MAKE_AGAIN)
    try:
        with tables.open_file(str(path), "r") as file:
            yield file
    except (tables.HDF5ExtError, OSError) as error:
        raise DataError(
            f"{path} cannot be read as HDF5 ({_last_line(error)}): it is truncated, damaged or was never finished.",
            MAKE_AGAIN,
        ) from error


def table(file: tables.File, key: str) -> tables.Table:
    """Return the table at `key`.

    Raises
    ------
    DataError
        If there is none.
    """
    try:
        node = file.get_node(key)
    except tables.NoSuchNodeError:
        node = None
    if not isinstance(node, tables.Table):
        raise DataError(f"{file.filename}: it has no table {key}.", MAKE_AGAIN)
    return node


def rows(file: tables.File, key: str) -> int:
    """Number of rows of a table, or 0 if the file has no such table."""
    return int(table(file, key).nrows) if key in file else 0


def chunks(node: tables.Table, columns: Sequence[str]) -> Iterator[dict[str, npt.NDArray[Any]]]:
    """Columns of a table, `CHUNK` rows at a time."""
    for start in range(0, node.nrows, CHUNK):
        block = node.read(start, min(start + CHUNK, node.nrows))
        yield {name: np.asarray(block[name]) for name in columns}


def missing_columns(node: tables.Table, wanted: Sequence[str]) -> list[str]:
    """Those of `wanted` that the table lacks."""
    return [name for name in wanted if name not in node.colnames]


def root_attribute(file: tables.File, name: str) -> str | None:
    """Text of an attribute of the root group."""
    attributes = file.root._v_attrs
    return str(attributes[name]) if name in attributes else None


def _last_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
