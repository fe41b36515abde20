"""What is concluded from states, memory, reports and looks at the queue; and how much more a step gets."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lstops.cluster.client import AsyncClusterClient
from lstops.cluster.commands import Programs
from lstops.cluster.efficiency import efficiency
from lstops.cluster.failure import Cause, Failure, classify
from lstops.cluster.orphans import find_orphans
from lstops.cluster.parsers import parse_named, parse_sacct
from lstops.cluster.poller import Ending, JobWatcher, Snapshot, Watchlist, interval, snapshots
from lstops.cluster.queue import JobView
from lstops.cluster.records import JobRecord, Owner
from lstops.cluster.resources import Escalation, Rise, combine, escalate, load_escalation
from lstops.cluster.rows import AccountingRow
from lstops.cluster.states import KNOWN_STATES
from lstops.cluster.transport import Completed
from lstops.cluster.verdict import settled
from lstops.errors import ConfigError, TransportError
from lstops.site.cluster import Partition
from lstops.step.model import Resources
from lstops.step.report import Ending as StepEnding
from lstops.step.report import StepReport

ASKED = Resources(cpus=1, mem_mb=1000, time_min=30)


def row(state: str, code: str = "0:0", rss: str = "", step: str = "") -> AccountingRow:
    job = f"9_0.{step}" if step else "9_0"
    return parse_sacct(f"{job}|n|{state}|{code}|00:01:00|00:30:00|{rss}|1000M|00:30|n1|2026-11-22T00:00:00").rows[0]


def report(error: str) -> StepReport:
    return StepReport(
        plan_id="p", index=0, label="DL2", subject="run 1", ending=StepEnding.FAILED, error=error, what="w", remedy="r"
    )


@pytest.mark.parametrize(
    ("state", "code", "rss", "cause"),
    [
        ("NODE_FAIL", "0:0", "100M", Cause.INFRASTRUCTURE),
        ("NODE_FAIL", "0:0", "990M", Cause.MEMORY),
        ("PREEMPTED", "0:0", "", Cause.INFRASTRUCTURE),
        ("OUT_OF_MEMORY", "0:125", "", Cause.MEMORY),
        ("TIMEOUT", "0:15", "", Cause.TIME),
        ("CANCELLED by 1001", "0:15", "", Cause.CANCELLED),
        ("FAILED", "0:9", "", Cause.MEMORY),
        ("FAILED", "137:0", "", Cause.MEMORY),
        ("FAILED", "1:0", "", Cause.PERMANENT),
        ("COMPLETED", "1:0", "", Cause.UNKNOWN),
        ("SOMETHING_NEW", "0:0", "", Cause.UNKNOWN),
        ("RUNNING", "0:0", "", Cause.INFRASTRUCTURE),
        ("PENDING", "0:0", "", Cause.INFRASTRUCTURE),
    ],
)
def test_causes(state: str, code: str, rss: str, cause: Cause) -> None:
    failure = classify(row(state, code), row(state, code, rss, "batch"), None, ASKED)
    assert failure is not None
    assert failure.cause is cause
    assert failure.what
    assert failure.remedy


def test_success_needs_both_rows() -> None:
    good = row("COMPLETED")
    assert classify(good, row("COMPLETED", step="batch"), None, ASKED) is None
    assert classify(good, None, None, ASKED) is None
    assert classify(good, row("CANCELLED", "", step="batch"), None, ASKED) is not None


def test_an_end_that_the_accounting_was_never_told_of_is_no_success_and_nobodys_fault() -> None:
    """Seen after slurmdbd was down: COMPLETED for the job, RUNNING with 0:0 for its batch step."""
    verdict = classify(row("COMPLETED"), row("RUNNING", "0:0", step="batch"), None, ASKED)
    assert verdict is not None
    assert verdict.cause is Cause.INFRASTRUCTURE
    assert not settled(record(), [row("COMPLETED"), row("RUNNING", step="batch")])
    assert not settled(record(), [row("COMPLETED"), row("CANCELLED", "", step="batch")])
    assert settled(record(), [row("COMPLETED"), row("COMPLETED", step="batch")])
    assert settled(record(), [row("NODE_FAIL"), row("RUNNING", step="batch")])


def test_nobody_blames_a_node_for_a_preemption() -> None:
    away = classify(row("PREEMPTED"), None, None, ASKED)
    broken = classify(row("NODE_FAIL"), None, None, ASKED)
    assert away is not None
    assert broken is not None
    assert (away.node, broken.node) == ("", "n1")


@given(st.sampled_from([*KNOWN_STATES, "NEW", ""]), st.integers(0, 255), st.integers(0, 64))
def test_nothing_else_is_success(state: str, code: int, signal: int) -> None:
    rows = parse_sacct(f"9_0|n|{state}|{code}:{signal}|00:01:00|00:30:00||1000M|00:30|n1|x").rows
    verdict = classify(rows[0] if rows else None, None, None, ASKED)
    assert (verdict is None) == (state == "COMPLETED" and code == 0 and signal == 0)


def test_what_a_step_reports_counts_more_than_its_exit_code() -> None:
    data = classify(row("FAILED", "65:0"), None, report("DataError"), ASKED)
    disk = classify(row("FAILED", "73:0"), None, report("StorageError"), ASKED)
    assert data is not None
    assert (data.cause, data.what, data.remedy) == (Cause.PERMANENT, "w", "r")
    assert disk is not None
    assert disk.cause is Cause.INFRASTRUCTURE


def test_a_job_that_the_scheduler_forgot_is_run_again() -> None:
    lost = classify(None, None, None, ASKED)
    assert lost is not None
    assert lost.cause is Cause.INFRASTRUCTURE


def failure(cause: Cause, peak: float | None = None) -> Failure:
    return Failure(cause, "w", "r", peak_mb=peak)


def test_escalation_and_its_ceilings() -> None:
    rise = Rise(memory_factor=2, memory_ceiling_mb=3000, time_factor=2, time_ceiling_min=100)
    more = escalate(ASKED, failure(Cause.MEMORY), rise, None)
    assert more == Resources(mem_mb=2000, time_min=30)
    assert more is not None
    last = escalate(more, failure(Cause.MEMORY), rise, None)
    assert last == Resources(mem_mb=3000, time_min=30)
    assert last is not None
    assert escalate(last, failure(Cause.MEMORY), rise, None) is None
    assert escalate(ASKED, failure(Cause.MEMORY, peak=2300.0), rise, None) == Resources(mem_mb=2760, time_min=30)
    limits = Partition(max_time_min=45, max_mem_mb=1500, max_cpus=4)
    assert escalate(ASKED, failure(Cause.MEMORY), rise, limits) == Resources(mem_mb=1500, time_min=30)
    assert escalate(ASKED, failure(Cause.TIME), rise, limits) == Resources(mem_mb=1000, time_min=45)
    assert escalate(ASKED, failure(Cause.INFRASTRUCTURE), rise, limits) == ASKED


def test_the_table_that_comes_with_lstops(tmp_path: Path) -> None:
    table = load_escalation()
    assert table.rise("train").memory_ceiling_mb > table.rise("dl2").memory_ceiling_mb
    bad = tmp_path / "escalation.yaml"
    bad.write_text("default: {memory_factor: 0.5, color: red}\n")
    with pytest.raises(ConfigError, match=r"memory_factor.*color"):
        load_escalation(bad)
    with pytest.raises(ConfigError, match="cannot read"):
        load_escalation(tmp_path / "none.yaml")
    assert Escalation().rise("any").memory_factor > 1


def test_an_array_gets_what_its_hungriest_steps_need() -> None:
    small, large = Resources(mem_mb=10, time_min=90, partition="a"), Resources(cpus=3, mem_mb=99, partition="a")
    assert combine([small, large]) == Resources(cpus=3, mem_mb=99, time_min=90, partition="a")
    assert combine([small, large.model_copy(update={"partition": "b"})]).partition is None


RUNNING = JobView("7", {"RUNNING": 1}, elapsed_s=5, limit_s=60)
WAITING = JobView("7", {"PENDING": 2}, reasons=("Resources",))
STUCK = JobView("7", {"PENDING": 2}, reasons=("PartitionConfig",))
ENDED = JobView("7", {"COMPLETED": 2, "FAILED": 1})


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def watcher(said: list[str]) -> JobWatcher:
    return JobWatcher("7", 1000.0, said.append)


def test_a_job_is_followed_to_its_end(watcher: JobWatcher, said: list[str]) -> None:
    assert watcher.observe(Snapshot(0, {"7": WAITING}, {})) is None
    assert watcher.observe(Snapshot(1, {"7": RUNNING}, {})) is None
    assert watcher.observe(Snapshot(2, {"7": RUNNING}, {})) is None
    end = watcher.observe(Snapshot(3, {"7": ENDED}, {}))
    assert end is not None
    assert end.ending is Ending.ENDED
    assert said == [
        "job 7: 2 waiting for free CPUs or memory",
        "job 7: 1 running, longest 0:00:05 of 0:01:00",
        "job 7: 2 completed, 1 failed",
    ]


def test_a_job_that_left_the_queue_is_looked_up(watcher: JobWatcher) -> None:
    end = watcher.observe(Snapshot(0, {}, {"7": ENDED}))
    assert end is not None
    assert end.ending is Ending.ENDED


def test_no_answer_is_no_end(watcher: JobWatcher) -> None:
    for second in range(0, 900, 10):
        assert watcher.observe(Snapshot(second, error="slurmctld is down")) is None
        assert watcher.observe(Snapshot(second + 5, {}, None)) is None


def test_a_job_known_to_nobody_is_lost_after_a_while_only(watcher: JobWatcher) -> None:
    seconds = [second for second in range(0, 300, 20) if watcher.observe(Snapshot(second, {}, {}))]
    assert seconds[0] > 120


def test_a_job_that_shows_up_again_is_not_lost(watcher: JobWatcher) -> None:
    for second in range(0, 900, 100):
        assert watcher.observe(Snapshot(second, {}, {})) is None
        assert watcher.observe(Snapshot(second + 50, {"7": RUNNING}, {})) is None


def test_accounting_that_lags_is_waited_for_but_not_for_ever(watcher: JobWatcher) -> None:
    watcher.deadline = float("inf")
    endings = [watcher.observe(Snapshot(second, {}, {"7": RUNNING})) for second in range(0, 601, 100)]
    assert endings[:-1] == [None] * 6
    assert endings[-1] is None
    late = watcher.observe(Snapshot(601, {}, {"7": RUNNING}))
    assert late is not None
    assert late.ending is Ending.LOST


def test_a_job_that_can_never_start(watcher: JobWatcher) -> None:
    assert watcher.observe(Snapshot(0, {"7": STUCK}, {})) is None
    assert watcher.observe(Snapshot(20, {"7": WAITING}, {})) is None
    assert watcher.observe(Snapshot(40, {"7": STUCK}, {})) is None
    end = watcher.observe(Snapshot(80, {"7": STUCK}, {}))
    assert end is not None
    assert end.ending is Ending.HOPELESS
    assert "mem_mb" in end.why


def test_the_deadline_comes_even_if_nothing_can_be_seen(watcher: JobWatcher) -> None:
    assert watcher.observe(Snapshot(999, error="down")) is None
    end = watcher.observe(Snapshot(1001, error="down"))
    assert end is not None
    assert end.ending is Ending.DEADLINE


@given(st.floats(0, 10**7), st.floats(0.1, 100))
def test_intervals_are_bounded(age_s: float, shortest_s: float) -> None:
    assert shortest_s <= interval(age_s, shortest_s) <= max(60.0, shortest_s)


class Scripted:
    """A transport with prepared answers that counts what it is asked."""

    where = "x"

    def __init__(self, answers: Iterator[str | None]) -> None:
        self.answers, self.asked, self.closed = answers, [], 0

    asked: list[str]

    async def run(self, script: str, timeout_s: float = 60.0) -> Completed:
        self.asked.append("sacct" if "sacct" in script else "squeue")
        answer = next(self.answers)
        if answer is None:
            raise TransportError("cut")
        return Completed(0, answer, "")

    async def close(self) -> None:
        self.closed += 1


async def test_any_number_of_jobs_costs_one_squeue_and_one_sacct_a_look() -> None:
    queue = "".join(f"{n}_0|RUNNING|0:01|1:00|x|p|1|n1|lstops-x|None\n" for n in range(400))
    gone = "".join(f"{n}_0|n|COMPLETED|0:0|00:01:00|00:30:00||1M|00:30|n1|x\n" for n in range(400, 500))
    transport = Scripted(iter([queue, gone, None, queue, gone]))
    watch = Watchlist()
    stream = snapshots(lambda: AsyncClusterClient(transport, Programs()), watch, 0.01)
    tasks = contextlib.ExitStack()
    for number in range(500):
        tasks.enter_context(watch.watching(str(number), time.monotonic()))
    first = await anext(stream)
    assert transport.asked == ["squeue", "sacct"]
    assert len(first.queue) == 400
    assert first.accounting is not None
    assert len(first.accounting) == 100
    broken = await anext(stream)
    assert "cut" in broken.error
    assert (await anext(stream)).error == ""
    assert transport.asked == ["squeue", "sacct", "squeue", "squeue", "sacct"]
    await stream.aclose()  # type: ignore[attr-defined]
    assert transport.closed == 1
    tasks.close()
    assert watch.jobs == ()


async def test_a_new_job_shortens_a_long_interval() -> None:
    watch = Watchlist()
    transport = Scripted(iter([""] * 4))
    stream = snapshots(lambda: AsyncClusterClient(transport, Programs()), watch, 0.05)
    with watch.watching("1", -(10.0**6)):
        await anext(stream)
        second = asyncio.ensure_future(anext(stream))
        await asyncio.sleep(0.2)
        assert not second.done()
        with watch.watching("2", 0.0):
            await asyncio.wait_for(second, 2.0)
    assert watch.jobs == ()


def record(**changes: object) -> JobRecord:
    values: dict[str, object] = {"name": "lstops-a", "plan_id": "p", "stage": "s", "indices": (0,), "tries": {0: 1}}
    values |= {"resources": ASKED, "job": "9", "submitted": 0.0, **changes}
    return JobRecord.model_validate(values)


def test_orphans_are_ours_and_over() -> None:
    tag = "lstops here/1234abcd"
    jobs = parse_named(
        f"9|RUNNING|lstops-a|{tag} dag task stage\n9|PENDING|lstops-a|{tag} dag task stage\n"
        "8|RUNNING|lstops-other|lstops here/1234abcde dag task stage\n"
        "7|RUNNING|lstosa|whatever | with\nmany lines|9\n6|RUNNING|lstosa2|lstops here/1234abcd not by name\n"
    )
    assert [job.job for job in jobs] == ["9", "9", "8", "7", "6"]
    assert find_orphans(jobs, [record()], tag) == ()
    assert [o.job for o in find_orphans(jobs, [record(ending="1 of 1 done")], tag)] == ["9"]
    assert [o.job for o in find_orphans(jobs, [record(job="5")], tag)] == ["9"]
    # no record: whose it is, its comment says
    assert [(o.job, o.why) for o in find_orphans(jobs, [], tag)] == [("9", "this site has no record of it")]
    assert find_orphans(jobs, [], "lstops elsewhere/1234abcd") == ()


def test_a_job_whose_task_is_gone_is_an_orphan() -> None:
    jobs = parse_named("9|RUNNING|lstops-a|lstops x/1 dag task stage")
    mine = record(owner=Owner(dag_id="d", run_id="r", task_id="t"))
    asked: list[Owner] = []

    def gone(owner: Owner) -> str | None:
        asked.append(owner)
        return "its run was deleted"

    assert [o.why for o in find_orphans(jobs, [mine], "lstops x/1", gone)] == ["its run was deleted"]
    assert asked == [mine.owner]
    assert find_orphans(jobs, [mine], "lstops x/1", lambda owner: None) == ()
    assert find_orphans(jobs, [record()], "lstops x/1", gone) == ()


def test_efficiency() -> None:
    used = efficiency(record(), [row("COMPLETED"), row("COMPLETED", "0:0", "500M", "batch")])
    assert (used.tasks, used.cpu, used.memory) == (1, 0.5, 0.5)
    assert used.time == pytest.approx(60 / 1800)
