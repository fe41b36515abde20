"""Part of a DL3 step: the responses of the run's nodes, made anew with the intensity cut of the run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from lstops.reduction.cuts import CutSet
from lstops.reduction.jobs import RunJob
from lstops.step.model import ArtifactKind, Input, Output


@dataclass(frozen=True)
class RunResponses:
    """What the step gets in addition.

    Attributes
    ----------
    outputs : tuple of Output
        The responses, all in one folder, and last the cut set of the run.
    cuts : str
        Placeholder of that cut set.
    """

    commands: tuple[tuple[str, ...], ...]
    inputs: tuple[Input, ...]
    outputs: tuple[Output, ...]
    cuts: str


def run_responses(job: RunJob, cuts: CutSet, dl3: str, dropped: Sequence[str] = ()) -> RunResponses:
    """Make the responses around the pointing of a run with its own intensity cut.

    Parameters
    ----------
    dl3 : str
        Path of the run's DL3: what is made here lies in a folder beside it.
    dropped : sequence of str
        Names of the step's inputs that are subruns to leave out.
    """
    nodes = sorted(job.nodes_around, key=lambda node: PurePosixPath(node.path).name)
    folder = f"{dl3.rpartition('/')[0]}/responses/Run{job.run:05d}"
    command = ["python", "-m", "lstops.science.run_responses", "--dl2", "{in:dl2}", "--cuts", "{file:cuts.json}"]
    command += ["--effective", "{out:cuts}"]
    command += [word for name in dropped for word in ("--dropped", f"{{in:{name}}}")]
    inputs, outputs = [], []
    for i, node in enumerate(nodes):
        inputs.append(Input(name=f"gamma-{i}", kind=ArtifactKind.DL2, path=str(node.gamma_dl2)))
        expect = {"useful_energy_tev": list(cuts.useful_energy_tev), "zd_deg": node.zd_deg, "az_deg": node.az_deg,
                  "point_like": cuts.point_like}  # fmt: skip
        path = f"{folder}/{PurePosixPath(node.path).name}"
        outputs.append(Output(name=f"irf-{i}", kind=ArtifactKind.IRF, path=path, expect=expect))
        command += ["--gamma", f"{{in:gamma-{i}}}", "--irf", f"{{out:irf-{i}}}"]
    stamps = (
        ("python", "-m", "lstops.science.stamp", "--cuts={out:cuts}", f"{{out:irf-{i}}}", f"CUTSET={cuts.name}")
        for i in range(len(nodes))
    )
    outputs.append(Output(name="cuts", kind=ArtifactKind.FILE, path=f"{folder}/cuts_Run{job.run:05d}.json"))
    return RunResponses((tuple(command), *stamps), tuple(inputs), tuple(outputs), "{out:cuts}")
