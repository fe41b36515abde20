"""The stages of lstmcpipe and what a step of each may say.

Facts from lstmcpipe (`stages/*.py`). Keys that it never reads but real files carry (`slurm_options`, `options` of some
stages) are part of the models, so that files are read as they are; the lint reports them as dead.
"""

from __future__ import annotations

from enum import Enum
from typing import Annotated, Any

from pydantic import ConfigDict, Field

from lstops.step.model import Frozen

Path_ = Annotated[str, Field(min_length=1)]
SlurmValue = str | int | None


class StageName(str, Enum):
    """The stages of lstmcpipe, in the order in which it runs them."""

    R0_TO_DL1 = "r0_to_dl1"
    DL1AB = "dl1ab"
    TRAIN_TEST_SPLIT = "train_test_split"
    MERGE_DL1 = "merge_dl1"
    TRAIN_PIPE = "train_pipe"
    DL1_TO_DL2 = "dl1_to_dl2"
    DL2_TO_IRFS = "dl2_to_irfs"
    DL2_TO_SENSITIVITY = "dl2_to_sensitivity"


#: Long options of sbatch (SLURM 22 to 24).
SBATCH_OPTIONS = frozenset(
    {
    "account", "acctg-freq", "array", "batch", "bb", "bbf", "begin", "chdir", "cluster-constraint", "clusters",
    "comment", "constraint", "container", "contiguous", "core-spec", "cores-per-socket", "cpu-freq", "cpus-per-gpu",
    "cpus-per-task", "deadline", "delay-boot", "dependency", "distribution", "error", "exclude", "exclusive",
    "export", "export-file", "extra-node-info", "get-user-env", "gid", "gpu-bind", "gpu-freq", "gpus",
    "gpus-per-node", "gpus-per-socket", "gpus-per-task", "gres", "gres-flags", "hint", "hold", "ignore-pbs", "input",
    "job-name", "kill-on-invalid-dep", "licenses", "mail-type", "mail-user", "mcs-label", "mem", "mem-bind",
    "mem-per-cpu", "mem-per-gpu", "mincpus", "network", "nice", "no-kill", "no-requeue", "nodefile", "nodelist",
    "nodes", "ntasks", "ntasks-per-core", "ntasks-per-gpu", "ntasks-per-node", "ntasks-per-socket", "open-mode",
    "output", "overcommit", "oversubscribe", "parsable", "partition", "power", "prefer", "priority", "profile",
    "propagate", "qos", "quiet", "reboot", "requeue", "reservation", "segment", "signal", "sockets-per-node",
    "spread-job", "switches", "test-only", "thread-spec", "threads-per-core", "time", "time-min", "tmp", "tres-bind",
    "tres-per-task", "uid", "use-min-nodes", "verbose", "wait", "wait-all-nodes", "wckey", "wrap",
    }
)  # fmt: skip


class SlurmOptions(Frozen):
    """`extra_slurm_options` of a step: long options of sbatch, given to it as they are.

    The usual ones are fields; others of `SBATCH_OPTIONS` may stand beside them.
    """

    model_config = ConfigDict(frozen=True, extra="allow")
    __pydantic_extra__: dict[str, SlurmValue]

    partition: SlurmValue = None
    mem: SlurmValue = None
    cpus_per_task: SlurmValue = Field(default=None, alias="cpus-per-task")
    time: SlurmValue = None
    nice: SlurmValue = None
    mem_per_cpu: SlurmValue = Field(default=None, alias="mem-per-cpu")
    account: SlurmValue = None
    qos: SlurmValue = None
    array: SlurmValue = None
    constraint: SlurmValue = None
    exclude: SlurmValue = None
    nodelist: SlurmValue = None
    nodes: SlurmValue = None
    ntasks: SlurmValue = None
    gres: SlurmValue = None
    licenses: SlurmValue = None
    tmp: SlurmValue = None
    begin: SlurmValue = None
    comment: SlurmValue = None
    reservation: SlurmValue = None
    priority: SlurmValue = None
    requeue: SlurmValue = None
    exclusive: SlurmValue = None
    job_name: SlurmValue = Field(default=None, alias="job-name")
    mail_type: SlurmValue = Field(default=None, alias="mail-type")
    mail_user: SlurmValue = Field(default=None, alias="mail-user")
    output: SlurmValue = None
    error: SlurmValue = None


