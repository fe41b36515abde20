"""States and text of SLURM: what was captured, what can be cut, and anything at all."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lstops.cluster.parsers import (
    format_positions,
    parse_clock,
    parse_mb,
    parse_named,
    parse_positions,
    parse_sacct,
    parse_scontrol,
    parse_squeue,
    parse_submitted,
    parse_task_id,
)
from lstops.cluster.queue import views_of_accounting, views_of_queue
from lstops.cluster.rows import TaskId
from lstops.cluster.states import (
    KNOWN_STATES,
    StateClass,
    base_state,
    cancelled_by,
    classify_state,
    describe_reason,
    hopeless_reason,
)
from lstops.errors import TransportError

SQUEUE = """\
123_[5-9%2]|PENDING|0:00|30:00|2026-11-23T00:00:01|short|400||lstops-aa|JobArrayTaskLimit
123_3|RUNNING|1-02:03:04|2-00:00:00|2026-11-21T23:59:59|short|400|n1|lstops-aa|None
123_4|COMPLETED|0:07|30:00|2026-11-22T00:00:00|short|400|n2|lstops-aa|None
77|PENDING|0:00|UNLIMITED|N/A|short,long|300||any job|Nodes required for job are DOWN, DRAINED or reserved | really
"""
SACCT = """\
123_4|lstops-aa|COMPLETED|0:0|00:00:07|00:30:00||2000M|00:05.123|n2|2026-11-22T00:00:00
123_4.batch|batch|COMPLETED|0:0|00:00:07||812K||00:05.123|n2|2026-11-22T00:00:00
123_5|lstops-aa|CANCELLED by 1001|0:15|00:00:00|00:30:00||2000M|00:00:00|None assigned|2026-11-22T00:00:00
123_6|lstops-aa|OUT_OF_MEMORY|0:125|00:01:07|00:30:00||2000M|00:00:03|n1|2026-11-22T00:00:00
123_[7-9%2]|lstops-aa|PENDING|0:0|00:00:00|00:30:00||2000M|00:00:00|None assigned|2026-11-22T00:00:00
"""


def test_every_state_of_the_table_has_a_class_and_success_is_one_only() -> None:
    assert [state for state in KNOWN_STATES if classify_state(state) is StateClass.COMPLETED] == ["COMPLETED"]
    assert all(classify_state(state) is not StateClass.UNKNOWN for state in KNOWN_STATES)


@given(st.text())
def test_an_unknown_state_is_never_success_nor_active(text: str) -> None:
    if base_state(text) not in KNOWN_STATES:
        assert classify_state(text) is StateClass.UNKNOWN
        assert not classify_state(text).active


def test_cancelled_by_is_cancelled() -> None:
    assert classify_state("CANCELLED by 1001") is StateClass.CANCELLED
    assert classify_state("CANCELLED+") is StateClass.CANCELLED
    assert cancelled_by("CANCELLED by 1001") == 1001
    assert cancelled_by("CANCELLED") is None


def test_reasons() -> None:
    assert hopeless_reason("(PartitionConfig)")
    assert hopeless_reason("Resources") is None
    assert describe_reason("Resources") == "for free CPUs or memory"
    assert "AssocGrpCpuLimit" in describe_reason("AssocGrpCpuLimit")
    assert describe_reason("SomethingNew") == "for: SomethingNew"


def test_squeue_rows() -> None:
    rows = parse_squeue(SQUEUE).rows
    assert rows[0].task == TaskId("123", (5, 6, 7, 8, 9), array=True)
    assert rows[1].elapsed_s == ((26 * 60) + 3) * 60 + 4
    assert rows[3].limit_s is None
    assert rows[3].reason.endswith("| really")
    assert [row.state_class for row in rows[:3]] == [StateClass.WAITING, StateClass.RUNNING, StateClass.COMPLETED]


def test_sacct_rows() -> None:
    parsed = parse_sacct(SACCT)
    assert parsed.unreadable == ()
    by_task = {(row.task.positions, row.task.step): row for row in parsed.rows}
    assert by_task[(4,), ""].succeeded
    assert by_task[(4,), "batch"].max_rss_mb == pytest.approx(812 / 1024)
    assert by_task[(4,), ""].cpu_s == pytest.approx(5.123)
    assert by_task[(5,), ""].cancelled_by == 1001
    assert by_task[(6,), ""].signal == 125
    assert by_task[(7, 8, 9), ""].state_class is StateClass.WAITING


@pytest.mark.parametrize("cut", range(1, len(SQUEUE.splitlines()[1])))
def test_a_cut_line_is_reported_or_still_says_the_same_state(cut: int) -> None:
    line = SQUEUE.splitlines()[1]
    parsed = parse_squeue(line[:cut])
    if parsed.rows:
        # only the reason, the last field, may be shorter
        assert parsed.rows[0].state == "RUNNING"
        assert parsed.rows[0].task.positions == (3,)
    else:
        assert parsed.unreadable == (line[:cut],)


def test_nothing_is_concluded_from_damaged_answers() -> None:
    with pytest.raises(TransportError, match="no row"):
        views_of_queue(SQUEUE + "123_")
    with pytest.raises(TransportError, match="no row"):
        views_of_accounting("slurm_load: error\n" + SACCT)


def test_empty_answers() -> None:
    assert views_of_queue("\n") == {}
    assert parse_sacct("").rows == ()
    assert parse_submitted("") is None


def test_views_count_by_state_and_speak() -> None:
    view = views_of_queue(SQUEUE)["123"]
    assert view.counts == {"PENDING": 5, "RUNNING": 1, "COMPLETED": 1}
    assert view.active
    assert "5 waiting for other steps of this stage" in view.describe()
    assert "expected to start 2026-11-23T00:00:01" in view.describe()
    ended = views_of_accounting("\n".join(SACCT.splitlines()[:4]))["123"]
    assert not ended.active


@given(
    st.lists(
        st.tuples(st.booleans(), st.sets(st.sampled_from("ab"), min_size=1), st.integers(0, 5)), min_size=1, max_size=30
    )
)
def test_places_in_the_queue(jobs: list[tuple[bool, set[str], int]]) -> None:
    """Ours and others' together stand in one row, by priority and then by age, in each partition."""
    lines = []
    for number, (ours, where, priority) in enumerate(jobs):
        partitions = ",".join(sorted(where))
        mine = f"{number}|PENDING|0:00|1:00|N/A|{partitions}|{priority}||lstops-a|Priority"
        lines.append(mine if ours else f"+|{number}|{partitions}|{priority}")
    views = views_of_queue("\n".join(lines), everybody=True)
    order = sorted(range(len(jobs)), key=lambda number: (-jobs[number][2], number))
    for place, number in enumerate(order):
        ours, where, _ = jobs[number]
        if ours:
            assert views[str(number)].ahead == sum(bool(where & jobs[before][1]) for before in order[:place])


