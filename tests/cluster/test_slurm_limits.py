"""What a site allows, and what nobody waits for: limits of SLURM and of the site, deadlines, orphans."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lstops.cluster.client import ClusterClient, open_client
from lstops.cluster.orphans import clear_orphans, comment_tag
from lstops.cluster.records import read_record
from lstops.embedded.slurm_lab import SlurmLab
from lstops.site.layout import Layout
from lstops.site.model import Site, load_site

from .follow import Follower
from .test_slurm_operator import Drive, answer, jobs_called
from .toy import finish, make_site, one_stage, send, shell, slurm_cluster, toy_step

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(900)]


@pytest.fixture
def site_file(slurm_lab: SlurmLab, tmp_path: Path) -> Path:
    return make_site(tmp_path, slurm_cluster(slurm_lab.access(), poll_s=0.5))


@pytest.fixture
def site(site_file: Path) -> Site:
    return load_site(site_file)


@pytest.fixture
def client(site: Site) -> Iterator[ClusterClient]:
    client = open_client(site)
    yield client
    client.close()


@pytest.fixture(scope="module")
def enforced(slurm_lab: SlurmLab) -> Iterator[SlurmLab]:
    """The laboratory with associations enforced, as at a real site: small arrays, and five jobs of a user."""
    conf = slurm_lab.access().slurm_conf
    old = conf.read_text()
    new = old.replace("MaxArraySize=10001", "MaxArraySize=9") + "AccountingStorageEnforce=associations,limits\n"
    assert "MaxArraySize=9\n" in new

    def restart(text: str, most: int) -> None:
        slurm_lab.ssh(f"sacctmgr -i modify user root set MaxSubmitJobs={most}")
        conf.write_text(text)
        slurm_lab.stop_daemon("slurmctld")
        slurm_lab.start_daemon("slurmctld")

    try:
        restart(new, 5)
        yield slurm_lab
    finally:
        restart(old, -1)


def many(site_file: Path, folder: Path, count: int, first: int, **cluster: Any) -> Drive:
    """A toy operator of a stage of several steps."""
    return Drive(site_file, folder, first, steps=tuple(toy_step(first + n) for n in range(count)))


def test_what_sbatch_refuses_is_split(site_file: Path, enforced: SlurmLab, tmp_path: Path) -> None:
    """Twelve steps: MaxArraySize lets 9 in, the user's limit 5; both are found out, and nothing fails."""
    one = many(site_file, tmp_path, 12, 100)
    ended = one.go()
    result = answer(ended)["result"]
    assert result["done"] == list(range(12))
    records = [read_record(Layout(one.site.base, one.site.work), one.plan.plan_id, name) for name in one.names]
    sizes = sorted(len(record.indices) for record in records if record and record.job)
    assert sum(sizes) == 12
    assert max(sizes) <= 5
    assert len(jobs_called(enforced, one.names)) == len(sizes) == len(result["jobs"])
    refused = [record.ending for record in records if record and not record.job]
    assert any("Invalid job array" in text for text in refused)
    assert any("MaxSubmitJob" in text for text in refused)


def test_a_limit_of_the_user_is_waited_for(site_file: Path, enforced: SlurmLab, tmp_path: Path) -> None:
    blockers = enforced.ssh("sbatch --parsable --array=0-4 --hold --output=/dev/null --wrap true").strip()
    one = many(site_file, tmp_path, 2, 200)
    try:
        status, said = one.go()
        # deferred: outside Airflow nobody takes it up
        assert status == 1
        assert "TaskDeferred" in said
        assert "MaxSubmitJob" in said
    finally:
        enforced.ssh(f"scancel {blockers}")
    assert jobs_called(enforced, one.names) == []
    assert answer(one.go(admitted={"tasks": 2}))["result"]["done"] == [0, 1]


def test_an_invalid_account_is_refused_at_once(enforced: SlurmLab, tmp_path: Path) -> None:
    site_file = make_site(tmp_path, slurm_cluster(enforced.access(), account="nobodys"))
    status, said = many(site_file, tmp_path, 1, 300).go()
    assert status == 1
    assert "Invalid account" in said
    assert "Remedy: correct cluster.account in the site file." in said


