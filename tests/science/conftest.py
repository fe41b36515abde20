"""A synthetic site just large enough for the whole chain, made once a session with lstchain's own writers."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from chain import CRAB, CUTS, PRODUCTION, SOURCE, product, run_in_one_task
from tiny import RUN, SIMTEL, site_at

from lstops.night import Night
from lstops.production.inventory import scan_inventory
from lstops.production.plan import TunedProductionRequest, plan_tuned_production
from lstops.reduction.geometry import IrfNode
from lstops.reduction.jobs import ModelSet, RunJob
from lstops.science.environment import science_environ
from lstops.site.layout import Layout
from lstops.site.model import Site
from lstops.step.model import ArtifactKind, Plan
from lstops.step.plans import save_plan
from lstops.step.report import Ending
from lstops.step.runner import run_step
from lstops.step.verify import inspect


@pytest.fixture(scope="session", autouse=True)
def offline() -> None:
    """Tests ask nobody for tables of the Earth's rotation, as steps do not."""
    iers = pytest.importorskip("astropy.utils.iers")
    iers.conf.auto_download = False
    iers.conf.iers_degraded_accuracy = "warn"


@contextmanager
def _variables(values: dict[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@pytest.fixture(scope="session")
def tiny_site(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Base of a site: a short run, training nodes at one azimuth, four test nodes, and a real simulation."""
    pytest.importorskip("lstchain", reason="needs the science environment")
    from lstops.simulate.mc import make_node
    from lstops.simulate.night import make_subrun
    from lstops.simulate.plan import make_plan
    from lstops.simulate.site import SitePaths

    base = tmp_path_factory.mktemp("tiny")
    plan = make_plan(3, "small", "0.12.3")
    run = replace(next(r for r in plan.runs if r.run_id == RUN), n_subruns=1, subrun_s=2.5)
    paths = SitePaths(base, plan)
    environ = science_environ(tmp_path_factory.mktemp("scratch"))
    with _variables(environ):
        for node in plan.nodes:
            if node.dataset == "TestingDataset" or node.azimuth_deg < 180:
                paths.node_dl1(node).parent.mkdir(parents=True)
                make_node(plan, node, paths.node_dl1(node))
        subrun = paths.subrun_dl1(run, 0)
        subrun.parent.mkdir(parents=True)
        make_subrun(plan, run, 0, subrun, base / "muons.fits")
        subprocess.run(
            ["lstchain_merge_hdf5_files", "-d", str(subrun.parent), "-r", str(RUN), "-o", str(paths.run_dl1(run)),
             "--no-image", "--no-progress"],
            check=True, env=os.environ,
        )  # fmt: skip
    (base / SIMTEL).parent.mkdir(parents=True)
    shutil.copyfile(shared / "data/simtel/history_meta_75.simtel.zst", base / SIMTEL)
    return base


@pytest.fixture(scope="session")
def subrun(tiny_site: Path) -> str:
    """The run's only subrun, relative to the base."""
    return f"DL1/20240115/v0.12/tailcut84/dl1_LST-1.Run{RUN:05d}.0000.h5"


@pytest.fixture(scope="session")
def bright_subrun(tiny_site: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A subrun under a bright sky: what lstchain measures of it in waveforms is many times its scatter (0.013 GHz)."""
    from lstops.simulate.night import make_subrun
    from lstops.simulate.plan import make_plan

    plan = make_plan(3, "small", "0.12.3")
    run = replace(next(r for r in plan.runs if r.run_id == RUN), run_id=RUN + 100, subrun_s=2.5, nsb_ghz=0.6)
    path = f"DL1/bright/dl1_LST-1.Run{run.run_id:05d}.0000.h5"
    (tiny_site / path).parent.mkdir()
    with _variables(science_environ(tmp_path_factory.mktemp("scratch"))):
        make_subrun(plan, run, 0, tiny_site / path, tiny_site / "bright_muons.fits")
    return path


@pytest.fixture(scope="session")
def site(tiny_site: Path) -> Site:
    return site_at(tiny_site)


@pytest.fixture(scope="session")
def layout(site: Site) -> Layout:
    return Layout(site.base, site.work)


@pytest.fixture(scope="session")
def production(site: Site, layout: Layout, subrun: str) -> Plan:
    inventory = scan_inventory(layout, site.production.base_production, "dec_2276")
    plan = plan_tuned_production(TunedProductionRequest(PRODUCTION, "0.12.3", (subrun, subrun), CUTS), site, inventory)
    path = save_plan(plan, site)
    for stage in plan.stages:
        # two of each kind as single commands, the others quicker
        indices = plan.indices(stage.name)
        if shared := indices[:-2]:
            run_in_one_task(path, shared)
        assert {run_step(plan, index, site).ending for index in indices[-2:]} == {Ending.DONE}
    return plan


@pytest.fixture(scope="session")
def job(production: Plan, layout: Layout) -> RunJob:
    irfs = []
    for step in production.stage("irf").steps:
        record = product(layout, step.primary.path)
        facts = record.facts
        pointing = facts["zd_deg"], facts["az_deg"], facts["b_delta_deg"]
        irfs.append(IrfNode(record.path, *pointing, record.state.sha256, gamma_dl2=step.inputs[0].path))
    models = product(layout, production.stage("train").steps[0].primary.path)
    dl1 = layout.dl1_run(Night.parse("20240115"), "v0.12", "tailcut84", RUN)
    data = inspect(ArtifactKind.DL1_MERGED, layout.absolute(dl1))
    return RunJob(
        RUN, dl1, SOURCE, *CRAB, data["zd_deg"], data["az_deg"], data["t_start"],
        ModelSet(PRODUCTION, "dec_2276", 0.07, models.path, models.state.sha256), tuple(irfs), min_live_fraction=0.3,
    )  # fmt: skip
