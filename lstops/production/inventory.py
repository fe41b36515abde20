"""The Monte Carlo DL1 files of a production, by node and particle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path

from lstops.errors import ConfigError, DataError
from lstops.production.grid import Node, Particle, parse_node
from lstops.site.layout import Layout

#: nodes of gammas and of protons are the same direction if their names agree to this
SAME_NODE_DEG = 0.02
#: training particles in the order of the files' use; test nodes have gammas only
TRAINING = (Particle.GAMMA_DIFFUSE, Particle.PROTONS)


class Dataset(str, Enum):
    """What a file is for."""

    TRAIN = "TrainingDataset"
    TEST = "TestingDataset"


@dataclass(frozen=True, order=True)
class McFile:
    """One DL1 file of a node.

    Attributes
    ----------
    node : str
        Folder name.
    path : str
        Relative to the site's base.
    """

    dataset: Dataset
    particle: Particle
    node: str
    path: str

    @property
    def pointing(self) -> Node:
        """Direction of the node."""
        return parse_node(self.node)[1]


@dataclass(frozen=True)
class Inventory:
    """What a production has of one declination line.

    Attributes
    ----------
    files : tuple of McFile
        Sorted.
    """

    production: str
    line: str
    files: tuple[McFile, ...]

    def nodes(self, dataset: Dataset, particle: Particle) -> dict[str, list[McFile]]:
        """Files by node, in the order of the names."""
        found: dict[str, list[McFile]] = {}
        for file in sorted(self.files):
            if file.dataset is dataset and file.particle is particle:
                found.setdefault(file.node, []).append(file)
        return found

    @property
    def test_nodes(self) -> tuple[Node, ...]:
        """Directions of the test nodes, sorted."""
        return tuple(sorted({f.pointing for f in self.files if f.dataset is Dataset.TEST}))


def only_test_nodes(inventory: Inventory, wanted: Sequence[Node]) -> Inventory:
    """The inventory with only some of its test nodes.

    Raises
    ------
    ConfigError
        If none is left.
    """
    kept = tuple(f for f in inventory.files if f.dataset is not Dataset.TEST or f.pointing in wanted)
    if not any(f.dataset is Dataset.TEST for f in kept):
        raise ConfigError(
            f"production {inventory.production!r} has no test node that is wanted.",
            "widen the range of zenith distances, or choose another base production.",
        )
    return replace(inventory, files=kept)


def scan_inventory(layout: Layout, production: str, line: str) -> Inventory:
    """List the DL1 files of a production. Merged files are left out.

    Raises
    ------
    DataError
        If the production has no training files of this line.
    """
    files: list[McFile] = []
    for particle in TRAINING:
        files += _scan(layout, Dataset.TRAIN, particle, layout.mc_dl1_train(production, line, particle.value, "x"))
    files += _scan(layout, Dataset.TEST, Particle.GAMMA, layout.mc_dl1_test(production, Particle.GAMMA.value, "x"))
    if not any(f.dataset is Dataset.TRAIN for f in files):
        where = layout.absolute(layout.mc_dl1_train(production, line, TRAINING[0].value, "x")).parent.parent
        raise DataError(
            f"production {production!r} has no training files of {line} below {where}.",
            "correct the name of the production or of the declination line.",
        )
    return Inventory(production, line, tuple(sorted(files)))


def _scan(layout: Layout, dataset: Dataset, particle: Particle, example: str) -> list[McFile]:
    top = layout.absolute(example).parent
    return [
        McFile(dataset, particle, path.parent.name, layout.relative(path))
        for path in sorted(top.glob("node_*/*.h5"))
        if not _hidden_or_merged(path)
    ]


def _hidden_or_merged(path: Path) -> bool:
    return path.name.startswith(".") or path.stem.endswith("merged")


def training_nodes(
    gammas: Mapping[str, Sequence[McFile]], protons: Mapping[str, Sequence[McFile]], wanted: Sequence[Node]
) -> tuple[Node, ...]:
    """Directions of the training nodes, the same for gammas and protons and as many as the line has.

    Raises
    ------
    ConfigError
        Naming the nodes that are missing.
    """
    gamma_nodes = [files[0].pointing for files in gammas.values()]
    proton_nodes = [files[0].pointing for files in protons.values()]
    for what, there, expected in (
        ("protons", proton_nodes, gamma_nodes),
        ("diffuse gammas", gamma_nodes, proton_nodes),
        ("diffuse gammas", gamma_nodes, wanted),
    ):
        missing = [n for n in expected if not any(n.is_same(t, SAME_NODE_DEG) for t in there)]
        if missing:
            raise ConfigError(
                f"the base production has no {what} at {', '.join(map(str, missing))}.",
                "restore these nodes: forests trained without one are wrong near it (the culmination, for instance).",
            )
    if not gamma_nodes:
        raise ConfigError("the base production has no training nodes.", "choose another base production or line.")
    return tuple(sorted(gamma_nodes))
