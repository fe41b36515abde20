"""Forests grown by the accelerator: scikit-learn's own in every respect, and as good."""

from __future__ import annotations

import importlib.util
import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest

from lstops.errors import ConfigError, ProductInvalid
from lstops.production.trainer import TRAINER_FILE
from lstops.step.model import ArtifactKind, Output
from lstops.step.verify import verify

pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("lstchain") is None, reason="needs the science environment"),
    pytest.mark.skipif(importlib.util.find_spec("sklearnex") is None, reason="needs requirements/accelerator.lock"),
]
N_GAMMAS = 1500
SETTINGS = {"n_estimators": 12, "max_depth": 12, "min_samples_leaf": 10, "random_state": 3}

#: loads forests with the accelerator out of reach, as in an environment that lacks it, and predicts
_LOAD = """
import sys
sys.modules["sklearnex"] = sys.modules["daal4py"] = sys.modules["onedal"] = None
import joblib, numpy
forest = joblib.load(sys.argv[1])
features = numpy.load(sys.argv[2])
import pandas
predicted = forest.predict(pandas.DataFrame(features, columns=list(forest.feature_names_in_)))
print(type(forest).__module__, type(forest.estimators_[0]).__module__, float(predicted.mean()))
"""


def events(seed: int, number: int = 4000) -> tuple[Any, Any, Any, Any]:
    """Features, something to regress, a class (gammas first), and unequal weights."""
    import pandas as pd

    random = np.random.default_rng(seed)
    features = pd.DataFrame(random.normal(size=(number, 4)), columns=["a", "b", "c", "d"])
    kind = np.repeat([0, 101], [N_GAMMAS, number - N_GAMMAS])
    features["a"] += kind == 0
    value = features["a"] * features["b"] + 0.1 * random.normal(size=number)
    return features, value, kind, random.choice([0.5, 1.0, 2.0], number)


def trained(kind: str, jobs: int = 1, fast: bool = True, **settings: Any) -> Any:
    from sklearn import ensemble

    from lstops.science.accelerated_forests import accelerated

    features, value, classes, weights = events(1)
    forest = getattr(ensemble, kind)(**{**SETTINGS, **settings}, n_jobs=jobs)
    target = value if kind.endswith("Regressor") else classes
    if fast:
        with accelerated():
            return forest.fit(features, target, sample_weight=weights)
    return forest.fit(features, target, sample_weight=weights)


