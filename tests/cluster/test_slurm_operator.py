"""The operator over real SLURM: whoever kills it, wherever, there is one job and one whole product."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lstops.cluster.records import jobs_dir
from lstops.embedded.slurm_lab import SlurmLab
from lstops.site.layout import Layout
from lstops.site.model import load_site
from lstops.step.model import Plan, Stage

from .toy import make_site, shell, slurm_cluster, toy_plan, toy_step

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(300)]
DRIVER = Path(__file__).with_name("drive_operator.py")


@pytest.fixture(scope="module")
def site_file(slurm_lab: SlurmLab, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_site(tmp_path_factory.mktemp("site"), slurm_cluster(slurm_lab.access(), poll_s=0.5))


class Drive:
    """One DAG run of the toy operator, over several processes."""

    def __init__(self, site_file: Path, folder: Path, number: int, **step: Any) -> None:
        self.site = load_site(site_file)
        self.config: dict[str, Any] = {"site": str(site_file), "store": str(folder / f"store{number}.json")}
        step.setdefault("command", shell("sleep 1; $COPY"))
        self.plan: Plan = toy_plan(self.site, Stage(name="one", steps=(toy_step(number, **step),)))
        self.config |= {"plan_id": self.plan.plan_id, "run_id": f"run {number}"}
        self.product = self.site.base / f"out/{number}.txt"
        self.environ = {**os.environ, "AIRFLOW_HOME": str(folder / "airflow")}

    def go(self, kill_at: int | None, **changes: Any) -> subprocess.CompletedProcess[str]:
        argv = [sys.executable, str(DRIVER), json.dumps({**self.config, "kill_at": kill_at, **changes})]
        return subprocess.run(argv, capture_output=True, text=True, env=self.environ, timeout=120)

    @property
    def names(self) -> list[str]:
        folder = jobs_dir(Layout(self.site.base, self.site.work), self.plan.plan_id)
        return sorted(path.stem for path in folder.glob("*.json"))


def jobs_called(lab: SlurmLab, names: list[str]) -> list[str]:
    found = lab.ssh(f"sacct -X -n -P -S now-1hour --name={','.join(names)} -o JobID")
    return sorted({line.partition("_")[0] for line in found.split()})


def answer(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert done.returncode == 0, done.stdout + done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_killed_at_every_point_there_is_one_job_and_one_product(
    site_file: Path, slurm_lab: SlurmLab, tmp_path: Path
) -> None:
    """Every point before the wait; the waiting itself stores nothing."""
    undisturbed = Drive(site_file, tmp_path, 100)
    points = answer(undisturbed.go(None))["points"]
    assert points >= 12
    # intent (2), record (2), list (2), script (2), connection and sbatch (2), record with number (2), stored number (2)
    drives = [Drive(site_file, tmp_path, number) for number in range(14)]
    for kill_at, drive in enumerate(drives):
        assert drive.go(kill_at).returncode == -signal.SIGKILL, f"not killed at point {kill_at}"
        result = answer(drive.go(None))["result"]
        assert result["done"] == [0]
        assert drive.product.read_text() == "hello\n"
    for kill_at, drive in enumerate(drives):
        jobs = jobs_called(slurm_lab, drive.names)
        assert len(jobs) == 1, f"killed at point {kill_at}: jobs {jobs} of names {drive.names}"


def test_nothing_to_do_submits_nothing(site_file: Path, slurm_lab: SlurmLab, tmp_path: Path) -> None:
    drive = Drive(site_file, tmp_path, 200)
    assert answer(drive.go(None))["result"]["computed"] == 1
    again = answer(drive.go(None, run_id="another run", store=str(tmp_path / "other.json")))["result"]
    assert (again["done"], again["computed"], again["jobs"]) == ([0], 0, [])
    assert len(jobs_called(slurm_lab, drive.names)) == 1


def test_a_permanent_failure_says_what_to_do(site_file: Path, tmp_path: Path) -> None:
    drive = Drive(site_file, tmp_path, 201, command=shell("echo the reason is here; exit 3"))
    done = drive.go(None)
    assert done.returncode == 1
    assert "AirflowFailException" in done.stderr
    assert "copy 201 (run 201): /bin/sh ended with exit status 3. Remedy: read the end of" in done.stderr
    assert "the reason is here" in done.stdout + done.stderr
    assert not drive.product.exists()


def test_a_wrong_partition_fails_at_once_with_its_remedy(site_file: Path, tmp_path: Path) -> None:
    done = Drive(site_file, tmp_path, 202, partition="nowhere").go(None)
    assert done.returncode == 1
    assert "SubmitError" in done.stderr
    assert "correct the partition in the site file" in done.stderr


def test_an_unknown_host_key_is_refused_with_the_command_that_adds_it(
    site_file: Path, slurm_lab: SlurmLab, tmp_path: Path
) -> None:
    access = slurm_lab.access()
    empty = tmp_path / "known_hosts"
    empty.write_text("")
    cluster = slurm_cluster(access)
    cluster["ssh"]["known_hosts"] = str(empty)
    done = Drive(make_site(tmp_path / "other", cluster), tmp_path, 203).go(None)
    assert done.returncode == 1
    assert f"ssh-keyscan -p {access.port} {access.host} >> {empty}" in done.stderr


def test_another_host_key_is_refused(site_file: Path, slurm_lab: SlurmLab, tmp_path: Path) -> None:
    access = slurm_lab.access()
    other = tmp_path / "other_key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", other], check=True)
    known = tmp_path / "known_hosts"
    public = " ".join(other.with_suffix(".pub").read_text().split()[:2])
    known.write_text(f"[{access.host}]:{access.port} {public}\n")
    cluster = slurm_cluster(access)
    cluster["ssh"]["known_hosts"] = str(known)
    done = Drive(make_site(tmp_path / "other", cluster), tmp_path, 204).go(None)
    assert done.returncode == 1
    assert "is not the one in" in done.stderr


def test_a_key_that_is_not_accepted_is_a_matter_for_a_person(slurm_lab: SlurmLab, tmp_path: Path) -> None:
    other = tmp_path / "other_key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", other], check=True)
    cluster = slurm_cluster(slurm_lab.access())
    cluster["ssh"]["key_file"] = str(other)
    done = Drive(make_site(tmp_path / "other", cluster), tmp_path, 205).go(None)
    assert done.returncode == 1
    assert "does not accept the key" in done.stderr
    assert "authorized_keys" in done.stderr
