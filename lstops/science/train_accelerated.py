"""lstchain's training with the accelerator in the place of scikit-learn's search for splits.

`python -m lstops.science.train_accelerated --fg GAMMA --fp PROTON -o DIR -c CONFIG`, as `lstchain_mc_trainpipe`, which
does all the rest. Beside the forests goes `trainer.json`: what trained them, in which versions, with which seeds.
Without the accelerator nothing is read or written.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
from pathlib import Path
from typing import Any

from lstops.production.trainer import SEED, TRAINER_FILE
from lstops.science.accelerated_forests import ACCELERATOR, accelerated, accelerator_version
from lstops.science.command import exit_with, run_script
from lstops.site.model import Trainer
from lstops.step.manifest import write_atomically

_TRAINING = "lstchain.scripts.lstchain_mc_trainpipe"


def train(gamma: Path, proton: Path, models: Path, config: Path) -> None:
    """Train all forests and say how.

    Raises
    ------
    ConfigError
        If the accelerator is not installed, or the configuration asks for what it cannot do.
    """
    import numpy as np

    version = accelerator_version()
    # lstchain splits the gammas of the classifier with numpy's global generator, and sets no seed
    np.random.seed(SEED)
    with accelerated():
        run_script(_TRAINING, ["--fg", gamma, "--fp", proton, "-o", models, "-c", config])
    record = {
        "trainer": Trainer.ACCELERATED.value,
        "versions": {
            ACCELERATOR: version,
            **{name: importlib.metadata.version(name) for name in ("lstchain", "scikit-learn", "numpy")},
        },
        "seeds": {"split": SEED, **_seeds(json.loads(config.read_text()))},
    }
    write_atomically(models / TRAINER_FILE, json.dumps(record, indent=1) + "\n")


def _seeds(config: dict[str, Any]) -> dict[str, Any]:
    """By forest: the seed in the configuration; None is lstchain's default for what the configuration leaves out."""
    found = {name: section for name, section in config.items() if name.startswith("random_forest_") and "args" in name}
    return {name: section.get("random_state") for name, section in found.items()}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Train forests with the accelerator.")
    parser.add_argument("--fg", type=Path, required=True, help="merged training file of gammas")
    parser.add_argument("--fp", type=Path, required=True, help="merged training file of protons")
    parser.add_argument("-o", dest="models", type=Path, required=True, help="folder of the forests")
    parser.add_argument("-c", dest="config", type=Path, required=True, help="lstchain configuration")
    options = parser.parse_args()
    train(options.fg, options.fp, options.models, options.config)


if __name__ == "__main__":
    exit_with(main)
