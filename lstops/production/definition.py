"""A production as data for planners: stages of steps with their paths, nodes and lines, read off the configuration."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Set
from dataclasses import dataclass
from pathlib import PurePosixPath

from lstops.production.config import ProductionConfig, WorkflowKind
from lstops.production.grid import Node, Particle, line_in_path, node_in_path, particle_in_path
from lstops.production.lstchain_config import RATIO_KEY, LstchainConfig, rate_key
from lstops.production.stages import (
    Dl2Step,
    FolderStep,
    IrfStep,
    MergeStep,
    SensitivityStep,
    SlurmOptions,
    SplitStep,
    StageName,
    StepConfig,
    TrainStep,
)

#: lstmcpipe's share of the test part where a split gives none (stages/mc_train_test_splitting.py)
DEFAULT_TEST_RATIO = 0.5

_TRAINING_FOLDER = "TrainingDataset"
_TEST_FOLDERS = ("TestingDataset", "TestDataset")


@dataclass(frozen=True, slots=True)
class StepPath:
    """One path of a step, as the configuration gives it.

    Attributes
    ----------
    role : str
        "input", "gamma", "proton", "electron", "models", "output", "train" or "test".
    """

    role: str
    path: str
    is_folder: bool


@dataclass(frozen=True, slots=True)
class StepDefinition:
    """One step of a stage.

    Attributes
    ----------
    index : int
        Position in its stage.
    options : str
        Arguments for the command of the stage, "" where lstmcpipe passes none on.
    test_ratio : float or None
        Share of the test part; only for train_test_split.
    line, particle, node
        What the folders of the paths name, None where they name none (a merged line has no node).
    is_training : bool
        Whether it works on training data.
    """

    stage: StageName
    index: int
    inputs: tuple[StepPath, ...]
    outputs: tuple[StepPath, ...]
    options: str
    test_ratio: float | None
    slurm: SlurmOptions | None
    line: str | None
    particle: Particle | None
    node: Node | None
    is_training: bool

    @property
    def place(self) -> str:
        """Where the step is in the configuration."""
        return f"stages.{self.stage.value}[{self.index}]"

    def path(self, role: str) -> str | None:
        """The path of a role, if the step has it."""
        return next((p.path for p in (*self.inputs, *self.outputs) if p.role == role), None)

    @property
    def products(self) -> tuple[str, ...]:
        """What the step makes: files, or folders where the files' names are not known beforehand."""
        return tuple(p.path for p in self.outputs)


@dataclass(frozen=True, slots=True)
class StageDefinition:
    """The steps of a stage, and whether lstmcpipe would run them."""

    name: StageName
    steps: tuple[StepDefinition, ...]
    runs: bool


@dataclass(frozen=True, slots=True)
class ProductionDefinition:
    """A whole production.

    Attributes
    ----------
    lstchain_version : str or None
        As the name of the conda environment claims.
    nsb_ghz : float or None
        Extra NSB of the DL1, as far as the configuration says it; None if it does not. Noise that dl1ab adds to images
        and ratios say no rate.
    digest : str
        Of both documents of the configuration.
    """

    prod_id: str
    workflow: WorkflowKind
    conda_env: str
    lstchain_version: str | None
    nsb_ghz: float | None
    chain: LstchainConfig | None
    stages: tuple[StageDefinition, ...]
    digest: str

    def stage(self, name: StageName) -> StageDefinition | None:
        """One stage, None if the configuration does not define it."""
        return next((stage for stage in self.stages if stage.name is name), None)

    def steps(self, running_only: bool = False) -> Iterator[StepDefinition]:
        """All steps in the order of the stages."""
        for stage in self.stages:
            if stage.runs or not running_only:
                yield from stage.steps

    @property
    def lines(self) -> tuple[str, ...]:
        """Declination lines named anywhere, sorted."""
        return tuple(sorted({step.line for step in self.steps() if step.line}))


def dl2_file(dl1_file: str, folder: str) -> str:
    """Where lstchain_dl1_to_dl2 puts the DL2 of a DL1 file (tools/lstchain_dl1_to_dl2.py)."""
    return f"{folder.rstrip('/')}/{PurePosixPath(dl1_file).name.replace('dl1', 'dl2', 1)}"


def cycles(production: ProductionDefinition) -> tuple[tuple[StepDefinition, str, StepDefinition], ...]:
    """Inputs that only the step itself, a step of the same stage or a later one makes: (reader, path, maker).

    Steps of one stage run at the same time, so an input from there is as impossible as one from a later stage. A folder
    is made by whoever makes something in it. That a merged file lies beside what was merged is usual; that a step
    writes its files over those that it reads is not.
    """
    order = {stage: position for position, stage in enumerate(StageName)}
    made: dict[str, StepDefinition] = {}
    below: dict[str, StepDefinition] = {}
    for step in production.steps():
        for path in step.products:
            made.setdefault(path.rstrip("/"), step)  # stages come in order: the first maker counts
            for folder in _with_folders(path.rstrip("/").rpartition("/")[0]):
                below.setdefault(folder, step)
    found = []
    for step in production.steps():
        for given in step.inputs:
            path = given.path.rstrip("/")
            maker = next((made[p] for p in _with_folders(path) if p in made), None)
            if maker is not None and maker is not step and order[maker.stage] >= order[step.stage]:
                found.append((step, path, maker))
            elif maker is None and (later := below.get(path)) is not None:
                is_own = later is step and not given.is_folder
                if is_own or order[later.stage] > order[step.stage]:
                    found.append((step, path, later))
    return tuple(found)


