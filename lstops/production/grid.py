"""The simulated pointings: nodes, declination lines, their folder names both ways, and what a production should have.

The known grid is a data file (`config/grids/lstprod2.yaml`), because names cannot be computed: the number of decimals
differs from node to node.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from pathlib import Path, PurePosixPath

import yaml
from pydantic import Field, ValidationError, field_validator

from lstops.errors import ConfigError
from lstops.paths import config_dir
from lstops.plain_yaml import load_plain
from lstops.step.model import Frozen

_NODE = re.compile(r"^(?P<prefix>node_(?:corsika_)?theta_)(?P<zd>\d+(?:\.\d+)?)_az_(?P<az>\d+(?:\.\d+)?)_$")
_NODE_IN_FILE = re.compile(r"node_(?:corsika_)?theta_\d+(?:\.\d+)?_az_\d+(?:\.\d+)?_")
_LINE = re.compile(r"^dec_(?P<sign>min_)?(?P<digits>\d{3,4})(?P<variant>_[a-z_]+)?$")


class NodePrefix(str, Enum):
    """The two beginnings of node folder names."""

    CORSIKA = "node_corsika_theta_"
    PLAIN = "node_theta_"


class Particle(str, Enum):
    """Simulated particles, as folders of a production call them."""

    GAMMA_DIFFUSE = "GammaDiffuse"
    PROTONS = "Protons"
    GAMMA = "Gamma"
    ELECTRONS = "Electrons"


_PARTICLES = {p.value: p for p in Particle} | {
    "gamma-diffuse": Particle.GAMMA_DIFFUSE,
    "proton": Particle.PROTONS,
    "gamma": Particle.GAMMA,
    "electron": Particle.ELECTRONS,
}


@dataclass(frozen=True, order=True, slots=True)
class Node:
    """One simulated pointing.

    Attributes
    ----------
    zd_deg, az_deg : float
        Zenith distance and azimuth in degrees.
    zd_text, az_text : str
        The same with exactly the decimals of the folder name.
    """

    zd_deg: float
    az_deg: float
    zd_text: str
    az_text: str

    @classmethod
    def of(cls, zd_text: str, az_text: str) -> Node:
        """Make a node from the two numbers as a folder name writes them.

        Raises
        ------
        ConfigError
            If they are no direction above the horizon.
        """
        try:
            zd, az = float(zd_text), float(az_text)
        except ValueError:
            raise ConfigError(
                f"{zd_text!r} {az_text!r} are no zenith distance and azimuth.", "write two numbers, e.g. 6.000 180.000."
            ) from None
        if not (0 <= zd < 90 and 0 <= az <= 360):
            raise ConfigError(
                f"zenith distance {zd_text} and azimuth {az_text} are no direction above the horizon.",
                "zenith distances are 0 to 90 deg, azimuths 0 to 360 deg.",
            )
        return cls(zd, az, zd_text, az_text)

    def name(self, prefix: NodePrefix) -> str:
        """Folder name of the node, trailing underscore included."""
        return f"{prefix.value}{self.zd_text}_az_{self.az_text}_"

    def is_same(self, other: Node, tolerance_deg: float) -> bool:
        """Whether both are the same pointing, whatever the decimals of their names."""
        d_az = abs(self.az_deg - other.az_deg) % 360
        return abs(self.zd_deg - other.zd_deg) <= tolerance_deg and min(d_az, 360 - d_az) <= tolerance_deg

    def __str__(self) -> str:
        return f"theta_{self.zd_text}_az_{self.az_text}"


@lru_cache(maxsize=8192)
def parse_node(name: str) -> tuple[NodePrefix, Node]:
    """Read a node's folder name.

    Raises
    ------
    ConfigError
        If it is no node name.
    """
    match = _NODE.match(name)
    if not match:
        raise ConfigError(
            f"{name!r} is no node name.",
            "node folders are called node_[corsika_]theta_<zd>_az_<az>_ (with the last _).",
        )
    return NodePrefix(match["prefix"]), Node.of(match["zd"], match["az"])


def node_in_path(path: str) -> Node | None:
    """The node whose folder (or, failing that, whose merged file) a path names."""
    parts = PurePosixPath(path).parts
    for part in reversed(parts):
        if _NODE.match(part):
            return parse_node(part)[1]
    found = _NODE_IN_FILE.findall(parts[-1]) if parts else []
    return parse_node(found[-1])[1] if found else None


def line_in_path(path: str) -> str | None:
    """The declination line that a folder of the path names; production names that contain one do not count."""
    return next((part for part in PurePosixPath(path).parts if _LINE.match(part)), None)


def particle_in_path(path: str) -> Particle | None:
    """The particle that a folder of the path names."""
    return next((_PARTICLES[part] for part in PurePosixPath(path).parts if part in _PARTICLES), None)


def declination_deg(line: str) -> float:
    """Declination of a line in degrees: dec_2276 is 22.76, dec_min_413 is -4.13.

    Raises
    ------
    ConfigError
        If the name is not of that form.
    """
    match = _LINE.match(line)
    if not match:
        raise ConfigError(f"{line!r} is no declination line.", "lines are called dec_2276 or dec_min_413.")
    return (-1 if match["sign"] else 1) * int(match["digits"]) / 100


def line_name(declination: float, variant: str = "") -> str:
    """Name of the line at a declination in degrees; the inverse of `declination_deg`."""
    hundredths = round(abs(declination) * 100)
    return f"dec_{'min_' if declination < 0 else ''}{hundredths}{variant}"


@dataclass(frozen=True, slots=True)
class Line:
    """The training nodes of one declination."""

    name: str
    nodes: tuple[Node, ...]
    gamma_diffuse: NodePrefix
    protons: NodePrefix

    @property
    def declination_deg(self) -> float:
        """Declination in degrees."""
        return declination_deg(self.name)

    def culmination_zd_deg(self, latitude_deg: float) -> float:
        """Zenith distance at culmination, in degrees."""
        return abs(latitude_deg - self.declination_deg)

    @property
    def culmination_nodes(self) -> tuple[Node, ...]:
        """The node, or the pair of nodes, with the lowest zenith distance."""
        lowest = min(node.zd_deg for node in self.nodes)
        return tuple(node for node in self.nodes if node.zd_deg == lowest)

    def node_name(self, node: Node, particle: Particle) -> str:
        """Folder name of a training node for a particle."""
        return node.name(self.protons if particle is Particle.PROTONS else self.gamma_diffuse)


@dataclass(frozen=True, slots=True)
class NodeComparison:
    """Expected nodes against defined ones.

    Attributes
    ----------
    present : tuple of Node
        Expected and there.
    missing : tuple of Node
        Expected, not there.
    unknown : tuple of Node
        There, but not in the grid.
    """

    present: tuple[Node, ...]
    missing: tuple[Node, ...]
    unknown: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Grid:
    """A simulated grid: training nodes by declination line, and the test nodes of the whole sky."""

    name: str
    latitude_deg: float
    tolerance_deg: float
    lines: Mapping[str, Line]
    test_nodes: tuple[Node, ...]
    test_prefix: NodePrefix

    def line(self, name: str) -> Line:
        """Return one declination line.

        Raises
        ------
        ConfigError
            If the grid has no such line.
        """
        try:
            return self.lines[name]
        except KeyError:
            raise ConfigError(
                f"grid {self.name} has no declination line {name!r}.", f"use one of {', '.join(sorted(self.lines))}."
            ) from None

    def compare(self, expected: Iterable[Node], defined: Iterable[Node]) -> NodeComparison:
        """Expected against defined nodes, by direction and not by name."""
        wanted, there = tuple(expected), tuple(dict.fromkeys(defined))
        matched: set[Node] = set()
        present: list[Node] = []
        missing: list[Node] = []
        for node in wanted:
            twins = [other for other in there if node.is_same(other, self.tolerance_deg)]
            matched.update(twins)
            (present if twins else missing).append(node)
        return NodeComparison(tuple(present), tuple(missing), tuple(n for n in there if n not in matched))


class _LineFile(Frozen):
    gamma_diffuse: NodePrefix
    protons: NodePrefix
    nodes: tuple[str, ...] = Field(min_length=1)


class _TestFile(Frozen):
    prefix: NodePrefix
    nodes: tuple[str, ...]


class _GridFile(Frozen):
    name: str
    latitude_deg: float
    tolerance_deg: float = Field(gt=0)
    lines: dict[str, _LineFile]
    test: _TestFile

    @field_validator("lines")
    @classmethod
    def _line_names(cls, lines: dict[str, _LineFile]) -> dict[str, _LineFile]:
        for name in lines:
            if not _LINE.match(name):
                raise ValueError(f"{name!r} is no declination line (dec_2276, dec_min_413)")
        return lines


def _nodes(texts: Iterable[str]) -> tuple[Node, ...]:
    nodes = []
    for text in texts:
        zd, _, az = text.partition(" ")
        nodes.append(Node.of(zd, az))
    return tuple(nodes)


def load_grid(path: Path | None = None) -> Grid:
    """Read a grid file.

    Parameters
    ----------
    path : Path, optional
        Default: lstprod2, the grid of the present productions.

    Raises
    ------
    ConfigError
        If the file is missing or is no grid.
    """
    where = path or config_dir() / "grids" / "lstprod2.yaml"
    try:
        read = _GridFile.model_validate(load_plain(where.read_text()))
    except OSError as error:
        raise ConfigError(f"cannot read the grid {where}: {error.strerror}.", "correct the path.") from error
    except (yaml.YAMLError, ValidationError) as error:
        raise ConfigError(f"{where} is no grid file: {error}", "start from config/grids/lstprod2.yaml.") from error
    lines = {
        name: Line(name, _nodes(line.nodes), line.gamma_diffuse, line.protons) for name, line in read.lines.items()
    }
    return Grid(read.name, read.latitude_deg, read.tolerance_deg, lines, _nodes(read.test.nodes), read.test.prefix)


@lru_cache(maxsize=1)
def known_grid() -> Grid:
    """The grid lstprod2, read once."""
    return load_grid()
