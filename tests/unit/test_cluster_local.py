"""The local scheduler with real processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lstops.cluster import commands
from lstops.cluster.parsers import parse_sacct, parse_squeue
from lstops.cluster.rows import AccountingRow
from lstops.cluster.states import StateClass

pytestmark = pytest.mark.timeout(300)


class Scheduler:
    """A local scheduler in one folder."""

    def __init__(self, folder: Path, slots: int) -> None:
        self.folder = folder
        self.jobs: list[str] = []
        self.environ = {
            **os.environ,
            "LSTOPS_LOCAL_SPOOL": str(folder / "the spool"),
            "LSTOPS_LOCAL_SLOTS": str(slots),
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": "postgresql://hunter2",
            "LSTOPS_DATABASE_URL": "postgresql://hunter2",
            "LSTOPS_KEPT": "yes",
        }

    def call(self, *words: str) -> subprocess.CompletedProcess[str]:
        argv = [sys.executable, "-m", "lstops.cluster.local", *words]
        return subprocess.run(argv, capture_output=True, text=True, env=self.environ, cwd=self.folder, timeout=120)

    def sbatch(self, body: str, *options: str) -> str:
        path = self.folder / f"job{len(self.jobs)}.sh"
        path.write_text(f"#!/bin/bash\n#SBATCH --output='{self.folder}/%x-%A_%a.log'\n{body}\n")
        done = self.call("sbatch", "--parsable", *options, str(path))
        assert done.returncode == 0, done.stderr
        self.jobs.append(done.stdout.strip())
        return self.jobs[-1]

    def rows(self, job: str, steps: bool = False) -> tuple[AccountingRow, ...]:
        flags = ["-n", "-P"] if steps else ["-X", "-n", "-P"]
        done = self.call("sacct", *flags, "-j", job, "-S", "now-7days", "-o", commands.SACCT_FIELDS)
        parsed = parse_sacct(done.stdout)
        assert parsed.unreadable == ()
        return parsed.rows

    def states(self, job: str) -> list[str]:
        return [row.state for row in self.rows(job) for _ in range(max(len(row.task.positions), 1))]

    def until(self, condition: Callable[[], bool], timeout_s: float = 120.0) -> None:
        end = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < end, "it does not happen"
            time.sleep(0.1)

    def ended(self, job: str) -> list[AccountingRow]:
        self.until(lambda: not any(row.state_class.active for row in self.rows(job)))
        return list(self.rows(job))

    def supervisor(self, job: str) -> int:
        """Pid of a job's supervisor."""
        for entry in Path("/proc").iterdir():
            if entry.name.isdecimal():
                try:
                    words = (entry / "cmdline").read_bytes().split(b"\0")
                    environ = (entry / "environ").read_bytes()
                except OSError:
                    continue
                if words[-3:] == [b"supervise", job.encode(), b""] and str(self.folder).encode() in environ:
                    return int(entry.name)
        raise AssertionError(f"job {job} has no supervisor")


@pytest.fixture
def scheduler(tmp_path: Path) -> Iterator[Scheduler]:
    scheduler = Scheduler(tmp_path, slots=2)
    yield scheduler
    for job in scheduler.jobs:
        scheduler.call("scancel", "-Q", job)
    for job in scheduler.jobs:
        scheduler.ended(job)


def test_an_array_runs_and_every_task_keeps_its_own_ending(scheduler: Scheduler) -> None:
    body = 'echo "task $SLURM_ARRAY_TASK_ID of $SLURM_ARRAY_JOB_ID"\nexit $((SLURM_ARRAY_TASK_ID % 3))'
    job = scheduler.sbatch(body, "--array=0-3,7", "--job-name", "an array")
    rows = scheduler.ended(job)
    assert [(row.task.positions[0], row.state, row.exit_code) for row in rows] == [
        (0, "COMPLETED", 0),
        (1, "FAILED", 1),
        (2, "FAILED", 2),
        (3, "COMPLETED", 0),
        (7, "FAILED", 1),
    ]
    assert (scheduler.folder / f"an array-{job}_3.log").read_text() == f"task 3 of {job}\n"
    assert {row.name for row in rows} == {"an array"}


def test_a_signal_is_not_success(scheduler: Scheduler) -> None:
    row = scheduler.ended(scheduler.sbatch("kill -9 $$"))[0]
    assert (row.state, row.exit_code, row.signal) == ("FAILED", 0, 9)
    assert not row.succeeded


