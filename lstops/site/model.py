"""The site file: everything that differs between observatories, clusters and laptops, in one YAML document.

It holds no secrets: only paths of key files and names of environment variables.
"""

from __future__ import annotations

import os
import re
from enum import Enum
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field, ValidationError, field_validator, model_validator

from lstops.errors import ConfigError
from lstops.plain_yaml import load_plain
from lstops.site.cluster import Cluster
from lstops.site.notify import Notify
from lstops.step.model import Frozen, RelativePath, Resources, relative_path

#: Brightest sky that can be asked for (GHz): six times the brightest level of the standard grid, beyond any camera.
MAX_NSB_GHZ = 15.0
_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")


class Observatory(Frozen):
    """Position of the telescope (degrees and metres)."""

    name: str
    latitude_deg: float = Field(ge=-90, le=90)
    longitude_deg: float = Field(ge=-180, le=180)
    height_m: float


class ScienceEnvironment(Frozen):
    """Where one version of lstchain is installed on the compute nodes.

    Attributes
    ----------
    lstchain_version : str
        What `importlib.metadata.version("lstchain")` must say there.
    activate : str
        File that `source` activates (a conda profile script or a venv's bin/activate).
    conda_env : str or None
        Environment to `conda activate` after sourcing.
    accelerator : bool
        Whether requirements/accelerator.lock is installed there too.
    """

    lstchain_version: str
    activate: Path
    conda_env: str | None = None
    accelerator: bool = False

    @property
    def version(self) -> str:
        """Part of every step's key."""
        return f"lstchain {self.lstchain_version}"


class NightlySettings(Frozen):
    """What the nightly DAG does by default at this site.

    Attributes
    ----------
    pipeline_version : str
        The `P` of the directory layout, "v0.12".
    max_zenith_deg, source_offset_deg : float
        Fallbacks where neither the run catalogue nor the target list knows better.
    declination_line : str
        Of productions that are planned from data and name no line; runs are matched with the nearest one.
    nsb_tolerance_ghz : float
        Largest distance between a run's extra NSB and the level of the models used for it.
    nearest_irf_node_within_deg : float or None
        A run outside the grid of the IRF nodes gets the responses of the nearest one, if it is within this angle of its
        pointing; None: such a run is refused.
    approval_nights : int or None
        A reprocessing of more nights waits for a person's approval; None: none ever does.
    """

    pipeline_version: str
    profile: str = "standard"
    lstchain_version: str
    tailcut: str = "tailcut84"
    declination_line: str = "dec_2276"
    nsb_tolerance_ghz: float = Field(default=0.1, gt=0, le=MAX_NSB_GHZ)
    nearest_irf_node_within_deg: float | None = Field(default=None, gt=0, le=15)
    approval_nights: int | None = Field(default=5, ge=0)


class ForestSettings(Frozen):
    """Hyper-parameters of the random forests: the same for every level of a grid."""

    n_estimators: int = Field(default=150, ge=1)
    max_depth: int = Field(default=30, ge=1)
    min_samples_leaf: int = Field(default=10, ge=1)
    n_jobs: int = 1


class Trainer(str, Enum):
    """What grows the trees of random forests: scikit-learn as lstchain calls it, or scikit-learn-intelex inside it."""

    LSTCHAIN = "lstchain"
    ACCELERATED = "accelerated"


class FirstStatus(str, Enum):
    """Status of a production when it is registered: to be used at once, or when a person has promoted it."""

    CANDIDATE = "candidate"
    CURRENT = "current"


class ProductionSettings(Frozen):
    """Monte Carlo of the site.

    Attributes
    ----------
    register_as : FirstStatus
        Whether a finished production is used at once.
    approval_cpu_h : float or None
        A plan of more CPU hours waits for a person's approval; None: nothing ever does.
    tuning_subruns : int
        Typical subruns, at most, that the NSB is measured with.
    gates : str
        Limits of the report card that stop a registration: a file of config/gates.
    trainer : Trainer
        Of productions that do not say it themselves.
    """

    base_production: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    tuning_simtel: RelativePath | None = None
    forests: ForestSettings = ForestSettings()
    register_as: FirstStatus = FirstStatus.CURRENT
    approval_cpu_h: float | None = Field(default=1000.0, ge=0)
    tuning_subruns: int = Field(default=3, ge=1)
    gates: str = "standard"
    trainer: Trainer = Trainer.LSTCHAIN


