"""Put beside freshly trained forests what lstchain does not: the training pointings and the configuration.

`python -m lstops.science.complete_models --models DIR --gamma DL1 --config JSON --node ZD,AZ --node ZD,AZ ...`

Without `training_dirs.ecsv` the zenith interpolation of the predictions is switched off with a mere warning. The
pointings are read from the events that were trained on and compared with the nodes that the production should have:
productions have lost their culmination node before.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from lstops.errors import DataError
from lstops.science.command import exit_with
from lstops.step.verify.common import CONFIG_IN_MODELS
from lstops.step.verify.dl1 import PARAMETERS
from lstops.step.verify.hdf5 import chunks, opened, table
from lstops.step.verify.models import TRAINING_DIRS

#: folder names have three decimals; nodes are degrees apart
TOLERANCE_DEG = 0.02

Pointing = tuple[float, float]


def pointings(path: Path) -> list[Pointing]:
    """Distinct pointings (zd, az in degrees) of the simulated events of a DL1 file.

    Raises
    ------
    DataError
        If the file cannot be read or is not simulated.
    """
    found: set[Pointing] = set()
    with opened(path) as file:
        parameters = table(file, PARAMETERS)
        if "mc_alt_tel" not in parameters.colnames:
            raise DataError(f"{path} holds no simulated events.", "give the merged training file of gammas.")
        for block in chunks(parameters, ["mc_alt_tel", "mc_az_tel"]):
            zd = 90 - np.rad2deg(block["mc_alt_tel"])
            az = np.rad2deg(block["mc_az_tel"]) % 360
            found |= {(round(float(z), 4), round(float(a), 4)) for z, a in np.unique(np.column_stack([zd, az]), axis=0)}
    return sorted(found)


def match_nodes(found: Sequence[Pointing], nodes: Sequence[Pointing]) -> None:
    """Compare the pointings of the events with the nodes of the production.

    Raises
    ------
    DataError
        Naming the nodes without events and the events of no node.
    """

    def near(one: Pointing, other: Pointing) -> bool:
        d_az = abs(one[1] - other[1]) % 360
        return abs(one[0] - other[0]) < TOLERANCE_DEG and min(d_az, 360 - d_az) < TOLERANCE_DEG

    missing = [n for n in nodes if not any(near(n, f) for f in found)]
    unknown = [f for f in found if not any(near(n, f) for n in nodes)]
    if missing or unknown:
        raise DataError(
            f"the training events are not those of the {len(nodes)} nodes: no events of {missing or 'none'}, "
            f"events of no node at {unknown or 'none'} (zenith distance and azimuth in degrees).",
            "complete the merged training file: every node of the line, the one at culmination included.",
        )


def write_training_dirs(path: Path, found: Sequence[Pointing]) -> None:
    """Write the pointings with units, as `dl1_to_dl2` reads them."""
    from astropy import units
    from astropy.table import QTable

    zd, az = (np.array(column) * units.deg for column in zip(*found, strict=True))
    QTable({"zd": zd, "az": az}).write(path, format="ascii.ecsv")


def _pointing(text: str) -> Pointing:
    zd, az = text.split(",")
    return float(zd), float(az)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Complete a folder of trained forests.")
    parser.add_argument("--models", type=Path, required=True)
    parser.add_argument("--gamma", type=Path, required=True, help="merged training file of gammas")
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--node", type=_pointing, action="append", required=True, metavar="ZD,AZ")
    args = parser.parse_args()
    found = pointings(args.gamma)
    match_nodes(found, args.node)
    if len(found) < 2:
        print("one training pointing only: no zenith interpolation, no training_dirs.ecsv", flush=True)
    else:
        write_training_dirs(args.models / TRAINING_DIRS, found)
    shutil.copyfile(args.config, args.models / CONFIG_IN_MODELS)


if __name__ == "__main__":
    exit_with(main)
