"""The laboratory itself: what the other cluster tests build on must be real and leave nothing behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from lstops.embedded.errors import ServiceError
from lstops.embedded.slurm_lab import SCRIPT, SlurmLab
from lstops.errors import TransportError
from lstops.operations.site_check import check_site
from lstops.site.model import load_site

from .conftest import require_lab
from .toy import make_site, slurm_cluster

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(900)]


def wait_for(probe: Callable[[], str], accept: Callable[[str], bool], timeout_s: float = 300.0) -> str:
    deadline = time.monotonic() + timeout_s
    while not accept(value := probe()):
        if time.monotonic() > deadline:
            pytest.fail(f"still {value!r} after {timeout_s} s")
        time.sleep(0.3)
    return value


def submit(lab: SlurmLab, options: str, script: str) -> str:
    command = f"sbatch --parsable --output=/dev/null {options} --wrap '{script}'"
    return lab.ssh(command).strip().partition(";")[0]


def final_states(lab: SlurmLab, job: str, tasks: int = 1) -> list[str]:
    """Wait until the accounting has the end of a job (or of all tasks of its array)."""

    def states() -> str:
        return lab.ssh(f"sacct -X -n -P -j {job} -S now-1hour -o State,ExitCode")

    def ended(text: str) -> bool:
        lines = text.splitlines()
        return len(lines) == tasks and not any(line.startswith(("PENDING", "RUNNING", "COMPLETING")) for line in lines)

    return wait_for(states, ended).splitlines()


def of_lab(base: Path) -> list[psutil.Process]:
    """Living processes that carry a laboratory's folder in their arguments or environment."""
    found = []
    for process in psutil.process_iter():
        try:
            words = [*process.cmdline(), *process.environ().values()]
            if process.status() != psutil.STATUS_ZOMBIE and any(str(base) in word for word in words):
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found


def test_every_daemon_runs_and_every_node_is_idle(slurm_lab: SlurmLab) -> None:
    daemons = slurm_lab.daemons()
    nodes = slurm_lab.access().nodes
    assert set(daemons) == {"munged", "mariadbd", "slurmdbd", "slurmctld", "sshd", *(f"slurmd-{n}" for n in nodes)}
    assert all(daemons.values())
    assert sorted(slurm_lab.ssh("sinfo -h -N -o %N -p short").split()) == sorted(nodes)


def test_a_batch_job_runs_and_is_accounted(slurm_lab: SlurmLab, tmp_path: Path) -> None:
    output = tmp_path / "out.txt"
    job = slurm_lab.ssh(f"sbatch --parsable --output={output} --job-name=hello --wrap 'echo $SLURM_JOB_ID'").strip()
    assert final_states(slurm_lab, job) == ["COMPLETED|0:0"]
    assert output.read_text().strip() == job
    # the accounting learns of a job's times one by one: by name it is found some seconds later than by id
    by_name = "sacct -X -n -P -S now-1hour --name=hello -o JobIDRaw"
    assert wait_for(lambda: slurm_lab.ssh(by_name), lambda text: bool(text.strip())).split() == [job]


def test_a_waiting_job_is_in_the_queue_and_can_be_cancelled(slurm_lab: SlurmLab) -> None:
    job = submit(slurm_lab, "--hold", "true")
    assert slurm_lab.ssh(f"squeue -h -j {job} -o '%T %r'").split() == ["PENDING", "JobHeldUser"]
    slurm_lab.ssh(f"scancel {job}")
    assert final_states(slurm_lab, job)[0].startswith("CANCELLED by ")


def test_array_tasks_keep_their_own_exit_codes(slurm_lab: SlurmLab) -> None:
    job = submit(slurm_lab, "--array=0-2", "exit $SLURM_ARRAY_TASK_ID")
    assert sorted(final_states(slurm_lab, job, tasks=3)) == ["COMPLETED|0:0", "FAILED|1:0", "FAILED|2:0"]


def test_too_much_memory_ends_the_job(slurm_lab: SlurmLab) -> None:
    hog = 'python3 -c "import time; x = bytearray(400 << 20); time.sleep(60)"'
    job = submit(slurm_lab, "--mem=100", hog)
    # without a cgroup SLURM only polls, and kills without saying why
    expected = "FAILED|0:9" if slurm_lab.access().cgroup == "none" else "OUT_OF_MEMORY|0:125"
    assert final_states(slurm_lab, job) == [expected]


def test_an_unknown_host_key_is_refused(slurm_lab: SlurmLab, tmp_path: Path) -> None:
    other = tmp_path / "other"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", other], check=True)
    access = slurm_lab.access()
    key = " ".join(other.with_suffix(".pub").read_text().split()[:2])
    known = tmp_path / "known_hosts"
    known.write_text(f"[{access.host}]:{access.port} {key}\n")
    argv = ["ssh", "-F", str(access.ssh_config), "-o", f"UserKnownHostsFile={known}", "lab", "true"]
    done = subprocess.run(argv, capture_output=True, text=True)
    assert done.returncode == 255
    assert "Host key verification failed" in done.stderr


def test_a_stopped_sshd_refuses_and_comes_back(slurm_lab: SlurmLab) -> None:
    slurm_lab.stop_daemon("sshd")
    try:
        with pytest.raises(TransportError, match="Connection refused"):
            slurm_lab.ssh("true")
    finally:
        slurm_lab.start_daemon("sshd")
    assert slurm_lab.ssh("echo back") == "back\n"


