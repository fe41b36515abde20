"""Plan of the NSB measurement of a night's runs, with lstchain's tailcut finder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from lstops.night import Night
from lstops.site.layout import Layout
from lstops.site.model import Site
from lstops.step.model import ArtifactKind, Input, Output, Plan, Stage, Step

STAGE = "nsb"


@dataclass(frozen=True)
class RunSubruns:
    """Subrun-wise DL1 of a run, with images and interleaved pedestals; relative to the site's base."""

    run: int
    paths: tuple[str, ...]


def plan_nsb(site: Site, night: Night, runs: Sequence[RunSubruns], lstchain_version: str) -> Plan:
    """Plan one step a run; a run whose NSB cannot be measured blocks only itself."""
    layout = Layout(site.base, site.work)
    return Plan(
        kind="nsb",
        title=f"NSB of {len(runs)} runs of {night.iso}",
        site=site.name,
        lstchain_version=lstchain_version,
        stages=(
            Stage(
                name=STAGE,
                steps=tuple(_step(site, layout, night, run, lstchain_version) for run in runs),
                quarantine=True,
            ),
        ),
        context={"night": str(night)},
    )


def _step(site: Site, layout: Layout, night: Night, run: RunSubruns, lstchain_version: str) -> Step:
    config, log = layout.own_tailcuts(night, run.run)
    command = ("lstchain_find_tailcuts", "-d", "{indir:subruns}", "-r", str(run.run), "-o", "{outdir:config}")
    return Step(
        kind="find-tailcuts",
        label=f"NSB of run {run.run}",
        subject=f"run {run.run}",
        commands=((*command, "--log", PurePosixPath(log).name),),
        inputs=tuple(
            Input(name=f"subrun{i:04d}", group="subruns", kind=ArtifactKind.DL1, path=path)
            for i, path in enumerate(run.paths)
        ),
        outputs=(
            Output(name="config", kind=ArtifactKind.FILE, path=config),
            Output(name="log", kind=ArtifactKind.FILE, path=log),
        ),
        resources=site.resources_for("find-tailcuts"),
        environment=lstchain_version,
    )
