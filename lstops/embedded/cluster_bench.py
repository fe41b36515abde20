"""Measures the way to the cluster on a SLURM laboratory: `python -m lstops.embedded.cluster_bench` (as root).

Prints a table for docs/benchmarks.md. What the cluster's side sees is counted there: remote procedure calls by
slurmctld (sdiag), logins by sshd.
"""

from __future__ import annotations

import asyncio
import os
import platform
import re
import resource
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path

from lstops.cluster.client import AsyncClusterClient, ClusterClient
from lstops.cluster.commands import JOB_PREFIX, Programs
from lstops.cluster.poller import JobWatcher, Watchlist, snapshots
from lstops.cluster.ssh import AsyncSshTransport, SshTransport
from lstops.embedded.slurm_lab import SlurmLab, why_not
from lstops.errors import LstOpsError
from lstops.site.cluster import SshAccess

TRACKED, LOOKS, POLL_S = 500, 30, 1.0
SHORT_JOBS, SUBMISSIONS = 20, 10


@dataclass
class Bench:
    """One laboratory and the figures so far."""

    lab: SlurmLab
    folder: Path
    figures: list[tuple[str, str]] = field(default_factory=list)

    @property
    def access(self) -> SshAccess:
        """How to log in."""
        lab = self.lab.access()
        return SshAccess(host=lab.host, port=lab.port, user=lab.user, key_file=lab.key, known_hosts=lab.known_hosts)

    def note(self, what: str, value: str) -> None:
        """Add a line to the table."""
        print(f"{what}: {value}", file=sys.stderr)
        self.figures.append((what, value))

    def script(self, name: str, body: str, *options: str) -> Path:
        """A batch script."""
        path = self.folder / f"{name}.sh"
        lines = [f"#SBATCH {word}" for word in (f"--job-name={name}", "--output=/dev/null", "--mem=10M", *options)]
        path.write_text("\n".join(["#!/bin/sh", *lines, body, ""]))
        return path

    def calls(self, kind: str) -> int:
        """How often slurmctld was asked something, by the name of the call."""
        found = re.search(rf"{kind}\s*\(\s*\d+\)\s*count:(\d+)", self.lab.ssh("sdiag"))
        return int(found[1]) if found else 0

    def logins(self) -> int:
        """Accepted connections so far."""
        return (self.lab.base / "log" / "sshd.out").read_text(errors="replace").count("Accepted publickey")

    def submissions(self) -> None:
        """Time of the round trip that looks up and submits, and number of sbatch for a whole array."""
        client = ClusterClient(SshTransport(self.access), Programs())
        times = []
        for number in range(SUBMISSIONS):
            name = f"{JOB_PREFIX}bench-submit-{number}"
            path = self.script(name, "true", "--array=0-99", "--hold")
            started = time.monotonic()
            client.submit_or_adopt(name, path)
            times.append(time.monotonic() - started)
        before = self.calls("REQUEST_SUBMIT_BATCH_JOB")
        name = f"{JOB_PREFIX}bench-array"
        client.submit_or_adopt(name, self.script(name, "true", "--array=0-99", "--hold"))
        self.note("new connection, look-up in squeue and sacct, sbatch", f"{1000 * times[0]:.0f} ms")
        self.note("the same over a kept connection, median", f"{1000 * statistics.median(times[1:]):.0f} ms")
        self.note("sbatch for 100 steps", str(self.calls("REQUEST_SUBMIT_BATCH_JOB") - before))
        client.close()
        self.lab.ssh(f"scancel --state=PENDING --user={self.access.user}")

    async def tracking(self) -> None:
        """Many tasks that wait at the same time: logins, queries and CPU of the waiting process."""
        loop = f"for n in $(seq {TRACKED}); do sbatch --parsable --hold --mem=1 -o /dev/null --wrap true; done"
        jobs = self.lab.ssh(loop, timeout_s=300).split()
        logins, queries = self.logins(), self._queries()
        sdiag = 1  # its own look at the queue is none
        cpu, started = _cpu_s(), time.monotonic()
        watch = Watchlist()
        looks = 0
        watchers = [JobWatcher(job, float("inf"), lambda text: None) for job in jobs]
        stream = snapshots(lambda: AsyncClusterClient(AsyncSshTransport(self.access), Programs()), watch, POLL_S)
        with ExitStack() as stack:
            for job in jobs:
                stack.enter_context(watch.watching(job, time.monotonic()))
            async for snapshot in stream:
                assert not any([watcher.observe(snapshot) for watcher in watchers])
                looks += 1
                if looks == LOOKS:
                    break
        length, used = time.monotonic() - started, _cpu_s() - cpu
        await stream.aclose()  # type: ignore[attr-defined]
        # the laboratory's own ssh calls log in, too: one for each sdiag
        self.note(f"{len(jobs)} waiting tasks: logins", str(self.logins() - logins - 2 * sdiag))
        self.note(f"{len(jobs)} waiting tasks: queries of {looks} looks", str(self._queries() - queries))
        self.note(
            f"{len(jobs)} waiting tasks: CPU at a look every {POLL_S:g} s", f"{100 * used / length:.1f} % of a core"
        )
        self.lab.ssh(f"scancel --state=PENDING --user={self.access.user}", timeout_s=120)

    def _queries(self) -> int:
        return self.calls("REQUEST_JOB_INFO") + self.calls("REQUEST_JOB_USER_INFO")

    async def endings(self) -> None:
        """Time from a job's last command until the waiting task knows of its end."""
        client = ClusterClient(SshTransport(self.access), Programs())
        watch = Watchlist()
        lags = []
        stream = snapshots(lambda: AsyncClusterClient(AsyncSshTransport(self.access), Programs()), watch, POLL_S)
        with ExitStack() as stack:
            watchers: dict[str, tuple[JobWatcher, Path]] = {}
            for number in range(SHORT_JOBS):
                name, stamp = f"{JOB_PREFIX}bench-end-{number}", self.folder / f"end{number}"
                job = client.submit_or_adopt(
                    name, self.script(name, f"sleep {1 + number / 4:.2f}; date +%s.%N > {stamp}")
                ).job
                stack.enter_context(watch.watching(job, time.monotonic()))
                watchers[job] = (JobWatcher(job, float("inf"), lambda text: None), stamp)
            async for snapshot in stream:
                for job in list(watchers):
                    watcher, stamp = watchers[job]
                    if watcher.observe(snapshot):
                        lags.append(time.time() - float(stamp.read_text()))
                        del watchers[job]
                if not watchers:
                    break
        await stream.aclose()  # type: ignore[attr-defined]
        client.close()
        self.note(
            f"end of a job to its task's knowing, looks every {POLL_S:g} s, median", f"{statistics.median(lags):.1f} s"
        )
        self.note("the same, longest of 20", f"{max(lags):.1f} s")