def test_no_more_processes_than_slots_over_all_jobs(scheduler: Scheduler) -> None:
    body = f"cd '{scheduler.folder}'; touch run-$SLURM_JOB_ID-$$; ls run-* | wc -l >> seen; sleep 0.4; rm run-*-$$"
    jobs = [scheduler.sbatch(body, "--array=0-2") for _ in range(3)]
    for job in jobs:
        assert [row.state for row in scheduler.ended(job)] == ["COMPLETED"] * 3
    seen = [int(line) for line in (scheduler.folder / "seen").read_text().split()]
    assert len(seen) == 9
    assert max(seen) <= 2


def test_a_task_of_two_cpus_takes_two_slots(scheduler: Scheduler) -> None:
    body = f"cd '{scheduler.folder}'; touch run-$$; ls run-* | wc -l >> seen; sleep 0.3; rm run-$$"
    for row in scheduler.ended(scheduler.sbatch(body, "--array=0-2", "--cpus-per-task=2")):
        assert row.state == "COMPLETED"
    assert set((scheduler.folder / "seen").read_text().split()) == {"1"}


def test_the_array_limit_holds_and_is_shown(scheduler: Scheduler) -> None:
    job = scheduler.sbatch("sleep 600", "--array=0-4%1")
    scheduler.until(lambda: "RUNNING" in scheduler.states(job))
    done = scheduler.call("squeue", "-h", "-t", "all", "--me", "-o", commands.SQUEUE_FORMAT)
    waiting, running = parse_squeue(done.stdout).rows
    assert waiting.task.positions == (1, 2, 3, 4)
    assert waiting.reason == "JobArrayTaskLimit"
    assert (running.task.positions, running.state) == ((0,), "RUNNING")


def test_the_time_limit(scheduler: Scheduler) -> None:
    job = scheduler.sbatch("sleep 600 & sleep 600; wait", "--time=0:01")
    assert [row.state for row in scheduler.ended(job)] == ["TIMEOUT"]


def test_who_ignores_a_polite_end_is_killed(scheduler: Scheduler) -> None:
    job = scheduler.sbatch("trap '' TERM; while true; do sleep 0.2; done", "--time=0:01")
    assert [row.state for row in scheduler.ended(job)] == ["TIMEOUT"]


def test_the_memory_limit_counts_the_whole_tree(scheduler: Scheduler) -> None:
    hog = f"{sys.executable} -c 'import time; x = bytearray(120 << 20); time.sleep(30)'"
    job = scheduler.sbatch(f"{hog} & {hog} & wait", "--mem=200M")
    rows = scheduler.ended(job)
    assert [(row.state, row.signal) for row in rows] == [("OUT_OF_MEMORY", 125)]
    batch = next(row for row in scheduler.rows(job, steps=True) if row.task.step == "batch")
    assert batch.max_rss_mb is not None
    assert batch.max_rss_mb > 200


def test_forked_processes_do_not_count_shared_memory_twice(scheduler: Scheduler) -> None:
    program = "import os, time; x = bytearray(120 << 20); [os.fork() for _ in range(2)]; time.sleep(3)"
    job = scheduler.sbatch(f'{sys.executable} -c "{program}"', "--mem=260M")
    assert [row.state for row in scheduler.ended(job)] == ["COMPLETED"]


def test_cancelled_with_everything_it_started(scheduler: Scheduler) -> None:
    body = f"setsid sleep 321 & echo $! > '{scheduler.folder}/child'; sleep 321"
    job = scheduler.sbatch(body, "--array=0-3%1")
    child = scheduler.folder / "child"
    scheduler.until(lambda: child.exists() and child.read_text().strip() != "")
    assert scheduler.call("scancel", "-Q", job).returncode == 0
    rows = scheduler.ended(job)
    assert len(rows) == 4
    assert {row.state for row in rows} == {f"CANCELLED by {os.getuid()}"}
    scheduler.until(lambda: not Path(f"/proc/{child.read_text().strip()}").exists())


