"""Random forests of scikit-learn whose trees are grown by scikit-learn-intelex (oneDAL), and are scikit-learn's still.

Only the search for the splits is another program's (on 256 bins of each feature, in single precision). scikit-learn
itself draws the events of each tree, with its seeds and weights, so that `estimators_samples_` holds; and what the
nodes say (numbers of events, means, shares of the classes, impurities) is counted here from these events. The
accelerator's own export will not do: it knows the leaves of a classifier by their majority only, and its forests do not
take event weights with scikit-learn 1.9. A forest grown this way is an ordinary object of scikit-learn and can be
loaded where there is no accelerator.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lstops.errors import ConfigError, DataError, JobFailure
from lstops.step.processes import ANY_CHILD, Ended, fork, wait_for

Floats = NDArray[np.float64]

#: the distribution that must be installed
ACCELERATOR = "scikit-learn-intelex"
REMEDY = (
    "install requirements/accelerator.lock into the science environment (`make setup` does, on Linux on x86-64), or "
    "train with `trainer: lstchain`."
)
#: settings of a tree that are handed over as they are
_SETTINGS = (
    "max_depth", "min_samples_split", "min_samples_leaf", "min_weight_fraction_leaf", "max_features",
    "min_impurity_decrease", "random_state",
)  # fmt: skip
#: settings of a forest of which the accelerator, or this module, knows only these
_KNOWN: dict[str, tuple[Any, ...]] = {
    "criterion": ("squared_error", "gini"),
    "max_leaf_nodes": (None,),
    "ccp_alpha": (0.0,),
    "monotonic_cst": (None,),
    "class_weight": (None, "balanced"),
    "warm_start": (False,),
    "oob_score": (False,),
}


def accelerator_version() -> str:
    """The installed version.

    Raises
    ------
    ConfigError
        If it is not installed.
    """
    # not imported yet: its libraries are needed when lstchain's largest tables are gone again
    try:
        return importlib.metadata.version(ACCELERATOR)
    except importlib.metadata.PackageNotFoundError as error:
        raise ConfigError(f"{ACCELERATOR} is not installed in this environment.", REMEDY) from error


@contextlib.contextmanager
def accelerated() -> Iterator[None]:
    """While this lasts, every random forest of scikit-learn that is fitted grows its trees with the accelerator.

    Each forest is fitted in a forked process, so that the accelerator's libraries and work space are gone when lstchain
    needs its largest tables; with `n_jobs` of 2 or more that one forks others, so many at a time and one for each tree,
    since the accelerator holds Python's lock.

    Raises
    ------
    ConfigError
        If the accelerator is not installed.
    """
    import joblib
    from sklearn.ensemble._forest import BaseForest
    from sklearn.tree import BaseDecisionTree

    accelerator_version()
    fit_forest = BaseForest.fit

    def fit(forest: Any, X: Any, y: Any, sample_weight: Any = None) -> Any:
        _require_supported(forest, y)
        with tempfile.TemporaryDirectory(prefix="lstops-forest-") as scratch:
            path = Path(scratch, "forest")

            def child() -> int:
                # loaded once, for all processes that are forked from this one
                import sklearnex.ensemble  # noqa: F401

                trees = _Trees(Path(scratch), joblib.effective_n_jobs(forest.n_jobs))
                BaseDecisionTree._fit = lambda tree, *data, **given: trees.grow(tree, *data, **given)
                asked, forest.n_jobs = forest.n_jobs, 1  # scikit-learn's threads would not do: they fork badly
                fit_forest(forest, X, y, sample_weight)
                trees.finish()
                if trees.trees != forest.estimators_:
                    raise JobFailure("scikit-learn grew trees by itself.", "train with `trainer: lstchain`.")
                forest.n_jobs = asked
                joblib.dump(forest, path)
                return 0

            _require_success(wait_for(fork(child)), "a forest")
            vars(forest).update(vars(joblib.load(path)))
        return forest

    BaseForest.fit = fit
    try:
        yield
    finally:
        BaseForest.fit = fit_forest


class _Trees:
    """Trees that are grown in processes if more than one at a time; they are whole after `finish`.

    Attributes
    ----------
    folder : Path
        What was grown goes from process to process through it.
    """

    def __init__(self, folder: Path, at_a_time: int) -> None:
        self.folder, self.at_a_time = folder, at_a_time
        self.trees: list[Any] = []
        self.running = 0

    def grow(self, tree: Any, *data: Any, **given: Any) -> Any:
        """In place of `BaseDecisionTree._fit`: begin, and come back before it is done."""
        import joblib

        path = self._path(len(self.trees))
        self.trees.append(tree)
        if self.at_a_time == 1:
            return _fit_tree(tree, *data, **given)
        if self.running == self.at_a_time:
            self._wait()

        def child() -> int:
            joblib.dump(vars(_fit_tree(tree, *data, **given)), path)
            return 0

        fork(child)
        self.running += 1
        return tree

    def finish(self) -> None:
        """Wait for all of them and take them over."""
        import joblib

        while self.running:
            self._wait()
        for number, tree in enumerate(self.trees if self.at_a_time > 1 else ()):
            vars(tree).update(joblib.load(self._path(number)))

    def _wait(self) -> None:
        _require_success(wait_for(ANY_CHILD), "a tree")
        self.running -= 1

    def _path(self, number: int) -> Path:
        return self.folder / f"tree-{number}"


def _require_success(ended: Ended, what: str) -> None:
    """Raise, or be killed as the process was that ended: whoever waits for this one knows what a kill means."""
    if ended.status < 0:
        print(f"{what}'s process was killed at {ended.max_rss_mb:.0f} MB", file=sys.stderr, flush=True)
        os.kill(os.getpid(), -ended.status)
    if ended.status:
        raise JobFailure(f"the training of {what} ended with status {ended.status}.", "read the log.")


def _require_supported(forest: Any, y: Any) -> None:
    found = [f"{name} {getattr(forest, name)!r}" for name, known in _KNOWN.items()
             if getattr(forest, name, known[0]) not in known]  # fmt: skip
    if np.ndim(y) > 1 and np.shape(y)[1] > 1:
        found.append("several values at once (disp_method disp_vector)")
    if found:
        raise ConfigError(
            f"the accelerated trainer does not know {', '.join(found)}.", "train with `trainer: lstchain`."
        )


def _fit_tree(
    tree: Any, X: Any, y: Any, sample_weight: Any = None, check_input: bool = True,
    missing_values_in_feature_mask: Any = None,
) -> Any:  # fmt: skip
    """What `BaseDecisionTree._fit` does, given the weight of each event in this tree."""
    from sklearn.base import is_classifier

    if missing_values_in_feature_mask is not None:
        raise DataError("the accelerated trainer does not know missing values.", "train with `trainer: lstchain`.")
    classes = np.unique(y) if is_classifier(tree) else None
    weight = np.ones(len(y)) if sample_weight is None else np.asarray(sample_weight, dtype=float)
    rows = np.flatnonzero(weight)
    x, target, weight = np.ascontiguousarray(X[rows], dtype=np.float32), np.ravel(y)[rows], weight[rows]
    grown = _grown(tree, x, target, weight)
    tree.n_features_in_, tree.n_outputs_, tree.max_features_ = X.shape[1], 1, int(grown.max_features)
    if classes is not None:
        tree.classes_, tree.n_classes_ = classes, np.intp(len(classes))
    tree.tree_ = _counted(grown.tree_, x, target, weight, classes)
    return tree


def _grown(tree: Any, x: NDArray[np.float32], target: Floats, weight: Floats) -> Any:
    """The accelerator's tree of these events, as it exports it."""
    from sklearn.base import is_classifier
    from sklearnex import ensemble

    kind = ensemble.RandomForestClassifier if is_classifier(tree) else ensemble.RandomForestRegressor
    settings = {name: getattr(tree, name) for name in _SETTINGS}
    forest = kind(n_estimators=1, bootstrap=False, n_jobs=1, **settings)
    forest.fit(x, target, weight.astype(np.float32))
    if not hasattr(forest, "_onedal_estimator"):
        # it falls back to scikit-learn without a word
        raise JobFailure(f"{ACCELERATOR} did not grow the trees itself.", "train with `trainer: lstchain`.")
    return forest.estimators_[0]


