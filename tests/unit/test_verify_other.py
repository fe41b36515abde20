"""Models, configurations, simulated events and plain files."""

from __future__ import annotations

import gzip
import pickle
from pathlib import Path

import numpy as np
import pytest
from astropy import units
from astropy.table import QTable, Table

from lstops.errors import DataError, ProductInvalid
from lstops.step.model import ArtifactKind, Output
from lstops.step.verify import inspect, verify

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
