"""Write the Monte Carlo configuration of a production whose NSB is tuned to a subrun of data.

`python -m lstops.science.tune_nsb --level image --data DL1 --simtel SIM --update FILE --output CONFIG`

lstchain's tools want the configuration of *data*, because they process both sides with it; but what they write lacks
the integration correction of simulations (charges 12 % too low). So the tool runs with the data configuration, and only
its tuning block is taken over into the Monte Carlo configuration.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import tempfile
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


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Tune the NSB of simulations to data.")
    parser.add_argument("--level", type=TuningLevel, choices=list(TuningLevel), required=True)
    parser.add_argument("--data", type=Path, required=True, help="subrun-wise DL1 with images")
    parser.add_argument("--simtel", type=Path, required=True, help="simulated showers with true p.e. images")
    parser.add_argument("--update", type=Path, help="JSON of changes to the Monte Carlo configuration")
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()

    from lstchain.io.config import get_standard_config

    mc = updated_mc_config(args.update)
    with tempfile.TemporaryDirectory() as folder:
        config, result = Path(folder) / "data.json", Path(folder) / "tuned.json"
        config.write_text(json.dumps(data_configuration(get_standard_config())))
        run_script(
            args.level.module,
            ["--config", config, "--input-mc", args.simtel, "--input-data", args.data, "-o", result],
        )
        if not result.exists():
            raise DataError(f"{args.level.module} wrote nothing.", "read the log of the step above this line.")
        tuned = tuned_configuration(mc, json.loads(result.read_text()), args.level)
    args.output.write_text(json.dumps(tuned, indent=2))


if __name__ == "__main__":
    exit_with(main)
