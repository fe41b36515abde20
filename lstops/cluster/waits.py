"""How long jobs waited in the queue before: submitted by their record, begun by the reports of their steps."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from lstops.cluster.records import JobRecord, all_records
from lstops.site.layout import Layout
from lstops.step.report import read_report

#: Submissions that are looked at. A year has thousands, and last year's queue says little.
_LATEST = 300


@dataclass(frozen=True)
class QueueWaits:
    """Medians of earlier waits in minutes.

    Attributes
    ----------
    by_stage : mapping of str to float
        Stages that were submitted before.
    overall : float or None
        Of all submissions; None: there was none.
    """

    by_stage: Mapping[str, float] = field(default_factory=dict)
    overall: float | None = None

    def of(self, stage: str) -> float | None:
        """What to expect for a stage."""
        return self.by_stage.get(stage, self.overall)


def queue_waits(layout: Layout) -> QueueWaits:
    """Medians over the latest submissions of the time from sbatch to the start of the first step."""
    waits = [
        (record.stage, wait)
        for record in all_records(layout, touched_last=_LATEST)
        if (wait := _wait_min(layout, record)) is not None
    ]
    return _medians(waits)


def _medians(waits: Iterable[tuple[str, float]]) -> QueueWaits:
    by_stage: dict[str, list[float]] = defaultdict(list)
    for stage, wait in waits:
        by_stage[stage].append(wait)
    everything = [wait for members in by_stage.values() for wait in members]
    return QueueWaits(
        {stage: statistics.median(members) for stage, members in by_stage.items()},
        statistics.median(everything) if everything else None,
    )


def _wait_min(layout: Layout, record: JobRecord) -> float | None:
    """None: not submitted, not begun, or its reports were written anew by a later job."""
    if not record.job:
        return None
    begun = []
    # the first step of each task: the others waited for it, not for the queue
    for task in record.groups:
        report = read_report(layout.step_report(record.plan_id, task[0]))
        if report is not None and report.started and report.job.partition("_")[0] == record.job:
            begun.append(datetime.fromisoformat(report.started).timestamp())
    return max(0.0, min(begun) - record.submitted) / 60 if begun else None
