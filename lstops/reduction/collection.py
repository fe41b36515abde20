"""Plan of what is made from the whole runs of a night or a request: an index and a check of each source."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lstops.reduction.plan import index_step
from lstops.site.model import Site
from lstops.step.model import ArtifactKind, Input, Output, Plan, Stage, Step

INDEX, CHECK = "index", "check"


@dataclass(frozen=True)
class SourceFiles:
    """A source (ICRS, degrees) and its whole DL3 files, all in one folder; paths relative to the site's base.

    Attributes
    ----------
    production : str
        What they were made with: runs of one source with different models are bundles of their own.
    """

    name: str
    ra_deg: float
    dec_deg: float
    dl3: tuple[str, ...]
    production: str = ""


def plan_collection(
    site: Site,
    about: str,
    sources: Sequence[SourceFiles],
    truth: str | None,
    lstchain_version: str,
    context: Mapping[str, Any],
) -> Plan:
    """Plan index and source check.

    Parameters
    ----------
    about : str
        For people: "night 20240115".
    truth : str or None
        Truth file of a synthetic site, to compare with.
    context : mapping
        Goes into the plan's context.
    """
    ordered = sorted(sources, key=lambda source: (source.name, source.production))
    names = [source.name for source in ordered]
    titles = [s.name if names.count(s.name) == 1 else f"{s.name} with {s.production}" for s in ordered]
    indices = [
        index_step(site, title, source.dl3, lstchain_version) for title, source in zip(titles, ordered, strict=True)
    ]
    checks = [
        _check(site, source, index, truth, lstchain_version) for source, index in zip(ordered, indices, strict=True)
    ]
    return Plan(
        kind="collection",
        title=f"{about}: index and check of {len(indices)} source(s)",
        site=site.name,
        lstchain_version=lstchain_version,
        stages=(
            Stage(name=INDEX, steps=tuple(indices), quarantine=True),
            Stage(name=CHECK, steps=tuple(checks), quarantine=True),
        ),
        context={**context, "sources": titles},
    )


def _check(site: Site, source: SourceFiles, index: Step, truth: str | None, lstchain_version: str) -> Step:
    folder = index.primary.path.rpartition("/")[0]
    command = ["python", "-m", "lstops.science.source_check", "--dl3", "{indir:dl3}", f"--source-name={source.name}"]
    command += [f"--ra-deg={source.ra_deg!r}", f"--dec-deg={source.dec_deg!r}"]
    inputs = [i.model_copy(update={"group": "dl3"}) for i in index.inputs]
    inputs += [Input(name=o.name, group="dl3", kind=o.kind, path=o.path) for o in index.outputs]
    if truth:
        inputs.append(Input(name="truth", kind=ArtifactKind.FILE, path=truth))
        command += ["--truth", "{in:truth}"]
    command += ["--out", "{out:check}", "--plots", "{outdir:check}", "--page", "{out:page}"]
    return Step(
        kind="source-check",
        label=f"check of {index.subject.removeprefix('source ')}",
        subject=index.subject,
        commands=(tuple(command),),
        inputs=tuple(inputs),
        outputs=(
            Output(name="check", kind=ArtifactKind.FILE, path=f"{folder}/check/check.json"),
            Output(name="theta2", kind=ArtifactKind.FILE, path=f"{folder}/check/theta2.png"),
            Output(name="spectrum", kind=ArtifactKind.FILE, path=f"{folder}/check/spectrum.png"),
            Output(name="page", kind=ArtifactKind.FILE, path=f"{folder}/check/check.html"),
        ),
        resources=site.resources_for("source-check"),
        environment=lstchain_version,
    )
