"""What happens to the cluster while a stage waits: every job once, no false success, nothing left in the queue."""

from __future__ import annotations

import signal
import subprocess
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from lstops.cluster.client import ClusterClient, open_client
from lstops.cluster.failure import Cause
from lstops.cluster.poller import Ending
from lstops.cluster.records import JobRecord, all_records
from lstops.cluster.stage import StageContext, prepare, script_path, wanted_resources
from lstops.cluster.verdict import next_round
from lstops.embedded.slurm_lab import SlurmLab
from lstops.errors import TransportError
from lstops.site.layout import Layout
from lstops.site.model import Site, load_site

from .follow import Follower
from .test_slurm_operator import Drive
from .toy import eventually, finish, make_site, one_stage, running_node, send, shell, slurm_cluster, toy_step, wait_end

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(900)]

#: how long sshd and slurmctld are away
OUTAGE_S = 60.0


def unique() -> str:
    return f"lstops-{uuid.uuid4().hex[:20]}"


@pytest.fixture
def site(slurm_lab: SlurmLab, tmp_path: Path) -> Site:
    return load_site(make_site(tmp_path, slurm_cluster(slurm_lab.access(), poll_s=0.5)))


@pytest.fixture
def site_file(site: Site, tmp_path: Path) -> Path:
    return tmp_path / "site.yaml"


@pytest.fixture
def client(site: Site, slurm_lab: SlurmLab) -> Iterator[ClusterClient]:
    """A client; after the test each of its jobs is in the accounting once and none is in the queue."""
    client = open_client(site)
    yield client
    records = records_of(site)
    active = {row.task.job for row in client.queue_rows() if row.state_class.active}
    client.close()
    assert active.isdisjoint(record.job for record in records)
    for record in records:
        assert len(jobs_called(slurm_lab, record.name)) == (1 if record.job else 0), record


def records_of(site: Site) -> list[JobRecord]:
    return all_records(Layout(site.base, site.work))


def jobs_called(lab: SlurmLab, name: str) -> set[str]:
    found = lab.ssh(f"sacct -X -n -P --name={name} -S now-1hour -o JobID")
    return {line.partition("_")[0] for line in found.split()}


def until(flag: str, then: str = "$COPY") -> tuple[str, ...]:
    """A step that goes on when the file `flag` is there."""
    return shell(f'until test -e "$(dirname "$0")/{flag}"; do sleep 0.3; done; {then}')


def again(context: StageContext, client: ClusterClient, record: JobRecord, retries: tuple) -> JobRecord:  # type: ignore[type-arg]
    """The round after `record`."""
    resources, tries, exclude = next_round(record, retries)
    indices = tuple(retry.index for retry in retries)
    return send(context, client, "", prepare(context, unique(), indices, resources, tries, exclude))


def sshd_children(lab: SlurmLab) -> list[psutil.Process]:
    """Connections to the login node."""
    master = lab.daemons()["sshd"]
    return [p for p in psutil.Process(master).children() if p.status() != psutil.STATUS_ZOMBIE]


def test_an_established_connection_that_is_cut_is_made_again(
    site_file: Path, client: ClusterClient, slurm_lab: SlurmLab
) -> None:
    context = one_stage(site_file, [toy_step(n, until("go")) for n in range(2)])
    record = send(context, client, unique())
    follower = Follower(context.site, [record.job])
    follower.hears("running")
    for child in sshd_children(slurm_lab):
        child.send_signal(signal.SIGKILL)
    (context.site.base / "go").touch()
    assert {c.ending for c in follower.finish().values()} == {Ending.ENDED}
    # the synchronous client's connection was cut as well
    assert finish(context, client, record).done == (0, 1)


