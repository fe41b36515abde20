"""Make the DL3 file of a run without some of its subruns.

`python -m lstops.science.drop_subruns --dl2 DL2 --dropped DL1 [--dropped DL1 ...] --output DL3 --scratch DIR -- ARGS`

ARGS are those of lstchain_create_dl3_file but for -d and -o. Run-wise files do not say which subrun an event is of.
The subrun-wise DL1 files do, to the event, by its number, which is unique in a run and the same in DL1 and DL2; the
times of the data check do not (the middle of a subrun and its length, rounded, while neighbours touch each other).
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lstops.errors import DataError
from lstops.science.command import exit_with, run_script
from lstops.science.good_time import SHOWER, DroppedSubrun, Span, correct_dl3, good_intervals
from lstops.site.layout import parse_run_file
from lstops.step.verify import dl1, dl2
from lstops.step.verify.hdf5 import CHUNK, chunks, opened, table

_TOOL = "lstchain.tools.lstchain_create_dl3_file"


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


def make_dl3(source: Path, dropped: Sequence[DroppedSubrun], output: Path, scratch: Path, words: Sequence[str]) -> None:
    """Cut the DL2 file, run lstchain's tool on what is left, and correct the times of its result.

    Parameters
    ----------
    scratch : Path
        Existing folder for the smaller DL2 file, which has the name of the whole one: lstchain reads the run from it.
    words : sequence of str
        Further arguments of lstchain_create_dl3_file.

    Raises
    ------
    DataError
        See `cut_dl2` and `good_intervals`.
    """
    rest = scratch / source.name
    out = cut_dl2(source, rest, dropped)
    numbers = [item.subrun for item in dropped]
    print(f"{out} events of the subruns {numbers} are left out", flush=True)
    intervals = good_intervals(*showers(rest), dropped, effective_time)
    run_script(_TOOL, ["-d", rest, "-o", output.parent, *words])
    correct_dl3(output, intervals, numbers)
    rest.unlink()
    for item in intervals:
        span = f"{item.span.start_s:.3f} to {item.span.stop_s:.3f}"
        print(f"good time {span}: {item.length_s:.3f} s, DEADC {item.deadc:.4f}")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Make the DL3 file of a run without some of its subruns.")
    parser.add_argument("--dl2", type=Path, required=True)
    parser.add_argument("--dropped", type=Path, action="append", required=True, help="subrun-wise DL1 file")
    parser.add_argument("--output", type=Path, required=True, help="DL3 file, named as lstchain names it")
    parser.add_argument("--scratch", type=Path, required=True, help="existing folder for a smaller DL2 file")
    parser.add_argument("words", nargs="*", metavar="-- ARGS", help="of lstchain_create_dl3_file, but for -d and -o")
    args = parser.parse_args()
    run = parse_run_file(args.dl2.name).run
    dropped = sorted((read_dropped(path, run) for path in args.dropped), key=lambda item: item.subrun)
    make_dl3(args.dl2, dropped, args.output, args.scratch, args.words)


if __name__ == "__main__":
    exit_with(main)
