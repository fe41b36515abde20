"""Answers about runs as text for a terminal."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from lstops.catalog.runcolumns import Column
from lstops.catalog.runformats import bars, why_nothing
from lstops.catalog.runlist import RunList
from lstops.catalog.runwhy import RunAnswer
from lstops.nsb.tailcuts import cleaning_ladder
from lstops.quality.overlay import OverlayAction
from lstops.quality.tables import IntArray

#: more rejected runs than these are only counted, unless they are asked for
_FEW = 30


def run_list_text(answer: RunList, columns: Sequence[Column], rows: IntArray, rejected: bool) -> str:
    """Return a run list with hours, NSB, cut flow and what was rejected.

    Parameters
    ----------
    rows : array of int
        Rows of the history that are listed.
    rejected : bool
        Also list the rejected runs with their reasons, however many they are.
    """
    lines = [_question(answer), "", *_table(answer, columns, rows), *([""] if len(rows) else [])]
    if not answer.runs:
        lines += [why_nothing(answer), ""]
    lines += [*_hours(answer), *_nsb(answer), *_flow(answer), *_rejected(answer, rejected)]
    return "\n".join(lines).rstrip() + "\n"


def _question(answer: RunList) -> str:
    request = answer.judgement.request
    parts = [f"profile {answer.profile.name}"]
    if request.source_deg:
        low, high = request.angle_to_source_deg
        parts.append("{:g} to {:g} deg from RA {:.4f} dec {:.4f} deg".format(low, high, *request.source_deg))
    if answer.own_sources is not None:
        parts.append("each run at its own source")
    parts.append("zenith distance {:g} to {:g} deg".format(*request.zenith_deg))
    if nights := answer.history.nights:
        parts.append(f"{len(nights)} nights from {nights[0].iso} to {nights[-1].iso}")
    changes = (f"{name} = {value}" for name, value in request.changes().items())
    return ", ".join((*parts, *changes))


def _table(answer: RunList, columns: Sequence[Column], rows: IntArray) -> Iterator[str]:
    if not len(rows):
        return
    cells = [
        [column.heading, _unit(column), *(_shown(value, column) for value in column.of(answer, rows))]
        for column in columns
    ]
    widths = [max(map(len, column)) for column in cells]
    # what is empty for all runs, such as decisions where nobody decided anything, takes no room
    kept = [i for i, column in enumerate(cells) if any(column[2:])]
    right = [isinstance(columns[i].of(answer, rows[:1])[0], int | float | None) for i in kept]
    for line in zip(*(cells[i] for i in kept), strict=True):
        padded = (
            text.rjust(widths[i]) if flush else text.ljust(widths[i])
            for i, text, flush in zip(kept, line, right, strict=True)
        )
        yield "  ".join(padded).rstrip()


def _unit(column: Column) -> str:
    return f"({column.unit})" if column.unit else ""


def _shown(value: Any, column: Column) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None:
        return ""
    return f"{value:.{column.digits}f}" if isinstance(value, float) else str(value)


def _hours(answer: RunList) -> Iterator[str]:
    yield f"{len(answer.runs)} runs in {len(answer.nights)} nights, {answer.hours:.2f} h"
    if answer.good_time is None and answer.hours_dropped:
        yield f"  without {answer.hours_dropped:.2f} h of subruns that people dropped"
    if answer.good_time is not None:
        yield (
            f"  good time only: {answer.hours_gained:.2f} h gained of runs that are lost as a whole, "
            f"{answer.hours_trimmed:.2f} h of bad time cut out of good runs"
        )
    for item in answer.nights:
        yield f"  {item.night.iso}  {item.n_runs:4d} runs  {item.hours:7.2f} h"


def _nsb(answer: RunList) -> Iterator[str]:
    nsb = answer.nsb
    without = f" ({nsb.n_runs_without} runs without)" if nsb.n_runs_without else ""
    level = "" if math.isnan(nsb.median_pe) else f"NSB: median {nsb.median_pe:.3f} p.e.{without} "
    yield f"{level}{nsb.recommendation.advice}"
    yield from bars(answer.table.mean_diffuse_nsb_std_pe)
    if nsb.typical:
        yield "  typical subruns: " + ", ".join(f"{t.run_number}.{t.subrun:04d}" for t in nsb.typical)


def _flow(answer: RunList) -> Iterator[str]:
    yield f"Cut flow of {len(answer.history)} runs:"
    for name, alone, left in answer.judgement.cut_flow():
        yield f"  {name:32} {alone:6d} pass {left:6d} left"
    counts = {action: answer.decided(action) for action in OverlayAction}
    if any(counts.values()):
        yield "  decisions of people: " + ", ".join(f"{n} {action.value}" for action, n in counts.items() if n)


def _rejected(answer: RunList, everything: bool) -> Iterator[str]:
    n_rejected = int((answer.in_question & ~answer.selected).sum())
    yield f"Rejected: {n_rejected} of {int(answer.in_question.sum())} runs in question"
    for name, failing, alone in answer.lost_by_cut():
        yield f"  {name:32} {failing:6d} fail {alone:6d} fail nothing else"
    if n_rejected > _FEW and not everything:
        yield "  list them with --rejected"
        return
    for item in answer.rejected:
        night = item.verdict.night.iso if item.verdict.night else ""
        yield f"  {item.run_number} {night}: {'; '.join(item.reasons)}"


def run_answer_text(answer: RunAnswer) -> str:
    """Return why a run is taken or not, and what became of it."""
    return "\n".join([*_verdict(answer), *_decisions(answer), *_run_nsb(answer), *_fate(answer)]) + "\n"


def _verdict(answer: RunAnswer) -> Iterator[str]:
    said = answer.verdict.verdict
    where = [f"Run {said.run_number}", f"night {said.night.iso}" if said.night else "", answer.source]
    where += [f"{answer.start:%H:%M:%S} UTC" if answer.start else ""]
    where += [f"zenith {answer.zenith_deg:.1f} deg", f"{answer.elapsed_s:.0f} s"]
    yield ", ".join(filter(None, where))
    held = "taken" if answer.verdict.selected else "not taken"
    yield f"{held}: profile {said.profile} says {'selected' if said.selected else 'rejected'}" + (
        f"; {answer.verdict.decision}" if answer.verdict.records else ""
    )
    for item in said.results:
        margin = "unknown" if math.isnan(item.margin) else f"{item.margin:+.3g} {item.unit}".strip()
        yield f"  {'ok    ' if item.passed else 'FAILED'} {item.cut:30} {item.comparison} (margin {margin})"
        if not item.passed:
            yield f"         {item.failure}."


def _decisions(answer: RunAnswer) -> Iterator[str]:
    yield "Decisions:" if answer.decisions else "Decisions: none"
    for record in answer.decisions:
        yield f"  {record.id}: {record.words}"
    if answer.good_time is not None:
        yield f"Good time: {answer.good_time.words}"
        if answer.verdict.dropped_subruns:
            yield "  (without the subruns that people dropped)"


def _run_nsb(answer: RunAnswer) -> Iterator[str]:
    if math.isnan(answer.nsb_std_pe):
        yield "NSB: unknown, no interleaved pedestals"
    else:
        yield f"NSB: spread of the pedestal charge {answer.nsb_std_pe:.3f} p.e. {answer.recommendation.advice}"
    found = answer.measured_nsb
    if found is None:
        yield "  the tailcut finder has not measured it"
        return
    charge = "" if found.quantile_pe is None else f", pedestal charge {found.quantile_pe:.2f} p.e."
    yield f"  tailcut finder: {found.extra_ghz:.2f} GHz above the dark Monte Carlo, cleaning {found.tailcut}{charge}"
    rungs = (
        f"{'*' if tailcut == found.tailcut else ''}{tailcut}" + ("" if math.isinf(ghz) else f" to {ghz:.2f}")
        for tailcut, _, ghz in cleaning_ladder()
    )
    yield f"  cleaning ladder (GHz): {', '.join(rungs)}"


def _fate(answer: RunAnswer) -> Iterator[str]:
    for judged in answer.judged:
        held = "taken" if judged.selected else "not taken"
        yield f"Nightly chain, profile {judged.profile}, {judged.at:%Y-%m-%d %H:%M}: {held}"
    for blocked in answer.blocked:
        yield f"Blocked at {blocked.stage}: {blocked.cause}"
        yield f"  what helps: {blocked.remedy}"
    yield "Made from it:" if answer.uses else "Made from it: nothing that the catalogue knows"
    for use in answer.uses:
        yield f"  {use.kind:<12} {use.status:<10} {use.path}"
