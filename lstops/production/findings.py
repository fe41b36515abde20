"""What the lint says and what its rules look at: codes, severities, findings, context."""

from __future__ import annotations

import errno
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from lstops.errors import ConfigError
from lstops.production.config import ProductionConfig
from lstops.production.definition import ProductionDefinition, StepDefinition
from lstops.production.grid import Grid
from lstops.production.lstchain_config import LstchainConfig, version_in_name
from lstops.production.stages import StageName
from lstops.site.layout import Layout
from lstops.step.manifest import ManifestStore, unchanged
from lstops.step.model import Frozen


class Severity(str, Enum):
    """Error: must not be run. Warning: runs, but something is not as it seems. Info: worth knowing."""

    ERROR = "error"
    WARNING = "warning"
    INFO = "info"


#: Every code with its meaning. Codes are stable: scripts and reports may rely on them.
CODES: dict[str, str] = {
    "bad-option": "an option that the script of lstchain does not have or cannot be given",
    "bad-path": "a path that is relative, blank or impossible, or names an impossible node",
    "bad-value": "a value of the wrong type or out of its range",
    "cyclic-path": "an input that only a step of the same stage or of a later one makes",
    "dead-key": "a key that nothing reads",
    "duplicate-output": "two steps make the same product",
    "hyperparameters-differ": "forests or their training differ from the other levels of the grid",
    "input-missing": "an input that is not there",
    "input-not-produced": "an input that this production should make, but no step that runs does",
    "missing-key": "a required key is missing",
    "missing-node": "nodes of the known grid are left out",
    "missing-section": "sections that making IRFs needs are missing in the lstchain configuration",
    "no-lstchain-config": "there is no lstchain configuration to check",
    "noise-tune-pair": "only one of the two files for the noise tuning is given",
    "not-a-list": "a stage is not a list of steps",
    "not-json": "the file is not JSON",
    "not-yaml": "the file is not YAML, or has a key twice",
    "nsb-key-version": "the NSB key is not the one that this version of lstchain reads",
    "nsb-label-mismatch": "names and value of the NSB level disagree",
    "old-dialect": "the dialect that the present lstmcpipe refuses",
    "overwrites": "something that exists, or that another production owns, would be overwritten or removed",
    "prod-id-mismatch": "names, paths or prefixes do not carry the production's identifier",
    "r0-and-dl1ab": "r0_to_dl1 and dl1ab are both to be run",
    "stage-not-defined": "a stage to be run has no steps",
    "stage-not-run": "a stage has steps but is not to be run",
    "tuning-without-effect": "noise settings that no stage of this production applies",
    "unknown-key": "a key that is not part of the format",
    "unknown-line": "a declination line that the known grid does not have",
    "unknown-node": "nodes that the known grid does not have",
    "version-environment-mismatch": "the lstchain version in the name is not the one of the environment",
}


def counted(number: int, thing: str) -> str:
    """ "1 step", "2 steps"."""
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


class Finding(Frozen):
    """One finding.

    Attributes
    ----------
    code : str
        One of `CODES`.
    place : str
        Where, e.g. ``stages.merge_dl1[3]``; the first place where there are several.
    count : int
        Number of places.
    items : tuple of str
        The things concerned (nodes, paths, keys), where a message alone would be too long.
    """

    code: str
    severity: Severity
    place: str
    message: str
    remedy: str
    count: int = 1
    items: tuple[str, ...] = ()


def by_stage(steps: Iterable[tuple[StepDefinition, str]]) -> dict[str, list[tuple[StepDefinition, str]]]:
    """Steps, each with a path, by the name of their stage."""
    groups: dict[str, list[tuple[StepDefinition, str]]] = defaultdict(list)
    for step, path in steps:
        groups[step.stage.value].append((step, path))
    return groups


def of_paths(
    cases: Sequence[tuple[StepDefinition, str]], *, code: str, severity: Severity, message: str, remedy: str
) -> Finding:
    """One finding for paths of a stage that share a fault; its place is the first step."""
    return Finding(
        code=code,
        severity=severity,
        place=cases[0][0].place,
        message=message,
        remedy=remedy,
        count=len(cases),
        items=tuple(path for _, path in cases[:20]),
    )


@dataclass(frozen=True, slots=True)
class Tree:
    """The file tree that the paths of a configuration mean, where it is at hand.

    Attributes
    ----------
    root : Path
        What stands for "/".
    layout : Layout or None
        Of the site whose files they are, as it is without `root`; None: who made a file cannot be seen.
    """

    root: Path = Path("/")
    layout: Layout | None = None

    def local(self, path: str) -> Path:
        """A path of the configuration on this machine."""
        return self.root / path.lstrip("/")

    def has(self, path: str) -> bool:
        """Whether a file, or a folder with something in it, is there.

        Raises
        ------
        ConfigError
            If that cannot be seen.
        """
        local = self.local(path)
        try:
            return any(local.iterdir()) if local.is_dir() else local.exists()
        except OSError as error:
            if error.errno == errno.ENAMETOOLONG:
                return False
            raise ConfigError(
                f"cannot look at {local}: {error.strerror}.", "lint as someone who may read it."
            ) from error

    def maker(self, path: str) -> str | None:
        """The production for which lstops has made what lies there now, be it a file or a whole folder."""
        if self.layout is None or not path.startswith(f"{self.layout.base}/"):
            return None
        relative = self.layout.relative(Path(path))
        made = ManifestStore(self.local(str(self.layout.manifests))).producer(relative)
        record = made.output(relative) if made else None
        if made is None or record is None or not unchanged(self.local(path), record.state):
            return None
        return str(made.plan_context.get("production"))

    def not_of(self, production: str, path: str) -> Iterator[str]:
        """Files at or below a path that lstops has not made for this production; hidden ones are not finished.

        Raises
        ------
        ConfigError
            If that cannot be seen.
        """
        if not self.has(path) or self.maker(path) == production:
            return
        local = self.local(path)
        if not local.is_dir():
            yield path
            return
        for child in sorted(local.iterdir()):
            if not child.name.startswith("."):
                yield from self.not_of(production, f"{path.rstrip('/')}/{child.name}")

    def covers(self, path: str) -> bool:
        """Whether the path's top folder (/fefs) is there, so that a missing file is really missing."""
        parts = Path(path).parts
        return len(parts) > 1 and (self.root / parts[1]).is_dir()


@dataclass(frozen=True, slots=True)
class LintContext:
    """What the rules look at.

    Attributes
    ----------
    siblings : dict
        lstchain configurations of the other levels of the same grid, by the name of their folder.
    unreadable_siblings : tuple of str
        Folders of levels whose configuration cannot be read.
    tree : Tree or None
        None: no look at files.
    """

    config: ProductionConfig
    production: ProductionDefinition
    grid: Grid
    siblings: dict[str, LstchainConfig] = field(default_factory=dict)
    unreadable_siblings: tuple[str, ...] = ()
    tree: Tree | None = None

    @property
    def lstchain_version(self) -> str | None:
        """Version of the environment, else the one in the production's name."""
        return self.production.lstchain_version or version_in_name(self.production.prod_id)

    @property
    def dl1_stage(self) -> StageName | None:
        """The stage that makes this production's DL1, if it makes any."""
        for stage in (StageName.R0_TO_DL1, StageName.DL1AB):
            if self.production.stage(stage):
                return stage
        return None


Rule = Callable[[LintContext], Iterator[Finding]]
