"""Which events are of the subruns that are left out of a DL3 file, and the DL2 file without them.

Run-wise files do not say which subrun an event is of. The subrun-wise DL1 files do, to the event, by its number, which
is unique in a run and the same in DL1 and DL2; the times of the data check do not (the middle of a subrun and its
length, rounded, while neighbours touch each other).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lstops.errors import DataError
from lstops.science.good_time import SHOWER, DroppedSubrun, Span
from lstops.site.layout import parse_run_file
from lstops.step.verify import dl1, dl2
from lstops.step.verify.hdf5 import CHUNK, chunks, opened, table


def read_dropped(path: Path, run: int) -> DroppedSubrun:
    """Which events a subrun has, and when it was taken.

    Raises
    ------
    DataError
        If the file is damaged, no subrun, of another run, or without times.
    """
    subrun = parse_run_file(path.name).subrun
    if subrun is None:
        raise DataError(f"{path} is no subrun.", "name the subrun-wise DL1 files.")
    ids, times, runs = [], [], set()
    with opened(path) as file:
        for block in chunks(table(file, dl1.PARAMETERS), ["event_id", "obs_id", "dragon_time"]):
            ids.append(block["event_id"])
            times.append(block["dragon_time"])
            runs |= set(np.unique(block["obs_id"]).tolist())
    if runs != {run}:
        raise DataError(f"{path} holds the runs {sorted(runs)}, not run {run}.", "name subruns of the run.")
    when = np.concatenate(times)
    when = when[np.isfinite(when) & (when > 0)]
    if not len(when):
        raise DataError(f"{path} holds no event with a time.", "exclude the run: its good time cannot be told.")
    return DroppedSubrun(subrun, np.unique(np.concatenate(ids)), Span(float(when.min()), float(when.max())))


def cut_dl2(source: Path, target: Path, dropped: Sequence[DroppedSubrun]) -> int:
    """Write the events that are not of dropped subruns into a new DL2 file; returns how many were left out.

    Raises
    ------
    DataError
        If nothing is left.
    """
    import tables

    out = 0
    with opened(source) as old, tables.open_file(str(target), "w") as new:
        old.root._v_attrs._f_copy(new.root)
        events = table(old, dl2.PARAMETERS)
        where, name = dl2.PARAMETERS.rsplit("/", 1)
        kept = new.create_table(where, name, events.description, filters=events.filters, createparents=True)
        events.attrs._f_copy(kept)
        for start in range(0, events.nrows, CHUNK):
            block = events.read(start, min(start + CHUNK, events.nrows))
            drop = np.zeros(len(block), dtype=bool)
            for item in dropped:
                drop |= np.isin(block["event_id"], item.event_ids)
            kept.append(block[~drop])
            out += int(drop.sum())
        if out == events.nrows:
            raise DataError(f"nothing is left of {source} without its dropped subruns.", "exclude the run.")
    return out


def showers(path: Path) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Time of each shower of a DL2 file (s since 1970), and since the triggered event before it (s)."""
    times, deltas = [], []
    with opened(path) as file:
        for block in chunks(table(file, dl2.PARAMETERS), ["dragon_time", "delta_t", "event_type"]):
            shower = block["event_type"] == SHOWER
            times.append(block["dragon_time"][shower])
            deltas.append(block["delta_t"][shower])
    return np.concatenate(times), np.concatenate(deltas)


def effective_time(times_s: NDArray[np.float64], delta_t_s: NDArray[np.float64]) -> tuple[float, float]:
    """Effective and elapsed time of showers (s) as lstchain has them."""
    from astropy.table import Table
    from lstchain.reco.utils import get_effective_time

    rows = Table({"dragon_time": times_s, "delta_t": delta_t_s, "event_type": np.full(len(times_s), SHOWER)})
    effective, elapsed = get_effective_time(rows)
    return float(effective.to_value("s")), float(elapsed.to_value("s"))
