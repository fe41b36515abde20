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
from lstops.step.model import Plan, Stage, Step

from .toy import make_site, shell, slurm_cluster, toy_plan, toy_step

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(900)]
DRIVER = Path(__file__).with_name("drive_operator.py")


@pytest.fixture(scope="module")
def site_file(slurm_lab: SlurmLab, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_site(tmp_path_factory.mktemp("site"), slurm_cluster(slurm_lab.access(), poll_s=0.5))


class Drive:
    """One DAG run of the toy operator, over several processes; another of the same laboratory has another folder."""

    def __init__(self, site_file: Path, folder: Path, number: int, steps: tuple[Step, ...] = (), **step: Any) -> None:
        self.site = load_site(site_file)
        self.config: dict[str, Any] = {"site": str(site_file), "store": str(folder / f"store{number}.json")}
        step.setdefault("command", shell("sleep 1; $COPY"))
        self.plan: Plan = toy_plan(self.site, Stage(name="one", steps=steps or (toy_step(number, **step),)))
        self.config |= {"plan_id": self.plan.plan_id, "run_id": f"run {number} of {folder.name}"}
        self.product = self.site.base / f"out/{number}.txt"
        self.output = folder / f"output{number}"

    def run(self, kill_at: int | None, **changes: Any) -> dict[str, Any]:
        """Arguments of one process."""
        return {**self.config, "kill_at": kill_at, "output": str(self.output), **changes}

    def go(self, kill_at: int | None = None, **changes: Any) -> tuple[int, str]:
        """Run one process; returns its exit status and what it said."""
        return drive([self.run(kill_at, **changes)])[0], self.output.read_text()

    @property
    def names(self) -> list[str]:
        folder = jobs_dir(Layout(self.site.base, self.site.work), self.plan.plan_id)
        return sorted(path.stem for path in folder.glob("*.json"))


def jobs_called(lab: SlurmLab, names: list[str]) -> list[str]:
    found = lab.ssh(f"sacct -X -n -P -S now-1hour --name={','.join(names)} -o JobID")
    return sorted({line.partition("_")[0] for line in found.split()})


def drive(runs: list[dict[str, Any]]) -> list[int]:
    """Run several processes at the same time; returns their exit statuses."""
    environ = {**os.environ, "AIRFLOW_HOME": str(Path(runs[0]["store"]).parent / "airflow")}
    argv = [sys.executable, str(DRIVER), json.dumps(runs)]
    done = subprocess.run(argv, capture_output=True, text=True, env=environ, timeout=800)
    assert done.returncode == 0, done.stderr
    found: list[int] = json.loads(done.stdout.splitlines()[-1])
    return found


def answer(ended: tuple[int, str]) -> dict[str, Any]:
    status, said = ended
    assert status == 0, said
    found: dict[str, Any] = json.loads(said.splitlines()[-1])
    return found


def test_killed_at_every_point_there_is_one_job_and_one_product(
    site_file: Path, slurm_lab: SlurmLab, tmp_path: Path
) -> None:
    """Every point before the wait; the waiting itself stores nothing."""
    points = answer(Drive(site_file, tmp_path, 100).go())["points"]
    # intent (2), record (2), list (2), script (2), connection and sbatch (2), record with number (2), stored number (2)
    before_the_wait = 14
    assert points > before_the_wait
    drives = [Drive(site_file, tmp_path, number) for number in range(before_the_wait)]
    killed = drive([one.run(kill_at) for kill_at, one in enumerate(drives)])
    assert killed == [-signal.SIGKILL] * before_the_wait
    assert drive([one.run(None) for one in drives]) == [0] * before_the_wait
    for kill_at, one in enumerate(drives):
        assert answer((0, one.output.read_text()))["result"]["done"] == [0]
        assert one.product.read_text() == "hello\n"
        jobs = jobs_called(slurm_lab, one.names)
        assert len(jobs) == 1, f"killed at point {kill_at}: jobs {jobs} of names {one.names}"


def test_nothing_to_do_submits_nothing(site_file: Path, slurm_lab: SlurmLab, tmp_path: Path) -> None:
    one = Drive(site_file, tmp_path, 200)
    assert answer(one.go())["result"]["computed"] == 1
    again = answer(one.go(None, run_id="another run", store=str(tmp_path / "other.json")))["result"]
    assert (again["done"], again["computed"], again["jobs"]) == ([0], 0, [])
    assert len(jobs_called(slurm_lab, one.names)) == 1


def test_a_permanent_failure_says_what_to_do(site_file: Path, tmp_path: Path) -> None:
    one = Drive(site_file, tmp_path, 201, command=shell("echo the reason is here; exit 3"))
    status, said = one.go()
    assert status == 1
    assert "AirflowFailException" in said
    assert "copy 201 (run 201): /bin/sh ended with exit status 3: the reason is here. Remedy: read the end of" in said
    assert "the reason is here" in said
    assert not one.product.exists()


def test_a_wrong_partition_fails_at_once_with_its_remedy(site_file: Path, tmp_path: Path) -> None:
    status, said = Drive(site_file, tmp_path, 202, partition="nowhere").go()
    assert status == 1
    assert "SubmitError" in said
    assert "correct the partition in the site file" in said


def test_an_unknown_host_key_is_refused_with_the_command_that_adds_it(
    site_file: Path, slurm_lab: SlurmLab, tmp_path: Path
) -> None:
    access = slurm_lab.access()
    empty = tmp_path / "known_hosts"
    empty.write_text("")
    cluster = slurm_cluster(access)
    cluster["ssh"]["known_hosts"] = str(empty)
    status, said = Drive(make_site(tmp_path / "other", cluster), tmp_path, 203).go()
    assert status == 1
    assert f"ssh-keyscan -p {access.port} {access.host} >> {empty}" in said


def test_another_host_key_is_refused(site_file: Path, slurm_lab: SlurmLab, tmp_path: Path) -> None:
    access = slurm_lab.access()
    other = tmp_path / "other_key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", other], check=True)
    known = tmp_path / "known_hosts"
    public = " ".join(other.with_suffix(".pub").read_text().split()[:2])
    known.write_text(f"[{access.host}]:{access.port} {public}\n")
    cluster = slurm_cluster(access)
    cluster["ssh"]["known_hosts"] = str(known)
    status, said = Drive(make_site(tmp_path / "other", cluster), tmp_path, 204).go()
    assert status == 1
    assert "is not the one in" in said


def test_a_key_that_is_not_accepted_is_a_matter_for_a_person(slurm_lab: SlurmLab, tmp_path: Path) -> None:
    other = tmp_path / "other_key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", other], check=True)
    cluster = slurm_cluster(slurm_lab.access())
    cluster["ssh"]["key_file"] = str(other)
    status, said = Drive(make_site(tmp_path / "other", cluster), tmp_path, 205).go()
    assert status == 1
    assert "does not accept the key" in said
    assert "authorized_keys" in said
