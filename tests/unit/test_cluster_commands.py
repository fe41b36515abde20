"""Command lines and batch scripts with nasty values, read by real shells."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lstops.cluster import commands
from lstops.cluster.client import ArrayTooLargeError, QueueFullError, below_base, judge_submission
from lstops.cluster.commands import Programs, job_name, quote
from lstops.cluster.parsers import parse_squeue
from lstops.cluster.queue import views_of_queue
from lstops.cluster.script import MAX_TASKS, ArrayScript, render
from lstops.cluster.transport import Completed, Frame, LocalTransport
from lstops.errors import ConfigError, SubmitError, TransportError
from lstops.site.model import ScienceEnvironment, Site
from lstops.step.model import Resources

NASTY = [
    "two words",
    "it's",
    'say "x"',
    "$(touch pwned)",
    "`touch pwned`",
    "a;touch pwned",
    "-rf",
    "100%",
    "a\\b",
    "é*?",
]


def script_of(folder: Path, tasks: int = 2, environment: ScienceEnvironment | None = None, **changes: object) -> str:
    activate = folder / "activate"
    values: dict[str, object] = {
        "name": "lstops-x",
        "comment": "lstops dag task",
        "plan": folder / "plan.json",
        "indices": folder / "x.indices",
        "folder": folder,
        "log_folder": folder,
        "tasks": tasks,
        "resources": Resources(cpus=2, mem_mb=1500, time_min=17),
        "environment": environment or ScienceEnvironment(lstchain_version="0.12.3", activate=activate),
        "array_limit": 5,
        **changes,
    }
    return render(ArrayScript(**values))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", NASTY)
def test_a_script_in_a_folder_with_a_nasty_name_runs_the_right_step(tmp_path: Path, name: str) -> None:
    folder = tmp_path / name
    bin_folder = folder / "bin"
    bin_folder.mkdir(parents=True)
    (bin_folder / "lstops").write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    (bin_folder / "lstops").chmod(0o755)
    (folder / "activate").write_text(
        f"PATH={shlex.quote(str(bin_folder))}:$PATH\necho $SOME_UNSET_VARIABLE >/dev/null\n"
    )
    (folder / "x.indices").write_text("4\n17\n")
    path = tmp_path / "job.sh"
    path.write_text(script_of(folder))
    assert subprocess.run(["bash", "-n", path]).returncode == 0
    done = subprocess.run(
        ["bash", path], capture_output=True, text=True, env={"PATH": "/usr/bin:/bin", "SLURM_ARRAY_TASK_ID": "1"}
    )
    assert done.stderr == ""
    assert done.stdout.splitlines() == ["step", "run", str(folder / "plan.json"), "--index", "17"]
    assert not list(tmp_path.rglob("pwned"))
    assert not Path("pwned").exists()


def test_a_position_without_an_index_is_refused(tmp_path: Path) -> None:
    (tmp_path / "activate").write_text("")
    (tmp_path / "x.indices").write_text("4\n")
    path = tmp_path / "job.sh"
    path.write_text(script_of(tmp_path))
    for position, status in (("7", 78), (None, 1)):
        env = {"PATH": "/usr/bin:/bin"} | ({"SLURM_ARRAY_TASK_ID": position} if position else {})
        done = subprocess.run(["bash", path], capture_output=True, text=True, env=env)
        assert done.returncode == status or (position is None and done.returncode != 0)
        assert done.stderr


def test_directives(tmp_path: Path) -> None:
    text = script_of(tmp_path / "it's 100%", exclude=("n1", "n2"), account="lst", nice=10)
    words = [word for line in text.splitlines() if line.startswith("#SBATCH") for word in shlex.split(line)[1:]]
    assert {"--no-requeue", "--time=17", "--mem=1500M", "--cpus-per-task=2", "--array=0-1%5"} <= set(words)
    assert {"--exclude=n1,n2", "--account=lst", "--nice=10", f"--chdir={tmp_path}/it's 100%"} <= set(words)
    assert f"--output={tmp_path}/it's 100%%/lstops-x-%A_%a.log" in words
    assert "umask 027" in text
    assert "set -euo pipefail" in text


def test_conda_is_activated(tmp_path: Path) -> None:
    environment = ScienceEnvironment(lstchain_version="0.12.3", activate=Path("/opt/conda.sh"), conda_env="lst env")
    text = script_of(tmp_path, environment=environment)
    assert "source /opt/conda.sh\nconda activate 'lst env'\nset -u" in text


@pytest.mark.parametrize("tasks", [0, MAX_TASKS + 1])
def test_impossible_arrays_are_refused(tmp_path: Path, tasks: int) -> None:
    with pytest.raises(ConfigError, match="array"):
        script_of(tmp_path, tasks=tasks)


@pytest.mark.parametrize("value", ["a\nb", "a\rb", "\x00", "a\x1b[0m", "\x7f"])
def test_control_characters_are_refused(tmp_path: Path, value: str) -> None:
    with pytest.raises(ConfigError, match="control character"):
        quote(value)
    with pytest.raises(ConfigError, match="control character"):
        script_of(tmp_path, comment=value)
    with pytest.raises(ConfigError, match="control character"):
        commands.submit_or_adopt(Programs(), value, tmp_path / "x.sh")


def test_relative_paths_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="relative"):
        script_of(tmp_path, plan=Path("plan.json"))


@given(st.text(st.characters(min_codepoint=32, exclude_characters="\x7f", exclude_categories=["Cs", "Cc"]), min_size=1))
def test_every_value_comes_through_a_shell_unchanged(value: str) -> None:
    assert shlex.split(quote(value)) == [value]


@pytest.mark.parametrize("value", NASTY)
def test_values_come_through_the_transport_unchanged(value: str) -> None:
    assert LocalTransport().run(f"printf '%s' {quote(value)}") == Completed(0, value, "")


@pytest.mark.parametrize("job", ["", "1;reboot", "12a", "1 2", "-1", "١"])
def test_only_numbers_are_jobs(job: str) -> None:
    with pytest.raises(ConfigError, match="job"):
        commands.scancel(Programs(), job)
    with pytest.raises(ConfigError, match="job"):
        commands.sacct(Programs(), (job,))


def test_job_names_are_the_same_again_and_differ_otherwise() -> None:
    assert job_name("d", "r", "t", -1, 1) == job_name("d", "r", "t", -1, 1)
    names = {job_name("d", "r", "t", *p) for p in ((-1, 1), (-1, 2), (0, 1))} | {job_name("dr", "", "t", -1, 1)}
    assert len(names) == 4
    assert all(name.startswith("lstops-") and len(name) == 27 for name in names)


class Stub:
    """Scheduler programs that are shell scripts, to see what the look-up-or-submit script does with their answers."""

    def __init__(self, folder: Path, **programs: str) -> None:
        for name in ("sbatch", "squeue", "sacct", "scancel"):
            (folder / name).write_text(f"#!/bin/sh\necho {name} >> '{folder}/calls'\n{programs.get(name, ':')}\n")
            (folder / name).chmod(0o755)
        self.folder = folder
        self.programs = Programs(*(shlex.quote(str(folder / n)) for n in ("sbatch", "squeue", "sacct", "scancel")))

    def submit(self) -> Completed:
        return LocalTransport().run(commands.submit_or_adopt(self.programs, "lstops-x", self.folder / "x.sh"))

    @property
    def calls(self) -> list[str]:
        return (self.folder / "calls").read_text().split()


def test_one_look_at_everybodys_jobs_passes_on_nothing_but_numbers_of_others(tmp_path: Path) -> None:
    me = LocalTransport().run("id -un").stdout.strip()
    rows = (
        f"{me}|8_[0-3]|PENDING|0:00|30:00|N/A|short|100||lstops-a|Priority",
        "eve|3|PENDING|0:00|30:00|N/A|short,long|200||$(touch pwned) secret|Resources",
        f"eve|4|PENDING|0:00|30:00|N/A|short|100||x|{me}|9|",
        "eve|5_[1-2%1]|PENDING|0:00|1:00|N/A|long|900||x|Resources",
        "eve|6|RUNNING|0:10|1:00|N/A|short|900|n1|x|None",
        f"{me}|9_1|COMPLETED|0:00|30:00|N/A|short|0||lstops-b|a | b",
        "",
    )
    (tmp_path / "rows").write_text("\n".join(rows))
    stub = Stub(tmp_path, squeue=f"cat '{tmp_path}/rows'")
    done = LocalTransport().run(commands.squeue(stub.programs, everybody=True))
    assert done.status == 0
    assert "secret" not in done.stdout
    parsed = parse_squeue(done.stdout)
    assert [row.task.job for row in parsed.rows] == ["8", "9"]
    assert parsed.rows[1].reason == "a | b"
    assert parsed.unreadable == ()
    assert [(other.job, other.partitions, other.priority) for other in parsed.others] == [
        (3, ("short", "long"), 200),
        (4, ("short",), 100),
        (5, ("long",), 900),
    ]
    # 3 has a higher priority and 4 the same and is older; 5 is in another partition
    assert views_of_queue(done.stdout, everybody=True)["8"].ahead == 2
    assert "4 waiting behind jobs of higher priority, 2 jobs before it in partition short" in (
        views_of_queue(done.stdout, everybody=True)["8"].describe()
    )
    broken = Stub(tmp_path, squeue="echo half; exit 1")
    assert LocalTransport().run(commands.squeue(broken.programs, everybody=True)).status == 1


def test_a_queued_job_is_adopted_without_further_questions(tmp_path: Path) -> None:
    stub = Stub(tmp_path, squeue="echo 77; echo 77")
    assert judge_submission(stub.submit(), "x").job == "77"
    assert stub.calls == ["squeue"]


def test_an_ended_job_is_adopted_from_accounting(tmp_path: Path) -> None:
    stub = Stub(tmp_path, sacct="echo '78_0'; echo '78_1'")
    found = judge_submission(stub.submit(), "x")
    assert (found.job, found.adopted) == ("78", True)
    assert "sbatch" not in stub.calls


@pytest.mark.parametrize("broken", ["squeue", "sacct"])
def test_no_look_up_no_submission(tmp_path: Path, broken: str) -> None:
    stub = Stub(tmp_path, sbatch="echo 1", **{broken: "echo 'Unable to contact slurm controller' >&2; exit 1"})
    with pytest.raises(TransportError):
        judge_submission(stub.submit(), "x")
    assert "sbatch" not in stub.calls


def test_a_site_without_accounting_can_submit(tmp_path: Path) -> None:
    stub = Stub(tmp_path, sbatch="echo 5", sacct="echo 'Slurm accounting storage is disabled' >&2; exit 1")
    found = judge_submission(stub.submit(), "x")
    assert (found.job, found.adopted) == ("5", False)


@pytest.mark.parametrize(
    ("said", "error", "remedy"),
    [
        ("sbatch: error: invalid partition specified: x", SubmitError, "partition"),
        ("sbatch: error: Batch job submission failed: Invalid account or account/partition", SubmitError, "account"),
        ("sbatch: error: Memory specification can not be satisfied", SubmitError, "mem_mb"),
        ("sbatch: error: Batch job submission failed: Unable to contact slurm controller", TransportError, ""),
        ("sbatch: error: Batch job submission failed: Socket timed out on send/recv operation", TransportError, ""),
        ("sbatch: error: QOSMaxSubmitJobPerUserLimit", QueueFullError, ""),
        ("sbatch: error: AssocMaxSubmitJobLimit", QueueFullError, ""),
        (
            "sbatch: error: Batch job submission failed: Invalid job array specification",
            ArrayTooLargeError,
            "max_array",
        ),
        ("sbatch: error: something new", SubmitError, "read"),
    ],
)
def test_refusals(tmp_path: Path, said: str, error: type[Exception], remedy: str) -> None:
    stub = Stub(tmp_path, sbatch=f"echo {shlex.quote(said)} >&2; exit 1")
    with pytest.raises(error) as refusal:
        judge_submission(stub.submit(), "x")
    assert remedy in getattr(refusal.value, "remedy", "")


def test_an_sbatch_that_answers_nothing_is_no_submission(tmp_path: Path) -> None:
    with pytest.raises(TransportError, match="no job number"):
        judge_submission(Stub(tmp_path).submit(), "x")


def test_banners_are_left_out_and_cut_answers_noticed() -> None:
    frame = Frame("abc")
    whole = "Welcome\n12345\n\nlstops-begin-abc\nthe answer\n\nlstops-end-abc 3\n"
    assert frame.unwrap(whole, "", "x") == Completed(3, "the answer\n", "")
    for length in range(len(whole)):
        with pytest.raises(TransportError, match="was cut"):
            frame.unwrap(whole[:length], "", "x")


def test_a_silent_program_is_given_up(tmp_path: Path) -> None:
    with pytest.raises(TransportError, match=r"within 0\.3 s"):
        LocalTransport().run("sleep 60", 0.3)


def test_remote_paths_stay_below_the_base(tmp_path: Path) -> None:
    site = Site.model_construct(base=tmp_path)
    assert below_base(site, tmp_path / "a") == tmp_path / "a"
    for path in (Path("/etc/passwd"), tmp_path / ".." / "x", Path("a")):
        with pytest.raises(ConfigError, match="below"):
            below_base(site, path)
