"""Waits for a job in the triggerer: all tasks of a site share one connection and one look at the queue an interval."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Hashable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from airflow.triggers.base import BaseEventTrigger, TriggerEvent

from lstops.airflow.hook import ClusterHook
from lstops.cluster.client import AsyncClusterClient
from lstops.cluster.limits import admit
from lstops.cluster.poller import Conclusion, JobWatcher, Snapshot, Watchlist, backoff, snapshots
from lstops.errors import LstOpsError

#: No event sooner after the deferral: the scheduler may otherwise see the resumed task's state before it has handled
#: the deferral, and fail it ("finished with state success, but ... queued").
SETTLE_S = 12.0
_SAY_AGAIN_S = 600.0
# how long a cancellation is tried again while the cluster cannot be reached, and the first pause
_CANCEL_FOR_S, _CANCEL_EVERY_S = 1800.0, 2.0

_WATCHLISTS: dict[Hashable, Watchlist] = {}
#: Cancellations under way; asyncio itself holds its tasks but weakly.
_CANCELLING: set[asyncio.Task[None]] = set()


def _watchlist(key: Hashable) -> Watchlist:
    return _WATCHLISTS.setdefault(key, Watchlist())


class ClusterJobTrigger(BaseEventTrigger):  # type: ignore[misc]
    """Yields one event when a job has ended, is lost, can never start, or has met its deadline.

    Parameters
    ----------
    site : str
        Site file; triggers of the same file and connection share their looks at the queue.
    job : str
        The scheduler's number.
    submitted, deadline : float
        Seconds since 1970.
    kill_mark : str
        File to make when the job is cancelled because a person failed or cleared the task (`records.kill_mark`).
    settle_s : float
        See `SETTLE_S`.
    """

    supports_triggerer_queue = True

    def __init__(
        self,
        site: str,
        job: str,
        submitted: float,
        deadline: float,
        kill_mark: str,
        ssh_conn_id: str | None = None,
        settle_s: float = SETTLE_S,
    ) -> None:
        super().__init__()
        self.site, self.job, self.submitted, self.deadline = site, job, submitted, deadline
        self.kill_mark, self.ssh_conn_id, self.settle_s = kill_mark, ssh_conn_id, settle_s

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Class and arguments."""
        return (
            "lstops.airflow.trigger.ClusterJobTrigger",
            {
                "site": self.site,
                "job": self.job,
                "submitted": self.submitted,
                "deadline": self.deadline,
                "kill_mark": self.kill_mark,
                "ssh_conn_id": self.ssh_conn_id,
                "settle_s": self.settle_s,
            },
        )

    def shared_stream_key(self) -> Hashable:
        """One stream a site."""
        return _key(self.site, self.ssh_conn_id)

    @classmethod
    async def open_shared_stream(cls, kwargs: dict[str, Any]) -> AsyncIterator[Snapshot]:
        """Look at the queue for ever; connections that break are made again in there."""
        hook = ClusterHook(kwargs["site"], kwargs.get("ssh_conn_id"))
        # an ssh_conn_id is looked up through a synchronous call
        site = await asyncio.to_thread(lambda: hook.site) if hook.ssh_conn_id else hook.site
        watch = _watchlist(_key(kwargs["site"], kwargs.get("ssh_conn_id")))
        async for snapshot in snapshots(hook.async_client, watch, site.cluster.poll_s):
            yield snapshot

    async def filter_shared_stream(self, shared_stream: AsyncIterator[Snapshot]) -> AsyncIterator[TriggerEvent]:
        """Yield the event of this trigger's job."""
        started, wall = time.monotonic(), time.time()
        watcher = JobWatcher(self.job, started + self.deadline - wall, self.log.info)
        with _watchlist(self.shared_stream_key()).watching(self.job, started - (wall - self.submitted)):
            async for snapshot in shared_stream:
                if conclusion := watcher.observe(snapshot):
                    self.log.info("job %s: %s (%s)", self.job, conclusion.ending.value, conclusion.why)
                    await asyncio.sleep(max(0.0, started + self.settle_s - time.monotonic()))
                    yield self._event(conclusion)
                    return

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """The same without siblings (`dag.test()`)."""
        stream = self.open_shared_stream(self.serialize()[1])
        try:
            async for event in self.filter_shared_stream(stream):
                yield event
                return
        finally:
            await stream.aclose()  # type: ignore[attr-defined]

    async def on_kill(self) -> None:
        """A person failed or cleared the task: the job is of no use any more. A restart of the triggerer is no kill.

        The triggerer cancels a trigger again in each of its rounds (about a second) until it has ended, and with it an
        `on_kill` that takes longer, as one over SSH does: therefore the work goes on in a task of its own.
        """
        cancelling = asyncio.create_task(self._cancel_job())
        _CANCELLING.add(cancelling)
        cancelling.add_done_callback(_CANCELLING.discard)
        await asyncio.shield(cancelling)

    async def _cancel_job(self) -> None:
        self.log.warning("cancelling job %s, because its task was failed or cleared", self.job)
        try:
            # first the mark: a new attempt that sees the job end must know that it was us
            await asyncio.to_thread(Path(self.kill_mark).touch)
        except OSError as error:
            self.log.error("%s: a new attempt will take the end of job %s for a stranger's doing", error, self.job)
        try:
            await self._cancel_until_it_works(ClusterHook(self.site, self.ssh_conn_id).async_client())
        except LstOpsError as error:
            self.log.error("job %s could not be cancelled (the DAG orphans will try): %s", self.job, error)

    async def _cancel_until_it_works(self, client: AsyncClusterClient) -> None:
        """Raises the last LstOpsError after `_CANCEL_FOR_S`."""
        failures, until = 0, time.monotonic() + _CANCEL_FOR_S
        try:
            while True:
                try:
                    await client.cancel(self.job)
                except LstOpsError as error:
                    if time.monotonic() > until:
                        raise
                    self.log.warning("job %s cannot be cancelled yet: %s", self.job, error)
                else:
                    return
                await asyncio.sleep(backoff(failures, _CANCEL_EVERY_S))
                failures += 1
        finally:
            await client.close()

    def _event(self, conclusion: Conclusion) -> TriggerEvent:
        return TriggerEvent({"job": conclusion.job, "ending": conclusion.ending.value, "why": conclusion.why})


