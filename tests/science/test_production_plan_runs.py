"""The first stages of a plan made from an lstmcpipe configuration, run by the real lstchain on real simulations."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from sites import make_site

from lstops.production.config import ProductionConfig, validate_pipe
from lstops.production.definition import read_production
from lstops.production.from_lstmcpipe import LstmcpipePlanRequest, TreeLister, plan_from_lstmcpipe
from lstops.production.lstchain_config import LstchainConfig
from lstops.production.stages import StageName
from lstops.site.model import Site
from lstops.step.plans import save_plan
from lstops.step.runner import run_step

pytest.importorskip("lstchain")

PROD = "20250101_v0.12.3_real"
NODE = "node_corsika_theta_20.000_az_180.000_"


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return make_site(tmp_path)


def test_r0_to_dl1_split_and_merge(shared: Path, site: Site) -> None:
    from lstchain.io.config import get_mc_config

    raw = site.base / "mc/DL0/Gamma" / NODE
    raw.mkdir(parents=True)
    for run in range(3):
        shutil.copy(shared / "data/simtel/history_meta_75.simtel.zst", raw / f"simtel_{NODE}run{run}.simtel.zst")
    dl1 = f"/fefs/aswg/data/mc/DL1/AllSky/{PROD}/TestingDataset/Gamma"
    pipe = validate_pipe(
        {
            "workflow_kind": "lstchain",
            "prod_id": PROD,
            "source_environment": {"source_file": "/sw/conda.sh", "conda_env": "lstchain-v0.12.3"},
            "stages_to_run": ["r0_to_dl1", "train_test_split", "merge_dl1"],
            "stages": {
                "r0_to_dl1": [{"input": f"/fefs/aswg/data/mc/DL0/Gamma/{NODE}", "output": f"{dl1}/{NODE}"}],
                "train_test_split": [
                    {
                        "input": f"{dl1}/{NODE}",
                        "output": {"train": f"{dl1}/{NODE}/train", "test": f"{dl1}/{NODE}/test", "ratio": 0.6},
                    }
                ],
                "merge_dl1": [
                    {"input": f"{dl1}/{NODE}/test", "output": f"{dl1}/merged_test.h5", "options": "--no-image"}
                ],
            },
        },
        "here",
    )
    definition = read_production(ProductionConfig(pipe=pipe, chain=LstchainConfig(content=get_mc_config())))
    plan = plan_from_lstmcpipe(LstmcpipePlanRequest(definition, site, TreeLister(site.base)))
    assert [len(stage.steps) for stage in plan.stages] == [1, 1, 1, 1]
    save_plan(plan, site)
    for index, step in enumerate(plan.steps()):
        report = run_step(plan, index, site)
        assert report.ending.value in {"done", "up-to-date"}, (step.label, report)

    folder = site.base / f"mc/DL1/AllSky/{PROD}/TestingDataset/Gamma"
    assert len(list((folder / NODE).glob("dl1_simtel_*.h5"))) == 3
    record = json.loads((folder / NODE / "train_test_split.json").read_text())
    assert (len(record["train"]), len(record["test"])) == (1, 2)
    import tables

    def events(path: Path) -> int:
        with tables.open_file(path) as file:
            return int(file.root.dl1.event.telescope.parameters.LST_LSTCam.nrows)

    each = events(folder / NODE / record["test"][0])
    assert each > 0
    assert events(folder / "merged_test.h5") == 2 * each
    assert StageName.MERGE_DL1.value == plan.stages[-1].name
