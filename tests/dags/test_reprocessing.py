"""A reprocessing beside the night it repeats, without Airflow and lstchain: real PostgreSQL, steps finished by hand."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from typing import Any

import pytest
from typer.testing import CliRunner

from lstops.errors import ConfigError, DataError, JobFailure
from lstops.operations.nightly import ingest, judge, layout_of
from lstops.operations.reduction import plan_collection, plan_reduction, publish
from lstops.operations.report import make_report
from lstops.operations.reprocess_cli import app
from lstops.operations.reprocessing import compare, prepare, preview, write_comparison
from lstops.publish.versions import list_versions
from lstops.quality.overlay import OverlayAction
from lstops.reduction.reprocessing import Reprocessing, parse_reprocessing
from lstops.site.model import Site
from lstops.step.plans import load_plan

from . import test_request as world
from .nights import NIGHT, run_catalog, run_summary, write
from .test_request import LATER, NIGHTS, PRODUCTION, TARGET

server, site = world.server, world.site
RUNS = NIGHTS[NIGHT]
AGAIN = Reprocessing(since=str(NIGHT), until=str(LATER), profile="notebook")
FOLDER = f"DL3/{NIGHT}/v0.12/{PRODUCTION}/std_cuts/Nowhere"


@pytest.fixture
def night(site: Site) -> Site:
    """The first night is closed and published; the second is not closed yet."""
    layout = layout_of(site)
    run_summary(site, dict.fromkeys(RUNS, "DATA"))
    run_catalog(site, "Nowhere", list(RUNS))
    catalog = layout.absolute(layout.run_catalog(NIGHT))
    catalog.write_text(catalog.read_text().replace("83.6324 22.0174", TARGET))
    write(site, layout.night_finished(NIGHT, "v0.12"), "")
    later = layout.absolute(layout.run_summary(LATER))
    later.write_text(layout.absolute(layout.run_summary(NIGHT)).read_text())
    reduce(site)
    return site


def reduce(site: Site, again: Reprocessing | None = None) -> list[str]:
    """What a run of the DAG `nightly` does, one task after the other."""
    layout, chosen = layout_of(site), again.site(site) if again else site
    profile = again.profile if again else None
    ingest(chosen, NIGHT)
    judge(chosen, NIGHT, profile)
    plan = load_plan(layout.plan_file(plan_reduction(chosen, NIGHT, profile, again)))
    for step in plan.steps():
        finish(site, step)
    collection = load_plan(layout.plan_file(plan_collection(chosen, NIGHT, plan.plan_id, [], again)))
    for step in collection.steps():
        finish(site, step)
    return publish(chosen, NIGHT, plan.plan_id, collection.plan_id, again=again)


def finish(site: Site, step: Any) -> None:
    """Unless it is done already, as the runner does."""
    if any(not layout_of(site).absolute(output.path).exists() for output in step.outputs):
        world.finish(site, step)


def states(site: Site) -> dict[str, str]:
    return {v.version: v.state.value for v in list_versions(FOLDER, layout_of(site))}


def test_beside_the_old_version_and_then_current(night: Site) -> None:
    layout = layout_of(night)
    assert states(night) == {"v0001": "current"}
    before = make_report(night, NIGHT)
    old_files = {p: p.read_bytes() for p in layout.absolute("lstops/dl3").rglob("*.fits")}

    prepared = prepare(night, AGAIN)
    assert prepared.nights == (NIGHT,)
    assert f"{LATER.iso}: left out, lstosa has not closed it" in prepared.text
    with pytest.raises(JobFailure, match=f"not finished.*{NIGHT.iso}"):
        write_comparison(night, AGAIN)
    world.decide(RUNS[0], OverlayAction.EXCLUDE)
    assert reduce(night, AGAIN) == [f"{FOLDER}/v0002"]

    # readers, the night's plans and its files are as they were
    assert states(night) == {"v0001": "current", "v0002": "beside"}
    assert make_report(night, NIGHT).published == before.published
    assert {p: p.read_bytes() for p in layout.absolute("lstops/dl3").rglob("*.fits")} == old_files
    about = json.loads(layout.absolute(f"{FOLDER}/v0002/bundle.json").read_text())
    assert (about["profile"], about["beside"]) == ("notebook", True)

    (pair,) = compare(night, AGAIN).pairs
    assert pair.old is not None
    assert pair.new is not None
    assert (pair.old.version, pair.new.version) == (f"{FOLDER}/v0001", f"{FOLDER}/v0002")
    assert (pair.old.runs, pair.new.runs, pair.gained) == (RUNS, RUNS[1:], ())
    assert "lidar" in pair.lost[RUNS[0]]
    assert (pair.new.live_time_s, pair.new.significance, pair.ratio) == (3600, 25.3, 1)

    # once more: nothing is new; told to, the same becomes current, and the comparison is still with the first version
    current = AGAIN.model_copy(update={"make_current": True})
    assert current.name == AGAIN.name
    prepare(night, current)
    assert compare(night, current).unfinished == (NIGHT.iso, LATER.iso)
    assert reduce(night, AGAIN) == reduce(night, current) == [f"{FOLDER}/v0002"]
    assert states(night) == {"v0001": "superseded", "v0002": "current"}
    assert {b.runs for b in make_report(night, NIGHT).published} == {RUNS[1:]}
    assert compare(night, current).pairs[0].old == pair.old


def test_the_usual_reduction_goes_on_beside_it(night: Site) -> None:
    world.decide(RUNS[0], OverlayAction.EXCLUDE)
    reduce(night, AGAIN)
    world.decide(RUNS[1], OverlayAction.EXCLUDE)
    # the index that is written by hand names whatever lies in its folder
    shutil.rmtree(layout_of(night).absolute("lstops/dl3"))
    assert reduce(night) == [f"{FOLDER}/v0003"]
    assert states(night) == {"v0001": "superseded", "v0002": "superseded", "v0003": "current"}


@pytest.mark.parametrize(
    ("form", "words"),
    [
        ({"since": "20240115"}, "until"),
        ({"since": "20240116", "until": "20240115"}, "20240116 is after until 20240115"),
        ({"since": "2024", "until": "20240115"}, "is not a night"),
        ({"since": "20240115", "until": "20240115", "nights": 3}, "nights"),
    ],
)
def test_forms_that_cannot_be(form: Mapping[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        parse_reprocessing(form)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"profile": "no-such"}, "no-such"),
        ({"cuts": "no-such"}, "no-such"),
        ({"lstchain_version": "0.99"}, "none of the site's environments"),
    ],
)
def test_what_is_not_there_is_named_before_anything_begins(site: Site, changes: dict[str, str], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        preview(site, AGAIN.model_copy(update=changes))


def test_another_lstchain_never_replaces_the_dl2_of_a_night(site: Site) -> None:
    present = site.nightly.lstchain_version
    other = site.model_copy(update={"environments": {**site.environments, "0.13": site.environments[present]}})
    wanted = AGAIN.model_copy(update={"lstchain_version": "0.13"})
    with pytest.raises(ConfigError, match=r"would replace the DL2"):
        wanted.site(other)
    changed = wanted.model_copy(update={"pipeline_version": "v0.13"}).site(other)
    assert (changed.nightly.lstchain_version, changed.nightly.pipeline_version) == ("0.13", "v0.13")


def test_nothing_to_do_and_too_much(night: Site) -> None:
    with pytest.raises(DataError, match="no night with observations"):
        preview(night, Reprocessing(since="20200101", until="20200102"))
    with pytest.raises(DataError, match=f"has not closed {LATER.iso}"):
        preview(night, Reprocessing(since=str(LATER), until=str(LATER)))
    assert not preview(night, AGAIN).needs_approval
    strict = night.model_copy(update={"nightly": night.nightly.model_copy(update={"approval_nights": 0})})
    assert preview(strict, AGAIN).needs_approval


def test_the_command_line_shows_the_nights(night: Site) -> None:
    words = ["--since", str(NIGHT), "--until", str(LATER), "--profile", "notebook", "--dry-run"]
    shown = CliRunner().invoke(app, words, catch_exceptions=False)
    assert "Reprocessing of 1 night(s) with profile notebook; the old versions stay current." in shown.output
    assert f"not started ({AGAIN.name})" in shown.output
    assert not layout_of(night).absolute("lstops/reprocessing").exists()
