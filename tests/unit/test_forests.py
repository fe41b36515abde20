"""Forests that several steps share are unpickled once, and only if they are still what they were."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lstops.science.forests import TOOL, preload, shared_models
from lstops.step.model import ArtifactKind, Input, Output, Step

joblib = pytest.importorskip("joblib", reason="joblib is in the science environment")


@pytest.fixture(autouse=True)
def as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(joblib, "load", joblib.load)


def dl2_step(number: int, models: str = "models/a", sha256: str | None = None, command: str = TOOL) -> Step:
    return Step(
        kind="dl2", label=f"DL2 {number}", subject=f"run {number}", commands=((command, "-p", "{in:models}"),),
        inputs=(Input(name="models", kind=ArtifactKind.MODELS, path=models, sha256=sha256),),
        outputs=(Output(name="dl2", kind=ArtifactKind.DL2, path=f"DL2/{number}.h5"),), environment="0.12.3",
    )  # fmt: skip


def test_which_forests_are_shared() -> None:
    found = shared_models([dl2_step(1), dl2_step(2)])
    assert found is not None
    assert found.path == "models/a"
    assert shared_models([dl2_step(1)]) is None
    assert shared_models([dl2_step(1), dl2_step(2, "models/b")]) is None
    assert shared_models([dl2_step(1, sha256="ab" * 32), dl2_step(2, sha256="cd" * 32)]) is None
    assert shared_models([dl2_step(1), dl2_step(2, command="lstchain_dl1ab")]) is None


def test_a_forest_is_loaded_once_and_again_when_it_has_changed(tmp_path: Path) -> None:
    path, other = tmp_path / "reg_energy.sav", tmp_path / "other.pkl"
    for file in (path, other):
        joblib.dump({"trees": [1, 2]}, file)
    assert preload(tmp_path) == 1
    first = joblib.load(path)
    assert first == {"trees": [1, 2]}
    assert joblib.load(str(path)) is first
    (tmp_path / "link").symlink_to(tmp_path)
    assert joblib.load(tmp_path / "link" / path.name) is first
    assert joblib.load(other) is not joblib.load(other)
    with path.open("rb") as stream:
        assert joblib.load(stream) is not first
    joblib.dump({"trees": [3]}, tmp_path / "new")
    os.replace(tmp_path / "new", path)
    assert joblib.load(path) == {"trees": [3]}
