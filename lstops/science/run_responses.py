"""The intensity cut of one run, and the responses of its nodes made anew with it.

`python -m lstops.science.run_responses --dl2 DL2 --cuts CUTS --effective OUT --gamma DL2MC --irf IRF [--gamma ...]`

The trigger threshold moves with the atmosphere and the sky, that of the simulation does not. lstchain
(`get_intensity_cut`) finds the intensity at which the rate of a run has risen to half of its peak and recommends 1.3
times that, at least 50 p.e., as the lower limit for data *and* simulation. Subruns that are left out of the DL3
(`--dropped DL1`), such as a cloud, have no say in it. The cut set with this limit is written, for the DL3 tool, and
used here for the responses.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lstops.errors import DataError
from lstops.reduction.cuts import CutSet, load_cuts
from lstops.science.command import exit_with, run_script
from lstops.science.drop_subruns import read_dropped
from lstops.science.good_time import DroppedSubrun
from lstops.site.layout import parse_run_file

TOOL = "lstchain.tools.lstchain_create_irf_files"


def recommended_pe(dl2: Path, dropped: Sequence[DroppedSubrun] = ()) -> float | None:
    """The lower limit of the intensity (p.e.) that lstchain recommends for a run; None if it finds no turn-on.

    Parameters
    ----------
    dropped : sequence of DroppedSubrun
        Whose events do not count.

    Raises
    ------
    DataError
        If this version of lstchain cannot tell.
    """
    try:
        from lstchain.io import read_data_dl2_to_QTable
        from lstchain.reco.utils import get_intensity_cut
    except ImportError as error:
        raise DataError(
            f"this version of lstchain recommends no intensity cut ({error}).",
            "use a cut set without lstops.intensity_per_run.",
        ) from error
    events, _ = read_data_dl2_to_QTable(dl2)
    for item in dropped:
        events = events[~np.isin(events["event_id"], item.event_ids)]
    value = float(get_intensity_cut(events))
    return value if math.isfinite(value) else None


def with_intensity(cuts: CutSet, run: int, recommended: float | None) -> dict[str, Any]:
    """The cut set of one run.

    The limit is never below that of the cut set, and is its limit where lstchain finds none; `lstops.intensity` of the
    result says which of these it was.
    """
    document: dict[str, Any] = json.loads(cuts.text)
    filters = document["EventSelector"]["filters"]
    low, high = filters["intensity"]
    limit = low if recommended is None else max(low, round(recommended, 2))
    if recommended is None:
        source = "the cut set: the rate of this run has no clear turn-on"
    else:
        source = "the run" if limit > low else "the cut set: the run would allow less"
    filters["intensity"] = [limit, high]
    said = {"run": run, "limit_pe": limit, "from": source, "recommended_pe": recommended, "cut_set": cuts.digest}
    document["lstops"]["intensity"] = said
    return document


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="The intensity cut of a run, and responses with it.")
    parser.add_argument("--dl2", type=Path, required=True, help="of the run")
    parser.add_argument("--dropped", type=Path, action="append", default=[], help="DL1 file of a subrun to leave out")
    parser.add_argument("--cuts", type=Path, required=True, help="cut set (JSON)")
    parser.add_argument("--effective", type=Path, required=True, help="where the cut set of the run goes")
    parser.add_argument("--gamma", type=Path, action="append", required=True, help="DL2 of a node's test gammas")
    parser.add_argument("--irf", type=Path, action="append", required=True, help="response of that node")
    args = parser.parse_args()
    run = parse_run_file(args.dl2.name).run
    dropped = [read_dropped(path, run) for path in args.dropped]
    made = with_intensity(load_cuts(args.cuts), run, recommended_pe(args.dl2, dropped))
    args.effective.write_text(json.dumps(made, indent=2) + "\n")
    print(f"run {run}: {made['lstops']['intensity']}", flush=True)
    for gamma, irf in zip(args.gamma, args.irf, strict=True):
        run_script(TOOL, ["-g", gamma, "-o", irf, "--overwrite", "--config", args.effective])


if __name__ == "__main__":
    exit_with(main)
