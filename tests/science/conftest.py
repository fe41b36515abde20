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
from tiny import RUN, SIMTEL

from lstops.science.environment import science_environ


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
