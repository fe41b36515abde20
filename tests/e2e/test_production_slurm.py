"""The DAG mc_production on a real SLURM with real lstchain: two lines, interrupted everywhere, one of them with a hole.

Asked for by LSTOPS_TEST_PRODUCTION=1 (conftest.py). The whole proof (LSTOPS_TEST_WHOLE_PRODUCTION=1 besides) makes a
second NSB level and kills the workers of Airflow, too, in each stage.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from lstops.cluster.records import JobRecord
from lstops.embedded.slurm_lab import why_not as no_slurm
from lstops.production.branches import COMMON
from lstops.step.assess import Standing, assess
from lstops.step.model import Plan
from lstops.step.plans import load_plan
from lstops.step.report import Ending, read_report

from .production_world import Killer, World, world
from .two_lines import LINES

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(3600)]
WHOLE = os.environ.get("LSTOPS_TEST_WHOLE_PRODUCTION") == "1"
GOOD, BROKEN = LINES
STAGES = ("dl1ab", "merge", "train", "dl2", "irf", "report")
#: the node of the second line that cannot be read at first
BROKEN_NODE = "node_corsika_theta_20.000_az_170.000_"
NAME = "20250101_v0.12.3_two_lines_low"


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    if reason := no_slurm():
        pytest.skip(reason)
    with world(tmp_path_factory.mktemp("lines")) as found:
        yield found


def plan_of(lab: World, records: list[JobRecord]) -> Plan:
    (plan_id,) = {record.plan_id for record in records if record.stage != "nsb"}
    return load_plan(lab.layout.plan_file(plan_id))


def check_nothing_was_done_twice(lab: World, plan: Plan) -> None:
    """Every submission is one job of sacct; every step was done in exactly one of them, which its manifest names.

    Or the manifest names a job that was killed when the product was whole, and the next one found it and made nothing.
    """
    records = [record for record in lab.records() if record.plan_id == plan.plan_id]
    jobs = lab.accounted(records)
    assert {name: len(numbers) for name, numbers in jobs.items()} == {record.name: 1 for record in records}
    assert all(jobs[record.name] == [record.job] for record in records)
    done: dict[int, list[str]] = {}
    for record in records:
        for index, outcome in record.outcomes.items():
            if outcome == "done":
                done.setdefault(index, []).append(record.job)
    assert {index: len(times) for index, times in done.items()} == dict.fromkeys(range(len(plan.steps())), 1)
    for index, step in enumerate(plan.steps()):
        manifest = json.loads((lab.layout.manifests / f"{step.primary.path}.json").read_text())
        made = manifest["job"].partition("_")[0]
        if made != done[index][0]:
            assert index in next(record.indices for record in records if record.job == made), step.label
            report = read_report(lab.layout.step_report(plan.plan_id, index))
            assert report is not None
            assert (report.ending, report.job.partition("_")[0]) == (Ending.UP_TO_DATE, done[index][0]), step.label


def check_whole(lab: World, plan: Plan) -> None:
    assert {found.state for found in assess(plan, lab.layout, lab.site)} == {Standing.DONE}
    assert not list((lab.site.base / "lstops/staging").glob("*")), "what was killed is cleared away"


def test_a_node_that_always_fails_then_repaired_and_interrupted_in_every_stage(lab: World, tmp_path: Path) -> None:
    config = lab.write_production(NAME, 0.5)
    (node,) = (lab.site.base / "mc/DL1").rglob(f"{BROKEN}/GammaDiffuse/{BROKEN_NODE}/*.h5")
    whole = node.read_bytes()
    node.write_bytes(b"this is no HDF5 file")
    # the line without a hole, and what both need, killed wherever they are
    places = {(stage, GOOD) for stage in STAGES} | ({("dl1ab", COMMON)} if WHOLE else set())
    with Killer(lab.layout, set(places)) as killer:
        lab.start("holed", config, NAME)
        assert lab.ended("holed").state == "failed"
    assert {place[:2] for place in killer.killed} == places
    states = lab.states("holed")
    number = list(LINES).index(BROKEN)
    good = {f"line.{stage} {1 - number}": "success" for stage in STAGES}
    assert {name: states[name] for name in good} == good
    assert {states[f"line.{stage} {number}"] for stage in STAGES} == {"failed"}
    assert states["common.merge"] == "success"
    assert states["register"] == "failed"
    log = lab.log("holed", "register")
    assert f"{NAME}" in log
    assert "is not registered" in log
    assert "theta_20.000_az_170.000" in log

    # everything that can be made is made, and the hole has a name and a cause
    plan = plan_of(lab, lab.records("holed"))
    standing = assess(plan, lab.layout, lab.site)
    missing = [found for found in standing if found.state is not Standing.DONE]
    assert {found.step.branch for found in missing} == {BROKEN}
    assert len([f for f in missing if f.step.kind == "dl1ab"]) == 1
    holes = json.loads(lab.lstops("production", "holes", NAME, "--json"))
    (failed,) = [hole for hole in holes if hole["state"] == "failed"]
    assert "theta_20.000_az_170.000" in failed["where"]
    assert failed["cause"]
    assert failed["stops"] == len(missing) - 1
    table = lab.lstops("production", "status", NAME, "--nodes", "--picture", str(tmp_path / "sky.html"))
    assert "theta_20.000_az_170.000" in table
    assert NAME not in lab.lstops("production", "list")

    # repaired and started again, it makes what is missing only, though the worker of Airflow is killed
    submitted = {record.name for record in lab.records()}
    node.write_bytes(whole)
    places = {(stage, BROKEN) for stage in STAGES if WHOLE}
    with Killer(lab.layout, set(places)) as killer:
        lab.start("repaired", config, NAME)
        lab.kill_tasks("repaired", STAGES if WHOLE else ("train",), number)
        assert lab.ended("repaired").state == "success", lab.states("repaired")
    assert {place[:2] for place in killer.killed} == places
    again = [record for record in lab.records() if record.name not in submitted]
    assert {plan.steps()[index].branch for record in again for index in record.indices} == {BROKEN}
    check_whole(lab, plan)
    check_nothing_was_done_twice(lab, plan)
    listed = lab.lstops("production", "list")
    assert all(line in listed for line in LINES)


def test_the_other_level_with_all_workers_killed_in_every_stage(lab: World) -> None:
    name = NAME.replace("low", "high")
    config = lab.write_production(name, 1.5)
    places = {(stage, line) for stage in STAGES for line in LINES}
    with Killer(lab.layout, set(places)) as killer:
        lab.start("high", config, name)
        with ThreadPoolExecutor(len(LINES)) as hunters:
            list(hunters.map(lambda number: lab.kill_tasks("high", STAGES, number), range(len(LINES))))
        assert lab.ended("high").state == "success", lab.states("high")
    assert {place[:2] for place in killer.killed} == places
    plan = plan_of(lab, lab.records("high"))
    check_whole(lab, plan)
    check_nothing_was_done_twice(lab, plan)


if not WHOLE:
    # ten minutes more
    del test_the_other_level_with_all_workers_killed_in_every_stage