def test_a_minute_without_sshd_and_a_minute_without_slurmctld(
    site_file: Path, client: ClusterClient, slurm_lab: SlurmLab
) -> None:
    """One submitted before, one just as sshd stops, one meanwhile; one step ends where nobody can see it."""
    waiting = one_stage(site_file, [toy_step(0, until("early")), toy_step(1, until("late"))])
    during = [one_stage(site_file, [toy_step(n)]) for n in (2, 3)]
    records = [prepare(one, unique(), (0,), wanted_resources(one, (0,)), {}) for one in during]
    first = send(waiting, client, unique())
    follower = Follower(waiting.site, [first.job])
    follower.hears("2 running")
    refusals: list[str] = []

    def submitted(number: int) -> JobRecord:
        """What Airflow's retries do."""
        while True:
            one = open_client(waiting.site)
            try:
                return send(during[number], one, "", records[number])
            except TransportError as error:
                refusals.append(str(error))
                time.sleep(1)
            finally:
                one.close()

    with ThreadPoolExecutor(2) as pool:
        results = [pool.submit(submitted, 0)]
        slurm_lab.stop_daemon("sshd")
        try:
            results.append(pool.submit(submitted, 1))
            (waiting.site.base / "early").touch()
            time.sleep(OUTAGE_S / 2)
            slurm_lab.stop_daemon("slurmctld")
            time.sleep(OUTAGE_S / 2)
            slurm_lab.start_daemon("sshd")
            time.sleep(OUTAGE_S / 2)
        finally:
            slurm_lab.start_daemon("sshd")
            slurm_lab.start_daemon("slurmctld")
        second, third = (result.result(400) for result in results)
    assert refusals
    assert follower.errors > 0
    assert not follower.endings, "nothing is concluded while nothing can be seen"
    (waiting.site.base / "late").touch()
    assert {c.ending for c in follower.finish().values()} == {Ending.ENDED}
    assert finish(waiting, client, first).done == (0, 1)
    assert [finish(*one).done for one in ((during[0], client, second), (during[1], client, third))] == [(0,), (0,)]


def test_an_accounting_that_hangs_and_lags_behind_is_waited_for(
    site_file: Path, client: ClusterClient, slurm_lab: SlurmLab, tmp_path: Path
) -> None:
    """slurmdbd is frozen when the job ends: neither the good step is failed nor the bad one taken for good."""
    steps = (toy_step(0, until("go")), toy_step(1, until("go", "exit 3")))
    one = Drive(site_file, tmp_path, 1, steps=steps)
    slurmdbd = psutil.Process(slurm_lab.daemons()["slurmdbd"])
    with ThreadPoolExecutor(1) as pool:
        ended = pool.submit(one.go, wait_s=600.0)
        record = eventually(lambda: next((r for r in records_of(one.site) if r.job), None))
        running_node(slurm_lab, record.job)
        slurmdbd.suspend()
        try:
            (one.site.base / "go").touch()
            wait_end(client, record.job)
            # the operator has seen the end as well, and asks an accounting that does not answer
            time.sleep(10)
            assert not ended.done(), ended.result()
        finally:
            slurmdbd.resume()
        status, said = ended.result(600)
    assert status == 1
    assert "AirflowFailException: 1 of 2 steps of stage one are beyond help" in said
    assert "copy 1 (run 1): /bin/sh ended with exit status 3" in said
    assert f"job {record.job}: 1 of 2 done" in said
    assert (one.site.base / "out/0.txt").exists()
    assert not (one.site.base / "out/1.txt").exists()


def test_a_job_that_ends_while_the_accounting_is_down(
    site_file: Path, client: ClusterClient, slurm_lab: SlurmLab
) -> None:
    """The queue still shows the end; the verdict waits until the accounting has caught up."""
    context = one_stage(site_file, [toy_step(1, shell("sleep 2; $COPY"))])
    record = send(context, client, unique())
    slurm_lab.stop_daemon("slurmdbd")
    try:
        conclusion = Follower(context.site, [record.job]).finish()[record.job]
        assert conclusion.ending is Ending.ENDED
        with pytest.raises(TransportError):
            client.account(record.job)
    finally:
        slurm_lab.start_daemon("slurmdbd")
    verdict = finish(context, client, record)
    assert verdict.done == (0,), verdict