def test_without_others_no_place_is_known() -> None:
    assert views_of_queue(SQUEUE)["77"].ahead is None


@given(st.text())
def test_any_text_has_named_jobs_or_none(text: str) -> None:
    for job in parse_named(text):
        assert job.job.isdecimal()
        assert "|" not in job.state + job.name


@pytest.mark.parametrize(
    ("text", "job"),
    [("123\n", "123"), ("123;cluster\n", "123"), ("Welcome 99\n55\n", "55"), ("no\n", None), ("12 34", None)],
)
def test_sbatch_answers(text: str, job: str | None) -> None:
    assert parse_submitted(text) == job


@pytest.mark.parametrize(
    ("text", "positions", "cut"),
    [
        ("5-9%2", (5, 6, 7, 8, 9), False),
        ("1,3,7-9", (1, 3, 7, 8, 9), False),
        ("0-6:2", (0, 2, 4, 6), False),
        ("1-3,5,...", (1, 2, 3, 5), True),
    ],
)
def test_positions(text: str, positions: tuple[int, ...], cut: bool) -> None:
    assert parse_positions(text) == (positions, cut)


@pytest.mark.parametrize("text", ["", "a", "3-1", "1-99999999999", "1%x", "1--2", "-1"])
def test_no_positions(text: str) -> None:
    with pytest.raises(ValueError, match="array"):
        parse_positions(text)


@given(st.sets(st.integers(0, 5000), min_size=1, max_size=60), st.integers(0, 3))
def test_positions_there_and_back(positions: set[int], limit: int) -> None:
    text = format_positions(tuple(positions)) + (f"%{limit}" if limit else "")
    assert parse_positions(text) == (tuple(sorted(positions)), False)
    assert parse_task_id(f"7_[{text}]").positions == tuple(sorted(positions))


@given(st.text())
def test_any_text_is_rows_or_unreadable_lines(text: str) -> None:
    for parsed in (parse_squeue(text), parse_sacct(text)):
        others = len(getattr(parsed, "others", ()))
        lines = sum(bool(line.strip()) for line in text.splitlines())
        assert len(parsed.rows) + len(parsed.unreadable) + others == lines
    parse_scontrol(text)
    parse_submitted(text)
    parse_mb(text)
    parse_clock(text)


@given(
    st.integers(1, 10**6),
    st.sampled_from(KNOWN_STATES),
    st.integers(0, 255),
    st.integers(0, 126),
    st.integers(0, 10**6),
)
def test_sacct_there_and_back(job: int, state: str, code: int, signal: int, rss: int) -> None:
    row = parse_sacct(f"{job}_3|n|{state}|{code}:{signal}|1-00:00:01|UNLIMITED|{rss}K|2G|00:00|n1|2026-11-22").rows[0]
    assert (row.task.job, row.state, row.exit_code, row.signal) == (str(job), state, code, signal)
    assert (row.elapsed_s, row.limit_s, row.req_mem_mb) == (86401, None, 2048)
    assert row.succeeded == (state == "COMPLETED" and code == 0 and signal == 0)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("23:59:59", 86399), ("00:00:00", 0), ("1-00:00:00", 86400), ("0:07", 7), ("UNLIMITED", None), ("INVALID", None)],
)
def test_clocks_around_midnight(text: str, seconds: int | None) -> None:
    assert parse_clock(text) == seconds


def test_scontrol_text() -> None:
    text = (
        "JobId=9 JobName=a b c\n   UserId=root(0) GroupId=root(0) MCS_label=N/A\n"
        "   JobState=PENDING Reason=Resources Dependency=(null)\n   StdOut=/a path/x=1.log\n   Power=\n\n\nJobId=10"
    )
    found = parse_scontrol(text)
    assert found["JobId"] == "9"
    assert found["JobName"] == "a b c"
    assert found["Reason"] == "Resources"
    assert found["StdOut"].startswith("/a path/")
