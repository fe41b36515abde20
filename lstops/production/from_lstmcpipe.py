"""A production defined by an lstmcpipe configuration, as a plan of lstops: every stage, every file.

Pure: files that exist before the plan come from a `Lister`, so that the same definition and the same files give the
same plan. What differs from lstmcpipe, on purpose:

- the split moves no file: its step writes down which file is in which part, with the seed, and merges take their part;
- the lstchain configuration is a product of the plan's first step, from which every other step reads it;
- forests get `training_dirs.ecsv`.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from lstops.errors import ConfigError
from lstops.production.definition import ProductionDefinition, StageDefinition, StepDefinition, cycles
from lstops.production.grid import Node, Particle, known_grid
from lstops.production.mc_files import SPLIT_SEED, FileIndex, Lister, split_files
from lstops.production.slurm_options import resources
from lstops.production.stages import StageName
from lstops.site.model import Site
from lstops.step.model import CORE_ENVIRONMENT, ArtifactKind, Input, Output, Plan, Stage, Step

#: Where configurations say the data are, and where that is below the site's base.
DEFAULT_ROOTS: tuple[tuple[str, str], ...] = (("/fefs/aswg/data/", ""),)

#: Kind of the steps of a stage; sites give resources by these names.
KINDS = {
    StageName.R0_TO_DL1: "r0-to-dl1",
    StageName.DL1AB: "dl1ab",
    StageName.TRAIN_TEST_SPLIT: "split",
    StageName.MERGE_DL1: "merge",
    StageName.TRAIN_PIPE: "train",
    StageName.DL1_TO_DL2: "mc-dl2",
    StageName.DL2_TO_IRFS: "irf",
    StageName.DL2_TO_SENSITIVITY: "sensitivity",
}

_CONFIG_FILE = "lstchain_config.json"
_CONFIG = "config"


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
        """Files below `folder` that match, relative to the base."""
        return sorted(str(path.relative_to(self.base)) for path in (self.base / folder).glob(pattern))


def plan_from_lstmcpipe(request: LstmcpipePlanRequest) -> Plan:
    """Plan every stage that the configuration runs.

    Raises
    ------
    ConfigError
        If the site lacks the version, there is no lstchain configuration, a path is outside the roots, files are
        missing, or two steps make the same product.
    """
    return _Planner(request).plan()


def relative_to_base(path: str, roots: Sequence[tuple[str, str]]) -> str:
    """Path below the site's base of an absolute path of a configuration.

    Raises
    ------
    ConfigError
        If it is below none of the roots, or climbs out of one.
    """
    for prefix, below in roots:
        if path.startswith(prefix) and ".." not in PurePosixPath(path).parts:
            return str(PurePosixPath(below) / path[len(prefix) :].lstrip("/"))
    raise ConfigError(
        f"{path} is not below {' or '.join(prefix for prefix, _ in roots)}.",
        "say where it is below the site's base (roots), or correct the path.",
    )


def dl1_name(simtel: str) -> str:
    """Name that lstchain_mc_r0_to_dl1 gives its output (lstchain/paths.py, r0_to_dl1_filename)."""
    return "dl1_" + re.sub(r"(\.simtel)?\.(gz|zst)$|\.simtel$", "", PurePosixPath(simtel).name) + ".h5"


class _Planner:
    def __init__(self, request: LstmcpipePlanRequest) -> None:
        definition = request.definition
        version = request.lstchain_version or definition.lstchain_version
        if version is None:
            raise ConfigError(
                f"environment {definition.conda_env!r} does not say which lstchain it has.", "give the version."
            )
        if definition.chain is None and request.changes is None:
            raise ConfigError(f"{definition.prod_id} has no lstchain configuration.", "give it with --lstchain-config.")
        request.site.environment(version)
        self.request, self.definition, self.version = request, definition, version
        self.files = FileIndex(request.lister)
        self.config_path = f"mc/DL1/AllSky/{definition.prod_id}/lstchain_config_{definition.prod_id}.json"

    def plan(self) -> Plan:
        definition = self.definition
        for step, path, maker in cycles(definition):
            raise ConfigError(
                f"{step.place} reads {path}, which only {maker.place} makes.",
                "a stage reads what earlier stages made; `lstops production lint` lists all such paths.",
            )
        stages = [Stage(name="config", steps=(self._write_config(),))]
        stages += [self._stage(stage) for stage in definition.stages if stage.runs]
        _refuse_duplicates(stages)
        return Plan(
            kind="mc_production",
            title=f"{definition.prod_id}, as configured for lstmcpipe",
            site=self.request.site.name,
            lstchain_version=self.version,
            stages=tuple(stages),
            context={
                "production": definition.prod_id,
                "lines": list(definition.lines),
                "nsb_ghz": definition.nsb_ghz,
                "configuration_sha256": definition.digest,
                "split_seed": self.request.seed,
            },
        )

    def _stage(self, stage: StageDefinition) -> Stage:
        make = {
            StageName.R0_TO_DL1: self._r0_to_dl1,
            StageName.DL1AB: self._dl1ab,
            StageName.TRAIN_TEST_SPLIT: self._split,
            StageName.MERGE_DL1: self._merge,
            StageName.TRAIN_PIPE: self._train,
            StageName.DL1_TO_DL2: self._dl2,
            StageName.DL2_TO_IRFS: self._irf,
            StageName.DL2_TO_SENSITIVITY: self._sensitivity,
        }[stage.name]
        return Stage(name=stage.name.value, steps=tuple(made for step in stage.steps for made in make(step)))

    # -- parts ----------------------------------------------------------------------------------------------------
    def _path(self, path: str) -> str:
        return relative_to_base(path, self.request.roots)

    def _at(self, step: StepDefinition, role: str) -> str:
        path = step.path(role)
        if path is None:
            raise ConfigError(f"{step.place} has no {role}.", f"give its {role} in the configuration.")
        return self._path(path)

    def _config(self) -> Input:
        return Input(name=_CONFIG, kind=ArtifactKind.LSTCHAIN_CONFIG, path=self.config_path)

    def _step(
        self, step: StepDefinition, commands: Sequence[tuple[str, ...]], inputs: Sequence[Input],
        outputs: Sequence[Output], files: dict[str, str] | None = None,
    ) -> Step:  # fmt: skip
        kind = KINDS[step.stage]
        names = (step.line, step.particle.value if step.particle else None, str(step.node) if step.node else None)
        what = " ".join(name for name in names if name) or self.definition.prod_id
        return Step(
            kind=kind,
            label=f"{step.stage.value} {what}",
            subject=what,
            commands=tuple(commands),
            inputs=tuple(inputs),
            outputs=tuple(outputs),
            files=files or {},
            resources=resources(step.slurm, self.request.site.resources_for(kind)),
            environment=CORE_ENVIRONMENT if step.stage is StageName.TRAIN_TEST_SPLIT else self.version,
        )

    def _write_config(self) -> Step:
        changes, chain = self.request.changes, self.definition.chain
        if changes is not None:
            name, text = "update.json", json.dumps(changes, indent=1, sort_keys=True)
            command: tuple[str, ...] = ("python", "-m", "lstops.science.mc_config", "--update", f"{{file:{name}}}",
                                        "--output", f"{{out:{_CONFIG}}}")  # fmt: skip
        else:
            assert chain is not None  # checked at the start
            name, text = _CONFIG_FILE, chain.to_text()
            command = ("cp", f"{{file:{name}}}", f"{{out:{_CONFIG}}}")
        return Step(
            kind="config",
            label=f"lstchain configuration of {self.definition.prod_id}",
            subject=self.definition.prod_id,
            commands=(command,),
            outputs=(Output(name=_CONFIG, kind=ArtifactKind.LSTCHAIN_CONFIG, path=self.config_path),),
            files={name: text},
            resources=self.request.site.resources_for("config"),
            environment=CORE_ENVIRONMENT if changes is None else self.version,
        )

    # -- stages ---------------------------------------------------------------------------------------------------
    def _r0_to_dl1(self, step: StepDefinition) -> Iterator[Step]:
        source, target = self._at(step, "input"), self._at(step, "output")
        simtels = sorted(f for ending in ("gz", "zst") for f in self.request.lister(source, f"*.simtel.{ending}"))
        if not simtels:
            raise ConfigError(f"{step.place}: no simtel file in {source}.", "correct the path, or simulate the node.")
        self.files.add(target, [f"{target}/{dl1_name(simtel)}" for simtel in simtels])
        # lstmcpipe's sizes of a task (stages/mc_process_dl1.py)
        for chunk in _chunks(simtels, 20 if len(simtels) < 50 else 50):
            numbers = range(len(chunk))
            commands = [
                ("lstchain_mc_r0_to_dl1", "-f", f"{{in:simtel-{i}}}", "-o", f"{{outdir:dl1-{i}}}", "-c", "{in:config}")
                for i in numbers
            ]
            inputs = [Input(name=f"simtel-{i}", kind=ArtifactKind.SIMTEL, path=chunk[i]) for i in numbers]
            outputs = [
                Output(
                    name=f"dl1-{i}",
                    kind=ArtifactKind.DL1,
                    path=f"{target}/{dl1_name(chunk[i])}",
                    expect={"images": True, "simulation": True},
                )
                for i in numbers
            ]
            yield self._step(step, commands, [*inputs, self._config()], outputs)

    def _dl1ab(self, step: StepDefinition) -> Iterator[Step]:
        source, target = self._at(step, "input"), self._at(step, "output")
        given = self.files.find(source, "*.h5")
        self.files.add(target, [f"{target}/{PurePosixPath(path).name}" for path in given])
        for chunk in _chunks(given, 50):
            numbers = range(len(chunk))
            commands = [
                ("lstchain_dl1ab", "-f", f"{{in:dl1-{i}}}", "-o", f"{{out:tuned-{i}}}", "-c", "{in:config}",
                 "--no-image")
                for i in numbers
            ]  # fmt: skip
            inputs = [Input(name=f"dl1-{i}", kind=ArtifactKind.DL1, path=chunk[i]) for i in numbers]
            outputs = [
                Output(
                    name=f"tuned-{i}",
                    kind=ArtifactKind.DL1,
                    path=f"{target}/{PurePosixPath(chunk[i]).name}",
                    counts_from=(f"dl1-{i}",),
                    expect={"images": False, "simulation": True},
                )
                for i in numbers
            ]
            yield self._step(step, commands, [*inputs, self._config()], outputs)

    def _split(self, step: StepDefinition) -> Iterator[Step]:
        source, train, test = (self._at(step, role) for role in ("input", "train", "test"))
        assert step.test_ratio is not None
        parts = split_files(self.files.take(source), step.test_ratio, self.request.seed)
        for folder, part in zip((train, test), parts, strict=True):
            self.files.add(folder, part)
        members = sorted([*parts[0], *parts[1]])
        record = {
            "seed": self.request.seed,
            "test_ratio": step.test_ratio,
            "train": [PurePosixPath(f).name for f in parts[0]],
            "test": [PurePosixPath(f).name for f in parts[1]],
        }
        inputs = [Input(name=f"dl1-{i}", kind=ArtifactKind.DL1, path=path) for i, path in enumerate(members)]
        output = Output(name="split", kind=ArtifactKind.FILE, path=f"{source}/train_test_split.json")
        command = ("cp", "{file:train_test_split.json}", "{out:split}")
        files = {"train_test_split.json": json.dumps(record, indent=1) + "\n"}
        yield self._step(step, [command], inputs, [output], files)

    def _merge(self, step: StepDefinition) -> Iterator[Step]:
        pattern, no_images = _merge_options(step)
        given = self.files.find(self._at(step, "input"), pattern)
        no_image = ("--no-image",) if no_images else ()
        # lstchain's own checks raise TypeError for subarrays called MonteCarloArray; the verifier compares the counts
        command = ("lstchain_merge_hdf5_files", "-d", "{indir:dl1}", "-o", "{out:merged}", "-p", "*.h5", *no_image,
                   "--no-progress", "--skip-checks")  # fmt: skip
        inputs = [Input(name=f"dl1-{i}", group="dl1", kind=ArtifactKind.DL1, path=f) for i, f in enumerate(given)]
        merged = Output(
            name="merged",
            kind=ArtifactKind.DL1_MERGED,
            path=self._at(step, "output"),
            counts_from=tuple(item.name for item in inputs),
            expect={"simulation": True, **({"images": False} if no_images else {})},
        )
        yield self._step(step, [command], inputs, [merged])

    def _train(self, step: StepDefinition) -> Iterator[Step]:
        nodes = self._training_nodes(step.line)
        complete = ("python", "-m", "lstops.science.complete_models", "--models", "{out:models}", "--gamma",
                    "{in:gamma}", "--config", "{in:config}")  # fmt: skip
        commands = [
            ("lstchain_mc_trainpipe", "--fg", "{in:gamma}", "--fp", "{in:proton}", "-o", "{out:models}",
             "-c", "{in:config}"),
            complete + tuple(word for node in nodes for word in ("--node", f"{node.zd_text},{node.az_text}")),
        ]  # fmt: skip
        inputs = [
            Input(name=role, kind=ArtifactKind.DL1_MERGED, path=self._at(step, role)) for role in ("gamma", "proton")
        ]
        models = Output(
            name="models",
            kind=ArtifactKind.MODELS,
            path=self._at(step, "output"),
            expect={"training_dirs": len(nodes) > 1},
        )
        yield self._step(step, commands, [*inputs, self._config()], [models])

    def _training_nodes(self, line: str | None) -> tuple[Node, ...]:
        """Directions of the gammas that are trained on: those of this production's DL1, else the known line."""
        made = dict.fromkeys(
            step.node
            for step in self.definition.steps(running_only=True)
            if step.stage in (StageName.R0_TO_DL1, StageName.DL1AB)
            and step.is_training
            and step.line == line
            and step.particle is Particle.GAMMA_DIFFUSE
            and step.node
        )
        known = known_grid().lines.get(line or "")
        return tuple(sorted(made)) or (known.nodes if known else ())

    def _dl2(self, step: StepDefinition) -> Iterator[Step]:
        command = ("lstchain_dl1_to_dl2", "-f", "{in:dl1}", "-p", "{in:models}", "-o", "{outdir:dl2}",
                   "-c", "{in:config}")  # fmt: skip
        inputs = [
            Input(name="dl1", kind=ArtifactKind.DL1_MERGED, path=self._at(step, "input")),
            Input(name="models", kind=ArtifactKind.MODELS, path=self._at(step, "models")),
            self._config(),
        ]
        output = Output(name="dl2", kind=ArtifactKind.DL2, path=self._at(step, "output"), counts_from=("dl1",))
        yield self._step(step, [command], inputs, [output])

    def _dl2_inputs(self, step: StepDefinition) -> list[Input]:
        return [Input(name=p.role, kind=ArtifactKind.DL2, path=self._path(p.path)) for p in step.inputs]

    def _irf(self, step: StepDefinition) -> Iterator[Step]:
        inputs = self._dl2_inputs(step)
        files = [word for item in inputs for word in (f"-{item.name[0]}", f"{{in:{item.name}}}")]
        options = shlex.split(step.options)
        command = ("lstchain_create_irf_files", *options, *files, "-o", "{out:irf}", "--config", "{in:config}",
                   "--overwrite")  # fmt: skip
        expect: dict[str, object] = {"point_like": "--point-like" in options}
        if step.node:
            expect.update(zd_deg=step.node.zd_deg, az_deg=step.node.az_deg)
        irf = Output(name="irf", kind=ArtifactKind.IRF, path=self._at(step, "output"), expect=expect)
        yield self._step(step, [command], [*inputs, self._config()], [irf])

    def _sensitivity(self, step: StepDefinition) -> Iterator[Step]:
        inputs = self._dl2_inputs(step)
        files = [word for item in inputs for word in (f"-{item.name[0]}", f"{{in:{item.name}}}")]
        output = Output(name="sensitivity", kind=ArtifactKind.FILE, path=self._at(step, "output"))
        yield self._step(step, [("lstmcpipe_dl2_to_sensitivity", *files, "-o", "{out:sensitivity}")], inputs, [output])


def _merge_options(step: StepDefinition) -> tuple[str, bool]:
    """The pattern of the files to merge, and whether to leave images out.

    Raises
    ------
    ConfigError
        For options that the plan does not carry over.
    """
    pattern, no_images, words = "*.h5", False, shlex.split(step.options)
    while words:
        word = words.pop(0)
        if word in ("--pattern", "-p") and words:
            pattern = words.pop(0)
        elif word == "--no-image":
            no_images = True
        elif word not in ("--no-progress", "--skip-checks"):  # every merge of a plan has these
            raise ConfigError(
                f"{step.place}: the option {word!r} of lstchain_merge_hdf5_files cannot be planned.",
                "use --pattern PATTERN and --no-image only.",
            )
    return pattern, no_images


def _chunks(files: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    yield from (files[first : first + size] for first in range(0, len(files), size))


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
