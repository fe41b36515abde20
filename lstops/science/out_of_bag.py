"""Gammaness of the protons that a classifier was trained on, from the trees that have not seen them.

Test nodes have gammas only, so that there are no other protons. lstchain trains the classifier on some of the gammas
followed by all protons (`lstchain.reco.dl1_to_dl2.build_models`); which of these rows each tree was given, scikit-learn
can say. Whether that order is the true one is checked with every tree: its root knows the share of protons it has seen.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lstops.errors import DataError

#: enough for an area below the curve to 0.003
MAX_PROTONS = 20_000
#: class of gammas in lstchain's training (mc_type)
_GAMMA = 0
_SEED = 42
_REMEDY = "use the default n_training_events of lstchain (all protons); without, the card has no ROC curve."


def out_of_bag_gammaness(
    forest: Any, features: Any, max_protons: int = MAX_PROTONS
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Gammaness of training protons.

    Parameters
    ----------
    forest : RandomForestClassifier
        Of lstchain's training.
    features : DataFrame
        Its features of all training protons, in their order.

    Returns
    -------
    rows : array of int, shape (n,)
        Positions in `features`; a sample with a fixed seed if there are more than `max_protons`.
    gammaness : array of float, shape (n,)

    Raises
    ------
    DataError
        If the forest was trained on other rows.
    """
    n_protons, n_rows = len(features), int(getattr(forest, "_n_samples", 0))
    first = n_rows - n_protons
    classes = [int(c) for c in forest.classes_]
    if first <= 0 or len(classes) != 2 or _GAMMA not in classes:
        raise DataError(f"the classifier was trained on {n_rows} rows, and there are {n_protons} protons.", _REMEDY)
    gamma = classes.index(_GAMMA)
    rows = np.arange(n_protons)
    if n_protons > max_protons:
        rows = np.sort(np.random.default_rng(_SEED).choice(n_protons, max_protons, replace=False))
    chosen = features.iloc[rows].to_numpy(dtype=np.float32)
    votes, seen_by = np.zeros(len(rows)), np.zeros(len(rows), dtype=int)
    for tree, drawn in zip(forest.estimators_, forest.estimators_samples_, strict=True):
        _check_root(tree, drawn, first, gamma)
        unseen = np.ones(n_rows, dtype=bool)
        unseen[drawn] = False
        mine = unseen[first + rows]
        if mine.any():
            votes[mine] += tree.predict_proba(chosen[mine])[:, gamma]
            seen_by[mine] += 1
    known = seen_by > 0
    return rows[known], votes[known] / seen_by[known]


def _check_root(tree: Any, drawn: NDArray[np.int_], first: int, gamma: int) -> None:
    """The share of gammas at a tree's root must be that of the rows that it is said to have been given."""
    values = np.asarray(tree.tree_.value[0][0], dtype=float)
    share = float(values[gamma] / values.sum())
    expected = float(np.mean(drawn < first))
    if abs(share - expected) > 1e-6:
        raise DataError(
            f"a tree of the classifier has seen {share:.4f} gammas, by the order of the events it would be "
            f"{expected:.4f}: the protons at hand are not those of its training.",
            _REMEDY,
        )
