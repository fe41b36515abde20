"""Stages of plans on a real SLURM through a real sshd: every ending, and that every product is whole."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from lstops.cluster.client import ClusterClient, open_client
from lstops.cluster.failure import Cause
from lstops.cluster.poller import Ending, JobWatcher, Snapshot
from lstops.cluster.records import JobRecord
from lstops.cluster.stage import StageContext, prepare, script_path, wanted_resources
from lstops.cluster.verdict import Judgement, next_round
from lstops.embedded.slurm_lab import SlurmLab
from lstops.errors import SubmitError, TransportError
from lstops.site.model import load_site
from lstops.step.assess import Standing
from lstops.step.model import Step

from .toy import COPY, finish, make_site, one_stage, running_node, send, shell, slurm_cluster, toy_step, wait_end

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(900)]


def unique() -> str:
    return f"lstops-{uuid.uuid4().hex[:20]}"


@pytest.fixture
def site_file(slurm_lab: SlurmLab, tmp_path: Path) -> Path:
    return make_site(tmp_path, slurm_cluster(slurm_lab.access()))


@pytest.fixture
def client(site_file: Path) -> Iterator[ClusterClient]:
    client = open_client(load_site(site_file))
    yield client
    client.close()


@pytest.fixture(scope="module")
def slow(slurm_lab: SlurmLab, tmp_path_factory: pytest.TempPathFactory) -> tuple[StageContext, JobRecord]:
    """A job that will meet its limit of one minute; started early, looked at late."""
    site_file = make_site(tmp_path_factory.mktemp("slow"), slurm_cluster(slurm_lab.access()))
    slow_once = shell('test -e "$(dirname "$0")/flag" || sleep 300; $COPY')
    context = one_stage(site_file, [toy_step(1, slow_once, time_min=1)])
    client = open_client(context.site)
    record = send(context, client, unique())
    client.close()
    return context, record


@pytest.fixture(scope="module")
def batch_at_limit(slurm_lab: SlurmLab, tmp_path_factory: pytest.TempPathFactory) -> tuple[StageContext, JobRecord]:
    """Three steps in one task that will meet its limit in the second; likewise."""
    context, record = send_batch(slurm_lab, tmp_path_factory.mktemp("batch"))
    slurm_lab.ssh(f"scontrol update jobid={record.job} timelimit=1")
    return context, record


@pytest.fixture(autouse=True)
def _early(slow: tuple[StageContext, JobRecord], batch_at_limit: tuple[StageContext, JobRecord]) -> None:
    """Start the slow jobs before the other tests."""


def send_batch(lab: SlurmLab, folder: Path) -> tuple[StageContext, JobRecord]:
    site_file = make_site(folder, slurm_cluster(lab.access(), array_limit=1, batch={"copy": 3}))
    slow_once = shell('test -e "$(dirname "$0")/flag" || sleep 280; $COPY')
    context = one_stage(site_file, [toy_step(0), toy_step(1, slow_once), toy_step(2)])
    client = open_client(context.site)
    record = send(context, client, unique())
    client.close()
    assert record.groups == ((0, 1, 2),)
    return context, record


def jobs_in_sacct(lab: SlurmLab, name: str) -> list[str]:
    return lab.ssh(f"sacct -X -n -P --name={name} -S now-1hour -o JobID").split()


def test_all_steps_succeed_and_a_second_look_finds_nothing_to_do(site_file: Path, client: ClusterClient) -> None:
    context = one_stage(site_file, [toy_step(n) for n in range(3)])
    record = send(context, client, unique())
    verdict = finish(context, client, record)
    assert verdict.done == (0, 1, 2)
    assert (verdict.retries, verdict.beyond_help, verdict.cancelled) == ((), (), False)
    assert {found.state for found in context.assess()} == {Standing.DONE}
    assert [(context.site.base / f"out/{n}.txt").read_text() for n in range(3)] == ["hello\n"] * 3


def test_a_step_that_is_killed_before_it_can_report_gets_more_memory(site_file: Path, client: ClusterClient) -> None:
    """Exit 137: the whole process tree is gone, there is no report."""
    killer = shell("kill -9 $(ps -o ppid= -p $$) $$")
    context = one_stage(site_file, [toy_step(1, killer)])
    verdict = finish(context, client, send(context, client, unique()))
    assert [retry.why.cause for retry in verdict.retries] == [Cause.MEMORY]
    assert verdict.retries[0].resources.mem_mb > 300


def test_out_of_memory_twice_then_success(site_file: Path, client: ClusterClient, slurm_lab: SlurmLab) -> None:
    hog = shell("/usr/bin/python3 -c 'import time; x = bytearray(500 << 20); time.sleep(1)' && $COPY")
    context = one_stage(site_file, [toy_step(1, hog, mem_mb=80)])
    record = send(context, client, unique())
    for mem_mb, attempt in ((320, 2), (1280, 3)):
        verdict = finish(context, client, record)
        if slurm_lab.access().cgroup == "none" and verdict.done:
            pytest.skip("without cgroups this SLURM limits no memory")
        assert [retry.why.cause for retry in verdict.retries] == [Cause.MEMORY], verdict
        resources, tries, exclude = next_round(record, verdict.retries)
        assert (resources.mem_mb, tries, exclude) == (mem_mb, {0: attempt}, ())
        record = send(context, client, "", prepare(context, unique(), (0,), resources, tries, exclude))
    verdict = finish(context, client, record)
    assert verdict.done == (0,), verdict


def test_of_several_steps_in_a_task_only_the_one_that_ran_out_of_memory_runs_again(
    tmp_path: Path, slurm_lab: SlurmLab
) -> None:
    """SLURM calls the whole task OUT_OF_MEMORY; its other steps are done."""
    site_file = make_site(tmp_path, slurm_cluster(slurm_lab.access(), array_limit=1, batch={"copy": 4}))
    hog = shell("/usr/bin/python3 -c 'import time; x = bytearray(500 << 20); time.sleep(1)' && $COPY")
    steps = [toy_step(n, hog if n == 1 else shell("exit 3") if n == 2 else COPY, mem_mb=250) for n in range(4)]
    context = one_stage(site_file, steps)
    client = open_client(context.site)
    try:
        first = send(context, client, unique())
        assert first.groups == ((0, 1, 2, 3),)
        verdict = finish(context, client, first)
        if slurm_lab.access().cgroup == "none" and 1 in verdict.done:
            pytest.skip("without cgroups this SLURM limits no memory")
        # where the kernel chose is not ours to say: a killed shell or its child; nobody else repeats anything
        assert verdict.done == (0, 3)
        retried = {retry.index: (retry.why.cause, retry.blameless) for retry in verdict.retries}
        assert retried[1] == (Cause.MEMORY, False)
        resources, tries, exclude = next_round(first, verdict.retries)
        again = prepare(context, unique(), tuple(retried), resources, tries, exclude)
        assert (1,) in again.groups
        assert 1 in finish(context, client, send(context, client, "", again)).done
    finally:
        client.close()


def test_cancelled_by_somebody_else_stops(site_file: Path, client: ClusterClient, slurm_lab: SlurmLab) -> None:
    context = one_stage(site_file, [toy_step(n, shell("sleep 280")) for n in range(2)])
    record = send(context, client, unique())
    slurm_lab.ssh(f"scancel {record.job}")
    verdict = finish(context, client, record)
    assert verdict.cancelled
    assert verdict.retries == ()
    assert {trouble.cause for trouble in verdict.beyond_help} == {"cancelled"}
    assert "by user 0" in verdict.beyond_help[0].what


@pytest.mark.parametrize(
    ("changes", "said"), [({"partition": "nowhere"}, "partition"), ({"mem_mb": 900_000}, "mem_mb")]
)
def test_what_the_scheduler_refuses_fails_at_once(
    site_file: Path, client: ClusterClient, slurm_lab: SlurmLab, changes: dict[str, object], said: str
) -> None:
    context = one_stage(site_file, [toy_step(1)])
    resources = wanted_resources(context, (0,)).model_copy(update=changes)
    name = unique()
    record = prepare(context, name, (0,), resources, {})
    with pytest.raises(SubmitError, match="sbatch refused") as refusal:
        send(context, client, "", record)
    assert said in refusal.value.remedy


@pytest.mark.parametrize(("step", "said"), [(toy_step(1, cpus=99), "cpus"), (toy_step(1, time_min=10**6), "time_min")])
def test_a_job_that_can_never_start_is_noticed(site_file: Path, client: ClusterClient, step: Step, said: str) -> None:
    """SLURM takes it and lets it wait for ever."""
    context = one_stage(site_file, [step])
    record = send(context, client, unique())
    watcher = JobWatcher(record.job, float("inf"), lambda text: None)
    try:
        # SLURM gives the reason at its second look
        until = time.monotonic() + 300
        while (view := client.poll((record.job,))[record.job]).hopeless is None and time.monotonic() < until:
            time.sleep(0.3)
        assert watcher.observe(Snapshot(0.0, {record.job: view}, {})) is None
        conclusion = watcher.observe(Snapshot(31.0, {record.job: view}, {}))
        assert conclusion is not None
        assert conclusion.ending is Ending.HOPELESS
        assert said in conclusion.why
    finally:
        client.cancel(record.job)
    wait_end(client, record.job)


def test_the_same_name_is_never_submitted_twice(site_file: Path, client: ClusterClient, slurm_lab: SlurmLab) -> None:
    """Killed between sbatch and storing its answer: the next attempt adopts the job, running or ended."""
    context = one_stage(site_file, [toy_step(1, shell("sleep 3; $COPY"))])
    name = unique()
    record = send(context, client, name)
    found = client.submit_or_adopt(name, script_path(context.layout, record))
    assert (found.adopted, found.job) == (True, record.job)
    assert finish(context, client, record).done == (0,)
    later = client.submit_or_adopt(name, script_path(context.layout, record))
    assert (later.adopted, later.job) == (True, record.job)
    assert jobs_in_sacct(slurm_lab, name) == [f"{record.job}_0"]


def test_two_at_once_submit_one_job(site_file: Path, slurm_lab: SlurmLab) -> None:
    """A zombie worker and its successor, at the same moment."""
    from concurrent.futures import ThreadPoolExecutor

    context = one_stage(site_file, [toy_step(1)])
    record = prepare(context, unique(), (0,), wanted_resources(context, (0,)), {})
    clients = [open_client(context.site) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        found = list(
            pool.map(lambda one: one.submit_or_adopt(record.name, script_path(context.layout, record)), clients)
        )
    assert len({submission.job for submission in found}) == 1
    assert sum(not submission.adopted for submission in found) == 1
    finish(context, clients[0], record.model_copy(update={"job": found[0].job}))
    for client in clients:
        client.close()


@pytest.mark.timeout(3600)
def test_of_many_instant_steps_some_fail_and_only_these(site_file: Path, client: ClusterClient) -> None:
    """LSTOPS_TEST_INSTANT: how many; each is a process with its imports, so that 200 take minutes on two cores."""
    many = int(os.environ.get("LSTOPS_TEST_INSTANT", "60"))
    bad = {1: shell("echo before the end; exit 1"), 5: shell("kill -9 $$"), 6: shell("true")}
    context = one_stage(site_file, [toy_step(n, bad.get(n, COPY)) for n in range(many)])
    record = send(context, client, unique())
    verdict = finish(context, client, record, 1800)
    assert verdict.done == tuple(n for n in range(many) if n not in bad)
    assert [trouble.index for trouble in verdict.beyond_help] == [1, 5, 6]
    assert verdict.retries == ()
    assert "before the end" in verdict.beyond_help[0].log_tail
    assert not any((context.site.base / f"out/{n}.txt").exists() for n in bad)
    assert "step run" in script_path(context.layout, record).read_text()


def test_sshd_down_is_a_passing_trouble_and_the_job_is_found_again(
    site_file: Path, client: ClusterClient, slurm_lab: SlurmLab
) -> None:
    context = one_stage(site_file, [toy_step(1, shell("sleep 5; $COPY"))])
    record = send(context, client, unique())
    slurm_lab.stop_daemon("sshd")
    try:
        with pytest.raises(TransportError, match="no connection"):
            client.transport._run_once("true", 5.0)  # type: ignore[attr-defined]
    finally:
        slurm_lab.start_daemon("sshd")
    assert finish(context, client, record).done == (0,)


def test_slurmctld_down_is_a_passing_trouble_and_nothing_is_doubled(
    site_file: Path, client: ClusterClient, slurm_lab: SlurmLab
) -> None:
    context = one_stage(site_file, [toy_step(1)])
    name = unique()
    record = prepare(context, name, (0,), wanted_resources(context, (0,)), {})
    slurm_lab.stop_daemon("slurmctld")
    try:
        with pytest.raises(TransportError, match="cannot take a job now"):
            client.submit_or_adopt(name, script_path(context.layout, record))
    finally:
        slurm_lab.start_daemon("slurmctld")
    record = send(context, client, name, record)
    assert finish(context, client, record).done == (0,)
    assert jobs_in_sacct(slurm_lab, name) == [f"{record.job}_0"]


def test_slurmdbd_down_postpones_a_submission_instead_of_risking_two(
    site_file: Path, client: ClusterClient, slurm_lab: SlurmLab
) -> None:
    context = one_stage(site_file, [toy_step(1)])
    record = prepare(context, unique(), (0,), wanted_resources(context, (0,)), {})
    slurm_lab.stop_daemon("slurmdbd")
    try:
        with pytest.raises(TransportError, match="cannot take a job now"):
            client.submit_or_adopt(record.name, script_path(context.layout, record))
    finally:
        slurm_lab.start_daemon("slurmdbd")
    record = send(context, client, "", record)
    assert finish(context, client, record).done == (0,)


def test_a_login_shell_that_prints_a_banner_does_no_harm(tmp_path: Path) -> None:
    lab = SlurmLab.temporary()
    try:
        access = lab.start(nodes=1, banner="12345\nWelcome | to | the | lab", cgroup="none")
        assert "Welcome" in lab.ssh("true")
        context = one_stage(make_site(tmp_path, slurm_cluster(access)), [toy_step(1)])
        client = open_client(context.site)
        record = send(context, client, unique())
        assert finish(context, client, record).done == (0,)
        client.close()
    finally:
        lab.stop(purge=True)


def test_a_killed_node_is_avoided_next_time(site_file: Path, client: ClusterClient, slurm_lab: SlurmLab) -> None:
    """The step runs on where nobody reaches it; the second job waits for its lock until SLURM has ended it."""
    slow_once = shell('test -e "$(dirname "$0")/flag" || sleep 280; $COPY')
    context = one_stage(site_file, [toy_step(1, slow_once)])
    record = send(context, client, unique())
    node = running_node(slurm_lab, record.job)
    slurm_lab.kill_daemon(f"slurmd-{node}")
    try:
        verdict = finish(context, client, record)
        assert [(retry.why.cause, retry.avoid) for retry in verdict.retries] == [(Cause.INFRASTRUCTURE, node)]
        resources, tries, exclude = next_round(record, verdict.retries)
        (context.site.base / "flag").touch()
        again = prepare(context, unique(), (0,), resources, tries, exclude)
        assert f"--exclude={node}" in script_path(context.layout, again).read_text()
        again = send(context, client, "", again)
        running_node(slurm_lab, again.job)
    finally:
        slurm_lab.start_daemon(f"slurmd-{node}")
    verdict = finish(context, client, again)
    assert verdict.done == (0,), verdict


def test_the_time_limit_gives_more_time_and_then_success(slow: tuple[StageContext, JobRecord]) -> None:
    context, record = slow
    client = open_client(context.site)
    verdict = finish(context, client, record)
    assert [retry.why.cause for retry in verdict.retries] == [Cause.TIME]
    resources, tries, exclude = next_round(record, verdict.retries)
    assert resources.time_min == 3
    (context.site.base / "flag").touch()
    again = send(context, client, "", prepare(context, unique(), (0,), resources, tries, exclude))
    assert finish(context, client, again).done == (0,)
    client.close()


def first_of_the_batch_only(context: StageContext, client: ClusterClient, record: JobRecord) -> tuple[Judgement, int]:
    """Verdict of a batch that was ended in its second step, and when the product of the first was made."""
    verdict = finish(context, client, record)
    assert verdict.done == (0,), verdict
    assert [(context.site.base / f"out/{n}.txt").exists() for n in range(3)] == [True, False, False]
    (context.site.base / "flag").touch()
    return verdict, (context.site.base / "out/0.txt").stat().st_mtime_ns


def the_rest_is_done_and_nothing_twice(
    context: StageContext, client: ClusterClient, lab: SlurmLab, records: tuple[JobRecord, JobRecord], made: int
) -> None:
    assert records[1].indices == (1, 2)
    assert finish(context, client, records[1]).done == (1, 2)
    assert (context.site.base / "out/0.txt").stat().st_mtime_ns == made, "what was done is not done again"
    jobs = {job.partition("_")[0] for record in records for job in jobs_in_sacct(lab, record.name)}
    assert jobs == {record.job for record in records}


def test_a_batch_that_meets_its_time_limit_keeps_what_was_done_and_goes_on(
    batch_at_limit: tuple[StageContext, JobRecord], slurm_lab: SlurmLab
) -> None:
    context, record = batch_at_limit
    client = open_client(context.site)
    verdict, made = first_of_the_batch_only(context, client, record)
    # the step that ran has had its turn, the one after it has not
    causes = [(retry.index, retry.why.cause, retry.blameless) for retry in verdict.retries]
    assert causes == [(1, Cause.TIME, False), (2, Cause.TIME, True)]
    resources, tries, exclude = next_round(record, verdict.retries)
    assert tries == {1: 2, 2: 1}
    second = send(context, client, "", prepare(context, unique(), (1, 2), resources, tries, exclude))
    the_rest_is_done_and_nothing_twice(context, client, slurm_lab, (record, second), made)
    client.close()


def test_a_batch_that_is_cancelled_keeps_what_was_done_and_goes_on_when_a_person_says_so(
    slurm_lab: SlurmLab, tmp_path: Path
) -> None:
    context, record = send_batch(slurm_lab, tmp_path)
    client = open_client(context.site)
    until = time.monotonic() + 300
    while not (context.site.base / "out/0.txt").exists():
        assert time.monotonic() < until
        time.sleep(0.3)
    slurm_lab.ssh(f"scancel {record.job}")
    verdict, made = first_of_the_batch_only(context, client, record)
    assert (verdict.cancelled, verdict.retries) == (True, ())
    second = send(context, client, unique())
    the_rest_is_done_and_nothing_twice(context, client, slurm_lab, (record, second), made)
    client.close()