def test_a_job_outlives_whoever_submitted_it(scheduler: Scheduler, tmp_path: Path) -> None:
    script = tmp_path / "survivor.sh"
    script.write_text(f"#!/bin/bash\n#SBATCH --output={tmp_path}/log\nsleep 1.5; echo survived > '{tmp_path}/proof'\n")
    submit = [sys.executable, "-m", "lstops.cluster.local", "sbatch", "--parsable", str(script)]
    # a submitter whose whole process group is killed right afterwards, as a worker's is
    parent = subprocess.Popen(
        ["/bin/sh", "-c", '"$@"; sleep 60', "sh", *submit],
        stdout=subprocess.PIPE,
        text=True,
        env=scheduler.environ,
        start_new_session=True,
    )
    assert parent.stdout is not None
    job = parent.stdout.readline().strip()
    scheduler.jobs.append(job)
    os.killpg(parent.pid, signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    assert [row.state for row in scheduler.ended(job)] == ["COMPLETED"]
    assert (tmp_path / "proof").read_text() == "survived\n"


def test_a_killed_supervisor_is_a_failed_node_and_leaves_no_process(scheduler: Scheduler) -> None:
    job = scheduler.sbatch(f"echo $$ > '{scheduler.folder}/pid'; sleep 300", "--array=0-1%1")
    pid = scheduler.folder / "pid"
    scheduler.until(lambda: pid.exists() and pid.read_text().strip() != "")
    os.kill(scheduler.supervisor(job), signal.SIGKILL)
    scheduler.until(lambda: set(scheduler.states(job)) == {"NODE_FAIL"})
    scheduler.until(lambda: not Path(f"/proc/{pid.read_text().strip()}").exists())
    assert all(row.state_class is StateClass.INFRASTRUCTURE for row in scheduler.rows(job))


def test_secrets_and_airflow_stay_outside(scheduler: Scheduler) -> None:
    job = scheduler.sbatch("env")
    scheduler.ended(job)
    text = next(scheduler.folder.glob(f"*-{job}_.log")).read_text()
    assert "hunter2" not in text
    assert "AIRFLOW" not in text
    assert "LSTOPS_KEPT=yes" in text
    assert f"SLURM_JOB_ID={job}" in text


def test_look_up_by_name(scheduler: Scheduler) -> None:
    job = scheduler.sbatch("true", "--job-name=lstops-abc")
    scheduler.sbatch("true", "--job-name=other")
    assert scheduler.call("squeue", "-h", "-t", "all", "--me", "--name=lstops-abc", "-o", "%F").stdout.split() == [job]
    found = scheduler.call("sacct", "-X", "-n", "-P", "--name=lstops-abc", "-S", "now-7days", "-o", "JobID")
    assert found.stdout.split() == [job]
    assert scheduler.call("squeue", "-h", "-t", "all", "--me", "--name=nobody", "-o", "%F").stdout == ""


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("sbatch", "--wrap=true"), "one batch script"),
        (("sbatch", "/nowhere/x.sh"), "Unable to open"),
        (("sbatch", "--array=5-1x", "job.sh"), "Invalid job array"),
        (("sbatch", "--time=soon", "job.sh"), "--time"),
        (("sbatch", "--mem=lots", "job.sh"), "--mem"),
        (("sbatch", "--unheard-of=1", "job.sh"), "unrecognized option"),
        (("sbatch", "--chdir=/nowhere", "job.sh"), "change directory"),
        (("sbatch", "plain.txt"), "batch script"),
        (("squeue", "-h", "-o", "%Z"), "format"),
        (("sacct", "-Y"), "invalid option"),
        (("scancel", "99"), "Invalid job id"),
        (("nonsense",), "first word"),
    ],
)
def test_wrong_calls_are_refused_and_leave_nothing(scheduler: Scheduler, words: tuple[str, ...], said: str) -> None:
    (scheduler.folder / "job.sh").write_text("#!/bin/bash\ntrue\n")
    (scheduler.folder / "plain.txt").write_text("true\n")
    if words[0] == "squeue":
        scheduler.ended(scheduler.sbatch("true"))
    done = scheduler.call(*words)
    assert done.returncode == 1
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    if words[0] == "sbatch":
        assert not (scheduler.folder / "the spool" / "jobs").exists()


def test_a_log_that_cannot_be_written_fails_the_task(scheduler: Scheduler) -> None:
    job = scheduler.sbatch("true", "--output=/nowhere/x.log")
    assert [row.state for row in scheduler.ended(job)] == ["FAILED"]


def test_starting_costs_little(scheduler: Scheduler) -> None:
    scheduler.call("squeue", "-h")
    code = "import resource, lstops.cluster.local.__main__; print(resource.getrusage(0).ru_utime)"
    seconds = min(
        float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout) for _ in range(3)
    )
    assert seconds < 0.15