@pytest.mark.parametrize("kind", ["RandomForestRegressor", "RandomForestClassifier"])
def test_a_forest_of_scikit_learn_that_is_as_good(kind: str, tmp_path: Path) -> None:
    fast, slow = trained(kind), trained(kind, fast=False)
    features, value, classes, _ = events(2)
    for name in ("n_features_in_", "n_outputs_", "_n_samples", "_n_samples_bootstrap"):
        assert getattr(fast, name) == getattr(slow, name)
    assert list(fast.feature_names_in_) == list(slow.feature_names_in_) == ["a", "b", "c", "d"]
    for one, other in zip(fast.estimators_samples_, slow.estimators_samples_, strict=True):
        assert np.array_equal(one, other), "each tree was given the events that scikit-learn draws"
    if kind.endswith("Classifier"):
        assert list(fast.classes_) == [0, 101]
        scores = [np.mean(np.abs(f.predict_proba(features)[:, 0] - (classes == 0))) for f in (fast, slow)]
    else:
        scores = [float(np.std(f.predict(features) - value)) for f in (fast, slow)]
    assert scores[0] < 1.05 * scores[1]
    assert fast.feature_importances_ == pytest.approx(slow.feature_importances_, abs=0.05)
    for tree in fast.estimators_:
        assert tree.tree_.max_depth <= SETTINGS["max_depth"]
        assert tree.tree_.weighted_n_node_samples[0] == len(features), "as many draws as there are events"
    # and what a tree says of a leaf is what its events are: so says scikit-learn's own accounting
    tree, drawn = fast.estimators_[0], fast.estimators_samples_[0]
    x, y = (np.asarray(events(1)[0], dtype=np.float32), events(1)[1 if kind.endswith("Regressor") else 2])
    leaf = tree.apply(x[drawn])
    some = leaf == leaf[0]
    expected = np.mean(np.asarray(y)[drawn][some] if kind.endswith("Regressor") else np.asarray(y)[drawn][some] == 0)
    assert tree.tree_.value[leaf[0], 0, 0] == pytest.approx(expected)
    joblib.dump(fast, tmp_path / "forest.sav")
    np.save(tmp_path / "features.npy", features.to_numpy())
    done = subprocess.run(
        [sys.executable, "-c", _LOAD, tmp_path / "forest.sav", tmp_path / "features.npy"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[:2] == ["sklearn.ensemble._forest", "sklearn.tree._classes"]
    assert float(done.stdout.split()[2]) == pytest.approx(fast.predict(features).mean())


def test_the_same_seed_gives_the_same_forest_whatever_the_processes() -> None:
    one, two, other = (trained("RandomForestRegressor", *jobs, n_estimators=4, random_state=seed)
                       for jobs, seed in (((1,), 3), ((2,), 3), ((1,), 4)))  # fmt: skip
    for tree, same, another in zip(one.estimators_, two.estimators_, other.estimators_, strict=True):
        assert np.array_equal(tree.tree_.threshold, same.tree_.threshold)
        assert np.array_equal(tree.tree_.value, same.tree_.value)
        assert not np.array_equal(tree.tree_.threshold, another.tree_.threshold)


def test_out_of_bag_protons_as_with_any_forest() -> None:
    from lstops.science.out_of_bag import out_of_bag_gammaness

    features = events(1)[0]
    fast = trained("RandomForestClassifier", n_estimators=60)
    rows, gammaness = out_of_bag_gammaness(fast, features.iloc[N_GAMMAS:])
    slow = trained("RandomForestClassifier", fast=False, oob_score=True, n_estimators=60)
    expected = slow.oob_decision_function_[N_GAMMAS:][rows, 0]
    assert gammaness.mean() == pytest.approx(expected.mean(), abs=0.02)
    assert np.corrcoef(gammaness, expected)[0, 1] > 0.9


@pytest.mark.parametrize("settings", [{"criterion": "absolute_error"}, {"max_leaf_nodes": 9}, {"oob_score": True}])
def test_what_the_accelerator_does_not_know_is_refused(settings: dict[str, Any]) -> None:
    from lstops.science.accelerated_forests import accelerated

    with pytest.raises(ConfigError, match=next(iter(settings))):
        trained("RandomForestRegressor", **settings)
    from sklearn.ensemble import RandomForestRegressor

    assert RandomForestRegressor.fit.__module__ == "sklearn.ensemble._forest", "afterwards scikit-learn is itself again"
    with accelerated():
        assert RandomForestRegressor.fit.__module__ != "sklearn.ensemble._forest"


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_forest_that_is_killed_takes_its_training_with_it(jobs: int) -> None:
    script = f"""
import os, signal, sklearn.ensemble
from lstops.science import accelerated_forests as module
module._grown = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
with module.accelerated():
    sklearn.ensemble.RandomForestRegressor(2, n_jobs={jobs}).fit([[0.0], [1.0]], [0.0, 1.0])
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL
    assert ("a tree's process was killed at" in done.stderr) == (jobs == 2)
    assert "a forest's process was killed at" in done.stderr


def test_models_say_who_trained_them(tmp_path: Path) -> None:
    forest = trained("RandomForestClassifier", fast=False, n_estimators=2)
    for stem in ("reg_energy", "cls_gh", "reg_disp_norm", "cls_disp_sign"):
        joblib.dump(forest, tmp_path / f"{stem}.sav")
    wanted = Output(name="models", kind=ArtifactKind.MODELS, path="m", expect={"trainer": "accelerated"})
    with pytest.raises(ProductInvalid, match="they were trained by lstchain, not accelerated"):
        verify(wanted, tmp_path, [])
    (tmp_path / TRAINER_FILE).write_text(json.dumps({"trainer": "accelerated", "seeds": {"split": 42}}))
    facts = verify(wanted, tmp_path, [])
    assert (facts["trainer"], facts["training"]["seeds"]) == ("accelerated", {"split": 42})
    with pytest.raises(ProductInvalid, match="they were trained by accelerated, not lstchain"):
        verify(wanted.model_copy(update={"expect": {}}), tmp_path, [])
