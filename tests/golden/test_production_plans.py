"""Plans from the real lstmcpipe configurations, over a made-up list of files."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from sites import make_site

from lstops.errors import ConfigError
from lstops.operations.planned import in_dag_stages
from lstops.production.branches import COMMON, lines_of, with_branches
from lstops.production.config import read_config
from lstops.production.counts import count_stages
from lstops.production.definition import read_production
from lstops.production.from_lstmcpipe import DEFAULT_ROOTS, LstmcpipePlanRequest, plan_from_lstmcpipe
from lstops.production.stages import StageName
from lstops.site.model import Site
from lstops.step.model import ArtifactKind, Plan

# where the simulations of 2022 were
ROOTS = (*DEFAULT_ROOTS, ("/home/georgios.voutsinas/ws/AllSky/", "mc/DL0/LSTProd2"))

PLANNED = [
    "20210416_v0.7.3_prod5_trans_80_local_taicut_8_4",
    "20220511_v0.9.6_allsky_std",
    "20221021_crab_full_lstchain097",
    "20221027_v0.9.9_crab_tuned",
    "20230927_v0.10.4_crab_tuned",
    "20240229_nsb14",
    "20240821_v0.10.11_src14_dec2276_tuned",
    "20240918_v0.10.12_allsky_nsb_grid/NSB-0.14",
    "20240918_v0.10.12_allsky_nsb_grid/NSB-0.50",
    "20250212_v0.10.17_allsky_interp_dl2_irfs/NSB-0.14",
]
REFUSED = "20240122_v0.10.4_prod5_trans_80"


#: declination lines of the plans that can be divided; of one of 2021 the paths name none
LINES = {
    "20210416_v0.7.3_prod5_trans_80_local_taicut_8_4": 0,
    "20220511_v0.9.6_allsky_std": 5,
    "20240918_v0.10.12_allsky_nsb_grid/NSB-0.14": 9,
    "20240918_v0.10.12_allsky_nsb_grid/NSB-0.50": 9,
    "20250212_v0.10.17_allsky_interp_dl2_irfs/NSB-0.14": 9,
}


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return make_site(tmp_path)


def two_files(folder: str, pattern: str) -> list[str]:
    """Two files in every folder, named after its node."""
    if pattern.endswith(".zst"):
        return []
    stem = next((part for part in folder.split("/") if part.startswith("node_")), folder.replace("/", "-"))
    prefix, ending = ("", ".simtel.gz") if pattern.endswith(".gz") else ("dl1_", ".h5")
    return [f"{folder}/{prefix}{stem}run{i}{ending}" for i in range(2)]


def plan(path: Path, site: Site) -> Plan:
    definition = read_production(read_config(path))
    return plan_from_lstmcpipe(LstmcpipePlanRequest(definition, site, two_files, "0.12.3", ROOTS))


def yaml_of(shared: Path, name: str) -> Path:
    folder = shared / "data" / "lstmcpipe-configs" / name
    (found,) = [*folder.glob("*.yml"), *folder.glob("*.yaml")]
    return found


def check_lines(made: Plan, expected: int) -> None:
    """Every step finds its inputs in its own line, or in the common branch where that is waited for."""
    divided = with_branches(in_dag_stages(made))
    found = lines_of(divided)
    assert found == ("all",) if expected == 0 else len(found) == expected
    assert found == ("all",) or all(line.startswith("dec_") for line in found)
    maker = {output.path: step for step in divided.steps() for output in step.outputs}
    for step in divided.steps():
        common_too = [COMMON] if step.kind in ("mc-dl2", "irf", "sensitivity") else []
        for above in (maker[item.path] for item in step.inputs if item.path in maker):
            assert above.branch in (None, step.branch, *common_too), step.label


@pytest.mark.parametrize("name", PLANNED)
def test_every_step_of_every_stage_is_planned(shared: Path, site: Site, name: str) -> None:
    path = yaml_of(shared, name)
    made = plan(path, site)
    counts = count_stages(read_config(path).pipe)
    planned = {stage.name: len(stage.steps) for stage in made.stages}
    assert planned == {"config": 1} | {c.stage.value: c.run for c in counts.stages if c.run}
    assert Plan.from_json(made.to_json()).plan_id == made.plan_id
    check_lines(made, LINES.get(name, 1))


@pytest.mark.parametrize("name", ["20221027_v0.9.9_crab_tuned", "20240918_v0.10.12_allsky_nsb_grid/NSB-0.14"])
def test_whole_productions_make_what_they_need(shared: Path, site: Site, name: str) -> None:
    made: set[str] = set()
    for stage in plan(yaml_of(shared, name), site).stages:
        for step in stage.steps:
            for given in step.inputs:
                first = stage.name in (StageName.R0_TO_DL1.value, StageName.DL1AB.value)
                before = first and given.kind in (ArtifactKind.SIMTEL, ArtifactKind.DL1)
                assert before or given.path in made, (step.label, given.path)
        made |= {output.path for step in stage.steps for output in step.outputs}


def test_merges_of_a_line_hold_all_its_nodes(shared: Path, site: Site) -> None:
    made = plan(yaml_of(shared, "20240918_v0.10.12_allsky_nsb_grid/NSB-0.14"), site)
    merges = {step.outputs[0].path.split("/")[-1]: step for step in made.stage("merge_dl1").steps}
    prefix = "dl1_20240918_v0.10.12_allsky_nsb_tuning_0.14"
    # 19 nodes: protons whole, of the gammas the training half
    assert len(merges[f"{prefix}_train_dec_2276_Protons_merged.h5"].inputs) == 2 * 19
    assert len(merges[f"{prefix}_train_dec_2276_GammaDiffuse_merged.h5"].inputs) == 19
    train = next(step for step in made.stage("train_pipe").steps if "dec_2276" in step.label)
    assert train.commands[1].count("--node") == 19
    assert train.resources.mem_mb == 160 * 1024
    assert train.resources.time_min == 3 * 24 * 60


def test_two_splits_into_one_folder_are_refused(shared: Path, site: Site) -> None:
    """As configured, gammas of both source offsets would be mixed."""
    with pytest.raises(ConfigError, match=r"off0\.4deg"):
        plan(yaml_of(shared, REFUSED), site)


def test_the_largest_configuration_is_planned_in_three_seconds(shared: Path, site: Site) -> None:
    path = yaml_of(shared, "20240918_v0.10.12_allsky_nsb_grid/NSB-0.14")
    start = time.process_time()  # CPU, for other processes of the machine shall not decide
    made = plan(path, site)
    assert time.process_time() - start < 3
    assert len(made.steps()) == 1 + 3375
