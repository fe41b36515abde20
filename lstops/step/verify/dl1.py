"""DL1 files, subrun-wise, run-wise and merged.

`expect` of an output may hold `images` (True: the image table must be there with one row an event, False: it must not)
and `simulation` (True: simulated).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tables

from lstops.errors import DataError
from lstops.nsb.tailcuts import Tailcut
from lstops.step.model import Output
from lstops.step.verify.common import Facts, InputFacts, check_count, refuse
from lstops.step.verify.hdf5 import chunks, missing_columns, opened, root_attribute, rows, table

PARAMETERS = "/dl1/event/telescope/parameters/LST_LSTCam"
IMAGES = "/dl1/event/telescope/image/LST_LSTCam"
RUN_CONFIG = "/simulation/run_config"
_COLUMNS = ("event_id", "obs_id", "intensity", "width", "length", "alt_tel", "az_tel")


def made_by(path: Path) -> str | None:
    """Version of lstchain that made a file; None if it does not say, or cannot be read (which `inspect` names)."""
    try:
        with opened(path) as file:
            return root_attribute(file, "LSTCHAIN_VERSION")
    except DataError:
        return None


def cleaned_with(path: Path) -> Tailcut | None:
    """Cleaning of the images of data, as the configuration in the table says; None if there is none."""
    import h5py

    try:
        # PyTables would unpickle an attribute that is no text
        with h5py.File(path, "r") as file:
            config = json.loads(file[PARAMETERS].attrs["config"])
        levels = config.get("tailcuts_clean_with_pedestal_threshold") or config["tailcut"]
        return Tailcut(int(levels["picture_thresh"]), int(levels["boundary_thresh"]))
    except (OSError, KeyError, TypeError, ValueError, AttributeError):
        return None


def inspect(path: Path) -> Facts:
    """Facts of a DL1 file from its tables' sizes and its first and last rows (run-wise files have millions).

    Raises
    ------
    DataError
        If it is damaged, lacks a table or column, or holds no events.
    """
    with opened(path) as file:
        parameters = table(file, PARAMETERS)
        findings = [f"table {PARAMETERS} lacks the column {name}" for name in missing_columns(parameters, _COLUMNS)]
        if parameters.nrows == 0:
            findings.append(f"table {PARAMETERS} has no rows: not one event")
        version = root_attribute(file, "LSTCHAIN_VERSION")
        if not version:
            findings.append("the root attribute LSTCHAIN_VERSION is missing")
        n_images = rows(file, IMAGES)
        if n_images not in (0, parameters.nrows):
            findings.append(f"{n_images} images for {parameters.nrows} events")
        simulation = "mc_energy" in parameters.colnames
        if simulation and rows(file, RUN_CONFIG) == 0:
            findings.append(f"simulated, but table {RUN_CONFIG} is missing or empty: no effective area can come of it")
        refuse(path, findings)
        facts: Facts = {
            "events": int(parameters.nrows),
            "lstchain_version": version,
            "images": bool(n_images),
            "simulation": simulation,
            **ends(parameters),
        }
        if simulation:
            facts["runs"] = rows(file, RUN_CONFIG)
        return facts


def check(output: Output, path: Path, inputs: Sequence[InputFacts]) -> Facts:
    """Facts of a DL1 file that was just made, every row of the parameters read.

    Raises
    ------
    DataError
        See `inspect`; also if no image survived the cleaning, or the count is not that of the inputs.
    """
    facts = inspect(path)
    with opened(path) as file:
        parameters = table(file, PARAMETERS)
        cleaned = sum(int(np.isfinite(c["width"]).sum()) for c in chunks(parameters, ["width"]))
        if facts["images"]:
            # the last rows are those that a crash loses
            table(file, IMAGES).read(max(0, parameters.nrows - 10), parameters.nrows)
    findings = []
    if cleaned == 0:
        findings.append(f"no image of {facts['events']} survived the cleaning (column width is nowhere finite)")
    for key, what in (("images", "images"), ("simulation", "simulated events")):
        wanted = output.expect.get(key)
        if wanted is not None and facts[key] is not wanted:
            findings.append(f"it must {'' if wanted else 'not '}hold {what}")
    refuse(path, findings)
    check_count(path, output, facts["events"], inputs)
    return {**facts, "cleaned": cleaned}


def ends(parameters: tables.Table) -> Facts:
    """Runs, pointing (deg) and unix times of the first and last rows of a parameter table."""
    first, last = parameters[0], parameters[parameters.nrows - 1]
    facts: Facts = {"obs_ids": sorted({int(first["obs_id"]), int(last["obs_id"])})}
    pointing = np.rad2deg([[float(r["alt_tel"]), float(r["az_tel"])] for r in (first, last)])
    if np.isfinite(pointing).all():
        facts["zd_deg"] = round(float(90 - pointing[:, 0].mean()), 4)
        facts["az_deg"] = round(float(pointing[0, 1] % 360), 4)
    if "dragon_time" in parameters.colnames:
        times = (float(first["dragon_time"]), float(last["dragon_time"]))
        if np.isfinite(times).all() and times[0] > 0:
            facts |= {"t_start": times[0], "t_stop": times[1]}
    return facts


def predictable(path: Path, features: Sequence[str], filters: Mapping[str, Sequence[float]]) -> int:
    """Number of events that `dl1_to_dl2` keeps: inside the filters, every feature finite.

    Parameters
    ----------
    features : sequence of str
        Features of the random forests; those that are no column of DL1 (they are computed later) are left out.
    filters : mapping
        `events_filters` of the configuration: column to (low, high), both included.

    Notes
    -----
    The rule is that of `lstchain.reco.utils.filter_events`. Missing pointings are imputed before it, so `alt_tel` does
    not count.
    """
    with opened(path) as file:
        parameters = table(file, PARAMETERS)
        finite = [n for n in dict.fromkeys(features) if n in parameters.colnames and n != "alt_tel"]
        limits = {n: v for n, v in filters.items() if n in parameters.colnames}
        return sum(
            int(_kept(block, finite, limits).sum()) for block in chunks(parameters, [*finite, *limits] or ["event_id"])
        )


def _kept(
    block: Mapping[str, npt.NDArray[Any]], finite: Sequence[str], limits: Mapping[str, Sequence[float]]
) -> npt.NDArray[np.bool_]:
    keep = np.ones(len(next(iter(block.values()))), dtype=bool)
    for name in finite:
        keep &= np.isfinite(block[name])
    for name, (low, high) in limits.items():
        keep &= (block[name] >= low) & (block[name] <= high)
    return keep