def _cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


@contextmanager
def laboratory() -> Iterator[Bench]:
    """A laboratory for the time of the measurement.

    Raises
    ------
    LstOpsError
        If none can be started here.
    """
    if reason := why_not():
        raise LstOpsError(f"{reason}.", "run it where the cluster tests run.")
    lab = SlurmLab.temporary()
    try:
        lab.start()
        folder = lab.base / "bench"
        folder.mkdir()
        yield Bench(lab, folder)
    finally:
        lab.stop(purge=True)


def machine() -> str:
    """Date and machine, for the head of a table."""
    cores = f"{os.cpu_count()} cores (load {os.getloadavg()[0]:.1f})"
    return f"{datetime.now(timezone.utc):%Y-%m-%d}, {cores}, {platform.platform()}"


def main() -> int:
    """Measure and print."""
    try:
        with laboratory() as bench:
            bench.submissions()
            asyncio.run(bench.endings())
            asyncio.run(bench.tracking())
            slurm = bench.lab.ssh("sinfo --version").strip()
    except LstOpsError as error:
        print(f"lstops: {error}", file=sys.stderr)
        return error.exit_code
    print(f"{machine()}, {slurm}")
    print("\n| measured | value |\n|---|---|")
    for what, value in bench.figures:
        print(f"| {what} | {value} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