def _with_folders(path: str) -> Iterator[str]:
    """A path and the folders above it."""
    while path:
        yield path
        path = path.rpartition("/")[0]


_Paths = tuple[tuple[StepPath, ...], tuple[StepPath, ...]]


def _folder_paths(step: FolderStep) -> _Paths:
    return (StepPath("input", step.input, True),), (StepPath("output", step.output, True),)


def _split_paths(step: SplitStep) -> _Paths:
    outputs = (StepPath("train", step.output.train, True), StepPath("test", step.output.test, True))
    return (StepPath("input", step.input, True),), outputs


def _merge_paths(step: MergeStep) -> _Paths:
    return (StepPath("input", step.input, True),), (StepPath("output", step.output, False),)


def _train_paths(step: TrainStep) -> _Paths:
    inputs = (StepPath("gamma", step.input.gamma, False), StepPath("proton", step.input.proton, False))
    return inputs, (StepPath("output", step.output, True),)


def _dl2_paths(step: Dl2Step) -> _Paths:
    inputs = (StepPath("input", step.input, False), StepPath("models", step.path_model, True))
    return inputs, (StepPath("output", dl2_file(step.input, step.output), False),)


def _irf_paths(step: IrfStep | SensitivityStep) -> _Paths:
    given = (
        ("gamma", step.input.gamma_file),
        ("proton", step.input.proton_file),
        ("electron", step.input.electron_file),
    )
    inputs = tuple(StepPath(role, path, False) for role, path in given if path is not None)
    return inputs, (StepPath("output", step.output, False),)


_PATHS: dict[type, Callable[..., _Paths]] = {
    FolderStep: _folder_paths,
    SplitStep: _split_paths,
    MergeStep: _merge_paths,
    TrainStep: _train_paths,
    Dl2Step: _dl2_paths,
    IrfStep: _irf_paths,
    SensitivityStep: _irf_paths,
}


def _define_step(stage: StageName, index: int, step: StepConfig) -> StepDefinition:
    inputs, outputs = _PATHS[type(step)](step)
    # outputs first: DL1 of test nodes is shared by the lines, and only the DL2 folder says for which one it is used
    paths = [p.path for p in (*outputs, *inputs)]
    parts = [set(PurePosixPath(path).parts) for path in paths]
    training = any(_TRAINING_FOLDER in names for names in parts)
    particle = next((p for p in map(particle_in_path, paths) if p), None)
    if particle is None and any(folder in names for names in parts for folder in _TEST_FOLDERS):
        particle = Particle.GAMMA  # until 2024 the only particle of the test nodes, without a folder of its own
    reads_options = isinstance(step, (MergeStep, IrfStep))
    options = step.options if reads_options and isinstance(step.options, str) else ""
    ratio = (step.output.ratio or DEFAULT_TEST_RATIO) if isinstance(step, SplitStep) else None
    return StepDefinition(
        stage=stage,
        index=index,
        inputs=inputs,
        outputs=outputs,
        options=options,
        test_ratio=ratio,
        slurm=step.extra_slurm_options,
        line=next((line for line in map(line_in_path, paths) if line), None),
        particle=particle,
        node=next((node for node in map(node_in_path, paths) if node), None),
        is_training=training,
    )


def read_production(config: ProductionConfig) -> ProductionDefinition:
    """Turn a configuration into stages and steps.

    Pure: the same configuration gives the same definition, and no file is looked at.
    """
    pipe = config.pipe
    stages = tuple(
        StageDefinition(
            name=stage,
            steps=tuple(_define_step(stage, index, step) for index, step in enumerate(pipe.stages.of(stage))),
            runs=pipe.runs(stage),
        )
        for stage in pipe.stages.defined
    )
    version = pipe.source_environment.lstchain_version
    return ProductionDefinition(
        prod_id=pipe.prod_id,
        workflow=pipe.workflow_kind,
        conda_env=pipe.source_environment.conda_env,
        lstchain_version=version,
        nsb_ghz=_nsb_ghz(config.chain, version, {stage.name for stage in stages}),
        chain=config.chain,
        stages=stages,
        digest=config.digest,
    )


def _nsb_ghz(chain: LstchainConfig | None, version: str | None, defined: Set[StageName]) -> float | None:
    from_raw = StageName.R0_TO_DL1 in defined
    dl1ab = StageName.DL1AB in defined
    if chain is None or (chain.adds_image_noise and (dl1ab or not from_raw)):
        return None  # photoelectrons of noise, from which the rate does not follow
    nsb = chain.nsb
    if not nsb.enabled:
        return 0.0
    if (dl1ab and not from_raw) or (version is not None and rate_key(version) == RATIO_KEY):
        return None  # dl1ab does not touch waveforms: what its DL1 has is another configuration's affair
    return nsb.rate_ghz
