"""The batch script of a stage: one array over step indices of a plan."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lstops.cluster.commands import quote
from lstops.errors import ConfigError
from lstops.site.model import ScienceEnvironment
from lstops.step.model import Resources

# SLURM's default MaxArraySize is 1001, that is positions 0 to 1000 (slurm.conf(5)); a longer stage goes in portions
MAX_TASKS = 1000

_TEMPLATE = """\
#!/bin/bash
{directives}
# Written by lstops; array position N runs the steps whose indices are on line N+1 of the list below.
set -euo pipefail
umask 027
export OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 MKL_NUM_THREADS=1 NUMBA_NUM_THREADS=1
export MPLBACKEND=Agg PYTHONUNBUFFERED=1 PYTHONNOUSERSITE=1
unset PYTHONPATH PYTHONHOME
{activation}
LSTOPS_POSITION="${{SLURM_ARRAY_TASK_ID:?this script runs as an array only}}"
LSTOPS_INDICES="$(sed -n "$((LSTOPS_POSITION + 1))p" -- {indices})"
if ! [[ "$LSTOPS_INDICES" =~ ^[0-9]+(\\ [0-9]+)*$ ]]; then
  echo "lstops: no step index at position $LSTOPS_POSITION of" {indices} >&2
  exit 78
fi
LSTOPS_STEPS=()
for LSTOPS_INDEX in $LSTOPS_INDICES; do LSTOPS_STEPS+=(--index "$LSTOPS_INDEX"); done
exec lstops step run {plan} "${{LSTOPS_STEPS[@]}}"
"""


@dataclass(frozen=True)
class ArrayScript:
    """What a batch script needs to know; all paths are absolute and valid on the compute nodes.

    Attributes
    ----------
    indices : Path
        Text file with a line for each array task: its step indices with blanks between them (see `index_list`).
    tasks : int
        Number of array tasks.
    resources : Resources
        Of an array task.
    folder : Path
        Where the job starts.
    exclude : tuple of str
        Nodes that failed before.
    """

    name: str
    comment: str
    plan: Path
    indices: Path
    folder: Path
    log_folder: Path
    tasks: int
    resources: Resources
    environment: ScienceEnvironment
    array_limit: int
    account: str | None = None
    nice: int = 0
    exclude: tuple[str, ...] = ()

    @property
    def log_pattern(self) -> str:
        """SLURM's pattern of the log files; a percent sign in the folder's name is doubled."""
        return f"{str(self.log_folder).replace('%', '%%')}/{self.name}-%A_%a.log"

    def log(self, job: str, position: int) -> Path:
        """Log file of one array task."""
        return self.log_folder / f"{self.name}-{job}_{position}.log"


def index_list(tasks: Sequence[Sequence[int]]) -> str:
    """Text of the file that tells an array position its steps."""
    return "".join(f"{' '.join(map(str, indices))}\n" for indices in tasks)


def activation(environment: ScienceEnvironment) -> str:
    """Shell lines that make the tools of a science environment available."""
    # conda's and venv's scripts read variables that may not be set
    lines = ["set +u", f"source {quote(str(environment.activate))}"]
    if environment.conda_env:
        lines.append(f"conda activate {quote(environment.conda_env)}")
    return "\n".join([*lines, "set -u"])


def render(script: ArrayScript) -> str:
    """Text of the batch script.

    Raises
    ------
    ConfigError
        If there are no steps or too many for one array, a path is relative, or a value has control characters.
    """
    if not 0 < script.tasks <= MAX_TASKS:
        raise ConfigError(f"an array of {script.tasks} tasks is not possible.", f"use 1 to {MAX_TASKS}.")
    for path in (script.plan, script.indices, script.folder, script.log_folder):
        if not path.is_absolute():
            raise ConfigError(f"{path} in a batch script is relative.", "give an absolute path.")
    wanted = script.resources
    options = {
        "job-name": script.name,
        "comment": script.comment,
        "time": str(wanted.time_min),
        "mem": f"{wanted.mem_mb}M",
        "nodes": "1",
        "ntasks": "1",
        "cpus-per-task": str(wanted.cpus),
        "array": f"0-{script.tasks - 1}%{script.array_limit}",
        "output": script.log_pattern,
        "chdir": str(script.folder),
        "open-mode": "append",
    }
    if wanted.partition:
        options["partition"] = wanted.partition
    if script.account:
        options["account"] = script.account
    if script.nice:
        options["nice"] = str(script.nice)
    if script.exclude:
        options["exclude"] = ",".join(script.exclude)
    # sbatch reads its directives with shell-like quoting
    directives = [f"#SBATCH --{option}={quote(value)}" for option, value in options.items()]
    return _TEMPLATE.format(
        directives="\n".join([*directives, "#SBATCH --no-requeue"]),
        activation=activation(script.environment),
        plan=quote(str(script.plan)),
        indices=quote(str(script.indices)),
    )
