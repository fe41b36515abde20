"""Several steps in one array task: how they are spread, and who is to blame for what."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from cluster.toy import ESCALATION, finish, local_cluster, make_site, one_stage, send, shell, toy_step
from hypothesis import given
from hypothesis import strategies as st

from lstops.cluster.batching import batch_size, make_tasks
from lstops.cluster.client import ClusterClient, open_client
from lstops.cluster.failure import Cause
from lstops.cluster.members import Verdict, classify_task
from lstops.cluster.parsers import parse_sacct
from lstops.cluster.records import JobRecord
from lstops.cluster.rows import AccountingRow
from lstops.cluster.script import index_list
from lstops.cluster.stage import array_size, log_path, prepare
from lstops.cluster.verdict import next_round
from lstops.site.cluster import Cluster
from lstops.site.model import load_site
from lstops.step.model import Resources, Step
from lstops.step.report import Ending, StepReport

from .test_cluster_commands import script_of

pytestmark = pytest.mark.timeout(600)

LONG = {"short": {"max_time_min": 10000, "max_mem_mb": 1000, "max_cpus": 1}}
ASKED = Resources(mem_mb=1000, time_min=30)


def cluster(**more: object) -> Cluster:
    return Cluster.model_validate({"name": "c", "scheduler": "slurm", "array_limit": 2, "partitions": LONG, **more})


def science(count: int, kind: str = "dl1ab") -> list[Step]:
    return [toy_step(i).model_copy(update={"environment": "0.12.3", "kind": kind}) for i in range(count)]


@pytest.mark.parametrize(
    ("settings", "count", "size"),
    [
        ({}, 100, 10),  # the default
        ({"partitions": {}}, 100, 1),  # whose time limit nobody knows
        ({"partitions": {}, "batch": {"default": 10}}, 100, 10),
        ({}, 1, 1),
        ({}, 2, 1),  # both can run at the same time
        ({}, 5, 3),
        ({"array_limit": 100}, 100, 1),
        ({"array_limit": 100}, 1000, 10),
        ({"batch": {"default": 1}}, 100, 1),
        ({"batch": {"dl1ab": 4, "default": 1}}, 100, 4),
        ({"batch": {"irf": 4}}, 100, 10),
        ({"scheduler": "local", "slots": 4, "array_limit": 1, "partitions": {}}, 8, 2),
        # the partition's time is enough for three
        ({"partitions": {"short": {"max_time_min": 100, "max_mem_mb": 1000, "max_cpus": 1}}}, 100, 3),
        ({"partitions": {"short": {"max_time_min": 20, "max_mem_mb": 1000, "max_cpus": 1}}}, 100, 1),
    ],
)
def test_how_many_steps_a_task_takes(settings: dict[str, object], count: int, size: int) -> None:
    asked = ASKED.model_copy(update={"partition": "short"})
    assert batch_size(cluster(**settings), science(count), asked) == size


def test_steps_without_lstchain_share_a_task_only_on_request() -> None:
    steps = [toy_step(i) for i in range(20)]
    assert batch_size(cluster(), steps, ASKED) == 1
    assert batch_size(cluster(batch={"default": 5}), steps, ASKED) == 1
    assert batch_size(cluster(batch={"copy": 5}), steps, ASKED) == 5
    assert batch_size(cluster(), [*steps, *science(20)], ASKED.model_copy(update={"partition": "short"})) == 1


@given(
    st.lists(st.integers(0, 500), unique=True, min_size=1), st.sets(st.integers(0, 500)), st.integers(1, 20),
    st.integers(1, 50),
)  # fmt: skip
def test_every_step_has_one_task_and_a_tried_one_its_own(
    indices: list[int], tried: set[int], size: int, most: int
) -> None:
    indices.sort()
    tasks = make_tasks(indices, dict.fromkeys(tried, 2), size, len(indices))
    assert sorted(index for task in tasks for index in task) == indices
    assert all(0 < len(task) <= size for task in tasks)
    assert all(len(task) == 1 for task in tasks if tried & set(task))
    assert make_tasks(indices, dict.fromkeys(tried, 2), size, most) == tasks[:most]


@pytest.mark.parametrize(("position", "words"), [("0", ["4", "5", "6"]), ("1", ["17"]), ("2", None)])
def test_the_script_runs_all_steps_of_its_position(tmp_path: Path, position: str, words: list[str] | None) -> None:
    (tmp_path / "lstops").write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    (tmp_path / "lstops").chmod(0o755)
    (tmp_path / "activate").write_text(f"PATH={tmp_path}:$PATH\n")
    (tmp_path / "x.indices").write_text(f"{index_list(((4, 5, 6), (17,)))}8 $(id)\n")
    (tmp_path / "job.sh").write_text(script_of(tmp_path))
    env = {"PATH": "/usr/bin:/bin", "SLURM_ARRAY_TASK_ID": position}
    done = subprocess.run(["bash", tmp_path / "job.sh"], capture_output=True, text=True, env=env, check=False)
    if words is None:
        assert (done.returncode, "no step index at position 2" in done.stderr) == (78, True)
        return
    expected = [word for index in words for word in ("--index", index)]
    assert done.stdout.splitlines() == ["step", "run", str(tmp_path / "plan.json"), *expected], done.stderr


def row(state: str, code: str = "0:0", rss: str = "", step: str = "") -> AccountingRow:
    name = f"9_0.{step}" if step else "9_0"
    return parse_sacct(f"{name}|n|{state}|{code}|00:01:00|00:30:00|{rss}|1000M|00:30|n1|x").rows[0]


def report(error: str = "", **more: object) -> StepReport:
    values: dict[str, object] = {"plan_id": "p", "index": 0, "label": "l", "subject": "s", "what": error, **more}
    return StepReport.model_validate({"ending": Ending.FAILED if error else Ending.DONE, "error": error, **values})


def causes(
    state: str, code: str, reports: dict[int, StepReport], rss: str = "", count: int = 4
) -> list[tuple[str, bool]]:
    """Cause (or "done") and blamelessness of each step of a task."""
    found = classify_task(range(count), reports, row(state, code), row(state, code, rss, "batch"), ASKED)
    assert list(found) == list(range(count))
    return [(v.failure.cause.value if v.failure else "done", v.blameless) for v in found.values()]


DONE, NO = report(), False


@pytest.mark.parametrize(
    ("state", "code", "reports", "expected"),
    [
        ("COMPLETED", "0:0", dict.fromkeys(range(4), DONE), ["done"] * 4),
        # one failed by itself: the others are done, and it is not tried again
        ("FAILED", "70:0", {0: DONE, 1: report("JobFailure"), 2: DONE, 3: DONE}, ["done", "permanent", "done", "done"]),
        ("FAILED", "73:0", {0: DONE, 1: report("StorageError"), 2: report("DataError"), 3: DONE},
         ["done", "infrastructure", "permanent", "done"]),
        # SLURM's state of a task one of whose processes was killed for its memory, and which went on
        ("OUT_OF_MEMORY", "0:125", {0: DONE, 1: report("JobFailure", signal=9), 2: DONE, 3: report("DataError")},
         ["done", "memory", "done", "permanent"]),
        ("OUT_OF_MEMORY", "0:125", {0: DONE, 1: report("JobFailure"), 2: DONE, 3: DONE},
         ["done", "memory", "done", "done"]),
        # killed without such a state: the step's own peak tells, not the task's
        ("FAILED", "70:0", {0: DONE, 1: report("JobFailure", signal=9, max_rss_mb=950), 2: DONE,
                            3: report("JobFailure", signal=9, max_rss_mb=90)}, ["done", "memory", "done", "permanent"]),
        ("FAILED", "70:0", {0: DONE, 1: report("StepKilled", signal=9), 2: DONE, 3: DONE},
         ["done", "memory", "done", "done"]),
        # the worker ended by itself before it began
        ("FAILED", "78:0", {}, ["permanent"] * 4),
        ("NODE_FAIL", "0:0", {0: DONE}, ["done", *["infrastructure"] * 3]),
        ("CANCELLED by 1001", "0:15", {0: DONE, 1: report("TerminatedError")}, ["done", *["cancelled"] * 3]),
    ],
)  # fmt: skip
def test_each_step_is_judged_by_itself(
    state: str, code: str, reports: dict[int, StepReport], expected: list[str]
) -> None:
    assert causes(state, code, reports) == [(cause, False) for cause in expected]


@pytest.mark.parametrize(
    ("state", "code", "cause"),
    [("OUT_OF_MEMORY", "0:125", "memory"), ("FAILED", "0:9", "memory"), ("TIMEOUT", "0:15", "time")],
)
def test_the_step_that_ended_the_task_is_blamed_and_those_after_it_are_not(state: str, code: str, cause: str) -> None:
    expected = [("done", False), (cause, False), (cause, True), (cause, True)]
    assert causes(state, code, {0: DONE}) == expected


def test_a_step_that_was_asked_to_end_is_judged_by_its_task() -> None:
    for asked in (report("TerminatedError"), report("JobFailure", signal=15)):
        found = causes("TIMEOUT", "0:15", {0: DONE, 1: asked})
        assert found == [("done", False), ("time", False), *[("time", True)] * 2]
        # the state does not say who asked: once more
        assert causes("FAILED", "1:0", {0: DONE, 1: asked}, count=2) == [("done", False), ("infrastructure", False)]
        alone = classify_task((1,), {1: asked}, row("FAILED", "1:0"), None, ASKED)[1]
        assert alone.failure is not None
        assert (alone.failure.cause, alone.failure.node) == (Cause.INFRASTRUCTURE, "")


def test_a_step_alone_is_judged_by_its_task() -> None:
    good, bad = row("COMPLETED"), row("FAILED", "1:0")
    assert classify_task((5,), {5: DONE}, good, good, ASKED) == {5: Verdict(None)}
    verdict = classify_task((5,), {5: DONE}, bad, bad, ASKED)[5]
    assert verdict.failure is not None
    killed = classify_task((5,), {5: report("StepKilled", signal=9)}, row("FAILED", "70:0"), None, ASKED)[5]
    assert killed.failure is not None
    assert killed.failure.cause is Cause.MEMORY


def test_a_record_of_earlier_times_has_one_step_a_task() -> None:
    old = JobRecord(
        name="n", plan_id="p", stage="s", indices=(3, 5), tries={3: 1, 5: 1}, resources=ASKED, submitted=1.0
    )
    assert old.groups == ((3,), (5,))
    assert (old.position(5), old.task_time_min) == (1, 30)
    new = old.model_copy(update={"tasks": ((3, 5),)})
    assert JobRecord.model_validate_json(new.model_dump_json()) == new
    assert (new.position(5), new.task_time_min) == (0, 60)


@pytest.fixture
def site_file(tmp_path: Path) -> Path:
    return make_site(tmp_path, local_cluster(batch={"copy": 3}))


@pytest.fixture
def client(site_file: Path) -> Iterator[ClusterClient]:
    client = open_client(load_site(site_file))
    yield client
    client.close()


def test_a_task_that_dies_keeps_what_is_done_and_repeats_the_rest(
    site_file: Path, client: ClusterClient, tmp_path: Path
) -> None:
    """Two tasks of three steps: in the first a step fails, in the second one ends everything."""
    flag = tmp_path / "flag"
    # the session of the task: its worker goes too, as when the kernel chooses it
    die = shell(
        f'if [ -e "{flag}" ]; then $COPY; else touch "{flag}"; kill -9 $(ps -o sess= -p $(ps -o ppid= -p $PPID)); fi'
    )
    steps = [toy_step(0), toy_step(1, shell("exit 4")), toy_step(2), toy_step(3), toy_step(4, die), toy_step(5)]
    context = one_stage(site_file, steps)
    assert array_size(context, range(6)) == 2
    first = send(context, client, "lstops-a")
    assert first.groups == ((0, 1, 2), (3, 4, 5))
    assert first.task_time_min == 15
    verdict = finish(context, client, first)
    assert verdict.done == (0, 2, 3)
    assert [trouble.index for trouble in verdict.beyond_help] == [1]
    assert "exit status 4" in verdict.beyond_help[0].what
    assert verdict.beyond_help[0].log == str(log_path(context.layout, first, 1))
    assert [(retry.index, retry.why.cause, retry.blameless) for retry in verdict.retries] == [
        (4, Cause.MEMORY, False),
        (5, Cause.MEMORY, True),
    ]
    resources, tries, exclude = next_round(first, verdict.retries)
    assert (resources.mem_mb, tries) == (1200, {4: 2, 5: 1})
    record = prepare(context, "lstops-b", (4, 5), resources, tries, exclude)
    assert record.groups == ((4,), (5,))
    assert finish(context, client, send(context, client, "lstops-b", record)).done == (4, 5)
    assert ESCALATION.rise("copy").memory_factor == 4
