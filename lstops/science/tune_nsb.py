"""Write the Monte Carlo configuration of a production whose NSB is tuned to subruns of data.

`python -m lstops.science.tune_nsb --level image --data DL1 [--data DL1 ...] --simtel SIM --update FILE --output CONFIG
[--record FILE]`

lstchain's tools want the configuration of *data*, because they process both sides with it; but what they write lacks
the integration correction of simulations (charges 12 % too low). So the tool runs with the data configuration, and only
its tuning block is taken over into the Monte Carlo configuration.

Each subrun is measured by itself. The median of each number is used; their spread says how well it is known, and is
written down with the subruns (`--record`). A subrun that cannot be used is left out, with the reason.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from lstops.errors import DataError
from lstops.science.command import exit_with, run_script
from lstops.science.mc_config import updated_mc_config


class TuningLevel(str, Enum):
    """Where the extra NSB goes."""

    IMAGE = "image"
    WAVEFORM = "waveform"

    @property
    def block(self) -> str:
        """Section of lstchain's configuration that says what is added."""
        return "image_modifier" if self is TuningLevel.IMAGE else "waveform_nsb_tuning"

    @property
    def switch(self) -> str:
        """Key of that section that turns it on."""
        return "increase_nsb" if self is TuningLevel.IMAGE else "nsb_tuning"

    @property
    def module(self) -> str:
        """lstchain's script."""
        return f"lstchain.scripts.lstchain_tune_nsb{'' if self is TuningLevel.IMAGE else '_waveform'}"


def data_configuration(standard: dict[str, Any]) -> dict[str, Any]:
    """lstchain's standard configuration with what the tools need to open simulations.

    They hand the *whole* configuration to ctapipe's EventSource, so its settings must be at the top level;
    `source_config.EventSource` is ignored. Files without an effective focal length need EQUIVALENT.
    """
    config = copy.deepcopy(standard)
    config["EventSource"] = {"focal_length_choice": "EQUIVALENT", "allowed_tels": [1]}
    return config


def tuned_configuration(mc: dict[str, Any], tuned: dict[str, Any], level: TuningLevel) -> dict[str, Any]:
    """The Monte Carlo configuration with the tuning block of the tool's result.

    Raises
    ------
    DataError
        If the block is missing, or a number of it is negative or not finite (data darker than the simulation).
    """
    block = tuned.get(level.block)
    if not isinstance(block, dict) or block.get(level.switch) is not True:
        raise DataError(
            f"{level.module} wrote no {level.block} with {level.switch}.", "read the log of the step above this line."
        )
    wrong = {k: v for k, v in block.items() if isinstance(v, float) and not (math.isfinite(v) and v >= 0)}
    if wrong:
        raise DataError(
            f"the NSB tuning gave {wrong}: the data are darker than the simulation, or the subrun is unusable.",
            "choose another typical subrun, or use the base production without tuning.",
        )
    config = copy.deepcopy(mc)
    config[level.block] = copy.deepcopy(block)
    return config


@dataclass(frozen=True)
class Combined:
    """What several subruns say.

    Attributes
    ----------
    block : dict
        The tuning block of lstchain's configuration, with the median of each number.
    values : dict
        Name -> value, standard deviation between the subruns and standard error of the mean; None with one subrun.
    """

    block: dict[str, Any]
    values: dict[str, dict[str, float | None]]


def combine(blocks: Sequence[dict[str, Any]]) -> Combined:
    """The median of each number that was measured; what is a float in no subrun is that of the first.

    Raises
    ------
    DataError
        If there is none, or two of them do not have the same numbers.
    """
    if not blocks:
        raise DataError("the NSB could not be tuned with any subrun.", "choose other runs, or no tuning.")
    if any(block.keys() != blocks[0].keys() for block in blocks):
        raise DataError("the subruns do not give the same numbers.", "tune with one subrun at a time to see which.")
    # lstchain writes a measured nothing as the integer 0
    names = [name for name in blocks[0] if any(isinstance(block[name], float) for block in blocks)]
    block, values = copy.deepcopy(blocks[0]), dict[str, dict[str, float | None]]()
    for name in names:
        measured = [float(b[name]) for b in blocks]
        spread = statistics.stdev(measured) if len(measured) > 1 else None
        block[name] = statistics.median(measured)
        error = None if spread is None else spread / math.sqrt(len(measured))
        values[name] = {"value": block[name], "spread": spread, "uncertainty": error}
    return Combined(block, values)


def measure(level: TuningLevel, data: Path, simtel: Path) -> dict[str, Any]:
    """What lstchain's tool says of one subrun.

    Raises
    ------
    DataError
        If it says nothing.
    """
    from lstchain.io.config import get_standard_config

    with tempfile.TemporaryDirectory() as folder:
        config, result = Path(folder) / "data.json", Path(folder) / "tuned.json"
        config.write_text(json.dumps(data_configuration(get_standard_config())))
        run_script(level.module, ["--config", config, "--input-mc", simtel, "--input-data", data, "-o", result])
        if not result.exists():
            raise DataError(f"{level.module} wrote nothing.", "read the log of the step above this line.")
        tuned: dict[str, Any] = json.loads(result.read_text())
    return tuned


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Tune the NSB of simulations to data.")
    parser.add_argument("--level", type=TuningLevel, choices=list(TuningLevel), required=True)
    parser.add_argument("--data", type=Path, required=True, action="append", help="subrun-wise DL1 with images")
    parser.add_argument("--simtel", type=Path, required=True, help="simulated showers with true p.e. images")
    parser.add_argument("--update", type=Path, help="JSON of changes to the Monte Carlo configuration")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--record", type=Path, help="JSON with value, uncertainty and source of each number")
    args = parser.parse_args()

    mc, level = updated_mc_config(args.update), args.level
    blocks, skipped = list[tuple[str, dict[str, Any]]](), dict[str, str]()
    for data in args.data:
        try:
            tuned = tuned_configuration(mc, measure(level, data, args.simtel), level)
            blocks.append((data.name, tuned[level.block]))
        except DataError as error:
            skipped[data.name] = error.what
            print(f"{data.name} is not used: {error}", flush=True)
            if len(args.data) == 1:
                raise
    combined = combine([block for _, block in blocks])
    args.output.write_text(json.dumps({**mc, level.block: combined.block}, indent=2))
    if args.record:
        record = {
            "section": level.block,
            "simulation": args.simtel.name,
            "values": combined.values,
            "subruns": [{"data": name, **block} for name, block in blocks],
            "skipped": skipped,
        }
        args.record.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    exit_with(main)
