"""Jobs of ours that nobody waits for any more."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from lstops.cluster.client import ClusterClient
from lstops.cluster.commands import JOB_PREFIX
from lstops.cluster.records import JobRecord, Owner, all_records, write_record
from lstops.cluster.rows import NamedJob
from lstops.site.layout import Layout
from lstops.site.model import Site

#: says why nobody waits for the job of a task any more, or None if somebody may
OwnerCheck = Callable[[Owner], str | None]


@dataclass(frozen=True)
class Orphan:
    """A job in the queue with one of our names that no open submission of this site accounts for."""

    job: str
    name: str
    state: str
    why: str

    def text(self) -> str:
        """One line for people."""
        return f"job {self.job} ({self.name}, {self.state}): {self.why}"


def comment_tag(site: Site) -> str:
    """How comments of this site's jobs begin: another site of the same user has another."""
    name = re.sub(r"[^\w.-]", "_", site.name)
    return f"lstops {name}/{hashlib.sha256(str(site.base).encode()).hexdigest()[:8]}"


def find_orphans(
    jobs: Sequence[NamedJob], records: Collection[JobRecord], tag: str, gone: OwnerCheck | None = None
) -> tuple[Orphan, ...]:
    """Jobs of ours that are of no use.

    Only jobs with one of our names are looked at. Ours are those that have a record here, and those whose comment
    bears this site's tag: another site of the same user has records of its own, and its jobs are not ours to judge.

    Parameters
    ----------
    gone : callable, optional
        Asks Airflow about the task that waits; without it an open submission counts as waited for.
    """
    by_name = {record.name: record for record in records}
    found: dict[str, Orphan] = {}
    for job in jobs:
        if job.name.startswith(JOB_PREFIX) and (why := _useless(job, by_name.get(job.name), tag, gone)):
            found.setdefault(job.job, Orphan(job.job, job.name, job.state, why))
    return tuple(found.values())


def _useless(job: NamedJob, record: JobRecord | None, tag: str, gone: OwnerCheck | None) -> str | None:
    if record is None:
        return "this site has no record of it" if f"{job.comment} ".startswith(f"{tag} ") else None
    if record.ending:
        return f"its stage is over ({record.ending})"
    if record.job and record.job != job.job:
        return f"job {record.job} has the same name"
    return gone(record.owner) if gone is not None and record.owner is not None else None


def clear_orphans(
    site: Site, client: ClusterClient, gone: OwnerCheck | None = None, cancel: bool = True
) -> list[Orphan]:
    """Find orphans and cancel them.

    Raises
    ------
    TransportError
        If the scheduler cannot be asked.
    """
    layout = Layout(site.base, site.work)
    # first the queue: a job submitted after this look cannot be taken for one without a record
    jobs = client.named_jobs()
    records = {record.name: record for record in all_records(layout)}
    found = list(find_orphans(jobs, tuple(records.values()), comment_tag(site), gone))
    for orphan in found if cancel else ():
        client.cancel(orphan.job)
        record = records.get(orphan.name)
        if record is not None and not record.ending and record.job == orphan.job:
            write_record(layout, record.model_copy(update={"ending": f"cancelled by lstops: {orphan.why}"}))
    return found
