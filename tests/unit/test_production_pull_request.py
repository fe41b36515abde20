"""The files of a pull request to lstmcpipe: products of the plan, which lstmcpipe would run to the same end."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from sites import make_site

from lstops.production.config import read_config
from lstops.production.definition import read_production
from lstops.production.from_lstmcpipe import LstmcpipePlanRequest, TreeLister, plan_from_lstmcpipe
from lstops.production.grid import Particle
from lstops.production.inventory import Dataset, Inventory, McFile
from lstops.production.lint import lint_file
from lstops.production.plan import TunedProductionRequest, plan_tuned_production
from lstops.production.pull_request import tuned_lstmcpipe_config, with_pull_request
from lstops.reduction.cuts import load_cuts
from lstops.step.model import CORE_ENVIRONMENT, ArtifactKind, Output, Plan, Step
from lstops.step.plans import save_plan
from lstops.step.runner import run_step

from .conftest import make_plan

NAME = "20240115_v0.12.3_crab_nsb_tuning_0.25"
NODES = (
    (Dataset.TRAIN, Particle.GAMMA_DIFFUSE, "TrainingDataset/dec_2276/GammaDiffuse", "10.000_az_100.000"),
    (Dataset.TRAIN, Particle.PROTONS, "TrainingDataset/dec_2276/Protons", "10.000_az_100.000"),
    (Dataset.TEST, Particle.GAMMA, "TestingDataset/Gamma", "10.000_az_175.000"),
    (Dataset.TEST, Particle.GAMMA, "TestingDataset/Gamma", "35.000_az_355.000"),
)


def inventory() -> Inventory:
    return Inventory(
        "base",
        "dec_2276",
        tuple(
            McFile(dataset, particle, f"node_theta_{node}_", f"mc/DL1/AllSky/base/{top}/node_theta_{node}_/dl1_{i}.h5")
            for dataset, particle, top, node in NODES
            for i in (1, 2)
        ),
    )


def products(plan: Plan, kind: ArtifactKind) -> set[str]:
    return {output.path for step in plan.steps() for output in step.outputs if output.kind is kind}


def test_what_lstmcpipe_would_make_of_it_is_what_the_plan_makes(tmp_path: Path) -> None:
    site = make_site(tmp_path)
    request = TunedProductionRequest(NAME, "0.12.3", ("DL1/x.h5",), load_cuts("standard"), "mc/x.simtel.zst")
    plan = plan_tuned_production(request, site, inventory())
    plan = with_pull_request(plan, tuned_lstmcpipe_config(request, site, inventory()), site)
    (step,) = plan.stage("report").steps
    assert step.environment == CORE_ENVIRONMENT
    assert [Path(output.path).name for output in step.outputs] == [
        f"lstmcpipe_config_{NAME}.yml", "README.md", f"lstchain_config_{NAME}.json",
    ]  # fmt: skip
    folder = tmp_path / "written"
    folder.mkdir()
    for name, text in step.files.items():
        (folder / name).write_text(text)
    chain = {"tailcut": {"picture_thresh": 8, "boundary_thresh": 4}, "image_modifier": {"increase_nsb": True}}
    chain |= {k: v for k, v in json.loads(load_cuts("standard").text).items() if k in ("EventSelector", "DL3Cuts")}
    (folder / f"lstchain_config_{NAME}.json").write_text(json.dumps(chain))

    for item in inventory().files:
        (tmp_path / item.path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / item.path).write_text("x")
    definition = read_production(read_config(folder / f"lstmcpipe_config_{NAME}.yml"))
    roots = ((f"{tmp_path}/", ""),)
    again = plan_from_lstmcpipe(LstmcpipePlanRequest(definition, site, TreeLister(tmp_path), "0.12.3", roots))
    for kind in (ArtifactKind.MODELS, ArtifactKind.DL2, ArtifactKind.IRF, ArtifactKind.DL1_MERGED):
        assert products(again, kind) == products(plan, kind), kind
    codes = {str(f.code) for f in lint_file(folder / f"lstmcpipe_config_{NAME}.yml").findings}
    assert not codes & {"duplicate-output", "cyclic-path", "input-not-produced", "stage-not-run", "overwrites"}


def test_the_step_writes_the_three_files_with_their_digests(tmp_path: Path) -> None:
    site = make_site(tmp_path)
    request = TunedProductionRequest(NAME, "0.12.3", ("DL1/x.h5",), load_cuts("standard"), "mc/x.simtel.zst")
    plan = plan_tuned_production(request, site, inventory())
    plan = with_pull_request(plan, "prod_id: as given\n", site)
    config = tmp_path / products(plan, ArtifactKind.LSTCHAIN_CONFIG).pop()
    config.parent.mkdir(parents=True)
    config.write_text('{"tailcut": {}}')
    alone = plan.model_copy(update={"stages": plan.stages[-1:]})
    save_plan(alone, site)
    assert run_step(alone, 0, site).ending.value == "done"
    folder = tmp_path / f"mc/DL1/AllSky/{NAME}/lstmcpipe"
    assert (folder / f"lstmcpipe_config_{NAME}.yml").read_text() == "prod_id: as given\n"
    assert (folder / f"lstchain_config_{NAME}.json").read_text() == config.read_text()
    readme = (folder / "README.md").read_text()
    assert f"lstmcpipe -c lstmcpipe_config_{NAME}.yml -conf_lst lstchain_config_{NAME}.json" in readme
    assert "- NSB tuned with: DL1/x.h5" in readme


@pytest.mark.parametrize(
    ("context", "kind", "words"),
    [
        ({"nsb_ghz": None}, "dl1ab", ("extra NSB: not known in GHz", "DL1 of: another production, changed by dl1ab",
                                      "NSB tuned with: not known")),
        ({"nsb_ghz": 0.22}, "r0-to-dl1", ("extra NSB: 0.22 GHz", "DL1 of: made from R0", "NSB tuned with: no data")),
        ({"nsb_ghz": 0.0}, "merge", ("extra NSB: 0.00 GHz", "DL1 of: read as it is")),
        ({"nsb_ghz": None, "nsb_level_ghz": 0.3}, "dl1ab", ("extra NSB: 0.30 GHz",)),
    ],
)  # fmt: skip
def test_the_readme_says_what_is_known(
    tmp_path: Path, context: dict[str, object], kind: str, words: tuple[str, ...]
) -> None:
    config = Output(name="config", kind=ArtifactKind.LSTCHAIN_CONFIG, path="c.json")
    steps = (
        Step(kind="config", label="c", subject=NAME, commands=(("x",),), outputs=(config,), environment="core"),
        Step(kind=kind, label="d", subject=NAME, commands=(("x",),), environment="core",
             outputs=(Output(name="o", kind=ArtifactKind.FILE, path="o"),)),
    )  # fmt: skip
    plan = make_plan(steps).model_copy(update={"context": {"production": NAME, "lines": ["dec_2276"], **context}})
    (step,) = with_pull_request(plan, "prod_id: x\n", make_site(tmp_path)).stage("report").steps
    assert all(f"- {line}" in step.files["README.md"] for line in words), step.files["README.md"]
