"""Jobs of ours that nobody waits for any more."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from lstops.cluster.commands import JOB_PREFIX
from lstops.cluster.parsers import QueueRow
from lstops.cluster.records import JobRecord


@dataclass(frozen=True)
class Orphan:
    """A job in the queue with one of our names that no open submission of this site accounts for."""

    job: str
    name: str
    state: str
    why: str


def find_orphans(rows: Sequence[QueueRow], records: Collection[JobRecord]) -> tuple[Orphan, ...]:
    """Jobs of ours that are of no use.

    Only jobs are named whose record lies at this site *and* has ended: another site of the same user has records of its
    own, and its jobs are not ours to judge.
    """
    by_name = {record.name: record for record in records}
    found: dict[str, Orphan] = {}
    for row in rows:
        record = by_name.get(row.name)
        if not row.name.startswith(JOB_PREFIX) or record is None or not row.state_class.active:
            continue
        if record.ending:
            found[row.task.job] = Orphan(row.task.job, row.name, row.state, f"its stage is over ({record.ending})")
        elif record.job and record.job != row.task.job:
            found[row.task.job] = Orphan(row.task.job, row.name, row.state, f"job {record.job} has the same name")
    return tuple(found.values())
