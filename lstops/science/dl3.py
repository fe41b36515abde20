"""Make the DL3 file of a run with lstchain's tool, so that it depends on the run and not on the moment.

`python -m lstops.science.dl3 --dl2 DL2 --output DL3 --scratch DIR [--dropped DL1 ...] -- ARGS`

ARGS are those of lstchain_create_dl3_file but for -d and -o. The tool interpolates the responses to the angle between
the pointing and the geomagnetic field *of the moment at which it runs*; here it is that of the middle of the run
(ADR 0007). Subruns that are left out: see `lstops.science.drop_subruns`.
"""

from __future__ import annotations

import argparse
import contextlib
import inspect
from collections.abc import Iterator, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from lstops.science.command import exit_with, run_script
from lstops.science.drop_subruns import cut_dl2, effective_time, read_dropped, showers
from lstops.science.good_time import DroppedSubrun, Interval, correct_dl3, good_intervals, is_told
from lstops.site.layout import parse_run_file

TOOL = "lstchain.tools.lstchain_create_dl3_file"
_COORDINATES = {"RADESYS": "ICRS", "EQUINOX": 2000.0}


@contextlib.contextmanager
def field_of(unix_s: float) -> Iterator[None]:
    """Have lstchain take the geomagnetic field of a time (s since 1970) where it would take the present one.

    A version of lstchain whose field does not change with time is left as it is.
    """
    from astropy.time import Time
    from lstchain.reco import utils

    original = getattr(utils, "get_geomagnetic_field_orientation", None)
    if original is None or "time" not in inspect.signature(original).parameters:
        yield
        return
    moment = Time(unix_s, format="unix")

    def at_that_time(time: Any = None) -> Any:
        return original(moment if time is None else time)

    utils.get_geomagnetic_field_orientation = at_that_time
    try:
        yield
    finally:
        utils.get_geomagnetic_field_orientation = original


def complete(path: Path) -> None:
    """Say which coordinates the events have, which GADF 0.3 demands and lstchain leaves out (it makes them ICRS)."""
    from astropy.io import fits

    with fits.open(path, mode="update") as hdus:
        for key, value in _COORDINATES.items():
            hdus["EVENTS"].header.setdefault(key, value)


def make_dl3(source: Path, dropped: Sequence[DroppedSubrun], output: Path, scratch: Path, words: Sequence[str]) -> None:
    """Run lstchain's tool; without some subruns on what is left of the DL2 file.

    The times of its result are corrected if the run has holes: dropped subruns, or interruptions of the data.

    Parameters
    ----------
    scratch : Path
        Existing folder for a smaller DL2 file, which has the name of the whole one: lstchain reads the run from it.
    words : sequence of str
        Further arguments of lstchain_create_dl3_file.

    Raises
    ------
    DataError
        See `cut_dl2` and `good_intervals`.
    """
    times, deltas = showers(source)
    middle_s = float(times.min() + times.max()) / 2
    print(f"geomagnetic field of {datetime.fromtimestamp(middle_s, timezone.utc):%Y-%m-%d %H:%M:%S} UTC", flush=True)
    if not dropped:
        intervals = good_intervals(times, deltas, (), effective_time)
        with field_of(middle_s):
            run_script(TOOL, ["-d", source, "-o", output.parent, *words])
        if not is_told(output, intervals):
            correct_dl3(output, intervals, ())
            _say(intervals)
        complete(output)
        return
    rest = scratch / source.name
    out = cut_dl2(source, rest, dropped)
    numbers = [item.subrun for item in dropped]
    print(f"{out} events of the subruns {numbers} are left out", flush=True)
    intervals = good_intervals(*showers(rest), dropped, effective_time)
    with field_of(middle_s):
        run_script(TOOL, ["-d", rest, "-o", output.parent, *words])
    correct_dl3(output, intervals, numbers)
    complete(output)
    rest.unlink()
    _say(intervals)


def _say(intervals: Sequence[Interval]) -> None:
    for item in intervals:
        span = f"{item.span.start_s:.3f} to {item.span.stop_s:.3f}"
        print(f"good time {span}: {item.length_s:.3f} s, DEADC {item.deadc:.4f}")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Make the DL3 file of a run.")
    parser.add_argument("--dl2", type=Path, required=True)
    parser.add_argument("--dropped", type=Path, action="append", default=[], help="DL1 file of a subrun to leave out")
    parser.add_argument("--output", type=Path, required=True, help="DL3 file, named as lstchain names it")
    parser.add_argument("--scratch", type=Path, required=True, help="existing folder for a smaller DL2 file")
    parser.add_argument("words", nargs="*", metavar="-- ARGS", help="of lstchain_create_dl3_file, but for -d and -o")
    args = parser.parse_args()
    run = parse_run_file(args.dl2.name).run
    dropped = sorted((read_dropped(path, run) for path in args.dropped), key=lambda item: item.subrun)
    make_dl3(args.dl2, dropped, args.output, args.scratch, args.words)


if __name__ == "__main__":
    exit_with(main)
