"""Models, configurations, simulated events and plain files."""

from __future__ import annotations

import gzip
import importlib.metadata
import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from astropy import units
from astropy.table import QTable, Table

from lstops.errors import DataError, ProductInvalid
from lstops.step.model import ArtifactKind, Output
from lstops.step.verify import InputFacts, inspect, verify

STEMS = ("reg_energy", "cls_gh", "reg_disp_norm", "cls_disp_sign")


def output(kind: ArtifactKind, **expect: object) -> Output:
    return Output(name="out", kind=kind, path="x", expect=expect)


class Trap:
    """A pickle that leaves a mark when it is loaded."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (open, (str(self.mark), "w"))  # type: ignore[return-value]


def training_dirs(folder: Path, zd: object, az: object) -> None:
    QTable({"zd": zd, "az": az}).write(folder / "training_dirs.ecsv", format="ascii.ecsv", overwrite=True)


def test_inspecting_models_never_loads_them(tmp_path: Path) -> None:
    mark = tmp_path / "loaded"
    folder = tmp_path / "models"
    folder.mkdir()
    for stem in STEMS:
        (folder / f"{stem}.sav").write_bytes(pickle.dumps(Trap(mark)))
    training_dirs(folder, [10, 35] * units.deg, np.deg2rad([100, 257]) * units.rad)
    facts = inspect(ArtifactKind.MODELS, folder)
    assert facts["training_dirs"] == [[10.0, 100.0], [35.0, 257.0]]
    assert facts["disp_method"] == "disp_norm_sign"
    assert not mark.exists()


@pytest.mark.parametrize("stem", STEMS)
def test_a_missing_or_empty_forest(tmp_path: Path, stem: str) -> None:
    for other in STEMS:
        (tmp_path / f"{other}.sav").write_bytes(b"x")
    (tmp_path / f"{stem}.sav").write_bytes(b"")
    with pytest.raises(DataError, match=f"{stem}.sav is empty"):
        inspect(ArtifactKind.MODELS, tmp_path)
    (tmp_path / f"{stem}.sav").unlink()
    with pytest.raises(DataError, match=f"{stem}.sav is missing"):
        inspect(ArtifactKind.MODELS, tmp_path)


def test_useless_training_dirs(tmp_path: Path) -> None:
    for stem in STEMS:
        (tmp_path / f"{stem}.sav").write_bytes(b"x")
    training_dirs(tmp_path, [10, 35], [100, 257])
    with pytest.raises(DataError, match="column zd has no unit of angle"):
        inspect(ArtifactKind.MODELS, tmp_path)
    training_dirs(tmp_path, [10] * units.deg, [100] * units.deg)
    with pytest.raises(DataError, match=r"1 pointing\(s\)"):
        inspect(ArtifactKind.MODELS, tmp_path)
    Table({"zd": [1, 2] * units.deg}).write(tmp_path / "training_dirs.ecsv", format="ascii.ecsv", overwrite=True)
    with pytest.raises(DataError, match="column az is missing"):
        inspect(ArtifactKind.MODELS, tmp_path)
    (tmp_path / "training_dirs.ecsv").write_text("zd az\n1 2\n")
    with pytest.raises(DataError, match="cannot be read as ECSV"):
        inspect(ArtifactKind.MODELS, tmp_path)


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
    joblib = pytest.importorskip("joblib")
    pandas = pytest.importorskip("pandas")
    ensemble = pytest.importorskip("sklearn.ensemble")
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


def _lstchain() -> bool:
    try:
        importlib.metadata.version("lstchain")
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


@pytest.mark.skipif(not _lstchain(), reason="lstchain is not in this environment (run with the science environment)")
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


def test_configuration(tmp_path: Path) -> None:
    path = tmp_path / "c.json"
    path.write_text('{"image_modifier": {"increase_nsb": true, "extra": 2.1}, "tailcut": {"limits": [0, Infinity]}}')
    wanted = output(ArtifactKind.LSTCHAIN_CONFIG, sections=["tailcut"], values={"image_modifier.increase_nsb": True})
    assert verify(wanted, path, [])["image_modifier"]["extra"] == 2.1
    wrong = output(ArtifactKind.LSTCHAIN_CONFIG, sections=["DL3Cuts"], values={"image_modifier.increase_nsb": False})
    with pytest.raises(ProductInvalid, match=r"'DL3Cuts' is missing.*is True, not False"):
        verify(wrong, path, [])
    for text in ("", "{", "[]", "{}", "null"):
        path.write_text(text)
        with pytest.raises(DataError, match="JSON"):
            inspect(ArtifactKind.LSTCHAIN_CONFIG, path)


def test_plain_files_and_simtel(tmp_path: Path) -> None:
    path = tmp_path / "x.simtel.gz"
    with pytest.raises(DataError, match="does not exist"):
        inspect(ArtifactKind.FILE, path)
    path.touch()
    for kind in (ArtifactKind.FILE, ArtifactKind.SIMTEL):
        with pytest.raises(DataError, match="empty"):
            inspect(kind, path)
    path.write_bytes(gzip.compress(b"no simulated events"))
    assert inspect(ArtifactKind.FILE, path)["size"] > 0
    with pytest.raises(DataError, match="simulated events"):
        inspect(ArtifactKind.SIMTEL, path)
    path.write_bytes(b"\x1f\x8b\x08")
    with pytest.raises(DataError):
        inspect(ArtifactKind.SIMTEL, path)