def test_the_sites_limits_split_and_hold(slurm_lab: SlurmLab, tmp_path: Path) -> None:
    limits = {"max_tasks": 3, "hours": [{"start": "00:00", "until": "00:00", "nice": 50}]}
    site_file = make_site(tmp_path, slurm_cluster(slurm_lab.access(), poll_s=0.5, queue=limits))
    one = many(site_file, tmp_path, 7, 400)
    assert answer(one.go())["result"]["done"] == list(range(7))
    records = [read_record(Layout(one.site.base, one.site.work), one.plan.plan_id, name) for name in one.names]
    assert sorted(len(record.indices) for record in records if record) == [1, 3, 3]
    scripts = list((one.site.base / one.site.work).glob("plans/*/jobs/*.sh"))
    assert len(scripts) == 3
    assert all("--nice=50" in path.read_text() for path in scripts)


def test_in_closed_hours_nothing_is_submitted(slurm_lab: SlurmLab, tmp_path: Path) -> None:
    limits = {"hours": [{"start": "00:00", "until": "00:00"}]}
    one = many(make_site(tmp_path, slurm_cluster(slurm_lab.access(), queue=limits)), tmp_path, 1, 500)
    status, said = one.go()
    assert status == 1
    assert "TaskDeferred" in said
    assert "1 tasks wait to be submitted: nothing is submitted between 00:00 and 00:00 UTC" in said
    assert one.names == []


def test_a_deadline_cancels_and_says_so(site_file: Path, slurm_lab: SlurmLab, tmp_path: Path) -> None:
    one = Drive(site_file, tmp_path, 600, command=shell("sleep 280; $COPY"))
    status, said = one.go(wait_s=0.0)
    assert "TaskDeferred" in said
    record = read_record(Layout(one.site.base, one.site.work), one.plan.plan_id, one.names[0])
    assert record is not None
    status, said = one.go(event={"job": record.job, "ending": "deadline", "why": "1 running"})
    assert status == 1
    assert (
        f"job {record.job} was not finished 72 h after its submission and was cancelled (last seen: 1 running)" in said
    )
    assert "raise cluster.deadline_h in the site file" in said
    assert slurm_lab.ssh(f"squeue -h -j {record.job} -t PD,R").strip() == ""


def test_the_log_tells_the_place_in_the_queue(site_file: Path, client: ClusterClient, slurm_lab: SlurmLab) -> None:
    blocker = slurm_lab.ssh("sbatch --parsable -N4 --exclusive --output=/dev/null --wrap 'sleep 3000'").strip()
    older = slurm_lab.ssh("sbatch --parsable -N4 --exclusive --output=/dev/null --wrap true").strip()
    context = one_stage(site_file, [toy_step(1)])
    try:
        record = send(context, client, "lstops-" + "a" * 20)
        follower = Follower(context.site, [record.job])
        follower.hears("1 job before it in partition short, expected to start 20")
    finally:
        slurm_lab.ssh(f"scancel {blocker}")
    assert follower.finish()
    slurm_lab.ssh(f"scancel {older}")
    assert finish(context, client, record).done == (0,)


def test_orphans_of_ours_are_cancelled_and_nobody_elses(
    site_file: Path, site: Site, client: ClusterClient, slurm_lab: SlurmLab, tmp_path: Path
) -> None:
    """Each with one of our names; what has no record here is ours by its comment only."""

    def other(name: str, comment: str) -> str:
        options = f"--job-name={name} --comment='{comment}' --hold --output=/dev/null"
        return slurm_lab.ssh(f"sbatch --parsable {options} --wrap true").strip()

    ours = other("lstops-" + "b" * 20, f"{comment_tag(site)} dag task stage")
    elsewhere = other("lstops-" + "c" * 20, "lstops toy/00000000 dag task stage")
    stranger = other("lstosa", f"{comment_tag(site)} dag task stage")
    waiting = Drive(site_file, tmp_path, 700, command=shell("sleep 280; $COPY"))
    deleted = Drive(site_file, tmp_path, 701, command=shell("sleep 280; $COPY"))
    try:
        for one in (waiting, deleted):
            assert "TaskDeferred" in one.go(wait_s=0.0)[1]
        gone = deleted.config["run_id"]
        found = clear_orphans(site, client, lambda owner: "its run was deleted" if owner.run_id == gone else None)
        assert {orphan.name: orphan.why for orphan in found} == {
            "lstops-" + "b" * 20: "this site has no record of it",
            deleted.names[0]: "its run was deleted",
        }
        until = time.monotonic() + 300
        while len(left := set(slurm_lab.ssh("squeue -h -t PD,R -o %j").split())) > 3 and time.monotonic() < until:
            time.sleep(0.3)
        assert left == {"lstops-" + "c" * 20, "lstosa", waiting.names[0]}
        assert clear_orphans(site, client) == []
    finally:
        slurm_lab.ssh(f"scancel {ours} {elsewhere} {stranger}; scancel --name={waiting.names[0]}")
