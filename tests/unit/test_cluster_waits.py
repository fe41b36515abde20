"""What earlier submissions waited in the queue."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path

import pytest

from lstops.cluster.records import JobRecord, write_record
from lstops.cluster.waits import QueueWaits, queue_waits
from lstops.site.layout import Layout
from lstops.step.model import Resources
from lstops.step.report import Ending, StepReport, write_report

_SUBMITTED = datetime(2024, 1, 16, 8, 0, tzinfo=timezone.utc).timestamp()
_RESOURCES = Resources(cpus=1, mem_mb=1000, time_min=10)


def _submission(layout: Layout, stage: str, job: str, tasks: tuple[tuple[int, ...], ...]) -> None:
    indices = tuple(index for task in tasks for index in task)
    record = JobRecord(
        name=f"lstops-{stage}-{job}",
        plan_id="plan-1",
        stage=stage,
        indices=indices,
        tasks=tasks,
        tries=dict.fromkeys(indices, 1),
        resources=_RESOURCES,
        job=job,
        submitted=_SUBMITTED,
    )
    write_record(layout, record)


def _begun(layout: Layout, index: int, job: str, after_min: float) -> None:
    started = datetime.fromtimestamp(_SUBMITTED + 60 * after_min, tz=timezone.utc).isoformat(timespec="seconds")
    report = StepReport(
        plan_id="plan-1", index=index, label="", subject="", ending=Ending.DONE, job=job, started=started
    )
    write_report(layout.step_report("plan-1", index), report)


def test_waits_are_medians_of_the_time_to_the_first_step(tmp_path: Path) -> None:
    layout = Layout(tmp_path, "work")
    _submission(layout, "dl2", "11", ((0, 1), (2,)))
    _begun(layout, 0, "11_0", 7)
    _begun(layout, 1, "11_0", 90)  # waited for step 0, not for the queue
    _begun(layout, 2, "11_1", 5)
    _submission(layout, "dl2", "12", ((3,),))
    _begun(layout, 3, "12_0", 9)
    _submission(layout, "train", "13", ((4,),))
    _begun(layout, 4, "13", 60)
    found = queue_waits(layout)
    assert found.by_stage == {"dl2": pytest.approx(7), "train": pytest.approx(60)}
    assert found.of("dl2") == pytest.approx(7)
    assert found.of("never submitted") == found.overall == pytest.approx(9)


def test_what_has_not_begun_or_was_not_submitted_says_nothing(tmp_path: Path) -> None:
    layout = Layout(tmp_path, "work")
    _submission(layout, "dl2", "", ((0,),))
    _submission(layout, "dl2", "12", ((1,),))
    _submission(layout, "dl2", "13", ((2,),))
    _begun(layout, 2, "14_0", 3)  # the report is that of a later job
    assert queue_waits(layout) == QueueWaits({}, None)
    assert queue_waits(layout).of("dl2") is None


def test_a_clock_that_is_behind_gives_no_negative_wait(tmp_path: Path) -> None:
    layout = Layout(tmp_path, "work")
    _submission(layout, "dl2", "11", ((0,),))
    _begun(layout, 0, "11_0", -1)
    assert queue_waits(layout).of("dl2") == 0
