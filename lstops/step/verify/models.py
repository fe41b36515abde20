"""Folders of random forests.

Features (names and order), numbers of trees and the way the direction is reconstructed are compared with the lstchain
configuration among the step's inputs. `expect` of an output may hold `training_dirs` (True: `training_dirs.ecsv` must
be there, with units and at least two pointings) and `trainer` (of `lstops.site.model.Trainer`; lstchain unless given).

Forests are pickles. They are loaded in `check` only: on files that the step itself has just made, in the environment
that made them. `inspect` never loads one.
"""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lstops.errors import DataError
from lstops.production.trainer import TRAINER_FILE
from lstops.site.model import Trainer
from lstops.step.model import ArtifactKind, Output
from lstops.step.verify.common import CONFIG_IN_MODELS, MAKE_AGAIN, Facts, InputFacts, refuse
from lstops.step.verify.lstchain_config import read_config

TRAINING_DIRS = "training_dirs.ecsv"
_STEMS = {
    "disp_norm_sign": ("reg_energy", "cls_gh", "reg_disp_norm", "cls_disp_sign"),
    "disp_vector": ("reg_energy", "cls_gh", "reg_disp_vector"),
}
#: by forest: keys of its features and of its settings in lstchain's configuration (lstchain/reco/dl1_to_dl2.py)
_KEYS = {
    "reg_energy": ("energy_regression_features", "random_forest_energy_regressor_args"),
    "cls_gh": ("particle_classification_features", "random_forest_particle_classifier_args"),
    "reg_disp_norm": ("disp_regression_features", "random_forest_disp_regressor_args"),
    "reg_disp_vector": ("disp_regression_features", "random_forest_disp_regressor_args"),
    "cls_disp_sign": ("disp_classification_features", "random_forest_disp_classifier_args"),
}
#: a classifier that knows one class only was trained on one kind of events (gammas given as protons, for instance)
_CLASSES = {"cls_gh": 2, "cls_disp_sign": 2}


def inspect(path: Path) -> Facts:
    """Which forests are in the folder, and the training pointings; no pickle is loaded.

    Raises
    ------
    DataError
        If it is no folder, a forest is missing or empty, or `training_dirs.ecsv` is there but useless.
    """
    method = "disp_vector" if (path / "reg_disp_vector.sav").is_file() else "disp_norm_sign"
    return _files(path, method)


def check(output: Output, path: Path, inputs: Sequence[InputFacts]) -> Facts:
    """Facts of forests that were just trained: each is loaded and compared with the configuration.

    Raises
    ------
    DataError
        If one is missing, cannot be loaded, is not fitted, or has other features or another number of trees.
    """
    config = configuration(inputs)
    method = str(config.get("disp_method", "disp_norm_sign"))
    facts = _files(path, method)
    if output.expect.get("training_dirs") and not facts["training_dirs"]:
        raise DataError(
            f"{path} has no {TRAINING_DIRS}: zenith interpolation of the predictions would be off without an error.",
            "write it with `python -m lstops.science.complete_models`.",
        )
    findings: list[str] = []
    described = {stem: _describe(path / f"{stem}.sav", findings) for stem in _STEMS[method]}
    for stem, forest in described.items():
        findings += _compare(stem, forest, config)
    wanted = str(output.expect.get("trainer", Trainer.LSTCHAIN.value))
    if facts["trainer"] != wanted:
        findings.append(f"they were trained by {facts['trainer']}, not {wanted}")
    refuse(path, findings, "train again with the configuration of the plan; see the step's log.")
    return {
        **facts,
        "features": {stem: forest["features"] for stem, forest in described.items()},
        "trees": {stem: forest["trees"] for stem, forest in described.items()},
        "scikit_learn_version": importlib.metadata.version("scikit-learn"),
        "lstchain_version": importlib.metadata.version("lstchain"),
    }


