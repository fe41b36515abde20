"""Submit, look, cancel: the scheduler's commands over a transport.

Every script is safe to repeat, so that a transport may try again after a cut connection.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from lstops.cluster import commands
from lstops.cluster.commands import Programs, programs_for
from lstops.cluster.parsers import parse_named, parse_sacct, parse_squeue, parse_submitted
from lstops.cluster.queue import JobView, missing_jobs, views_of_accounting, views_of_queue
from lstops.cluster.rows import AccountingRow, NamedJob, QueueRow
from lstops.cluster.transport import AsyncLocalTransport, AsyncTransport, Completed, LocalTransport, Transport
from lstops.errors import ConfigError, SubmitError, TransportError
from lstops.site.layout import Layout
from lstops.site.model import Site

log = logging.getLogger(__name__)

# sbatch's refusals that pass by themselves (slurm/slurm_errno.c)
_PASSING = re.compile(
    r"Unable to contact slurm controller|Socket timed out|Connection refused|Zero Bytes were transmitted"
    r"|temporarily unable|Slurm controller (?:not responding|in standby)|slurm_load|Resource temporarily unavailable"
    r"|Transport endpoint|Unexpected message received"
    r"|Protocol authentication error|Munge|Message send/recv",
    re.I,
)
# a limit on the number of our user's jobs: room comes by itself, or the array is too large for it
_FULL = re.compile(r"Max\w*SubmitJob|job submit limit", re.I)
_ARRAY = "Invalid job array"
# sbatch's refusals that stay, with what helps
_REFUSALS = (
    ("Invalid account", "correct cluster.account in the site file"),
    ("invalid partition", "correct the partition in the site file"),
    (_ARRAY, "set cluster.queue.max_array in the site file to the scheduler's MaxArraySize less one"),
    ("Memory specification can not", "lower mem_mb in the site file"),
    ("node configuration is not available", "lower cpus or mem_mb or change the partition in the site file"),
    ("time limit", "lower time_min or change the partition in the site file"),
    ("Permission denied", "check the rights of the folder of plans"),
)


class QueueFullError(TransportError):
    """The scheduler takes no more jobs of our user for now."""


class ArrayTooLargeError(SubmitError):
    """The array has more tasks than the scheduler allows."""


@dataclass(frozen=True)
class Submission:
    """A job's number, and whether it was there already."""

    job: str
    adopted: bool


def judge_submission(done: Completed, where: str) -> Submission:
    """Read the answer of `commands.submit_or_adopt`.

    Raises
    ------
    SubmitError
        If the scheduler refuses the job for good; `ArrayTooLargeError` if a smaller array may pass.
    TransportError
        If it cannot take it now; `QueueFullError` if our user has too many jobs.
    """
    said = " ".join(done.stderr.split())
    if done.status == 0:
        how, _, number = done.stdout.strip().rpartition("\n")[2].partition(" ")
        job = parse_submitted(number)
        if job and how in ("adopted", "submitted"):
            return Submission(job, how == "adopted")
        raise TransportError(
            f"sbatch on {where} answered {done.stdout.strip()!r}, which is no job number.", "it is tried again."
        )
    if done.status == commands.EXIT_REFUSED and _FULL.search(said):
        raise QueueFullError(f"{where}: {said[-400:]}.", "it is tried again when jobs have ended.")
    if done.status == commands.EXIT_REFUSED and not _PASSING.search(said):
        remedy = next((r for text, r in _REFUSALS if text.lower() in said.lower()), "read what the scheduler says")
        kind = ArrayTooLargeError if _ARRAY.lower() in said.lower() else SubmitError
        raise kind(f"{where}: sbatch refused the job: {said[-400:]}.", f"{remedy}.")
    raise TransportError(
        f"the scheduler on {where} cannot take a job now (status {done.status}): {said[-400:]}.", "it is tried again."
    )


