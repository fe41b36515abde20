"""What is to be computed, as data: artifacts, steps, stages and plans.

Planners (pure functions) make these; `lstops.step.runner` executes one step; the scheduler sees only indices of a plan.
Nothing here touches a file.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from enum import Enum
from pathlib import PurePosixPath
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from lstops.errors import ConfigError

PLAN_SCHEMA = 1

#: environment of steps that need lstops only, not lstchain
CORE_ENVIRONMENT = "core"

_NAME = re.compile(r"^[a-z0-9][a-z0-9_.-]*$")
# a relative path without empty parts, "." and ".."; almost all are, and a plan has tens of thousands
_NORMAL = re.compile(r"(?!.*(?:^|/)\.{0,2}(?:/|$))[^\x00-\x1f]+\Z")
_CONTROL = re.compile(r"[\x00-\x1f]")


class ArtifactKind(str, Enum):
    """What a file (or folder) is; selects its verifier."""

    SIMTEL = "simtel"
    DL1 = "dl1"
    DL1_MERGED = "dl1-merged"
    DATACHECK = "datacheck"
    LSTCHAIN_CONFIG = "lstchain-config"
    MODELS = "models"
    DL2 = "dl2"
    IRF = "irf"
    DL3 = "dl3"
    DL3_INDEX = "dl3-index"
    FILE = "file"


def relative_path(path: str) -> str:
    """Check that `path` stays below a base folder and return it normalised.

    Raises
    ------
    ValueError
        For absolute paths, `..`, control characters and empty paths.
    """
    if _NORMAL.match(path):
        return path
    pure = PurePosixPath(path)
    if not path or pure.is_absolute() or ".." in pure.parts or _CONTROL.search(path):
        raise ValueError(f"path {path!r} must be relative to the site's base and stay below it")
    return str(pure)


def _checked_name(name: str) -> str:
    if not _NAME.match(name):
        raise ValueError(f"name {name!r} must match {_NAME.pattern}")
    return name


RelativePath = Annotated[str, AfterValidator(relative_path)]
Name = Annotated[str, AfterValidator(_checked_name)]


class Frozen(BaseModel):
    """Base of the immutable models that cross a boundary: unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Input(Frozen):
    """A file or folder that a step reads.

    Attributes
    ----------
    name : str
        Unique in the step; `{in:NAME}` in a command is its absolute path.
    group : str
        Inputs of one group are offered together as a folder of links, `{indir:GROUP}`.
    path : str
        Relative to the site's base.
    sha256 : str or None
        Expected content digest, where the planner pins it (registered models).
    """

    name: Name
    kind: ArtifactKind
    path: RelativePath
    group: Name | None = None
    sha256: str | None = None


class Output(Frozen):
    """A file or folder that a step makes.

    Attributes
    ----------
    name : str
        Unique in the step; `{out:NAME}` is its path in the staging folder, `{outdir:NAME}` the folder that holds it.
    counts_from : tuple of str
        Names of the inputs whose event counts must add up to this output's count (empty: not checked).
    expect : dict
        What else the verifier of this kind must find (documented at the verifier).
    """

    name: Name
    kind: ArtifactKind
    path: RelativePath
    counts_from: tuple[Name, ...] = ()
    expect: dict[str, Any] = Field(default_factory=dict)


class Resources(Frozen):
    """What a step asks from the scheduler."""

    cpus: int = Field(default=1, ge=1)
    mem_mb: int = Field(default=2000, ge=1)
    time_min: int = Field(default=30, ge=1)
    partition: str | None = None


class Step(Frozen):
    """One unit of computation: commands from inputs to outputs.

    Attributes
    ----------
    label : str
        For people: "DL2 of run 2001".
    subject : str
        What is blocked if this step fails ("run 2001", "node_theta_10_az_175"); quarantine is by subject.
    commands : tuple of tuple of str
        Run one after the other, never through a shell. Placeholders: `{in:NAME}`, `{indir:GROUP}`, `{out:NAME}`,
        `{outdir:NAME}`, `{file:NAME}` (of `files`) and `{scratch}`.
    files : dict
        Small text files (configurations) that the runner writes for the commands; part of the key.
    environment : str
        Version of lstchain (a key of the site's environments) in which the step runs, or `CORE_ENVIRONMENT`.
    branch : str or None
        Part of the plan that goes through the stages at its own pace (a declination line of a production); no part of
        the key.
    """

    kind: Name
    label: str
    subject: str
    commands: tuple[tuple[str, ...], ...] = Field(min_length=1)
    inputs: tuple[Input, ...] = ()
    outputs: tuple[Output, ...] = Field(min_length=1)
    files: dict[str, str] = Field(default_factory=dict)
    resources: Resources = Resources()
    environment: str
    branch: Name | None = None

    def model_post_init(self, context: Any, /) -> None:
        """Check names and placeholders; unlike a validator, not once more where the step is put into a stage."""
        for what, names in (("input", [i.name for i in self.inputs]), ("output", [o.name for o in self.outputs])):
            if len(names) != len(set(names)):
                raise ValueError(f"step {self.label!r}: two {what}s of the same name in {names}")
        known = {i.name for i in self.inputs}
        for output in self.outputs:
            if unknown := set(output.counts_from) - known:
                raise ValueError(f"step {self.label!r}: counts_from names unknown inputs {sorted(unknown)}")
        self._check_placeholders(known)

    def _check_placeholders(self, inputs: set[str]) -> None:
        outputs = {o.name for o in self.outputs}
        known = {
            "in": inputs,
            "indir": {i.group for i in self.inputs if i.group},
            "out": outputs,
            "outdir": outputs,
            "file": set(self.files),
            "scratch": {""},
        }
        for argv in self.commands:
            if not argv:
                raise ValueError(f"step {self.label!r}: an empty command")
            for word in argv:
                for kind, name in placeholders(word):
                    if name not in known[kind]:
                        raise ValueError(
                            f"step {self.label!r}: {word!r} names an unknown {kind} {name!r}; known: "
                            f"{sorted(known[kind])}"
                        )

    @property
    def primary(self) -> Output:
        """The output that names the step's manifest."""
        return self.outputs[0]


