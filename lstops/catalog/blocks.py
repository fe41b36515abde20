"""Columns of numbers as bytes, the way the catalogue stores them.

A run's quantities are one value of the table `run`: the number of the format, then eight bytes a quantity. A night's
subruns are one value of `subrun_block`: column after column, eight bytes a row, uncompressed, so that PostgreSQL reads
only the columns that are asked for. Numbers are little-endian, whole numbers int64 and the others float64; so they come
back to the last bit.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields
from functools import cache

import numpy as np
from numpy.typing import NDArray

from lstops.errors import DataError
from lstops.quality.quantities import RunTable
from lstops.quality.tables import ColumnTable, SubrunTable

#: Columns of each format of run-wise quantities. A format that was ever written stays here; when `RunTable` gets
#: another column, add a format with it at the end.
RUN_FORMATS: Mapping[int, tuple[str, ...]] = {
    1: (
        "run_number",
        "night",
        "n_subruns",
        "mean_r422",
        "std_r422",
        "fraction_around_mode_r422",
        "mean_intensity_at_reference_rate_pe",
        "std_intensity_at_reference_rate_pe",
        "mean_light_yield",
        "std_light_yield",
        "mean_index",
        "std_index",
        "mean_fit_p_value",
        "mean_intensity_threshold_pe",
        "std_intensity_threshold_pe",
        "mean_intensity_at_peak_rate_pe",
        "std_intensity_at_peak_rate_pe",
        "mean_ra_deg",
        "mean_dec_deg",
        "std_dec_deg",
        "mean_coszd",
        "picture_threshold_pe",
        "mean_diffuse_nsb_std_pe",
        "max_lsc",
        "elapsed_time_s",
        "num_pedestals",
        "num_flatfield",
        "fit_p_value_sigma",
        "lsc_period_s",
        "n_believable_r422",
        "mean_believable_r422",
        "fraction_in_window_r422",
        "max_lsc_believable",
        "mean_cos_zenith",
        "mean_valid_intensity_threshold_pe",
        "mean_flatfield_charge_pe",
        "start_s",
        "rate_80_120_hz",
    )
}
#: The same for subruns.
SUBRUN_FORMATS: Mapping[int, tuple[str, ...]] = {
    1: (
        "night",
        "run_number",
        "subrun",
        "picture_threshold_pe",
        "time_s",
        "elapsed_time_s",
        "ra_deg",
        "dec_deg",
        "cos_zenith",
        "cosmics_rate_hz",
        "r422",
        "delta_r422",
        "index",
        "delta_index",
        "fit_p_value",
        "intensity_at_reference_rate_pe",
        "light_yield",
        "intensity_at_half_peak_rate_pe",
        "intensity_at_peak_rate_pe",
        "diffuse_nsb_std_pe",
    )
}
RUN_FORMAT, SUBRUN_FORMAT = max(RUN_FORMATS), max(SUBRUN_FORMATS)
#: Bytes of a number.
WIDTH = 8


@cache
def dtype_of(table: type[ColumnTable], column: str) -> np.dtype[np.generic]:
    """Return how a column is stored: int64 or float64, little-endian."""
    kinds = {item.name: "<i8" if item.type == "IntArray" else "<f8" for item in fields(table)}
    return np.dtype(kinds[column])


def pack_runs(table: RunTable) -> list[bytes]:
    """Return the quantities of each run as bytes."""
    names = RUN_FORMATS[RUN_FORMAT]
    columns = table.arrays()
    rows = np.empty((len(table), 1 + len(names)), dtype="<i8")
    rows[:, 0] = RUN_FORMAT
    for place, name in enumerate(names, start=1):
        # the bits of a float64, seen as an int64
        rows[:, place] = np.ascontiguousarray(columns[name], dtype=dtype_of(RunTable, name)).view("<i8")
    return [row.tobytes() for row in rows]


def unpack_joined(content: bytes | memoryview, width: int) -> RunTable:
    """Return stored quantities as a table, in the order given; what a format does not hold is NaN (0 for counts).

    Parameters
    ----------
    content : bytes or memoryview
        Of one or more runs, one after the other.
    width : int
        Bytes of each run.

    Raises
    ------
    DataError
        If a run has a format that this lstops does not know.
    """
    return _rows(np.frombuffer(content, dtype="<i8").reshape(-1, width // WIDTH))


def unpack_quantities(value: bytes | memoryview) -> dict[str, float | None]:
    """Return the quantities of one run by name; None where unknown (NaN)."""
    numbers = {name: column[0].item() for name, column in unpack_joined(value, len(value)).arrays().items()}
    return {name: None if math.isnan(number) else number for name, number in numbers.items()}


def _rows(rows: NDArray[np.int64]) -> RunTable:
    """Return packed rows as a table; they may be of several formats, as long as they are of one width."""
    if not len(rows):
        return RunTable.empty()
    versions = np.unique(rows[:, 0]).tolist()
    if len(versions) > 1:
        places = [np.flatnonzero(rows[:, 0] == version) for version in versions]
        joined = RunTable.concatenate([_rows(rows[place]) for place in places])
        return joined.take(np.argsort(np.concatenate(places)))
    names = RUN_FORMATS.get(versions[0])
    if names is None or rows.shape[1] != 1 + len(names):
        raise _unknown_format("quantities of runs", versions[0])
    known = {name: rows[:, place].copy() for place, name in enumerate(names, start=1)}
    kept = {item.name for item in fields(RunTable)} & set(known)
    return RunTable.partial(**{name: known[name].view(dtype_of(RunTable, name)) for name in kept})


def pack_subruns(table: SubrunTable) -> bytes:
    """Return all columns of a night's subruns as bytes."""
    columns = table.arrays()
    return b"".join(
        np.ascontiguousarray(columns[name], dtype=dtype_of(SubrunTable, name)).tobytes()
        for name in SUBRUN_FORMATS[SUBRUN_FORMAT]
    )


def subrun_offset(version: int, column: str) -> int | None:
    """Return after how many columns a column begins; None if the format does not hold it.

    Raises
    ------
    DataError
        If this lstops does not know the format.
    """
    names = SUBRUN_FORMATS.get(version)
    if names is None:
        raise _unknown_format("subruns", version)
    return names.index(column) if column in names else None


def _unknown_format(what: str, version: int) -> DataError:
    return DataError(
        f"the catalogue holds {what} in format {version}, which this lstops does not know.",
        "use the newer lstops that wrote them.",
    )