class Site(Frozen):
    """One site file.

    Attributes
    ----------
    resources : dict
        By kind of step; `default` for the others.
    cuts : str
        The one cut set of IRFs and DL3: a file of config/cuts.
    notify : Notify
        Who is told of what.
    """

    name: str
    base: Path
    work: str = "lstops"
    observatory: Observatory
    cluster: Cluster
    environments: dict[str, ScienceEnvironment]
    nightly: NightlySettings
    production: ProductionSettings
    resources: dict[str, Resources] = Field(default_factory=dict)
    cuts: str = "standard"
    notify: Notify = Notify()

    @field_validator("work")
    @classmethod
    def _below(cls, work: str) -> str:
        # every product, lock and manifest of ours lies below it: it must not be the base itself, or elsewhere
        if work != relative_path(work) or work in ("", "."):
            raise ValueError(f"work {work!r} must be a folder below base, such as 'lstops'")
        return work

    @field_validator("base")
    @classmethod
    def _absolute(cls, base: Path) -> Path:
        if not base.is_absolute():
            raise ValueError(f"base {str(base)!r} must be an absolute path")
        return base

    @model_validator(mode="after")
    def _known_version(self) -> Site:
        if self.nightly.lstchain_version not in self.environments:
            raise ValueError(
                f"nightly.lstchain_version {self.nightly.lstchain_version!r} is none of the environments "
                f"{sorted(self.environments)}"
            )
        return self

    @model_validator(mode="after")
    def _within_partitions(self) -> Site:
        # A job that asks for more than its partition allows would wait for ever.
        for kind, wanted in self.resources.items():
            name = wanted.partition or self.cluster.default_partition
            limits = self.cluster.partitions.get(name) if name else None
            if limits is None:
                continue
            for what, asked, allowed in (
                ("time_min", wanted.time_min, limits.max_time_min),
                ("mem_mb", wanted.mem_mb, limits.max_mem_mb),
                ("cpus", wanted.cpus, limits.max_cpus),
            ):
                if asked > allowed:
                    raise ValueError(f"resources.{kind}.{what} is {asked}, partition {name!r} allows {allowed}")
        return self

    def environment(self, lstchain_version: str) -> ScienceEnvironment:
        """The science environment of a version of lstchain.

        Raises
        ------
        ConfigError
            If the site has none.
        """
        try:
            return self.environments[lstchain_version]
        except KeyError:
            raise ConfigError(
                f"site {self.name!r} has no science environment for lstchain {lstchain_version!r}.",
                f"use one of {sorted(self.environments)} or add it under `environments` in the site file.",
            ) from None

    def resources_for(self, kind: str) -> Resources:
        """Resources of a kind of step: the site's, else the default ones."""
        return self.resources.get(kind, self.resources.get("default", Resources()))


def _expand(value: Any, where: str) -> Any:
    """Replace ${NAME} and ${NAME:-default} in every text of a YAML document."""
    if isinstance(value, str):

        def lookup(match: re.Match[str]) -> str:
            name, default = match.group(1), match.group(2)
            found = os.environ.get(name, default)
            if found is None:
                raise ConfigError(
                    f"{where} uses the environment variable {name}, which is not set.", f"set {name} or edit the file."
                )
            return found

        return _VARIABLE.sub(lookup, value)
    if isinstance(value, dict):
        return {key: _expand(item, where) for key, item in value.items()}
    if isinstance(value, list):
        return [_expand(item, where) for item in value]
    return value


def load_site(path: Path | str | None = None) -> Site:
    """Read a site file.

    Parameters
    ----------
    path : path, optional
        Default: the environment variable LSTOPS_SITE.

    Raises
    ------
    ConfigError
        If there is none, it cannot be read, or a key or value in it is wrong (named with its place).
    """
    chosen = path or os.environ.get("LSTOPS_SITE")
    if not chosen:
        raise ConfigError("no site file given.", "set LSTOPS_SITE or pass --site FILE (see config/sites/).")
    where = Path(chosen)
    try:
        document = load_plain(where.read_text())
    except OSError as error:
        raise ConfigError(f"cannot read the site file {where}: {error.strerror}.", "correct the path.") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{where} is not YAML: {error}.", "correct the file.") from error
    if not isinstance(document, dict):
        raise ConfigError(f"{where} is empty or no mapping.", "start from config/sites/local.yaml.")
    try:
        return Site.model_validate(_expand(document, str(where)))
    except ValidationError as error:
        raise ConfigError(f"{where}: {describe(error)}", "correct these keys of the site file.") from error


def describe(error: ValidationError) -> str:
    """Each finding of pydantic on one line, with its place; what is about the whole has none."""
    places = ["".join((".".join(str(p) for p in e["loc"]), ": ")) if e["loc"] else "" for e in error.errors()]
    words = [str(e["msg"]).removeprefix("Value error, ") for e in error.errors()]
    return "; ".join(f"{place}{said}" for place, said in zip(places, words, strict=True))