def test_a_drained_cluster_is_waited_for(site_file: Path, client: ClusterClient, slurm_lab: SlurmLab) -> None:
    nodes = ",".join(slurm_lab.access().nodes)
    slurm_lab.ssh(f"scontrol update nodename={nodes} state=drain reason=test")
    try:
        context = one_stage(site_file, [toy_step(1)])
        record = send(context, client, unique())
        follower = Follower(context.site, [record.job])
        follower.hears("1 waiting for a node that is down, drained or reserved")
    finally:
        slurm_lab.ssh(f"scontrol update nodename={nodes} state=resume")
    assert follower.finish()[record.job].ending is Ending.ENDED
    verdict = finish(context, client, record)
    assert verdict.done == (0,), verdict


def test_a_held_job_says_so_and_does_not_fail(site_file: Path, client: ClusterClient, slurm_lab: SlurmLab) -> None:
    context = one_stage(site_file, [toy_step(n, shell("sleep 1; $COPY")) for n in range(2)])
    blocker = slurm_lab.ssh("sbatch --parsable -N4 --exclusive --output=/dev/null --wrap 'sleep 3000'").strip()
    try:
        record = send(context, client, unique())
        slurm_lab.ssh(f"scontrol hold {record.job}")
        follower = Follower(context.site, [record.job])
        follower.hears("2 waiting until an administrator releases it")
    finally:
        slurm_lab.ssh(f"scancel {blocker}")
    slurm_lab.ssh(f"scontrol release {record.job}")
    assert follower.finish()[record.job].ending is Ending.ENDED
    assert finish(context, client, record).done == (0, 1)


def test_an_administrator_requeues_a_job(site_file: Path, client: ClusterClient, slurm_lab: SlurmLab) -> None:
    """It is submitted with --no-requeue; who insists gets it run again under the same number, and the product whole."""
    script = 'cd "$(dirname "$0")"; test -e flag || { touch begun; sleep 280; }; $COPY'
    context = one_stage(site_file, [toy_step(1, shell(script))])
    record = send(context, client, unique())
    task = f"{record.job}_0"
    with pytest.raises(TransportError, match="disabled"):
        slurm_lab.ssh(f"scontrol requeue {task}")
    follower = Follower(context.site, [record.job])
    follower.until((context.site.base / "begun").exists)
    (context.site.base / "flag").touch()
    slurm_lab.ssh(f"scontrol update jobid={task} requeue=1 && scontrol requeue {task}")
    follower.hears("1 waiting")
    # SLURM lets a requeued job wait for two minutes; in the second of its revocation a node refuses it
    slurm_lab.ssh(f"scontrol update jobid={task} starttime=now+3")
    assert follower.finish()[record.job].ending is Ending.ENDED
    verdict = finish(context, client, record)
    assert verdict.done == (0,), verdict
    assert (context.site.base / "out/1.txt").read_text() == "hello\n"


def test_a_preempted_step_runs_again_and_no_node_is_blamed(
    site_file: Path, client: ClusterClient, slurm_lab: SlurmLab
) -> None:
    context = one_stage(site_file, [toy_step(1, shell('test -e "$(dirname "$0")/flag" || sleep 280; $COPY'))])
    record = send(context, client, unique())
    running_node(slurm_lab, record.job)
    slurm_lab.ssh("sbatch -p urgent -N4 --exclusive --output=/dev/null --wrap true")
    verdict = finish(context, client, record)
    assert [(retry.why.cause, retry.avoid) for retry in verdict.retries] == [(Cause.INFRASTRUCTURE, "")]
    assert "PREEMPTED" in verdict.retries[0].why.what
    (context.site.base / "flag").touch()
    second = again(context, client, record, verdict.retries)
    assert finish(context, client, second).done == (0,)


