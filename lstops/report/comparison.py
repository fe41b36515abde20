"""The page that compares a reprocessing with what was there, night by night."""

from __future__ import annotations

import math
from typing import Any

from lstops.report.comparison_model import Comparison, Pair, Side
from lstops.report.drawing import GOOD, OTHER, as_svg, data_uri, plain, say, tidy
from lstops.report.page import number, plural, render
from lstops.report.source import INTEGRAL_RANGE_TEV

#: fluxes are shown in units of this, 1 / (cm2 s)
_FLUX_UNIT = 1e-11
_WIDTH_INCH, _HEIGHT_INCH = 11.0, 2.4


def comparison_page(comparison: Comparison) -> str:
    """The page: one HTML file that needs nothing else; all text from outside is escaped."""
    old, new = comparison.totals
    return render(
        "comparison.html.j2",
        c=comparison,
        headline=headline(comparison),
        changes=", ".join(f"{name} {value}" for name, value in comparison.changes.items()) or "nothing",
        made_at=f"{comparison.made_at:%Y-%m-%d %H:%M}",
        threshold_gev=f"{1000 * INTEGRAL_RANGE_TEV[0]:.0f}",
        totals=[{"runs": t.runs, "hours": f"{t.hours:.2f}", "flux": _flux(t.flux, t.flux_error)} for t in (old, new)],
        rows=[_row(pair) for pair in comparison.pairs],
        plot=data_uri(as_svg(lambda figure: _draw(figure, comparison), (_WIDTH_INCH, 2 * _HEIGHT_INCH))),
    )


def headline(comparison: Comparison) -> str:
    """The result in a sentence."""
    old, new = comparison.totals
    nights = len({pair.night for pair in comparison.pairs})
    said = f"{plural(nights, 'night')}: {new.hours:.2f} h in {plural(new.runs, 'run')}, before {old.hours:.2f} h in "
    said += plural(old.runs, "run")
    if comparison.ratio is not None:
        said += f"; mean flux {comparison.ratio:.3f} of what it was"
    if comparison.unfinished:
        said += f"; {plural(len(comparison.unfinished), 'night')} not finished"
    return f"{said}."


def _row(pair: Pair) -> dict[str, Any]:
    return {
        "night": pair.night,
        "source": pair.source,
        "old": _cells(pair.old),
        "new": _cells(pair.new),
        "ratio": number(pair.ratio, 3),
        "gained": ", ".join(map(str, pair.gained)),
        "lost": sorted(pair.lost.items()),
    }


def _cells(side: Side | None) -> dict[str, str]:
    if side is None:
        return {"hours": "–", "runs": "–", "significance": "–", "flux": "–", "version": "not published", "made": ""}
    return {
        "hours": number(None if side.live_time_s is None else side.live_time_s / 3600, 2),
        "runs": str(len(side.runs)),
        "significance": number(side.significance, 1),
        "flux": _flux(side.flux, side.flux_error),
        "version": side.version,
        "made": f"{side.profile}, {side.cuts}, {side.production}",
    }


def _flux(value: float | None, error: float | None) -> str:
    if value is None or error is None:
        return "–"
    return f"{value / _FLUX_UNIT:.2f} ± {error / _FLUX_UNIT:.2f}"


def _draw(figure: Any, comparison: Comparison) -> None:
    """Flux and hours of each night, old and new."""
    flux, hours = figure.subplots(2, 1, sharex=True)
    pairs = comparison.pairs
    for shift, label, colour, marker in ((-0.12, "old", OTHER, "s"), (0.12, "new", GOOD, "o")):
        sides = [getattr(pair, label) for pair in pairs]
        points = [(i, s) for i, s in enumerate(sides) if s and s.flux is not None and s.flux_error]
        if points:
            places, values = [i + shift for i, _ in points], [s.flux / _FLUX_UNIT for _, s in points]
            errors = [s.flux_error / _FLUX_UNIT for _, s in points]
            flux.errorbar(places, values, yerr=errors, fmt=marker, color=colour, ms=5, lw=1.2, label=label)
        known = [(i, s.live_time_s / 3600) for i, s in enumerate(sides) if s and s.live_time_s is not None]
        hours.bar([i + shift for i, _ in known], [h for _, h in known], width=0.22, color=colour, label=label)
    if flux.has_data():
        flux.legend(frameon=False, fontsize=9)
    else:
        say(flux, "no flux was measured")
    flux.set_ylabel("flux (10$^{-11}$ cm$^{-2}$ s$^{-1}$)")
    hours.set_ylabel("live time (h)")
    step = max(1, math.ceil(len(pairs) / 20))
    hours.set_xticks(range(0, len(pairs), step))
    names = [plain(f"{pair.night}\n{pair.source}") for pair in pairs]
    hours.set_xticklabels(names[::step], fontsize=8)
    for axis in (flux, hours):
        tidy(axis)
