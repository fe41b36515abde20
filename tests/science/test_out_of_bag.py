"""Gammaness of training protons from the trees that have not seen them: the same as scikit-learn's own."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from lstops.errors import DataError

sklearn = pytest.importorskip("sklearn", reason="needs the science environment")
N_GAMMAS, N_PROTONS = 150, 220


def training(seed: int = 1) -> tuple[Any, Any]:
    """Gammas, then protons, as lstchain trains: features and class."""
    import pandas as pd

    random = np.random.default_rng(seed)
    kind = np.repeat([0, 101], [N_GAMMAS, N_PROTONS])
    features = pd.DataFrame(random.normal(size=(len(kind), 3)) + (kind == 0)[:, None], columns=["a", "b", "c"])
    return features, kind


def forest(features: Any, kind: Any) -> Any:
    from sklearn.ensemble import RandomForestClassifier

    trained = RandomForestClassifier(60, min_samples_leaf=3, oob_score=True, random_state=5)
    return trained.fit(features, kind, sample_weight=np.ones(len(kind)))


def test_as_scikit_learn_has_it() -> None:
    from lstops.science.out_of_bag import out_of_bag_gammaness

    features, kind = training()
    trained = forest(features, kind)
    rows, gammaness = out_of_bag_gammaness(trained, features.iloc[N_GAMMAS:])
    expected = trained.oob_decision_function_[N_GAMMAS:][rows, 0]
    assert len(rows) == N_PROTONS
    assert gammaness == pytest.approx(expected)
    seen = trained.predict_proba(features.iloc[N_GAMMAS:])[:, 0]
    assert gammaness.mean() > seen.mean() + 0.05, "what a tree has seen it knows: that would be too good"


def test_a_sample_of_many_is_part_of_all() -> None:
    from lstops.science.out_of_bag import out_of_bag_gammaness

    features, kind = training()
    trained = forest(features, kind)
    rows, gammaness = out_of_bag_gammaness(trained, features.iloc[N_GAMMAS:], max_protons=50)
    assert len(rows) == 50
    assert gammaness == pytest.approx(trained.oob_decision_function_[N_GAMMAS:][rows, 0])


@pytest.mark.parametrize("protons", [slice(N_GAMMAS + 7, None), slice(0, 0), slice(None)])
def test_other_protons_than_those_of_the_training_are_refused(protons: slice) -> None:
    from lstops.science.out_of_bag import out_of_bag_gammaness

    features, kind = training()
    with pytest.raises(DataError, match=r"training|trained"):
        out_of_bag_gammaness(forest(features, kind), features.iloc[protons])
