"""What the tests of the whole chain share: a tuned production of the tiny site, and how its steps are run."""

from __future__ import annotations

import subprocess
import sysconfig
from collections.abc import Sequence
from pathlib import Path

from lstops.night import Night
from lstops.reduction.cuts import CutSet, load_cuts
from lstops.reduction.jobs import RunJob
from lstops.reduction.plan import NightRequest
from lstops.site.layout import Layout
from lstops.site.model import Site
from lstops.step.manifest import ArtifactRecord, ManifestStore
from lstops.step.model import Plan
from lstops.step.report import Ending
from lstops.step.runner import run_step

PRODUCTION = "20240115_v0.12.3_crab_nsb_tuning_0.07"
SOURCE = 'Crab\'s nebula "M 1"'
CRAB = (83.6324, 22.0174)
CUTS = load_cuts("small")


def run_all(plan: Plan, site: Site) -> list[Ending]:
    return [run_step(plan, index, site).ending for index in range(len(plan.steps()))]


def run_in_one_task(plan: Path, indices: Sequence[int]) -> str:
    """Run steps as an array task does; what it says."""
    words = [word for index in indices for word in ("--index", str(index))]
    lstops = Path(sysconfig.get_path("scripts"), "lstops")
    done = subprocess.run([lstops, "step", "run", plan, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def product(layout: Layout, path: str) -> ArtifactRecord:
    manifest = ManifestStore(layout.manifests).producer(path)
    assert manifest is not None, f"{path} has no manifest"
    record = manifest.output(path)
    assert record is not None
    return record


def request(*jobs: RunJob, cuts: CutSet = CUTS) -> NightRequest:
    return NightRequest(Night.parse("20240115"), "v0.12", "tailcut84", "0.12.3", cuts, jobs)
