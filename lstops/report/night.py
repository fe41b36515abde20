"""The report of a night: one self-contained page for the shift, and the same as a table for the terminal."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lstops.report.attention import actions
from lstops.report.drawing import as_svg, data_uri
from lstops.report.model import NSB, R422, NightReport, ReportBundle, ReportRun
from lstops.report.page import duration, number, render, size_text
from lstops.report.points import points_of_night
from lstops.report.run_plots import time_svg
from lstops.report.sample_plots import odd_svg, pointing_svg
from lstops.report.source import INTEGRAL_RANGE_TEV, SourceCheck
from lstops.report.summary import cut_flow, explanations, headline, totals, verdict_word

if TYPE_CHECKING:
    from rich.table import Table

_PLOT_INCH = (4.0, 3.0)
_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_VERDICT_STYLE = {
    "good": "green",
    "accepted": "green",
    "rejected": "yellow",
    "excluded": "yellow",
    "quarantine": "bold red",
    "not judged": "dim",
}


@dataclass(frozen=True)
class _Row:
    run_id: int
    source: str
    start: str
    wobble: str
    zenith: str
    nsb: str
    r422: str
    verdict: str
    why: tuple[str, ...]
    remedy: str
    models: str
    dl2: str
    dl3: str


def _row(run: ReportRun) -> _Row:
    return _Row(
        run_id=run.run_id,
        source=run.source,
        start=f"{run.start:%H:%M}" if run.start else "–",
        wobble=run.wobble.replace(" deg", "°") or "–",
        zenith=number(run.zenith_deg, 1),
        nsb=number(run.quantity(NSB), 2),
        r422=number(run.quantity(R422), 2),
        verdict=verdict_word(run),
        why=explanations(run),
        remedy=run.quarantine.remedy if run.quarantine else "",
        models=run.models or "–",
        dl2=run.dl2.value,
        dl3=run.dl3.value,
    )


def _ratio(check: SourceCheck) -> str:
    if check.ratio is None or check.ratio_error is None:
        return ""
    return f"{check.ratio:.2f} ± {check.ratio_error:.2f} of {check.reference_name}"


def _power(value: float | None, error: float | None = None) -> str:
    """A flux with its error in one power of ten."""
    if value is None:
        return "–"
    exponent = math.floor(math.log10(abs(value))) if value else 0
    scaled = f"{value / 10**exponent:.2f}"
    if error is not None:
        scaled = f"({scaled} ± {error / 10**exponent:.2f})"
    return f"{scaled} × 10{str(exponent).translate(_SUPERSCRIPT)}"


def source_facts(check: SourceCheck) -> tuple[tuple[str, str], ...]:
    """Terms and values of a source check, for people."""
    facts = [
        ("significance", f"{check.significance:.1f} σ (Li & Ma)"),
        ("excess", f"{check.excess:.0f} events over {check.background:.1f}"),
        ("live time", f"{duration(check.live_time_s)}, {len(check.runs)} run{'s' if len(check.runs) != 1 else ''}"),
        ("energies", f"{check.energy_range_tev[0]:g} to {check.energy_range_tev[1]:g} TeV"),
        (f"flux > {1000 * INTEGRAL_RANGE_TEV[0]:.0f} GeV", f"{_power(check.flux, check.flux_error)} /(cm² s)"),
        ("against" if check.expected else "in units", f"{_ratio(check) or '–'}"),
    ]
    if check.points_ratio is not None and check.points_ratio_error is not None:
        value = f"{check.points_ratio:.2f} ± {check.points_ratio_error:.2f} of {check.reference_points_name}"
        facts.append(("flux points", value))
    if check.region_deg is not None:
        facts.append(("regions", f"{check.region_deg:g}° in radius, full-enclosure responses"))
    if s := check.spectrum:
        fitted = {"alpha": s.alpha_error, "beta": s.beta_error}
        shape = [
            f"{name} {value:.2f}" + (f" ± {fitted[name]:.2f}" if name in check.free else " (fixed)")
            for name, value in (("alpha", s.alpha), ("beta", s.beta))
        ]
        facts.append(("log parabola", ", ".join(shape)))
    facts += [("skipped", f"run {run}: {why}") for run, why in sorted(check.skipped.items())]
    if check.note:
        facts.append(("note", check.note))
    return tuple(facts)


def _check_view(check: SourceCheck) -> dict[str, Any]:
    from lstops.report.look_plots import look_views, looks_words
    from lstops.report.source_plots import draw_light_curve, draw_spectrum, draw_theta2

    plots = [("theta squared, on and off", draw_theta2)]
    if check.spectrum:
        plots.append(("spectrum against the reference", draw_spectrum))
    if len(check.light_curve) > 1:
        plots.append(("flux of each run", draw_light_curve))
    return {
        "looks": look_views(check),
        "looks_words": looks_words(check),
        "name": check.source_name,
        "significance": f"{check.significance:.1f} σ",
        "ratio": f"{check.ratio:.2f} ± {check.ratio_error:.2f}" if check.ratio and check.ratio_error else "",
        "gammapy": check.gammapy_version,
        "facts": source_facts(check),
        "plots": [
            {"alt": alt, "src": data_uri(as_svg(lambda f, d=draw: d(f.subplots(), check), _PLOT_INCH))}  # type: ignore[misc]
            for alt, draw in plots
        ],
    }


def _bundle_view(bundle: ReportBundle) -> dict[str, Any]:
    n = len(bundle.runs)
    return {**vars(bundle), "size": size_text(bundle.size_bytes), "n_runs": f"{n} run{'s' if n != 1 else ''}"}


def night_report(report: NightReport) -> str:
    """The report as one HTML page that needs nothing else (no network, no script).

    Returns
    -------
    str
        All text from outside is escaped; plots are embedded.
    """
    todo = actions(report)
    points = points_of_night(report)
    plot, pointings = time_svg(points, report.subruns), pointing_svg(points, report.sources)
    t = totals(report)
    n = report.night
    return render(
        "night.html.j2",
        report=report,
        night_iso=f"{n[:4]}-{n[4:6]}-{n[6:]}" if len(n) == 8 else n,
        generated=f"{report.generated_at:%Y-%m-%d %H:%M}",
        headline=headline(report),
        mood="nothing" if t.judged and not report.published else "attention" if todo else "",
        actions=todo,
        totals=t,
        published_time=duration(t.published_s),
        # one production for all is said once, below
        show_models=len({r.models for r in report.runs if r.models}) > 1,
        rows=[_row(r) for r in sorted(report.runs, key=lambda r: r.run_id)],
        night_plot=data_uri(plot) if plot else "",
        pointing_plot=data_uri(pointings) if pointings else "",
        odd_plot=data_uri(odd_svg(report.odd)) if report.odd else "",
        checks=[_check_view(c) for c in report.checks],
        flow=cut_flow(report),
        bundles=[_bundle_view(b) for b in report.published],
    )


def night_table(report: NightReport) -> Table:
    """The runs as a table for the terminal, with the headline as title and what needs a person as caption."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    todo = actions(report)
    rows = [_row(run) for run in sorted(report.runs, key=lambda run: run.run_id)]
    # reasons, causes and remedies stand below the table, which then fits 80 columns
    caption = Text()
    for row in rows:
        if row.why and row.verdict != "quarantine":
            caption.append(f"{row.run_id} {row.verdict}: {'; '.join(row.why)}\n", style="not bold")
    caption.append(
        "Nothing needs a person." if not todo else "Needs a person:", style="bold green" if not todo else "bold"
    )
    for action in todo:
        caption.append(f"\n{action.subject}: {action.cause}\n  → {action.remedy}", style="not bold yellow")
    for production in report.productions:
        level = "" if production.nsb_level_ghz is None else f" (NSB {production.nsb_level_ghz:.2f} GHz)"
        runs = ", ".join(map(str, production.runs))
        caption.append(f"\nModels of {production.name}{level}: runs {runs}", style="not bold")
    for check in report.checks:
        ratio = f", flux {_ratio(check)}" if check.ratio else ""
        caption.append(f"\n{check.source_name}: {check.significance:.1f} σ{ratio}", style="not bold cyan")
    table = Table(
        title=Text(f"LST-1, night {report.night}: {headline(report)}"),
        caption=caption,
        title_style="bold",
        caption_justify="left",
        title_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
    )
    for name in ("Run", "Source", "Start", "Zenith", "NSB", "dR/dI", "Verdict", "DL2", "DL3"):
        table.add_column(
            name,
            justify="right" if name in ("Zenith", "NSB", "dR/dI") else "left",
            overflow="fold",
            no_wrap=name != "Source",
            min_width=len("PEDCALIB") if name == "Source" else None,
        )
    for row in rows:
        states = ["–" if s == "none" else s for s in (row.dl2, row.dl3)]
        # Text, not markup: a source called "[red]" is only a name
        cells = (str(row.run_id), row.source, row.start, row.zenith, row.nsb, row.r422)
        table.add_row(*map(Text, cells), Text(row.verdict, style=_VERDICT_STYLE[row.verdict]), *map(Text, states))
    return table
