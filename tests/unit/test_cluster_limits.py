"""How much of the queue lstops takes, and when others go first."""

from __future__ import annotations

from datetime import datetime, time, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from lstops.cluster.limits import Load, admit, after_refusal, limited, load_of, within
from lstops.cluster.queue import JobView
from lstops.site.cluster import Cluster, Hours, Partition, QueueLimits, SchedulerKind

NOON = datetime(2026, 11, 22, 12, tzinfo=timezone.utc)
DAY = Hours(start=time(8), until=time(18))
NIGHT = Hours(start=time(18), until=time(8))


def cluster(partition: dict[str, int] | None = None, nice: int = 0, **queue: object) -> Cluster:
    limits = Partition(max_time_min=60, max_mem_mb=8000, max_cpus=4, **(partition or {}))
    return Cluster(
        name="c",
        scheduler=SchedulerKind.SLURM,
        partitions={"short": limits},
        nice=nice,
        queue=QueueLimits.model_validate(queue),
    )


def job(number: int, waiting: int = 0, running: int = 0, name: str = "lstops-a", partition: str = "short") -> JobView:
    return JobView(
        str(number), {"PENDING": waiting, "RUNNING": running, "COMPLETED": 7}, name=name, partition=partition
    )


def test_only_our_names_count_and_partitions_apart() -> None:
    views = [job(1, 3, 2), job(2, 50, 50, "lstosa"), job(3, 1, 1, partition="long"), job(4, 2, partition="long,short")]
    assert load_of(views) == Load(6, 3)
    assert load_of(views, "short") == Load(5, 2)
    assert load_of([]) == Load()


def test_without_limits_everything_is_admitted_but_no_larger_than_an_array() -> None:
    assert not limited(cluster(), "short")
    assert admit(cluster(nice=7), "short", 900, [job(1, 10**5)], NOON).tasks == 900
    assert admit(cluster(nice=7), "short", 900, [], NOON).nice == 7
    assert admit(cluster(), "short", 1500, [], NOON).tasks == 1000
    assert admit(cluster(max_array=10), None, 1500, [], NOON).tasks == 10


@pytest.mark.parametrize(
    ("partition", "queue", "said"),
    [
        ({}, {"max_tasks": 100}, "90 tasks of ours are in the queue, the limit is 100"),
        ({}, {"max_waiting": 100}, "90 tasks of ours are waiting, the limit is 100"),
        ({"max_tasks": 100}, {}, "90 tasks of ours are in partition short, the limit is 100"),
        ({"max_waiting": 100}, {}, "90 tasks of ours are waiting in partition short, the limit is 100"),
    ],
)
def test_each_limit(partition: dict[str, int], queue: dict[str, int], said: str) -> None:
    one = cluster(partition, **queue)
    assert limited(one, "short")
    assert admit(one, "short", 10, [job(1, 90)], NOON).tasks == 10
    full = admit(one, "short", 11, [job(1, 90)], NOON)
    assert (full.tasks, full.why) == (0, said)
    # a quarter of the limit is free: a portion goes
    assert admit(one, "short", 50, [job(1, 75)], NOON).tasks == 25
    assert admit(one, "short", 500, [], NOON).tasks == 100


def test_what_runs_does_not_count_as_waiting() -> None:
    assert admit(cluster(max_waiting=10), "short", 10, [job(1, 0, 500)], NOON).tasks == 10
    assert admit(cluster(max_tasks=10), "short", 10, [job(1, 0, 9)], NOON).tasks == 0


def test_failed_steps_go_all_together() -> None:
    one = cluster(max_tasks=100)
    assert admit(one, "short", 50, [job(1, 75)], NOON, whole=True).tasks == 0
    assert admit(one, "short", 50, [job(1, 50)], NOON, whole=True).tasks == 50
    assert admit(one, "short", 500, [], NOON, whole=True).tasks == 500


def test_hours() -> None:
    assert within(DAY, time(8))
    assert not within(DAY, time(18))
    assert within(NIGHT, time(23, 59))
    assert within(NIGHT, time(7, 59))
    assert not within(NIGHT, time(8))
    closed = admit(cluster(hours=(DAY,)), "short", 1, [], NOON)
    assert (closed.tasks, closed.why) == (0, "nothing is submitted between 08:00 and 18:00 UTC")
    assert admit(cluster(hours=(NIGHT,)), "short", 1, [], NOON).tasks == 1
    # 20:00 in a time zone two hours ahead is 18:00 UTC
    evening = datetime(2026, 11, 22, 20, tzinfo=timezone(timedelta(hours=2)))
    assert admit(cluster(hours=(DAY,)), "short", 1, [], evening).tasks == 1


def test_others_go_first_in_some_hours() -> None:
    polite = Hours(start=time(8), until=time(18), nice=1000)
    assert admit(cluster(nice=5, hours=(polite,)), "short", 1, [], NOON).nice == 1000
    assert admit(cluster(nice=5, hours=(polite,)), "short", 1, [], NOON + timedelta(hours=8)).nice == 5


def test_a_site_file_may_say_it_in_words_and_typing_errors_are_named() -> None:
    found = QueueLimits.model_validate({"hours": [{"start": "08:00", "until": "18:30", "nice": 3}], "max_tasks": 5})
    assert found.hours[0].until == time(18, 30)
    with pytest.raises(ValidationError, match="max_task"):
        QueueLimits.model_validate({"max_task": 5})
    with pytest.raises(ValidationError, match="start"):
        QueueLimits.model_validate({"hours": [{"start": "25:00", "until": "18:30"}]})


@given(
    st.integers(1, 5000),
    st.integers(1, 2000),
    st.integers(1, 2000),
    st.lists(st.tuples(st.integers(0, 300), st.integers(0, 300)), max_size=5),
    st.booleans(),
)
def test_limits_hold_and_nobody_waits_for_ever(
    wanted: int, max_tasks: int, max_waiting: int, loads: list[tuple[int, int]], whole: bool
) -> None:
    one = cluster(max_tasks=max_tasks, max_waiting=max_waiting)
    views = [job(n, *load) for n, load in enumerate(loads)]
    load = load_of(views)
    found = admit(one, "short", wanted, views, NOON, whole)
    assert 0 <= found.tasks <= wanted
    assert bool(found.why) == (found.tasks < wanted)
    if load.tasks:
        assert found.tasks == 0 or load.tasks + found.tasks <= max_tasks
        assert found.tasks == 0 or load.waiting + found.tasks <= max_waiting
    else:
        assert found.tasks > 0


@given(st.integers(1, 5000), st.booleans())
def test_after_a_refusal_arrays_become_smaller_until_one_passes(tasks: int, array_too_large: bool) -> None:
    rounds = 0
    while (smaller := after_refusal(tasks, array_too_large, busy=False)) > 0:
        assert smaller < tasks
        tasks, rounds = smaller, rounds + 1
    assert tasks == 1
    assert rounds < 13


def test_a_limit_of_the_user_is_waited_for_while_something_runs() -> None:
    assert after_refusal(100, array_too_large=False, busy=True) == 0
    assert after_refusal(100, array_too_large=True, busy=True) == 50
