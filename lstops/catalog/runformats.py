"""A run list as text: for a person, and as csv, ecsv and json for programs."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Sequence
from io import StringIO
from typing import TYPE_CHECKING, Any

import numpy as np

from lstops.catalog.runcolumns import Column
from lstops.catalog.runlist import RunList
from lstops.quality.tables import FloatArray, IntArray

if TYPE_CHECKING:
    from astropy.table import Table

#: of a bar in the histogram, in characters
_BAR = 40
_WIDTHS_PE = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
_MOST_BINS = 14
#: ECSV's units are those of astropy, which counts photoelectrons as electrons
_ASTROPY_UNITS = {
    "p.e.": "electron",
    "1/(s p.e.)": "1 / (s electron)",
    "1/(s p.e.)^2": "1 / (s2 electron2)",
    "sigma": "",
}


def as_csv(answer: RunList, columns: Sequence[Column], rows: IntArray) -> str:
    """Return comma-separated values; units stand in brackets behind the names of the columns."""
    stream = StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow([f"{c.name} [{c.unit}]" if c.unit else c.name for c in columns])
    writer.writerows(zip(*(column.of(answer, rows) for column in columns), strict=True))
    return stream.getvalue()


def as_astropy(answer: RunList, columns: Sequence[Column], rows: IntArray) -> Table:
    """Return an astropy table with units (photoelectrons as electrons) and the question in its meta data."""
    from astropy.table import Column as AstropyColumn
    from astropy.table import Table

    table = Table()
    for column in columns:
        unit = _ASTROPY_UNITS.get(column.unit, column.unit) or None
        table[column.name] = AstropyColumn(column.values(answer, rows), unit=unit)
    table.meta.update(_summary(answer))
    return table


def as_ecsv(answer: RunList, columns: Sequence[Column], rows: IntArray) -> str:
    """Return the list as ECSV, which `astropy.table.Table.read` understands."""
    stream = StringIO()
    as_astropy(answer, columns, rows).write(stream, format="ascii.ecsv", delimiter=",")
    return stream.getvalue()


def as_json(answer: RunList, columns: Sequence[Column], rows: IntArray) -> str:
    """Return the list with all that is said about it; null where something is unknown."""
    values = zip(*(column.of(answer, rows) for column in columns), strict=True)
    document = _summary(answer) | {
        "units": {column.name: column.unit for column in columns if column.unit},
        "runs": [dict(zip((c.name for c in columns), row, strict=True)) for row in values],
        "rejected": [
            {"run_number": item.run_number, "night": int(item.verdict.night or 0), "reasons": list(item.reasons)}
            for item in answer.rejected
        ],
    }
    return json.dumps(document, indent=1, allow_nan=False) + "\n"


def _summary(answer: RunList) -> dict[str, Any]:
    summary: dict[str, Any] = {
        "profile": answer.profile.name,
        "request": answer.judgement.request.model_dump(mode="json", by_alias=True),
        "hours": answer.hours,
        "nights": [{"night": int(item.night), "runs": item.n_runs, "hours": item.hours} for item in answer.nights],
        "nsb": {
            "median_pe": None if math.isnan(answer.nsb.median_pe) else answer.nsb.median_pe,
            "recommendation": answer.nsb.recommendation.value,
            "runs_without": answer.nsb.n_runs_without,
        },
        "cut_flow": [{"cut": c, "pass": n, "left": left} for c, n, left in answer.judgement.cut_flow()],
    }
    if answer.good_time is not None:
        summary |= {"hours_gained": answer.hours_gained, "hours_trimmed": answer.hours_trimmed}
    return summary


def why_nothing(answer: RunList) -> str:
    """Return where the runs were lost, for a selection that is empty."""
    if not len(answer.history):
        return "No run is selected: the catalogue has no run in these nights (`lstops nights` lists what it has)."
    for name, _, left in answer.judgement.cut_flow():
        if not left:
            return f"No run is selected: of {len(answer.history)} runs none is left after {name}."
    return "No run is selected: those that pass all cuts are excluded by people."


def histogram(values_pe: FloatArray) -> tuple[tuple[float, float, int], ...]:
    """Return bins (from, to, number) of NSB levels in round steps; the last one also holds what is far above.

    Parameters
    ----------
    values_pe : array of float
        NaN and infinite values are left out.
    """
    values = np.sort(values_pe[np.isfinite(values_pe)])
    if not len(values):
        return ()
    low, high = float(values[0]), float(values[int(0.98 * (len(values) - 1))])
    width = next((w for w in _WIDTHS_PE if (high - low) / w < _MOST_BINS - 1), _WIDTHS_PE[-1])
    first = math.floor(low / width + 1e-9)
    last = min(math.floor(high / width + 1e-9), first + _MOST_BINS - 1)
    places = np.clip(np.floor(values / width + 1e-9).astype(np.int64), first, last)
    counts = np.bincount(places - first, minlength=last - first + 1).tolist()
    edges = [round((first + i) * width, 2) for i in range(len(counts) + 1)]
    edges[-1] = max(edges[-1], float(values[-1]))
    return tuple(zip(edges[:-1], edges[1:], counts, strict=True))


def bars(values_pe: FloatArray) -> list[str]:
    """Return the histogram as lines of text."""
    bins = histogram(values_pe)
    most = max((count for *_, count in bins), default=0)
    lines = ((f"  {low:6.2f} to {high:6.2f} p.e. {count:5d} ", _BAR * count / most) for low, high, count in bins)
    return [(said + "#" * math.ceil(length)).rstrip() for said, length in lines]
