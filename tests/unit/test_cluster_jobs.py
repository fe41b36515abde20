"""Rounds of a stage over the local scheduler, and `lstops jobs` about them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from cluster.toy import finish, local_cluster, make_site, one_stage, send, shell, toy_step
from typer.testing import CliRunner

from lstops.cluster import stage as stages
from lstops.cluster.cli import app
from lstops.cluster.client import ClusterClient, open_client
from lstops.cluster.records import JobRecord, jobs_dir, write_record
from lstops.cluster.script import MAX_TASKS
from lstops.cluster.stage import StageContext, prepare, wanted_resources
from lstops.errors import ConfigError
from lstops.site.model import load_site

pytestmark = pytest.mark.timeout(600)


@pytest.fixture
def site_file(tmp_path: Path) -> Path:
    return make_site(tmp_path, local_cluster())


@pytest.fixture
def client(site_file: Path) -> Iterator[ClusterClient]:
    client = open_client(load_site(site_file))
    yield client
    client.close()


def run(site_file: Path, *words: str) -> str:
    done = CliRunner().invoke(app, [*words, "--site", str(site_file)], env={"COLUMNS": "200"})
    assert done.exit_code == 0, done.output
    return done.output


@pytest.fixture
def ended(site_file: Path, client: ClusterClient) -> tuple[StageContext, JobRecord]:
    """A job of two steps, one of which failed; judged."""
    context = one_stage(site_file, [toy_step(1), toy_step(2, shell("echo the reason; exit 4"))])
    record = send(context, client, "lstops-abc")
    verdict = finish(context, client, record)
    assert verdict.done == (0,)
    outcomes = {0: "done", 1: verdict.beyond_help[0].cause}
    record = record.model_copy(update={"ending": "1 of 2 done", "outcomes": outcomes})
    write_record(context.layout, record)
    return context, record


def test_jobs_are_listed_and_their_logs_shown(site_file: Path, ended: tuple[StageContext, JobRecord]) -> None:
    job = ended[1].job
    table = run(site_file)
    assert "1 of 2 done (permanent)" in table
    assert "1 CPU, 300 MB, 5 min" in table
    logs = run(site_file, "log", job)
    assert f"== {job}_0, step 0: done" in logs
    assert "copy 1: done" in logs
    assert f"== {job}_1, step 1: permanent" in logs
    assert "ended with exit status 4" in logs
    assert "copy 1" not in run(site_file, "log", f"{job}_1")
    assert "copy 1: done" in run(site_file, "log", job, "--follow")
    assert "300" not in run(site_file, "orphans")
    assert "%" in run(site_file, "efficiency")


@pytest.mark.parametrize("job", ["999", "nonsense", "1_7"])
def test_a_job_that_is_not_there(site_file: Path, ended: tuple[StageContext, JobRecord], job: str) -> None:
    done = CliRunner().invoke(app, ["log", job, "--site", str(site_file)])
    assert isinstance(done.exception, ConfigError)
    assert done.exception.remedy


def test_a_job_that_nobody_waits_for_is_found_and_cancelled(site_file: Path, client: ClusterClient) -> None:
    context = one_stage(site_file, [toy_step(1, shell("sleep 200"))])
    record = send(context, client, "lstops-abd")
    assert "0 jobs of ours" in run(site_file, "orphans")
    write_record(context.layout, record.model_copy(update={"ending": "cancelled by lstops: deadline"}))
    assert f"job {record.job} (lstops-abd" in run(site_file, "orphans", "--cancel")
    verdict = finish(context, client, record)
    assert verdict.cancelled


def test_a_round_that_was_prepared_before_keeps_its_indices(site_file: Path) -> None:
    """If its job was submitted and the number lost, the list on disk is what the job runs."""
    context = one_stage(site_file, [toy_step(n) for n in range(3)])
    first = prepare(context, "lstops-a", (0, 1, 2), wanted_resources(context, (0, 1, 2)), {})
    again = prepare(context, "lstops-a", (2,), wanted_resources(context, (2,)), {})
    assert again == first
    assert (jobs_dir(context.layout, context.plan_id) / "lstops-a.indices").read_text() == "0\n1\n2\n"


def test_a_stage_that_is_too_long_for_one_array_goes_in_portions(site_file: Path) -> None:
    steps = [toy_step(n) for n in range(MAX_TASKS + 5)]
    context = one_stage(site_file, steps)
    indices = range(len(steps))
    record = prepare(context, "lstops-a", indices, wanted_resources(context, indices), {})
    assert len(record.indices) == MAX_TASKS
    assert f"--array=0-{MAX_TASKS - 1}%" in stages.script_path(context.layout, record).read_text()


def test_scripts_and_records_are_not_for_the_world(site_file: Path) -> None:
    context = one_stage(site_file, [toy_step(1)])
    record = prepare(context, "lstops-a", (0,), wanted_resources(context, (0,)), {})
    path = stages.script_path(context.layout, record)
    assert [p.stat().st_mode & 0o777 for p in (path, path.with_suffix(".json"))] == [0o640, 0o640]
    assert "key" not in path.read_text().lower()
