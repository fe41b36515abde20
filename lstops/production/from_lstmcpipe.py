"""A production defined by an lstmcpipe configuration, as a plan of lstops: every stage, every file.

Pure: files that exist before the plan come from a `Lister`, so that the same definition and the same files give the
same plan. What differs from lstmcpipe, on purpose:

- the split moves no file: its step writes down which file is in which part, with the seed, and merges take their part;
- the lstchain configuration is a product of the plan's first step, from which every other step reads it;
- forests get `training_dirs.ecsv`.
"""

from __future__ import annotations

import glob
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lstops.errors import ConfigError
from lstops.production.definition import ProductionDefinition, cycles
from lstops.production.lstmcpipe_steps import CONFIG, StepMaker
from lstops.production.mc_files import SPLIT_SEED, FileIndex, Lister
from lstops.site.layout import Layout
from lstops.site.model import Site
from lstops.step.model import CORE_ENVIRONMENT, ArtifactKind, Output, Plan, Stage, Step

#: Where configurations say the data are, and where that is below the site's base.
DEFAULT_ROOTS: tuple[tuple[str, str], ...] = (("/fefs/aswg/data/", ""),)

_CONFIG_FILE = "lstchain_config.json"


@dataclass(frozen=True, slots=True)
class LstmcpipePlanRequest:
    """What to plan, and where its files are.

    Attributes
    ----------
    lister : Lister
        Finds the files that exist before the plan.
    lstchain_version : str or None
        Default: the one that the configuration's environment names. Must be a science environment of the site.
    roots : tuple of (str, str)
        Prefixes of the configuration's absolute paths, each with what stands for it below the site's base.
    changes : mapping or None
        Instead of a ready lstchain configuration: changes to the Monte Carlo configuration of the science environment,
        which is the one of that version by construction.
    """

    definition: ProductionDefinition
    site: Site
    lister: Lister
    lstchain_version: str | None = None
    roots: tuple[tuple[str, str], ...] = DEFAULT_ROOTS
    seed: int = SPLIT_SEED
    changes: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class TreeLister:
    """Looks for files below the base of a site."""

    base: Path

    def __call__(self, folder: str, pattern: str) -> list[str]:
        """Files below `folder` that match, relative to the base; hidden ones, which are not finished, do not."""
        return sorted(f"{folder}/{path}" for path in glob.glob(pattern, root_dir=self.base / folder))


def plan_from_lstmcpipe(request: LstmcpipePlanRequest) -> Plan:
    """Plan every stage that the configuration runs.

    Raises
    ------
    ConfigError
        If the site lacks the version, there is no lstchain configuration, a path is outside the roots, files are
        missing, or two steps make the same product.
    """
    return _Planner(request).plan()


class _Planner:
    def __init__(self, request: LstmcpipePlanRequest) -> None:
        definition = request.definition
        version = request.lstchain_version or definition.lstchain_version
        if version is None:
            raise ConfigError(
                f"environment {definition.conda_env!r} does not say which lstchain it has.",
                "give the version of lstchain (--lstchain, in the form lstchain_version).",
            )
        if definition.chain is None and request.changes is None:
            raise ConfigError(f"{definition.prod_id} has no lstchain configuration.", "give it with --lstchain-config.")
        request.site.environment(version)
        self.request, self.definition, self.version = request, definition, version
        self.config_path = Layout(request.site.base, request.site.work).mc_config(definition.prod_id)

    def plan(self) -> Plan:
        definition = self.definition
        for step, path, later in cycles(definition):
            raise ConfigError(
                f"{step.place} reads {path}, which only {later.place} makes.",
                "a stage reads what earlier stages made; `lstops production lint` lists all such paths.",
            )
        stages = [Stage(name="config", steps=(self._write_config(),))]
        request = self.request
        maker = StepMaker(
            definition=definition,
            site=request.site,
            version=self.version,
            config_path=self.config_path,
            lister=request.lister,
            files=FileIndex(request.lister),
            roots=request.roots,
            seed=request.seed,
        )
        stages += [maker.stage(stage) for stage in definition.stages if stage.runs]
        _refuse_duplicates(stages)
        return Plan(
            kind="mc_production",
            title=f"{definition.prod_id}, as configured for lstmcpipe",
            site=request.site.name,
            lstchain_version=self.version,
            stages=tuple(stages),
            context={
                "production": definition.prod_id,
                "lines": list(definition.lines),
                "nsb_ghz": definition.nsb_ghz,
                "configuration_sha256": definition.digest,
                "split_seed": request.seed,
            },
        )

    def _write_config(self) -> Step:
        changes, chain = self.request.changes, self.definition.chain
        if changes is not None:
            name, text = "update.json", json.dumps(changes, indent=1, sort_keys=True)
            command: tuple[str, ...] = ("python", "-m", "lstops.science.mc_config", "--update", f"{{file:{name}}}",
                                        "--output", f"{{out:{CONFIG}}}")  # fmt: skip
        else:
            assert chain is not None  # checked at the start
            name, text = _CONFIG_FILE, chain.to_text()
            command = ("cp", f"{{file:{name}}}", f"{{out:{CONFIG}}}")
        return Step(
            kind="config",
            label=f"lstchain configuration of {self.definition.prod_id}",
            subject=self.definition.prod_id,
            commands=(command,),
            outputs=(Output(name=CONFIG, kind=ArtifactKind.LSTCHAIN_CONFIG, path=self.config_path),),
            files={name: text},
            resources=self.request.site.resources_for("config"),
            environment=CORE_ENVIRONMENT if changes is None else self.version,
        )


def _refuse_duplicates(stages: Iterable[Stage]) -> None:
    seen: dict[str, str] = {}
    for stage in stages:
        for step in stage.steps:
            for output in step.outputs:
                if output.path in seen:
                    raise ConfigError(
                        f"{output.path} would be made by {seen[output.path]} and by {step.label}.",
                        "give each step its own output; `lstops production lint` lists them all.",
                    )
                seen[output.path] = step.label
