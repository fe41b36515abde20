"""What the trigger does when a person cancels, as Airflow's triggerer calls it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from lstops.airflow.hook import ClusterHook
from lstops.airflow.trigger import ClusterJobTrigger


class SlowClient:
    """A cluster whose login node takes its time."""

    def __init__(self) -> None:
        self.cancelled: list[str] = []
        self.asked = asyncio.Event()
        self.answers = asyncio.Event()
        self.closed = asyncio.Event()

    async def cancel(self, job: str) -> None:
        self.asked.set()
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
