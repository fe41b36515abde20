"""The report of a request: which runs, why not the others, and plots that tell at a glance."""

from __future__ import annotations

from html import escape

import numpy as np

import lstops
from lstops.nsb.sample import IMAGE_LEVEL_BELOW_PE, STANDARD_BELOW_PE
from lstops.quality.request import NO_FIRST_DATE, NO_LAST_DATE, SelectionRequest
from lstops.quality.sky import separation_deg
from lstops.quality.targets import Position, load_targets
from lstops.report.drawing import data_uri
from lstops.report.page import number, render
from lstops.report.points import RunPoints
from lstops.report.run_plots import hours_svg, time_svg
from lstops.report.sample_plots import nsb_svg, odd_svg, pointing_svg
from lstops.report.selection_model import RejectedRun, SelectionReport

#: the list of rejected runs ends here (characters), so that the page stays light enough for an e-mail
_LIST_BUDGET = 900_000
#: lists longer than this are folded
_FOLDED_ABOVE = 40
_MARKUP_PER_ROW = 60
#: a target of the list is named where it is this near to the position asked for, or to a pointing (deg)
_SAME_SOURCE_DEG, _NEAR_DEG = 0.1, 1.5


def selection_report(report: SelectionReport) -> str:
    """The answer to a request as one HTML page that needs nothing else (no network, no script).

    Returns
    -------
    str
        Below 2 MB also for tens of thousands of runs; all text from outside is escaped.
    """
    judgement = report.judgement
    points = report.points()
    rejected = report.rejected()
    listed = _within_budget(rejected)
    near = judgement.request.angle_to_source_deg if report.source else ()
    sources = (report.source,) if report.source else _pointed_at(points)
    figures = (
        ("The runs in time", "Rate of cosmics, spectral index, NSB and zenith distance against time", time_svg(points)),
        ("Hours", "Hours of selected and rejected runs", hours_svg(points)),
    )
    small = (
        ("Pointings", pointing_svg(points, sources, tuple(near))),
        ("Night-sky background", nsb_svg(points, report.nsb.median_pe, (STANDARD_BELOW_PE, IMAGE_LEVEL_BELOW_PE))),
    )
    nights = report.nights()
    n_asked = int(report.asked.sum())
    return render(
        "selection.html.j2",
        report=report,
        version=lstops.__version__,
        generated=f"{report.generated_at:%Y-%m-%d %H:%M}",
        profile=judgement.profile,
        terms=request_terms(judgement.request, report.source),
        n_known=len(judgement.table),
        n_asked=n_asked,
        n_selected=len(points.run_number[points.standing == "selected"]),
        n_nights=sum(night.selected > 0 for night in nights),
        hours=number(report.hours, 2),
        nsb_median=number(report.nsb.median_pe, 2),
        advice=report.nsb.recommendation.advice,
        figures=[{"title": t, "alt": a, "src": data_uri(svg)} for t, a, svg in figures if svg],
        small=[{"title": title, "src": data_uri(svg)} for title, svg in small if svg],
        odd=_odd_view(report),
        flow=report.cut_flow(),
        n_turned=int((report.selected != judgement.selected).sum()),
        decisions=sorted(report.decisions.items()),
        rejected=listed,
        n_rejected=len(rejected),
        folded=len(listed) > _FOLDED_ABOVE,
        nights=nights,
    )


def request_terms(request: SelectionRequest, source: Position | None) -> tuple[tuple[str, str], ...]:
    """What was asked for, as terms and values for people."""
    terms = []
    if request.source_deg is not None:
        ra_deg, dec_deg = request.source_deg
        low, high = request.angle_to_source_deg
        name = f"{source.name}, " if source else ""
        terms.append(("source", f"{name}RA {ra_deg:g}°, dec {dec_deg:g}°, pointed {low:g}° to {high:g}° away"))
    else:
        terms.append(("source", "whole sky"))
    first, last = request.dates
    if first > NO_FIRST_DATE or last < NO_LAST_DATE:
        since = f"from {_date(first)}" if first > NO_FIRST_DATE else ""
        until = f"until {_date(last)}" if last < NO_LAST_DATE else ""
        terms.append(("nights", f"{since} {until}".strip()))
    else:
        terms.append(("nights", "all"))
    terms.append(("zenith distance", f"{request.zenith_deg[0]:g}° to {request.zenith_deg[1]:g}°"))
    terms += [(f"limit {name}", f"{value:g}") for name, value in sorted(request.changes().items())]
    return tuple(terms)


def _date(night: int) -> str:
    text = f"{night:08d}"
    return f"{text[:4]}-{text[4:6]}-{text[6:]}"


def named_source(request: SelectionRequest) -> Position | None:
    """The source of a request, by its name if the target list has it; None for the whole sky."""
    if request.source_deg is None:
        return None
    ra_deg, dec_deg = request.source_deg
    for target in _targets():
        away = separation_deg(np.array([target.ra_deg]), np.array([target.dec_deg]), request.source_deg)
        if away[0] < _SAME_SOURCE_DEG:
            return Position(target.name, ra_deg, dec_deg)
    return Position(f"RA {ra_deg:g}°, dec {dec_deg:g}°", ra_deg, dec_deg)


def _targets() -> tuple[Position, ...]:
    return tuple(Position(target.name, target.ra_deg, target.dec_deg) for target in load_targets().targets)


def _pointed_at(points: RunPoints) -> tuple[Position, ...]:
    """The targets that some run was near to."""
    return tuple(
        target
        for target in _targets()
        if np.any(separation_deg(points.ra_deg, points.dec_deg, (target.ra_deg, target.dec_deg)) < _NEAR_DEG)
    )


def _within_budget(rejected: tuple[RejectedRun, ...]) -> tuple[RejectedRun, ...]:
    size = 0
    for place, run in enumerate(rejected):
        size += _MARKUP_PER_ROW + sum(len(escape(reason).encode()) + 2 for reason in run.reasons)
        if size > _LIST_BUDGET:
            return rejected[:place]
    return rejected


def _odd_view(report: SelectionReport) -> dict[str, str] | None:
    if report.odd is None:
        return None
    words = f"Of all runs asked for: {report.odd.words}."
    return {"run": str(report.odd.run_number), "words": words, "src": data_uri(odd_svg(report.odd))}
