"""Waiting for room in the queue, what is remembered meanwhile, and who still waits for a job."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from enum import Enum
from pathlib import Path
from typing import Any

import pytest
from cluster.toy import local_cluster, make_site

from lstops.airflow.owners import owner_check
from lstops.airflow.policy import submission_pool
from lstops.airflow.rounds import NextRound, RoundState, RoundStore
from lstops.airflow.trigger import ClusterJobTrigger, QueueRoomTrigger
from lstops.cluster.poller import Snapshot
from lstops.cluster.queue import JobView
from lstops.cluster.records import Owner
from lstops.embedded.pool import NAME, slots_for
from lstops.step.model import Resources


def trigger(folder: Path, tasks: int, **changes: Any) -> QueueRoomTrigger:
    site = make_site(folder, local_cluster(queue={"max_tasks": 10}))
    return QueueRoomTrigger(str(site), None, tasks, False, settle_s=0.0, **changes)


def look(running: int, error: str = "") -> Snapshot:
    view = JobView("1", {"RUNNING": running}, name="lstops-a")
    return Snapshot(time.monotonic(), {} if error else {"1": view}, {}, error)


async def looks(*snapshots: Snapshot) -> AsyncIterator[Snapshot]:
    for snapshot in snapshots:
        yield snapshot


async def events(one: QueueRoomTrigger, *snapshots: Snapshot) -> list[Any]:
    return [event.payload async for event in one.filter_shared_stream(looks(*snapshots))]


async def test_it_waits_until_there_is_room(tmp_path: Path) -> None:
    one = trigger(tmp_path, 5)
    assert await events(one, look(10), look(0, error="slurmctld is down"), look(9)) == []
    assert await events(one, look(10), look(5), look(0)) == [{"tasks": 5}]
    assert await events(trigger(tmp_path / "large", 50), look(10), look(4)) == [{"tasks": 6}]


async def test_what_the_scheduler_refused_is_not_tried_at_once(tmp_path: Path) -> None:
    late = trigger(tmp_path, 5, not_before=time.time() + 100)
    assert await events(late, look(0)) == []
    after = Snapshot(time.monotonic() + 101, {}, {})
    assert await events(late, look(0), after) == [{"tasks": 5}]


def test_it_shares_the_look_at_the_queue_and_comes_back_from_the_database(tmp_path: Path) -> None:
    one = trigger(tmp_path, 5, not_before=7.0)
    job = ClusterJobTrigger(one.site, "1", 0.0, 0.0, "mark")
    assert one.shared_stream_key() == job.shared_stream_key()
    path, arguments = one.serialize()
    assert path == "lstops.airflow.trigger.QueueRoomTrigger"
    assert QueueRoomTrigger(**arguments).serialize() == (path, arguments)


class Store:
    def __init__(self) -> None:
        self.values: dict[str, Any] = {}

    def get(self, key: str) -> Any:
        return self.values.get(key)

    def set(self, key: str, value: Any) -> None:
        self.values[key] = value


def test_a_round_that_waits_is_remembered_with_its_tries() -> None:
    class Ti:
        try_number = 1

    store = RoundStore({"task_state_store": Store(), "ti": Ti()})
    held = NextRound((3, 5), Resources(mem_mb=77, partition="short"), {3: 2, 5: 2}, ("n1",), 4)
    state = RoundState(number=3, jobs=("9",), ran=(3, 5)).holding(held)
    store.save(state)
    assert store.load() == state
    # once it is submitted, or the task is cleared, nothing waits any more
    assert state.started(4, "lstops-x", held).held is None
    assert state.fresh() == RoundState(number=3)


def test_what_there_was_no_room_for_keeps_its_tries() -> None:
    class Ti:
        try_number = 1

    store = RoundStore({"task_state_store": Store(), "ti": Ti()})
    again = NextRound((3, 5, 6), Resources(mem_mb=77, partition="short"), {3: 2, 5: 3, 6: 2}, ("n1",), 1)
    state = RoundState(number=3).started(4, "lstops-x", again).with_job("17", (3,))
    store.save(state)
    left = store.load().left
    assert left == NextRound((5, 6), Resources(mem_mb=77, partition="short"), {5: 3, 6: 2}, ("n1",))
    # the step of the portion that was submitted failed once more: all go on together, with enough for each
    both = NextRound((3,), Resources(mem_mb=500, partition="short"), {3: 3}, ("n2",)).joined(left)
    assert both == NextRound((3, 5, 6), Resources(mem_mb=500, partition="short"), {3: 3, 5: 3, 6: 2}, ("n1", "n2"))
    assert state.with_job("18", (5, 6)).left is None
    # steps that were not tried yet have nothing to keep
    assert RoundState().started(1, "lstops-y", NextRound((1, 2), Resources(mem_mb=77))).left is None


class State(str, Enum):
    FAILED = "failed"
    DEFERRED = "deferred"


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ({}, "its task d.t of r is not there any more"),
        ({"r": {}}, "its task d.t of r is not there any more"),
        ({"r": {"t": "success"}}, "its task d.t of r is over (success)"),
        ({"r": {"t": State.FAILED}}, "its task d.t of r is over (failed)"),
        ({"r": {"t": State.DEFERRED}}, None),
        ({"r": {"t": "up_for_retry"}}, None),
        ({"r": {"t": None}}, None),
        ({"r": {"t": "a state of a later Airflow"}}, None),
    ],
)
def test_who_still_waits(answer: dict[str, Any], said: str | None) -> None:
    asked: list[dict[str, Any]] = []

    def states(**question: Any) -> dict[str, Any]:
        asked.append(question)
        return answer

    check = owner_check(states)
    assert check(Owner(dag_id="d", run_id="r", task_id="t")) == said
    assert asked == [{"dag_id": "d", "map_index": None, "task_ids": ["t"], "run_ids": ["r"]}]
    check(Owner(dag_id="d", run_id="r", task_id="t", map_index=0))
    assert asked[-1]["map_index"] == 0


def test_the_pool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LSTOPS_SUBMIT_POOL", raising=False)
    assert submission_pool() == "default_pool"
    monkeypatch.setenv("LSTOPS_SUBMIT_POOL", NAME)
    assert submission_pool() == NAME
    site = make_site(tmp_path, local_cluster(queue={"submissions_at_once": 7}))
    assert slots_for({"LSTOPS_SITE": str(site)}) == 7
    assert slots_for({}) == slots_for({"LSTOPS_SITE": str(tmp_path / "none.yaml")}) == 4