class QueueRoomTrigger(ClusterJobTrigger):
    """Yields one event when the limits of the queue let a round in; it looks at the queue with the others of its site.

    Parameters
    ----------
    partition : str or None
        Where it is to run.
    tasks : int
        Array tasks wanted.
    whole : bool
        See `limits.admit`.
    not_before : float
        Seconds since 1970: the scheduler refused it, so that what our own limits say is not enough.
    """

    def __init__(
        self,
        site: str,
        partition: str | None,
        tasks: int,
        whole: bool,
        not_before: float = 0.0,
        ssh_conn_id: str | None = None,
        settle_s: float = SETTLE_S,
    ) -> None:
        super().__init__(site, "", 0.0, 0.0, "", ssh_conn_id, settle_s)
        self.partition, self.tasks, self.whole, self.not_before = partition, tasks, whole, not_before

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Class and arguments."""
        return (
            "lstops.airflow.trigger.QueueRoomTrigger",
            {
                "site": self.site,
                "partition": self.partition,
                "tasks": self.tasks,
                "whole": self.whole,
                "not_before": self.not_before,
                "ssh_conn_id": self.ssh_conn_id,
                "settle_s": self.settle_s,
            },
        )

    async def filter_shared_stream(self, shared_stream: AsyncIterator[Snapshot]) -> AsyncIterator[TriggerEvent]:
        """Yield when there is room."""
        hook = ClusterHook(self.site, self.ssh_conn_id)
        cluster = (await asyncio.to_thread(lambda: hook.site)).cluster
        started, said, said_at = time.monotonic(), "", float("-inf")
        waits_s = max(self.not_before - time.time(), 0.0)
        async for snapshot in shared_stream:
            why = snapshot.error
            if not why:
                now = datetime.now(timezone.utc)
                found = admit(cluster, self.partition, self.tasks, snapshot.queue.values(), now, self.whole)
                if found.tasks and (not waits_s or snapshot.taken - started >= waits_s):
                    await asyncio.sleep(max(0.0, started + self.settle_s - time.monotonic()))
                    yield TriggerEvent({"tasks": found.tasks})
                    return
                why = found.why if not found.tasks else "the scheduler takes no more of ours for now"
            if why != said or snapshot.taken - said_at > _SAY_AGAIN_S:
                self.log.info("%d tasks wait to be submitted: %s", self.tasks, why)
                said, said_at = why, snapshot.taken

    async def on_kill(self) -> None:
        """Nothing was submitted."""


def _key(site: str, ssh_conn_id: str | None) -> Hashable:
    return ("lstops-cluster", site, ssh_conn_id or "")
