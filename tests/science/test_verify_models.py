"""Forests that were just trained: loaded, and compared with the configuration."""

from __future__ import annotations

import importlib.metadata
import json
import pickle
from pathlib import Path

import numpy as np
import pytest

from lstops.errors import ProductInvalid
from lstops.step.model import ArtifactKind, Output
from lstops.step.verify import InputFacts, verify

pytest.importorskip("lstchain", reason="needs the science environment")

STEMS = ("reg_energy", "cls_gh", "reg_disp_norm", "cls_disp_sign")


def output(kind: ArtifactKind, **expect: object) -> Output:
    return Output(name="out", kind=kind, path="x", expect=expect)


CONFIG = {
    "disp_method": "disp_norm_sign",
    "energy_regression_features": ["a", "b"],
    "particle_classification_features": ["a", "b"],
    "disp_regression_features": ["a", "b"],
    "disp_classification_features": ["a", "b"],
    **{
        f"random_forest_{n}_args": {"n_estimators": 3}
        for n in ("energy_regressor", "disp_regressor", "disp_classifier", "particle_classifier")
    },
}


def trained(folder: Path, columns: tuple[str, ...] = ("a", "b"), trees: int = 3, classes: int = 2) -> Path:
    import joblib
    import pandas
    from sklearn import ensemble

    folder.mkdir()
    x = pandas.DataFrame(np.random.default_rng(1).normal(size=(40, 2)), columns=list(columns))
    y = np.arange(40) % classes
    for stem in STEMS:
        kind = ensemble.RandomForestClassifier if stem.startswith("cls") else ensemble.RandomForestRegressor
        joblib.dump(kind(n_estimators=trees).fit(x, y), folder / f"{stem}.sav")
    return folder


@pytest.fixture
def configuration(tmp_path: Path) -> InputFacts:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(CONFIG))
    return InputFacts("config", ArtifactKind.LSTCHAIN_CONFIG, path, {})


def test_good_forests_have_facts(tmp_path: Path, configuration: InputFacts) -> None:
    facts = verify(output(ArtifactKind.MODELS), trained(tmp_path / "m"), [configuration])
    assert facts["features"]["cls_gh"] == ["a", "b"]
    assert facts["trees"] == dict.fromkeys(STEMS, 3)
    assert facts["scikit_learn_version"] == importlib.metadata.version("scikit-learn")


@pytest.mark.parametrize(
    ("forests", "reason"),
    [
        ({"columns": ("b", "a")}, r"reg_energy has the features \['b', 'a'\], the configuration says \['a', 'b'\]"),
        ({"trees": 4}, "cls_gh has 4 trees, the configuration says 3"),
        ({"classes": 1}, r"cls_gh knows 1 class\(es\), not 2"),
    ],
)
def test_wrong_forests(tmp_path: Path, configuration: InputFacts, forests: dict[str, object], reason: str) -> None:
    with pytest.raises(ProductInvalid, match=reason):
        verify(output(ArtifactKind.MODELS), trained(tmp_path / "m", **forests), [configuration])  # type: ignore[arg-type]


def test_forests_that_are_none(tmp_path: Path, configuration: InputFacts) -> None:
    folder = trained(tmp_path / "m")
    whole = (folder / "cls_gh.sav").read_bytes()
    (folder / "cls_gh.sav").write_bytes(whole[: len(whole) // 2])
    (folder / "reg_energy.sav").write_bytes(pickle.dumps({"not": "a forest"}))
    with pytest.raises(ProductInvalid) as caught:
        verify(output(ArtifactKind.MODELS), folder, [configuration])
    assert "cls_gh.sav is no fitted forest" in caught.value.what
    assert "reg_energy.sav is no fitted forest" in caught.value.what
    with pytest.raises(ProductInvalid, match=r"no training_dirs\.ecsv"):
        verify(output(ArtifactKind.MODELS, training_dirs=True), folder, [configuration])
