"""Expected against produced: the same answer as `assess`, with the cause of each hole, as table, JSON and picture."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from lstops.errors import ConfigError, JobFailure
from lstops.production.cli import app
from lstops.production.outline import find_plan, load_outline, outline_of, save_production_plan
from lstops.production.picture import STYLES, write_picture
from lstops.production.status import StepState, production_holes, production_status
from lstops.production.summary import by_node, by_stage_and_line
from lstops.site.layout import Layout
from lstops.site.model import Site
from lstops.step.assess import Standing, assess
from lstops.step.model import ArtifactKind, Input, Output, Plan, Stage, Step
from lstops.step.runner import run_step

from .conftest import copy_step

PROD = "20250101_v0.12.3_toy"
NODES = ("node_theta_10.0_az_102.199_", "node_theta_32.059_az_175.158_", "node_theta_70.732_az_330.659_")
BAD = NODES[1]


def dl1(node: str) -> str:
    return f"mc/DL1/AllSky/{PROD}/TrainingDataset/dec_2276/Protons/{node}/dl1.h5"


def dl2(node: str) -> str:
    return f"mc/DL2/AllSky/{PROD}/TestingDataset/Gamma/dec_2276/{node}/dl2.h5"


def toy_plan(bad: str | None = BAD, title: str = "a toy") -> Plan:
    """Three nodes; the second fails; a merge of all, then something at each test node."""
    first = tuple(
        copy_step(f"raw/{node}", dl1(node), label=f"DL1 of {node}", command=("cp", "/nonexistent", "{out:b}"))
        if node == bad
        else copy_step(f"raw/{node}", dl1(node), label=f"DL1 of {node}")
        for node in NODES
    )
    merged = f"mc/DL1/AllSky/{PROD}/TrainingDataset/dec_2276/Protons/merged.txt"
    merge = Step(
        kind="merge",
        label="merge",
        subject="dec_2276",
        commands=(("cp", "{in:a0}", "{out:b}"),),
        inputs=tuple(Input(name=f"a{i}", kind=ArtifactKind.FILE, path=dl1(n)) for i, n in enumerate(NODES)),
        outputs=(Output(name="b", kind=ArtifactKind.FILE, path=merged),),
        environment="core",
    )
    last = tuple(copy_step(merged, dl2(node), label=f"DL2 of {node}") for node in NODES)
    stages = (Stage(name="dl1ab", steps=first), Stage(name="merge", steps=(merge,)), Stage(name="dl2", steps=last))
    return Plan(
        kind="mc_production", title=title, site="test", lstchain_version="0.12.3", stages=stages,
        context={"production": PROD},
    )  # fmt: skip


@pytest.fixture
def raw(put: Callable[[str, str], Path]) -> None:
    for node in NODES:
        put(f"raw/{node}", node)


def run_all(plan: Plan, site: Site) -> None:
    for found in range(len(plan.steps())):
        if assess(plan, Layout(site.base, site.work), site)[found].state in (Standing.PENDING, Standing.DONE):
            try:
                run_step(plan, found, site)
            except JobFailure:
                continue


def agree(plan: Plan, site: Site) -> tuple[StepState, ...]:
    """The states; done is what `assess` calls done."""
    layout = Layout(site.base, site.work)
    states = production_status(site, PROD).states
    assert [s is StepState.DONE for s in states] == [a.state is Standing.DONE for a in assess(plan, layout, site)]
    return states


def test_before_anything_ran(site: Site, raw: None) -> None:
    plan = toy_plan()
    save_production_plan(plan, site)
    assert agree(plan, site) == (StepState.READY,) * 3 + (StepState.WAITING,) * 4
    _, holes = production_holes(site, PROD)
    assert [h.cause for h in holes] == ["not run yet"] * 3


def test_one_node_fails_the_others_finish_and_the_hole_is_named(site: Site, raw: None) -> None:
    plan = toy_plan()
    save_production_plan(plan, site)
    run_all(plan, site)
    states = agree(plan, site)
    assert states == (StepState.DONE, StepState.FAILED, StepState.DONE) + (StepState.WAITING,) * 4
    status, (hole,) = production_holes(site, PROD)
    assert hole.where == "dec_2276 Protons node theta_32.059_az_175.158"
    assert hole.cause.startswith("JobFailure: ")
    assert hole.remedy
    assert hole.stops == 4
    assert not status.is_whole


def test_the_second_look_sees_what_changed(site: Site, raw: None) -> None:
    plan = toy_plan(bad=None)
    save_production_plan(plan, site)
    run_all(plan, site)
    assert set(agree(plan, site)) == {StepState.DONE}
    path = site.base / dl2(NODES[0])
    path.write_text("somebody's")
    assert agree(plan, site)[4] is StepState.READY
    path.unlink()
    assert agree(plan, site)[4] is StepState.READY
    run_all(plan, site)
    assert set(agree(plan, site)) == {StepState.DONE}
    (site.base / f"raw/{NODES[0]}").write_text("another input")
    run_step(plan, 0, site)  # made anew: what was made from it is not up to date
    states = production_status(site, PROD).states
    assert states[0] is StepState.DONE
    assert states[3] is StepState.READY
    assert set(states[4:]) == {StepState.WAITING}
    manifest = site.base / "lstops/manifests" / f"{dl1(NODES[2])}.json"
    manifest.write_text("{")
    assert production_status(site, PROD).states[2] is StepState.READY


def test_products_of_an_earlier_plan_count_if_they_are_the_same_steps(site: Site, raw: None) -> None:
    old = toy_plan(bad=None, title="the old plan")
    save_production_plan(old, site)
    run_all(old, site)
    new = toy_plan(title="the new plan")  # one of its steps has another command
    path = save_production_plan(new, site)
    os.utime(path, ns=(path.stat().st_mtime_ns + 10**9,) * 2)
    states = agree(new, site)
    assert [s is StepState.DONE for s in states[:3]] == [True, False, True]
    assert find_plan(Layout(site.base, site.work), PROD) == new.plan_id


def test_outlines_are_read_back_and_made_anew_when_missing(site: Site) -> None:
    plan = toy_plan()
    layout = Layout(site.base, site.work)
    path = save_production_plan(plan, site)
    assert load_outline(layout, plan.plan_id) == outline_of(plan)
    outline = path.with_name("outline.json")
    for text in ("", '{"schema": 0}\n[]', "{"):
        outline.write_text(text)
        assert load_outline(layout, plan.plan_id) == outline_of(plan)
    assert outline.read_text().startswith('{"schema": 2')


def test_what_names_no_line_is_counted_for_its_branch() -> None:
    def line(branch: str | None) -> str | None:
        card = copy_step("raw/x", "mc/report_card.json").model_copy(update={"branch": branch})
        stages = (Stage(name="report", steps=(card,)),)
        return outline_of(toy_plan().model_copy(update={"stages": stages})).steps[0].line

    assert [line(branch) for branch in ("dec_931", "common", "all", None)] == ["dec_931", None, None, None]


def test_an_unknown_production_names_those_that_are_known(site: Site) -> None:
    save_production_plan(toy_plan(), site)
    with pytest.raises(ConfigError, match=r"no plan of a production 'nope'.*" + PROD):
        production_status(site, "nope")


def test_by_stage_line_and_node(site: Site, raw: None) -> None:
    plan = toy_plan()
    save_production_plan(plan, site)
    run_all(plan, site)
    status = production_status(site, PROD)
    tallies = by_stage_and_line(status)
    assert list(tallies) == [("dl1ab", "dec_2276"), ("merge", "dec_2276"), ("dl2", "dec_2276")]
    assert (tallies["dl1ab", "dec_2276"].done, tallies["dl1ab", "dec_2276"].failed) == (2, 1)
    states = {(n.is_training, str(n.node)): n.tally.state for n in by_node(status)}
    assert states[True, "theta_32.059_az_175.158"] is StepState.FAILED
    assert states[False, "theta_32.059_az_175.158"] is StepState.WAITING
    assert len(states) == 6


@pytest.mark.parametrize("name", ["sky.png", "sky.svg", "sky.html"])
def test_the_picture(site: Site, raw: None, tmp_path: Path, name: str) -> None:
    save_production_plan(toy_plan(), site)
    path = tmp_path / name
    write_picture(production_status(site, PROD), path)
    content = path.read_bytes()
    start = {"png": b"\x89PNG", "svg": b"<?xml", "html": b"<!doctype html>"}[path.suffix[1:]]
    assert content.startswith(start)
    # a line a row, a stage a column
    cells = ("<td>dec_2276</td>", "0 of 3<br><small>to do</small>", "0 of 1<br><small>waiting</small>")
    assert path.suffix != ".html" or all(cell in content.decode() for cell in cells)
    assert len({colour for colour, _ in STYLES.values()}) == len({shape for _, shape in STYLES.values()}) == 4
    with pytest.raises(ConfigError, match=r"end it in \.png"):
        write_picture(production_status(site, PROD), tmp_path / "sky.gif")


def test_the_command_line(site: Site, raw: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site_file = tmp_path / "site.json"
    site_file.write_text(site.model_dump_json())
    monkeypatch.setenv("LSTOPS_SITE", str(site_file))
    plan = toy_plan()
    save_production_plan(plan, site)
    run_all(plan, site)
    runner = CliRunner()
    shown = runner.invoke(app, ["status", PROD, "--json"])
    assert shown.exit_code == 0, shown.output
    document = json.loads(shown.output)
    assert document["total"] == {"expected": 7, "done": 2, "failed": 1, "ready": 0, "waiting": 4}
    assert {"node", "zd_deg", "az_deg", "data", "line", "state"} <= set(document["nodes"][0])
    assert "2 of 7 steps done" in runner.invoke(app, ["status", PROD, "--nodes"]).output
    (hole,) = json.loads(runner.invoke(app, ["holes", PROD, "--json"]).output)
    assert (hole["state"], hole["stops"]) == ("failed", 4)
    assert "holes of" in runner.invoke(app, ["holes", PROD, "--failed"]).output
