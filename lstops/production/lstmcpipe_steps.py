"""The steps of a production defined by an lstmcpipe configuration: which command makes which files, and from what."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import PurePosixPath

from lstops.errors import ConfigError
from lstops.production.definition import ProductionDefinition, StageDefinition, StepDefinition
from lstops.production.grid import Node, Particle, known_grid
from lstops.production.mc_files import FileIndex, Lister, dl1_name, relative_to_base, split_files
from lstops.production.slurm_options import resources
from lstops.production.stages import StageName
from lstops.production.step_options import irf_options, merge_options
from lstops.site.model import Site
from lstops.step.model import CORE_ENVIRONMENT, ArtifactKind, Input, Output, Stage, Step

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

#: Name of the lstchain configuration among the inputs of a step.
CONFIG = "config"


@dataclass(frozen=True, slots=True)
class StepMaker:
    """Makes the steps of the stages; they must be asked for in order, since each stage lists its files for the next.

    Attributes
    ----------
    version : str
        Science environment of the steps.
    config_path : str
        Of the lstchain configuration, which all steps read.
    files : FileIndex
        What the stages before have made.
    roots, seed
        See `LstmcpipePlanRequest`.
    """

    definition: ProductionDefinition
    site: Site
    version: str
    config_path: str
    lister: Lister
    files: FileIndex
    roots: tuple[tuple[str, str], ...]
    seed: int

    def stage(self, stage: StageDefinition) -> Stage:
        """One stage with all its steps."""
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
        return relative_to_base(path, self.roots)

    def _at(self, step: StepDefinition, role: str) -> str:
        path = step.path(role)
        if path is None:
            raise ConfigError(f"{step.place} has no {role}.", f"give its {role} in the configuration.")
        return self._path(path)

    def _config(self) -> Input:
        return Input(name=CONFIG, kind=ArtifactKind.LSTCHAIN_CONFIG, path=self.config_path)

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
            resources=resources(step.slurm, self.site.resources_for(kind), step.place),
            environment=CORE_ENVIRONMENT if step.stage is StageName.TRAIN_TEST_SPLIT else self.version,
        )

    # -- stages ---------------------------------------------------------------------------------------------------
    def _r0_to_dl1(self, step: StepDefinition) -> Iterator[Step]:
        source, target = self._at(step, "input"), self._at(step, "output")
        simtels = sorted(f for ending in ("gz", "zst") for f in self.lister(source, f"*.simtel.{ending}"))
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
        parts = split_files(self.files.take(source), step.test_ratio, self.seed)
        for folder, part in zip((train, test), parts, strict=True):
            self.files.add(folder, part)
        members = sorted([*parts[0], *parts[1]])
        record = {
            "seed": self.seed,
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
        with _said_of(step):
            pattern, no_images = merge_options(step.options)
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
        if made:
            return tuple(sorted(made))
        known = known_grid().lines.get(line or "")
        return known.nodes if known else ()

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
        with _said_of(step):
            options = irf_options(step.options)
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


@contextmanager
def _said_of(step: StepDefinition) -> Iterator[None]:
    """Errors name the step whose options are wrong."""
    try:
        yield
    except ConfigError as error:
        raise ConfigError(f"{step.place}.options: {error.what}", error.remedy) from None


def _chunks(files: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    yield from (files[first : first + size] for first in range(0, len(files), size))