class Stage(Frozen):
    """Steps that may run at the same time.

    Attributes
    ----------
    quarantine : bool
        True: a step beyond help blocks its subject only and the plan goes on (runs of a night). False: it fails the
        stage (nodes of a production).
    """

    name: Name
    steps: tuple[Step, ...] = ()
    quarantine: bool = False


class Plan(Frozen):
    """Stages in order.

    Attributes
    ----------
    kind : str
        "nightly", "mc_production", "reduction", ...
    title : str
        For people.
    context : dict
        What the plan is about (night, production, request); copied into every manifest.
    """

    schema_version: int = PLAN_SCHEMA
    kind: Name
    title: str
    site: str
    lstchain_version: str
    stages: tuple[Stage, ...]
    context: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _unique_outputs(self) -> Plan:
        seen: dict[str, str] = {}
        for step in self.steps():
            for output in step.outputs:
                if output.path in seen:
                    raise ValueError(f"{output.path} is made by both {seen[output.path]!r} and {step.label!r}")
                seen[output.path] = step.label
        return self

    @property
    def plan_id(self) -> str:
        """Identity of the content: the same request over the same catalogue gives the same plan."""
        # without indentation, with which json's own encoder in C would not be used
        text = json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
        digest = hashlib.sha256(text.encode()).hexdigest()[:16]
        return f"{self.kind}-{digest}"

    def steps(self) -> tuple[Step, ...]:
        """All steps; the position in this tuple is the step's index."""
        return tuple(step for stage in self.stages for step in stage.steps)

    def stage(self, name: str) -> Stage:
        """Return the stage called `name`.

        Raises
        ------
        ConfigError
            If the plan has no such stage.
        """
        for stage in self.stages:
            if stage.name == name:
                return stage
        raise ConfigError(f"plan {self.plan_id} has no stage {name!r}.", f"use one of {[s.name for s in self.stages]}.")

    def indices(self, stage_name: str, branch: str | None = None) -> Sequence[int]:
        """Indices (see `steps`) of one stage, or of one branch in it."""
        first = 0
        for stage in self.stages:
            if stage.name == stage_name:
                every = range(first, first + len(stage.steps))
                return every if branch is None else [i for i in every if stage.steps[i - first].branch == branch]
            first += len(stage.steps)
        self.stage(stage_name)
        raise AssertionError("unreachable")

    def to_json(self) -> str:
        """Canonical JSON text."""
        return json.dumps(self.model_dump(mode="json"), sort_keys=True, indent=1)

    @classmethod
    def from_json(cls, text: str, where: str = "plan") -> Plan:
        """Read what `to_json` wrote.

        Raises
        ------
        ConfigError
            If the text is no plan of this version.
        """
        try:
            return cls.model_validate_json(text)
        except ValueError as error:
            raise ConfigError(f"{where} is not a plan: {error}", "make it anew with `lstops ... plan`.") from error


_PLACEHOLDER = re.compile(r"\{(in|indir|out|outdir|file|scratch)(?::([^{}]*))?\}")


def placeholders(word: str) -> list[tuple[str, str]]:
    """(kind, name) of each placeholder in one word of a command."""
    if "{" not in word:
        return []
    return [(m.group(1), m.group(2) or "") for m in _PLACEHOLDER.finditer(word)]


def substitute(word: str, values: dict[tuple[str, str], str]) -> str:
    """Replace the placeholders of one word."""
    return _PLACEHOLDER.sub(lambda m: values[(m.group(1), m.group(2) or "")], word)


def step_key(step: Step, input_digests: dict[str, str], environment_version: str) -> str:
    """Hash of everything that determines the result of a step.

    Parameters
    ----------
    input_digests : dict
        Content digest by input name. Paths are left out: the same content elsewhere is the same input.
    environment_version : str
        For instance "lstchain 0.12.3".
    """
    text = json.dumps(
        {
            "kind": step.kind,
            "commands": step.commands,
            "files": step.files,
            "inputs": {i.name: [i.kind.value, i.group, PurePosixPath(i.path).name, input_digests[i.name]]
                       for i in step.inputs},
            "outputs": {o.name: [o.kind.value, PurePosixPath(o.path).name, o.expect, o.counts_from]
                        for o in step.outputs},
            "environment": environment_version,
        },
        sort_keys=True,
    )  # fmt: skip
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()