class _StepConfig(Frozen):
    """What every step may carry. `slurm_options` is read by nobody (see `lint`)."""

    extra_slurm_options: SlurmOptions | None = None
    slurm_options: str | None = None


class FolderStep(_StepConfig):
    """r0_to_dl1 and dl1ab: every file of a folder into another folder. `options` is read by nobody."""

    input: Path_
    output: Path_
    options: str | dict[str, Any] | None = None


class SplitOutput(Frozen):
    """Folders of the two parts; `ratio` is the share of the test part (lstmcpipe: 0.5)."""

    train: Path_
    test: Path_
    ratio: float | None = Field(default=None, gt=0, lt=1)


class SplitStep(_StepConfig):
    """train_test_split: the files of a folder into two. `options` is read by nobody."""

    input: Path_
    output: SplitOutput
    options: dict[str, Any] | str | None = None


class MergeStep(_StepConfig):
    """merge_dl1: the files of a folder into one. `options` are arguments of lstchain_merge_hdf5_files."""

    input: Path_
    output: Path_
    options: str | None = None


class TrainInput(Frozen):
    """The merged training files."""

    gamma: Path_
    proton: Path_


class TrainStep(_StepConfig):
    """train_pipe: the forests of one line into a folder. `options` is read by nobody."""

    input: TrainInput
    output: Path_
    options: str | dict[str, Any] | None = None


class Dl2Step(_StepConfig):
    """dl1_to_dl2: one merged file, with the models of a folder, into a folder. `options` is read by nobody."""

    input: Path_
    path_model: Path_
    output: Path_
    options: str | dict[str, Any] | None = None


class IrfInput(Frozen):
    """DL2 files of the particles; without protons and electrons there is no background."""

    gamma_file: Path_
    proton_file: Path_ | None = None
    electron_file: Path_ | None = None


class IrfStep(_StepConfig):
    """dl2_to_irfs: `options` are arguments of lstchain_create_irf_files."""

    input: IrfInput
    output: Path_
    options: str | None = None


class SensitivityInput(Frozen):
    """DL2 files of the particles."""

    gamma_file: Path_
    proton_file: Path_
    electron_file: Path_


class SensitivityStep(_StepConfig):
    """dl2_to_sensitivity. `options` is read by nobody."""

    input: SensitivityInput
    output: Path_
    options: str | dict[str, Any] | None = None


StepConfig = FolderStep | SplitStep | MergeStep | TrainStep | Dl2Step | IrfStep | SensitivityStep


class Stages(Frozen):
    """The steps of every stage; None where a stage is not defined."""

    r0_to_dl1: tuple[FolderStep, ...] | None = None
    dl1ab: tuple[FolderStep, ...] | None = None
    train_test_split: tuple[SplitStep, ...] | None = None
    merge_dl1: tuple[MergeStep, ...] | None = None
    train_pipe: tuple[TrainStep, ...] | None = None
    dl1_to_dl2: tuple[Dl2Step, ...] | None = None
    dl2_to_irfs: tuple[IrfStep, ...] | None = None
    dl2_to_sensitivity: tuple[SensitivityStep, ...] | None = None

    def of(self, stage: StageName) -> tuple[StepConfig, ...]:
        """Steps of a stage, empty where it is not defined."""
        return getattr(self, stage.value) or ()

    @property
    def defined(self) -> tuple[StageName, ...]:
        """Stages that have steps."""
        return tuple(stage for stage in StageName if self.of(stage))
