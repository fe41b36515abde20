"""The subrun-wise and run-wise tables of a night's data check, as columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from lstops.errors import DataError
from lstops.night.model import Night

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

TableT = TypeVar("TableT", bound="ColumnTable")


def of(source: str, unit: str = "") -> dict[str, str]:
    """Describe a column: its name in the file (or in the notebook's output) and its unit."""
    return {"source": source, "unit": unit}


@dataclass(frozen=True, eq=False)
class ColumnTable:
    """Base of tables held as equally long numpy columns.

    Raises
    ------
    ValueError
        If the columns do not have the same length.
    """

    def __post_init__(self) -> None:
        lengths = {name: len(values) for name, values in self.arrays().items()}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"columns of different length in {type(self).__name__}: {lengths}")

    def __len__(self) -> int:
        return len(getattr(self, fields(self)[0].name))

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return the columns by name."""
        return {item.name: getattr(self, item.name) for item in fields(self)}

    @classmethod
    def units(cls) -> dict[str, str]:
        """Return the unit of each column, empty for pure numbers."""
        return {item.name: item.metadata["unit"] for item in fields(cls)}

    def take(self: TableT, rows: BoolArray | IntArray) -> TableT:
        """Return the table's rows selected by a mask or by indices."""
        return type(self)(**{name: values[rows] for name, values in self.arrays().items()})

    @classmethod
    def concatenate(cls: type[TableT], tables: Sequence[TableT]) -> TableT:
        """Return the rows of all tables, in order; an empty table for no tables."""
        if not tables:
            return cls.empty()
        names = [item.name for item in fields(cls)]
        return cls(**{name: np.concatenate([getattr(table, name) for table in tables]) for name in names})

    @classmethod
    def empty(cls: type[TableT]) -> TableT:
        """Return a table without rows."""
        return cls(
            **{item.name: np.empty(0, dtype=np.int64 if item.type == "IntArray" else float) for item in fields(cls)}
        )


@dataclass(frozen=True, eq=False)
class SubrunTable(ColumnTable):
    """Columns of `cosmics_intensity_spectrum` that the selection reads, a row a subrun.

    `r422` stands for the zenith-corrected differential rate of cosmics at 422 p.e., `index` for the spectral index
    there (NaN where the fit failed). Negative intensities (-1 to -4) are failure codes.
    """

    night: IntArray = field(metadata=of("yyyymmdd"))
    run_number: IntArray = field(metadata=of("runnumber"))
    subrun: IntArray = field(metadata=of("subrun"))
    picture_threshold_pe: FloatArray = field(metadata=of("picture_thresh", "p.e."))
    time_s: FloatArray = field(metadata=of("time", "s"))
    elapsed_time_s: FloatArray = field(metadata=of("elapsed_time", "s"))
    ra_deg: FloatArray = field(metadata=of("ra_tel", "deg"))
    dec_deg: FloatArray = field(metadata=of("dec_tel", "deg"))
    cos_zenith: FloatArray = field(metadata=of("cos_zenith"))
    cosmics_rate_hz: FloatArray = field(metadata=of("cosmics_rate", "Hz"))
    r422: FloatArray = field(metadata=of("ZD_corrected_cosmics_rate_at_422_pe", "1/(s p.e.)"))
    delta_r422: FloatArray = field(metadata=of("ZD_corrected_delta_cosmics_rate_at_422_pe", "1/(s p.e.)"))
    index: FloatArray = field(metadata=of("ZD_corrected_cosmics_spectral_index"))
    delta_index: FloatArray = field(metadata=of("delta_cosmics_spectral_index"))
    fit_p_value: FloatArray = field(metadata=of("intensity_spectrum_fit_p_value"))
    intensity_at_reference_rate_pe: FloatArray = field(metadata=of("intensity_at_reference_rate", "p.e."))
    light_yield: FloatArray = field(metadata=of("light_yield"))
    intensity_at_half_peak_rate_pe: FloatArray = field(metadata=of("ZD_corrected_intensity_at_half_peak_rate", "p.e."))
    intensity_at_peak_rate_pe: FloatArray = field(metadata=of("intensity_at_peak_rate", "p.e."))
    diffuse_nsb_std_pe: FloatArray = field(metadata=of("diffuse_nsb_std", "p.e."))


@dataclass(frozen=True, eq=False)
class RunSummaryTable(ColumnTable):
    """Columns of `runsummary` that the selection reads, a row a run."""

    run_number: IntArray = field(metadata=of("runnumber"))
    elapsed_time_s: FloatArray = field(metadata=of("elapsed_time", "s"))
    num_pedestals: FloatArray = field(metadata=of("num_pedestals"))
    num_flatfield: FloatArray = field(metadata=of("num_flatfield"))


@dataclass(frozen=True, eq=False)
class FlatfieldTable(ColumnTable):
    """Columns of `flatfield` that the selection reads, a row a subrun."""

    run_number: IntArray = field(metadata=of("runnumber"))
    subrun: IntArray = field(metadata=of("subrun"))
    charge_mean_pe: FloatArray = field(metadata=of("charge_mean", "p.e."))


@dataclass(frozen=True, eq=False)
class DatacheckNight:
    """What one night-wise data check file says.

    Parameters
    ----------
    night : Night
    path : Path
    subruns : SubrunTable
    runs : RunSummaryTable
    flatfield : FlatfieldTable or None
        None if the file has no such table (the calibration box was off all night).
    """

    night: Night
    path: Path
    subruns: SubrunTable
    runs: RunSummaryTable
    flatfield: FlatfieldTable | None

    def same_content(self, other: DatacheckNight) -> bool:
        """Tell whether another file says exactly the same about the night."""
        mine, theirs = self._tables(), other._tables()
        return self.night == other.night and all(
            (a is None) == (b is None) and (a is None or b is None or _equal(a, b))
            for a, b in zip(mine, theirs, strict=True)
        )

    def _tables(self) -> tuple[ColumnTable | None, ...]:
        return self.subruns, self.runs, self.flatfield


def _equal(one: ColumnTable, other: ColumnTable) -> bool:
    theirs = other.arrays()
    return all(np.array_equal(values, theirs[name], equal_nan=True) for name, values in one.arrays().items())


def unique_nights(nights: Sequence[DatacheckNight]) -> tuple[DatacheckNight, ...]:
    """Return the nights in order of date, a night that several files repeat word for word only once.

    Raises
    ------
    DataError
        If two files disagree about a night, or a run appears in two nights.
    """
    chosen: dict[Night, DatacheckNight] = {}
    owner: dict[int, DatacheckNight] = {}
    for item in nights:
        known = chosen.setdefault(item.night, item)
        if known is item:
            for number in np.unique(item.subruns.run_number).tolist():
                first = owner.setdefault(number, item)
                if first is not item:
                    raise DataError(
                        f"Run {number} is in two nights: {first.path} and {item.path}.",
                        "Keep the file of the night in which the run was taken.",
                    )
        elif not known.same_content(item):
            raise DataError(
                f"Two files disagree about night {item.night}: {known.path} and {item.path}.",
                "Keep the one that is right (the newest pipeline version, as a rule) and remove the other.",
            )
    return tuple(chosen[night] for night in sorted(chosen))
