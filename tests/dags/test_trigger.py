"""What the trigger does when a person cancels, as Airflow's triggerer calls it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from lstops.airflow import trigger as module
from lstops.airflow.hook import ClusterHook
from lstops.airflow.trigger import ClusterJobTrigger
from lstops.errors import TransportError


class SlowClient:
    """A cluster whose login node takes its time."""

    def __init__(self) -> None:
        self.cancelled: list[str] = []
        self.asked = asyncio.Event()
        self.answers = asyncio.Event()
        self.closed = asyncio.Event()
        self.unreachable = 0

    async def cancel(self, job: str) -> None:
        self.asked.set()
        if self.unreachable:
            self.unreachable -= 1
            raise TransportError("no connection", "it is tried again.")
        await self.answers.wait()
        self.cancelled.append(job)

    async def close(self) -> None:
        self.closed.set()


async def test_the_triggerer_s_next_rounds_do_not_interrupt_the_cancelling(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = SlowClient()
    monkeypatch.setattr(ClusterHook, "async_client", lambda hook: client)
    mark = tmp_path / "killed"
    trigger = ClusterJobTrigger("/a/site.yaml", "17", submitted=0.0, deadline=1e12, kill_mark=str(mark))
    # what the triggerer does: `wait_for(trigger.on_kill())`, in a task that each of its rounds cancels again
    killing = asyncio.create_task(asyncio.wait_for(trigger.on_kill(), 60))  # type: ignore[arg-type]
    await client.asked.wait()
    killing.cancel("user-action")
    with pytest.raises(asyncio.CancelledError):
        await killing
    assert client.cancelled == []
    client.answers.set()
    await client.closed.wait()
    assert client.cancelled == ["17"]
    assert mark.exists()


async def test_a_job_is_cancelled_also_when_the_cluster_cannot_be_reached_for_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = SlowClient()
    client.unreachable = 3
    client.answers.set()
    monkeypatch.setattr(ClusterHook, "async_client", lambda hook: client)
    monkeypatch.setattr(module, "_CANCEL_EVERY_S", 0.001)
    # the mark cannot be made; that must not keep the job running
    mark = tmp_path / "no such folder" / "killed"
    await ClusterJobTrigger("/a/site.yaml", "17", submitted=0.0, deadline=1e12, kill_mark=str(mark)).on_kill()
    assert client.cancelled == ["17"]
    assert client.closed.is_set()
