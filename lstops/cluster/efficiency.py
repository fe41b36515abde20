"""What jobs used against what they asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lstops.cluster.records import JobRecord
from lstops.cluster.rows import AccountingRow


@dataclass(frozen=True)
class Efficiency:
    """Use of one array.

    Attributes
    ----------
    cpu : float or None
        CPU time over (elapsed time x CPUs), summed over the tasks.
    memory : float or None
        Largest peak over the request.
    time : float or None
        Longest elapsed time over the limit.
    """

    tasks: int
    cpu: float | None
    memory: float | None
    time: float | None
    peak_mb: float | None


def efficiency(record: JobRecord, rows: Sequence[AccountingRow]) -> Efficiency:
    """Compare sacct's rows of an array with its request."""
    parents = [row for row in rows if not row.task.step and row.task.positions]
    elapsed = sum(row.elapsed_s or 0 for row in parents)
    cpu_s = sum(row.cpu_s or 0.0 for row in parents)
    peak = max((row.max_rss_mb for row in rows if row.max_rss_mb is not None), default=None)
    longest = max((row.elapsed_s for row in parents if row.elapsed_s is not None), default=None)
    return Efficiency(
        tasks=len(parents),
        cpu=cpu_s / (elapsed * record.resources.cpus) if elapsed else None,
        memory=peak / record.resources.mem_mb if peak is not None else None,
        time=longest / (record.task_time_min * 60) if longest is not None else None,
        peak_mb=peak,
    )