def test_one_step_of_an_array_cancelled_by_another_stops_the_stage_and_keeps_what_is_done(
    site_file: Path, client: ClusterClient, slurm_lab: SlurmLab
) -> None:
    context = one_stage(site_file, [toy_step(0), toy_step(1, shell("sleep 280; $COPY"))])
    record = send(context, client, unique())
    Follower(context.site, [record.job]).hears("1 completed")
    slurm_lab.ssh(f"scancel {record.job}_1")
    verdict = finish(context, client, record)
    assert (verdict.done, verdict.cancelled, verdict.retries) == ((0,), True, ())
    assert "by user" in verdict.beyond_help[0].what


def test_a_full_disk_fails_a_step_for_now_only(site_file: Path, client: ClusterClient) -> None:
    context = one_stage(site_file, [toy_step(1, shell('head -c 2000000 /dev/zero > "$1"'))])
    staging = context.layout.staging
    staging.mkdir(parents=True)
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", staging], check=False).returncode:
        pytest.skip("this machine does not let root mount a tmpfs")
    try:
        record = send(context, client, unique())
        verdict = finish(context, client, record)
        assert list(staging.iterdir()) == []
    finally:
        subprocess.run(["umount", staging], check=True)
    assert [retry.why.cause for retry in verdict.retries] == [Cause.INFRASTRUCTURE]
    assert "no space left" in verdict.retries[0].why.what
    assert not (context.site.base / "out/1.txt").exists()
    second = again(context, client, record, verdict.retries)
    assert finish(context, client, second).done == (0,)
    assert (context.site.base / "out/1.txt").stat().st_size == 2_000_000


def test_sixty_tasks_at_once_meet_the_default_of_maxstartups(
    site_file: Path, client: ClusterClient, slurm_lab: SlurmLab
) -> None:
    """sshd drops some of the connections; nobody fails for it. Waiting for all of them takes one connection."""
    context = one_stage(site_file, [toy_step(n) for n in range(6)])
    records = [prepare(context, unique(), (n,), wanted_resources(context, (n,)), {}) for n in range(6)]

    def task(number: int) -> str:
        one = open_client(context.site)
        try:
            # ten of the sixty try to submit the same job
            return send(context, one, "", records[number % 6]).job
        finally:
            one.close()

    with ThreadPoolExecutor(60) as pool:
        jobs = sorted(set(pool.map(task, range(60))), key=int)
    assert len(jobs) == 6
    follower = Follower(context.site, jobs, poll_s=0.2)
    follower.until(lambda: follower.looks > 0)
    connections = sshd_children(slurm_lab)
    endings = follower.finish()
    # the fixture's client and the follower
    assert len(connections) <= 2
    assert {c.ending for c in endings.values()} == {Ending.ENDED}
    for record, n in zip(records, range(6), strict=True):
        found = client.submit_or_adopt(record.name, script_path(context.layout, record))
        assert found.adopted
        assert finish(context, client, record.model_copy(update={"job": found.job})).done == (n,)


def test_what_is_made_on_the_cluster_is_not_for_the_world(site_file: Path, client: ClusterClient) -> None:
    context = one_stage(site_file, [toy_step(1)])
    record = send(context, client, unique())
    verdict = finish(context, client, record)
    assert verdict.done == (0,), verdict
    made = [path for path in context.site.base.rglob("*") if path.name != "in.txt" and not path.is_symlink()]
    assert len(made) > 8
    open_ones = {str(path): oct(path.stat().st_mode & 0o777) for path in made if path.stat().st_mode & 0o027}
    assert open_ones == {}


def test_no_secret_reaches_scripts_records_or_logs(
    site_file: Path, client: ClusterClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LSTOPS_DATABASE_URL", "postgresql://lstops:verysecret@db/lstops")
    context = one_stage(site_file, [toy_step(1, shell("env; $COPY"))])
    key = Path(str(context.site.cluster.ssh.key_file)).read_text() if context.site.cluster.ssh else ""
    finish(context, client, send(context, client, unique()))
    for path in (context.site.base / context.site.work).rglob("*"):
        if path.is_file():
            text = path.read_text(errors="replace")
            assert "verysecret" not in text, path
            assert key.splitlines()[1] not in text, path
