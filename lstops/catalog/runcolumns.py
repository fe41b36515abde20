"""What can be told about each run of a list: columns by name, with unit, heading and values."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lstops.catalog.runlist import RunList
from lstops.errors import ConfigError
from lstops.nsb.sample import recommend
from lstops.quality.overlay import decision_words, subrun_words
from lstops.quality.quantities import RunTable
from lstops.quality.tables import IntArray


@dataclass(frozen=True)
class Column:
    """A column of a run list.

    Parameters
    ----------
    name : str
    unit : str
        Empty for pure numbers and text.
    heading : str
        Short, for a table on a terminal.
    values : callable
        Values of some rows of the history: numbers (NaN where unknown) or text, shape (n_rows,).
    digits : int
        Decimals on a terminal.
    """

    name: str
    unit: str
    heading: str
    values: Callable[[RunList, IntArray], NDArray[Any]]
    digits: int = 2

    def of(self, answer: RunList, rows: IntArray) -> list[Any]:
        """Return plain Python values of some rows; None where unknown."""
        values = self.values(answer, rows).tolist()
        return [None if isinstance(value, float) and not math.isfinite(value) else value for value in values]


def _runs(answer: RunList, rows: IntArray) -> list[int]:
    numbers: list[int] = answer.judgement.table.run_number[rows].tolist()
    return numbers


def _text(function: Callable[[RunList, int, int], str]) -> Callable[[RunList, IntArray], NDArray[Any]]:
    """Make a column of text from a function of (answer, row, run number)."""
    return lambda answer, rows: np.array(
        [function(answer, row, run) for row, run in zip(rows.tolist(), _runs(answer, rows), strict=True)], dtype=str
    )


def _number(function: Callable[[RunList, int], float | None]) -> Callable[[RunList, IntArray], NDArray[Any]]:
    """Make a column of numbers from a function of (answer, run number)."""
    return lambda answer, rows: np.array([function(answer, run) for run in _runs(answer, rows)], dtype=float)


def _monte_carlo(answer: RunList, row: int, run: int) -> str:
    return recommend(float(answer.judgement.table.mean_diffuse_nsb_std_pe[row])).value


def _extra_nsb(answer: RunList, run: int) -> float | None:
    found = answer.measured_nsb.get(run)
    return found.extra_ghz if found else None


def _tailcut(answer: RunList, row: int, run: int) -> str:
    found = answer.measured_nsb.get(run)
    return str(found.tailcut) if found else ""


def _good_time(answer: RunList, run: int) -> float | None:
    cut = (answer.good_time or {}).get(run)
    return cut.time.good_s if cut else None


def _good_subruns(answer: RunList, row: int, run: int) -> str:
    cut = (answer.good_time or {}).get(run)
    if cut is None:
        return ""
    return ",".join(subrun_words(range(part.first_subrun, part.last_subrun + 1)) for part in cut.time.intervals)


def _dropped(answer: RunList, row: int, run: int) -> str:
    return subrun_words(subrun for record in answer.overlay.get(run, ()) for subrun in record.subruns)


def _start(answer: RunList, row: int, run: int) -> str:
    start = answer.history.run_start[row]
    return start.isoformat() if start else ""


def _reasons(answer: RunList, row: int, run: int) -> str:
    return "; ".join(answer.verdict(row).reasons)


def _decision(answer: RunList, row: int, run: int) -> str:
    return decision_words(answer.overlay.get(run, ()))


_OWN = (
    Column("source_name", "", "source", _text(lambda answer, row, run: answer.history.source_name[row])),
    Column("run_start", "", "start (UTC)", _text(_start)),
    Column("zenith_deg", "deg", "zenith", lambda answer, rows: answer.judgement.table.zenith_deg[rows], 1),
    Column("selected", "", "taken", lambda answer, rows: answer.selected[rows]),
    Column("decision", "", "decision", _text(_decision)),
    Column("dropped_subruns", "", "dropped", _text(_dropped)),
    Column("reasons", "", "against it", _text(_reasons)),
    Column("monte_carlo", "", "Monte Carlo", _text(_monte_carlo)),
    Column("extra_nsb_ghz", "GHz", "extra NSB", _number(_extra_nsb)),
    Column("tailcut", "", "cleaning", _text(_tailcut)),
    Column("good_time_s", "s", "good time", _number(_good_time), 0),
    Column("good_subruns", "", "good subruns", _text(_good_subruns)),
)
_HEADINGS = {
    "run_number": ("run", 0),
    "n_subruns": ("subruns", 0),
    "elapsed_time_s": ("time", 0),
    "mean_diffuse_nsb_std_pe": ("NSB std", 2),
    "mean_believable_r422": ("R422", 2),
    "mean_index": ("index", 2),
    "mean_ra_deg": ("RA", 2),
    "mean_dec_deg": ("dec", 2),
}


def _quantity(name: str, unit: str) -> Column:
    heading, digits = _HEADINGS.get(name, (name, 3))
    return Column(name, unit, heading, lambda answer, rows: getattr(answer.judgement.table, name)[rows], digits)


#: every column by name: what is made here, and all run-wise quantities
COLUMNS: Mapping[str, Column] = {name: _quantity(name, unit) for name, unit in RunTable.units().items()} | {
    column.name: column for column in _OWN
}
#: what is shown if nothing else is asked for
DEFAULT = (
    "run_number",
    "night",
    "source_name",
    "zenith_deg",
    "elapsed_time_s",
    "mean_diffuse_nsb_std_pe",
    "monte_carlo",
    "extra_nsb_ghz",
    "tailcut",
    "mean_believable_r422",
    "mean_index",
    "decision",
)
GOOD_TIME = ("good_time_s", "good_subruns")
#: in front of a list that has good and bad runs
VERDICT = ("selected", "reasons")


def columns_named(names: Sequence[str]) -> tuple[Column, ...]:
    """Return columns by name.

    Raises
    ------
    ConfigError
        For a name that there is not.
    """
    if unknown := [name for name in names if name not in COLUMNS]:
        raise ConfigError(f"There is no column {', '.join(unknown)}.", "Choose from: " + ", ".join(COLUMNS) + ".")
    return tuple(COLUMNS[name] for name in dict.fromkeys(names))


def rows_of(answer: RunList, *, rejected: bool = False) -> IntArray:
    """Return the rows of the history that a list shows: selected runs, and with `rejected` all in question."""
    wanted = answer.in_question | answer.selected if rejected else answer.selected
    return np.flatnonzero(wanted)
