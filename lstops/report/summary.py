"""What follows from a night report's data: the headline, the cut flow, words for a run. Pure functions."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from lstops.report.model import NightReport, ProductState, ReportRun
from lstops.report.page import plural, without_stop


@dataclass(frozen=True)
class CutCount:
    """A row of the cut flow.

    Attributes
    ----------
    failing : int
        Runs that fail this cut.
    only : int
        Runs that fail nothing else.
    remaining : int
        Runs that pass this cut and all before it.
    """

    cut: str
    failing: int
    only: int
    remaining: int


@dataclass(frozen=True)
class CutFlow:
    """Cut by cut, then what people decided.

    Attributes
    ----------
    judged, selected : int
        Runs at the beginning and at the end.
    accepted, excluded : int
        Runs whose verdict a person turned.
    """

    judged: int
    cuts: tuple[CutCount, ...]
    accepted: int
    excluded: int
    selected: int


@dataclass(frozen=True)
class Totals:
    """Figures of the headline."""

    runs: int
    judged: int
    selected: int
    rejected: int
    quarantined: int
    published: int
    selected_s: float
    published_s: float


def totals(report: NightReport) -> Totals:
    """Count."""
    published = {run for bundle in report.published for run in bundle.runs}
    return Totals(
        runs=len(report.runs),
        judged=sum(r.selected is not None for r in report.runs),
        selected=sum(r.selected is True for r in report.runs),
        rejected=sum(r.selected is False for r in report.runs),
        quarantined=sum(r.quarantine is not None for r in report.runs),
        published=len(published),
        selected_s=sum(r.elapsed_s or 0 for r in report.runs if r.selected),
        published_s=sum(r.elapsed_s or 0 for r in report.runs if r.run_id in published),
    )


def headline(report: NightReport) -> str:
    """One sentence for a person in a hurry."""
    t = totals(report)
    if not t.runs:
        return "Nothing was observed."
    if not report.published and not report.ended:
        return f"Nothing was published: {t.selected} of {t.judged} runs selected." if t.judged else "No run was judged."
    parts = []
    for bundle in report.published:
        parts.append(f"{plural(len(bundle.runs), 'run')} of {bundle.source} published as {bundle.version}")
    for ended in report.ended:
        parts.append(f"{ended.path.rpartition('/')[2]} of {ended.source} was {without_stop(ended.words)}")
    return "; ".join(parts) + "."


def cut_flow(report: NightReport) -> CutFlow:
    """Apply the cuts one after the other, in the profile's order."""
    judged = [r for r in report.runs if r.selected is not None]
    failing = {r.run_id: {f.cut for f in r.failed} for r in judged}
    seen = dict.fromkeys(f.cut for r in judged for f in r.failed)
    order = [*report.cuts, *(c for c in seen if c not in report.cuts)]
    counts = Counter(cut for cuts in failing.values() for cut in cuts)
    alone = Counter(next(iter(cuts)) for cuts in failing.values() if len(cuts) == 1)
    remaining = set(failing)
    rows = []
    for cut in order:
        remaining -= {run for run in remaining if cut in failing[run]}
        rows.append(CutCount(cut, counts[cut], alone[cut], len(remaining)))
    chosen = {r.run_id for r in judged if r.selected}
    return CutFlow(len(judged), tuple(rows), len(chosen - remaining), len(remaining - chosen), len(chosen))


def verdict_word(run: ReportRun) -> str:
    """One word for the verdict column."""
    if run.quarantine:
        return "quarantine"
    if run.selected is None:
        return "not judged"
    if run.selected:
        return "accepted" if run.failed else "good"
    return "rejected" if run.failed else "excluded"


def explanations(run: ReportRun) -> tuple[str, ...]:
    """Why the run is what it is, in words; empty for a good run."""
    parts = []
    if run.quarantine:
        parts.append(f"{run.quarantine.stage}: {run.quarantine.cause}")
    if run.decision:
        parts.append(run.decision)
    # the sentence says what is wrong; the name of the quantity is for `lstops why`
    parts += [f.reason.replace(f": {f.quantity} is ", ": ") for f in run.failed]
    if not parts and ProductState.PENDING in (run.dl2, run.dl3):
        parts.append("waits for processing")
    return tuple(map(without_stop, parts))