def test_a_killed_slurmctld_comes_back_with_its_jobs(slurm_lab: SlurmLab) -> None:
    job = submit(slurm_lab, "--hold --job-name=survivor", "true")
    state = slurm_lab.base / "state" / "job_state"
    # slurmctld writes its state some seconds after a change; a job submitted just before a crash is really lost
    wait_for(lambda: state.read_bytes().decode("latin-1"), lambda text: "survivor" in text)
    slurm_lab.kill_daemon("slurmctld")
    slurm_lab.start_daemon("slurmctld")
    assert slurm_lab.ssh(f"squeue -h -j {job} -o %T").strip() == "PENDING"
    slurm_lab.ssh(f"scancel {job}")


def test_an_unknown_daemon_is_named(slurm_lab: SlurmLab) -> None:
    with pytest.raises(ServiceError, match=r"no daemon slurmd-nowhere; there are munged, "):
        slurm_lab.stop_daemon("slurmd-nowhere")


def test_a_second_lab_with_banner_beside_the_first_leaves_nothing(slurm_lab: SlurmLab) -> None:
    lab = SlurmLab.temporary()
    try:
        access = lab.start(nodes=2, cgroup="none", banner="*** maintenance on Monday ***")
        assert set(access.nodes).isdisjoint(slurm_lab.access().nodes)
        assert lab.ssh("echo out") == "*** maintenance on Monday ***\nout\n"
        assert lab.start() == access, "a second start changes nothing"
        job = lab.ssh("sbatch --parsable --output=/dev/null --wrap 'sleep 1000'").splitlines()[-1]
        wait_for(lambda: lab.ssh(f"squeue -h -j {job} -o %T"), lambda text: text.endswith("RUNNING\n"))
        assert of_lab(lab.base)
    finally:
        lab.stop(purge=True)
    assert not lab.base.exists()
    assert [(p.pid, p.cmdline()) for p in of_lab(lab.base)] == []
    assert all(slurm_lab.daemons().values()), "the other laboratory goes on"


@pytest.fixture
def new_user() -> Iterator[str]:
    """The name of a user that does not exist yet, and does not after the test."""
    name = f"lstops-{os.getpid()}"
    yield name
    subprocess.run(["userdel", "--remove", name], capture_output=True)


def test_the_containers_command_runs_until_it_is_told_to_stop(tmp_path: Path, new_user: str) -> None:
    """What the SLURM image starts with, with everything on loopback."""
    require_lab()
    lab = SlurmLab.temporary()
    argv = [sys.executable, SCRIPT, "run", "--base", lab.base, "--nodes", "1", "--cgroup", "none"]
    argv += ["--publish", tmp_path / "keys", "--user", new_user, "--make-user"]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["idle_nodes"] == list(lab.access().nodes)
        access = lab.access()
        published = ["-o", f"UserKnownHostsFile={tmp_path}/keys/known_hosts", "-i", tmp_path / "keys/id_ed25519"]
        strict = ["-o", "StrictHostKeyChecking=yes", "-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes"]
        login = ["ssh", "-F", "none", *strict, *published, "-p", str(access.port), f"{new_user}@{access.host}"]
        done = subprocess.run([*login, "id -un; sinfo -h -o %T"], capture_output=True, text=True)
        assert (done.stdout.split(), done.stderr) == ([new_user, "idle"], "")
        process.send_signal(signal.SIGTERM)
        assert process.wait(300) == 0
        assert [(p.pid, p.cmdline()) for p in of_lab(lab.base)] == []
    finally:
        process.kill()
        process.communicate()
        lab.stop(purge=True)


def test_the_containers_command_ends_when_a_daemon_does(tmp_path: Path) -> None:
    require_lab()
    lab = SlurmLab.temporary()
    argv = [sys.executable, SCRIPT, "run", "--base", lab.base, "--nodes", "1", "--cgroup", "none"]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        pids = json.loads(process.stdout.readline())["daemons"]
        os.kill(pids["slurmdbd"], signal.SIGKILL)
        assert process.wait(300) == 1
        assert "ended on their own: slurmdbd" in process.communicate()[1]
        assert [(p.pid, p.cmdline()) for p in of_lab(lab.base)] == []
    finally:
        process.kill()
        process.communicate()
        lab.stop(purge=True)


def test_a_folder_closed_to_others_is_refused(tmp_path: Path) -> None:
    require_lab()
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    with pytest.raises(ServiceError, match="is closed to the users munge, slurm and mysql"):
        SlurmLab(closed / "lab").start()
    assert not (closed / "lab").exists()
    assert os.listdir(closed) == []


def test_the_site_check_looks_at_the_login_node(slurm_lab: SlurmLab, tmp_path: Path) -> None:
    site = load_site(make_site(tmp_path, slurm_cluster(slurm_lab.access())))
    found = {finding.subject: finding for finding in check_site(site)}
    where = f"at {slurm_lab.access().host}"
    assert found[f"slurm scheduler {where}"].ok
    assert found[f"base {where}"].result == "the same folder, writable"
    # Airflow's environment, which is no science environment
    assert found[f"lstchain 0.12.3 {where}"].result == "has lstchain (none), not 0.12.3"
    site.base.rename(tmp_path / "away")
    assert "is no folder" in {f.subject: f for f in check_site(site)}[f"base {where}"].result
