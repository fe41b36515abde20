"""Waits for jobs as the triggerer does: one connection and one stream of looks for any number of jobs."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Sequence

from lstops.cluster.client import open_async_client
from lstops.cluster.poller import Conclusion, JobWatcher, Watchlist, snapshots
from lstops.site.model import Site


class Follower(threading.Thread):
    """Follows jobs to their end in a thread of its own.

    Attributes
    ----------
    said : list of str
        What the tasks' logs would say.
    endings : dict
        By job number.
    errors : int
        Looks at which the scheduler could not be asked.
    """

    def __init__(self, site: Site, jobs: Sequence[str], poll_s: float = 0.5) -> None:
        super().__init__(daemon=True)
        self.site, self.jobs, self.poll_s = site, jobs, poll_s
        self.said: list[str] = []
        self.endings: dict[str, Conclusion] = {}
        self.looks = self.errors = 0
        self._over = threading.Event()
        self.start()

    def run(self) -> None:
        asyncio.run(self._follow())

    async def _follow(self) -> None:
        watch, now = Watchlist(), time.monotonic()
        watchers = {job: JobWatcher(job, float("inf"), self.said.append) for job in self.jobs}
        stream = snapshots(lambda: open_async_client(self.site), watch, self.poll_s)
        with contextlib.ExitStack() as stack:
            for job in self.jobs:
                stack.enter_context(watch.watching(job, now))
            async for snapshot in stream:
                self.looks += 1
                self.errors += bool(snapshot.error)
                for job in set(watchers) - set(self.endings):
                    if found := watchers[job].observe(snapshot):
                        self.endings[job] = found
                if len(self.endings) == len(watchers) or self._over.is_set():
                    break
        await stream.aclose()  # type: ignore[attr-defined]

    def until(self, condition: Callable[[], bool], timeout_s: float = 300.0) -> None:
        end = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < end, f"it does not happen; said: {self.said}, endings: {self.endings}"
            assert self.is_alive() or condition(), f"the follower ended; said: {self.said}, endings: {self.endings}"
            time.sleep(0.1)

    def hears(self, words: str, timeout_s: float = 300.0) -> None:
        """Wait until the log has these words."""
        self.until(lambda: any(words in text for text in self.said), timeout_s)

    def finish(self, timeout_s: float = 600.0) -> dict[str, Conclusion]:
        """Wait for the end of all jobs."""
        self.join(timeout_s)
        assert not self.is_alive(), f"still waiting; said: {self.said}"
        return self.endings

    def stop(self) -> None:
        """Give up; nothing is left running."""
        self._over.set()
        self.join(200)