def configuration(inputs: Sequence[InputFacts]) -> dict[str, Any]:
    """The lstchain configuration among the inputs: a file of its own, or the copy in a folder of models.

    Returns
    -------
    dict
        Empty if there is none.
    """
    for item in inputs:
        if item.kind is ArtifactKind.LSTCHAIN_CONFIG:
            return read_config(item.path)
    for item in inputs:
        if item.kind is ArtifactKind.MODELS and (item.path / CONFIG_IN_MODELS).is_file():
            return read_config(item.path / CONFIG_IN_MODELS)
    return {}


def _files(path: Path, method: str) -> Facts:
    if not path.is_dir():
        raise DataError(f"{path} is not a folder of models.", "correct the path, or train the models.")
    findings = []
    for stem in _STEMS[method]:
        file = path / f"{stem}.sav"
        if not file.is_file():
            findings.append(f"{file.name} is missing")
        elif file.stat().st_size == 0:
            findings.append(f"{file.name} is empty")
    refuse(path, findings)
    pointings = path / TRAINING_DIRS
    return {
        "disp_method": method,
        "files": sorted(f.name for f in path.iterdir() if f.is_file()),
        "training_dirs": training_pointings(pointings) if pointings.exists() else [],
        **_training(path / TRAINER_FILE),
    }


def _training(path: Path) -> Facts:
    """Who trained them, and with which versions and seeds as far as that is written down."""
    if not path.exists():
        return {"trainer": Trainer.LSTCHAIN.value}
    try:
        return {"trainer": json.loads(path.read_text())["trainer"], "training": json.loads(path.read_text())}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} does not say who trained these forests ({error}).", MAKE_AGAIN) from error


def training_pointings(path: Path) -> list[list[float]]:
    """Training pointings, (zd, az) in degrees.

    Raises
    ------
    DataError
        If the file cannot be read, a column or its unit is missing, or there are fewer than two rows (`dl1_to_dl2` then
        fails and leaves a stub).
    """
    from astropy import units
    from astropy.table import QTable

    try:
        read = QTable.read(path, format="ascii.ecsv")
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read as ECSV ({error}).", MAKE_AGAIN) from error
    findings = []
    for name in ("zd", "az"):
        if name not in read.colnames:
            findings.append(f"the column {name} is missing")
        elif not (getattr(read[name], "unit", None) or units.one).is_equivalent(units.deg):
            findings.append(f"the column {name} has no unit of angle")
    if len(read) < 2:
        findings.append(f"it has {len(read)} pointing(s), interpolation needs at least two")
    refuse(path, findings, "write it with `python -m lstops.science.complete_models`.")
    zd, az = read["zd"].to_value("deg"), read["az"].to_value("deg")
    return [[round(float(z), 5), round(float(a), 5)] for z, a in zip(zd, az, strict=True)]


def _describe(path: Path, findings: list[str]) -> dict[str, Any]:
    import joblib

    try:
        forest = joblib.load(path)
        return {
            "features": [str(f) for f in forest.feature_names_in_],
            "trees": len(forest.estimators_),
            "classes": len(getattr(forest, "classes_", ())),
        }
    # unpickling may raise anything; whatever it is, the file is no forest
    except Exception as error:  # noqa: BLE001
        findings.append(f"{path.name} is no fitted forest ({type(error).__name__}: {error})")
        return {"features": [], "trees": 0, "classes": 0}


def _compare(stem: str, forest: Mapping[str, Any], config: Mapping[str, Any]) -> list[str]:
    if not forest["trees"]:
        return []
    found = []
    features_key, settings_key = _KEYS[stem]
    features = config.get(features_key)
    if features is not None and forest["features"] != features:
        found.append(f"{stem} has the features {forest['features']}, the configuration says {features}")
    trees = config.get(settings_key, {}).get("n_estimators")
    if trees is not None and forest["trees"] != trees:
        found.append(f"{stem} has {forest['trees']} trees, the configuration says {trees}")
    if stem in _CLASSES and forest["classes"] != _CLASSES[stem]:
        found.append(f"{stem} knows {forest['classes']} class(es), not {_CLASSES[stem]}: wrong training files")
    return found