def _counted(exported: Any, x: NDArray[np.float32], target: Floats, weight: Floats, classes: Any) -> Any:
    """A tree of scikit-learn with the exported splits and what the events themselves say of each node."""
    from sklearn.tree._tree import Tree

    state = exported.__getstate__()
    nodes = state["nodes"].copy()
    leaf = exported.apply(x)
    # sums over the events of a leaf, then of every node: number, weight, and what the values are made of
    if classes is None:
        parts = [weight * target, weight * target**2]
    else:
        parts = [weight * (target == one) for one in classes]
    sums = np.stack(
        [np.bincount(leaf, weights=part, minlength=len(nodes)) for part in (np.ones_like(weight), weight, *parts)]
    )
    levels = _levels(nodes["left_child"], nodes["right_child"])
    for parents in reversed(levels):
        sums[:, parents] += sums[:, nodes["left_child"][parents]] + sums[:, nodes["right_child"][parents]]
    number, total = sums[0], sums[1]
    share = sums[2:] / np.where(total > 0, total, 1)
    if classes is None:
        values, impurity = share[:1], np.maximum(share[1] - share[0] ** 2, 0)
    else:
        values, impurity = share, 1 - (share**2).sum(axis=0)
    _inherit(values, total, levels, nodes)
    nodes["n_node_samples"], nodes["weighted_n_node_samples"] = number, total
    nodes["impurity"] = np.where(total > 0, impurity, 0)
    n_classes = 1 if classes is None else len(classes)
    made = Tree(x.shape[1], np.array([n_classes], dtype=np.intp), 1)
    made.__setstate__({**state, "nodes": nodes, "values": np.ascontiguousarray(values.T[:, None, :])})
    return made


def _levels(left: NDArray[np.intp], right: NDArray[np.intp]) -> list[NDArray[np.intp]]:
    """Nodes that are split, from the root down."""
    levels, here = [], np.zeros(1, dtype=np.intp)
    while len(here := here[left[here] >= 0]):
        levels.append(here)
        here = np.concatenate([left[here], right[here]])
    return levels


def _inherit(values: Floats, total: Floats, levels: list[NDArray[np.intp]], nodes: Any) -> None:
    """A node that none of the events reaches says what its parent says.

    The accelerator splits between bins and rounds the edge, so that a leaf may lose its few events to the other side.
    """
    for parents in levels:
        for side in ("left_child", "right_child"):
            children = nodes[side][parents]
            empty = total[children] <= 0
            values[:, children[empty]] = values[:, parents[empty]]