class ClusterClient:
    """The scheduler of one site."""

    def __init__(self, transport: Transport, programs: Programs) -> None:
        self.transport, self.programs = transport, programs

    def submit_or_adopt(self, name: str, script: Path) -> Submission:
        """Submit a script unless a job of that name exists already.

        Raises
        ------
        SubmitError
            If the scheduler refuses it for good.
        TransportError
            If the scheduler cannot be asked or cannot take it now.
        """
        done = self.transport.run(commands.submit_or_adopt(self.programs, name, script), 150)
        return judge_submission(done, self.transport.where)

    def poll(self, jobs: Collection[str]) -> dict[str, JobView]:
        """States of jobs with one squeue, and one sacct for those that it no longer lists.

        Returns
        -------
        dict
            By job number; a job that neither knows is left out.

        Raises
        ------
        TransportError
            If the scheduler cannot be asked or its answer is damaged.
        """
        views = self.queue()
        if gone := missing_jobs(views, jobs):
            views |= views_of_accounting(self._checked(commands.sacct(self.programs, gone)).stdout)
        return {job: views[job] for job in jobs if job in views}

    def queue(self, everybody: bool = False) -> dict[str, JobView]:
        """Every job of our user that squeue lists, by number; see `commands.squeue`. Raises TransportError."""
        return views_of_queue(self._checked(commands.squeue(self.programs, everybody)).stdout, everybody)

    def named_jobs(self) -> tuple[NamedJob, ...]:
        """Names and comments of our user's jobs that have not ended. Raises TransportError as `poll`."""
        return parse_named(self._checked(commands.comments(self.programs)).stdout)

    def queue_rows(self) -> tuple[QueueRow, ...]:
        """Everything of our user in the queue. Raises TransportError as `poll`."""
        parsed = parse_squeue(self._checked(commands.squeue(self.programs)).stdout)
        if parsed.unreadable:
            raise TransportError(f"squeue answered {parsed.unreadable[0]!r}, which is no row.", "try again.")
        return parsed.rows

    def account(self, job: str) -> tuple[AccountingRow, ...]:
        """Accounting of one job, with its steps.

        Raises
        ------
        TransportError
            If it cannot be had or is damaged.
        """
        done = self._checked(commands.sacct(self.programs, (job,), steps=True))
        parsed = parse_sacct(done.stdout)
        if parsed.unreadable:
            raise TransportError(f"sacct answered {parsed.unreadable[0]!r}, which is no row.", "it is tried again.")
        return tuple(row for row in parsed.rows if row.task.job == job)

    def cancel(self, job: str) -> None:
        """Cancel a job; one that has ended already is left alone.

        Raises
        ------
        TransportError
            If the scheduler cannot be asked.
        """
        self._checked(commands.scancel(self.programs, job), allowed=(0, 1))

    def tail(self, path: Path, lines: int = 30) -> str:
        """Last lines of a log, empty if there is none."""
        return self.transport.run(commands.tail(path, lines)).stdout

    def read_after(self, path: Path, offset: int) -> str:
        """What a log says after `offset` bytes."""
        return self.transport.run(commands.read_after(path, offset)).stdout

    def close(self) -> None:
        """Give the connection back."""
        self.transport.close()

    def _checked(self, script: str, allowed: tuple[int, ...] = (0,)) -> Completed:
        return checked(self.transport.run(script), self.transport.where, allowed)


class AsyncClusterClient:
    """What the triggerer needs of the scheduler."""

    def __init__(self, transport: AsyncTransport, programs: Programs) -> None:
        self.transport, self.programs = transport, programs

    async def queue(self, everybody: bool = False) -> dict[str, JobView]:
        """One squeue. Raises TransportError as `ClusterClient.poll`."""
        return views_of_queue((await self._checked(commands.squeue(self.programs, everybody))).stdout, everybody)

    async def accounting(self, jobs: tuple[str, ...]) -> dict[str, JobView]:
        """One sacct. Raises TransportError as `ClusterClient.poll`."""
        return views_of_accounting((await self._checked(commands.sacct(self.programs, jobs))).stdout)

    async def cancel(self, job: str) -> None:
        """Cancel a job. Raises TransportError."""
        await self._checked(commands.scancel(self.programs, job), allowed=(0, 1))

    async def close(self) -> None:
        """Give the connection back."""
        await self.transport.close()

    async def _checked(self, script: str, allowed: tuple[int, ...] = (0,)) -> Completed:
        return checked(await self.transport.run(script), self.transport.where, allowed)


def checked(done: Completed, where: str, allowed: tuple[int, ...] = (0,)) -> Completed:
    """Refuse the answer of a client program that failed.

    Raises
    ------
    TransportError
        If the exit status is not among `allowed`.
    """
    if done.status not in allowed:
        raise TransportError(
            f"the scheduler on {where} does not answer (status {done.status}): {' '.join(done.stderr.split())[-300:]}.",
            "it is tried again; if it stays so, look at slurmctld.",
        )
    return done


def spool_of(site: Site) -> Path:
    """Folder of the local scheduler of a site."""
    return Layout(site.base, site.work).absolute(f"{site.work}/local-scheduler")


def open_client(site: Site) -> ClusterClient:
    """Client of a site's scheduler. Connects when first used."""
    programs = programs_for(site.cluster, spool_of(site))
    if site.cluster.ssh is None:
        return ClusterClient(LocalTransport(), programs)
    from lstops.cluster.ssh import SshTransport

    return ClusterClient(SshTransport(site.cluster.ssh), programs)


def open_async_client(site: Site) -> AsyncClusterClient:
    """`open_client` for the triggerer."""
    programs = programs_for(site.cluster, spool_of(site))
    if site.cluster.ssh is None:
        return AsyncClusterClient(AsyncLocalTransport(), programs)
    from lstops.cluster.ssh import AsyncSshTransport

    return AsyncClusterClient(AsyncSshTransport(site.cluster.ssh), programs)


def below_base(site: Site, path: Path) -> Path:
    """Refuse remote paths outside the site's base.

    Raises
    ------
    ConfigError
        For such a path.
    """
    if not path.is_absolute() or ".." in path.parts or not path.is_relative_to(site.base):
        raise ConfigError(f"{path} is not below the site's base {site.base}.", "use a path below it.")
    return path
