"""Folders of random forests.

`expect` of an output may hold

disp_method : str
    "disp_norm_sign" (default, four files) or "disp_vector" (three files).
features : dict
    File stem ("reg_energy", ...) to the list of features, in order.
trees : dict
    File stem to the number of trees.
training_dirs : bool
    True: `training_dirs.ecsv` must be there, with units and at least two pointings.

Forests are pickles. They are loaded in `check` only: on files that the step itself has just made, in the environment
that made them. `inspect` never loads one.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lstops.errors import DataError
from lstops.step.model import Output
from lstops.step.verify.common import MAKE_AGAIN, Facts, InputFacts, refuse

TRAINING_DIRS = "training_dirs.ecsv"
_STEMS = {
    "disp_norm_sign": ("reg_energy", "cls_gh", "reg_disp_norm", "cls_disp_sign"),
    "disp_vector": ("reg_energy", "cls_gh", "reg_disp_vector"),
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
    """Facts of forests that were just trained: each is loaded and compared with what the plan expects.

    Raises
    ------
    DataError
        If one is missing, cannot be loaded, is not fitted, or has other features or another number of trees.
    """
    expect = output.expect
    method = str(expect.get("disp_method", "disp_norm_sign"))
    facts = _files(path, method)
    if expect.get("training_dirs") and not facts["training_dirs"]:
        raise DataError(
            f"{path} has no {TRAINING_DIRS}: zenith interpolation of the predictions would be off without an error.",
            "write it with `python -m lstops.science.training_dirs`.",
        )
    findings: list[str] = []
    described = {stem: _describe(path / f"{stem}.sav", findings) for stem in _STEMS[method]}
    for stem, forest in described.items():
        findings += _compare(stem, forest, expect.get("features", {}), expect.get("trees", {}))
    refuse(path, findings, "train again with the configuration of the plan; see the step's log.")
    return {
        **facts,
        "features": {stem: forest["features"] for stem, forest in described.items()},
        "trees": {stem: forest["trees"] for stem, forest in described.items()},
        "scikit_learn_version": importlib.metadata.version("scikit-learn"),
        "lstchain_version": importlib.metadata.version("lstchain"),
    }


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
    }


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
    refuse(path, findings, "write it with `python -m lstops.science.training_dirs`.")
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


def _compare(
    stem: str, forest: Mapping[str, Any], features: Mapping[str, list[str]], trees: Mapping[str, int]
) -> list[str]:
    if not forest["trees"]:
        return []
    found = []
    if stem in features and forest["features"] != list(features[stem]):
        found.append(f"{stem} has the features {forest['features']}, the configuration says {list(features[stem])}")
    if stem in trees and forest["trees"] != trees[stem]:
        found.append(f"{stem} has {forest['trees']} trees, the configuration says {trees[stem]}")
    if stem in _CLASSES and forest["classes"] != _CLASSES[stem]:
        found.append(f"{stem} knows {forest['classes']} class(es), not {_CLASSES[stem]}: wrong training files")
    return found
