"""Plots of a night, as SVG: cosmics rate, NSB and zenith against time, with selected and rejected runs."""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from lstops.report.model import NSB, R422, NightReport, ReportRun

#: blue and orange can be told apart with every kind of colour vision; the marker says it again
_GOOD, _BAD, _STOPPED, _OTHER = "#1f5fa8", "#d9730d", "#b3261e", "#8a939b"
_SIZE_INCH = (11.5, 5.0)
_MARGIN = timedelta(minutes=15)

_Value = Callable[[ReportRun], "float | None"]


def as_svg(draw: Callable[[Any], None], size_inch: tuple[float, float]) -> bytes:
    """Draw into a new figure and return it as SVG.

    Parameters
    ----------
    draw : callable
        Takes the figure.
    """
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    settings = {
        # text as text: smaller and sharp; hashsalt: the same data give the same file
        "svg.fonttype": "none",
        "svg.hashsalt": "lstops",
        "font.family": "sans-serif",
        "font.sans-serif": ["Helvetica", "Arial", "DejaVu Sans"],
        "font.size": 10,
    }
    with matplotlib.rc_context(settings):
        figure = Figure(figsize=size_inch, layout="constrained")
        FigureCanvasSVG(figure)
        draw(figure)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": "lstops"})
    return buffer.getvalue()


def night_svg(report: NightReport) -> bytes | None:
    """Three panels over UTC; None if nothing is known of any run (calibration runs have nothing to show)."""
    values: tuple[_Value, ...] = (_rate, _nsb, _zenith)
    runs = [r for r in report.runs if r.start is not None and any(v(r) is not None for v in values)]
    if not runs:
        return None
    return as_svg(lambda figure: _draw(figure, runs), _SIZE_INCH)


def _draw(figure: Any, runs: list[ReportRun]) -> None:
    from matplotlib.dates import AutoDateLocator, DateFormatter

    panels: tuple[tuple[str, _Value], ...] = (
        ("d$R$/d$I$ at 422 p.e.\n(s$^{-1}$ p.e.$^{-1}$)", _rate),
        ("NSB, pedestal\nstd (p.e.)", _nsb),
        ("zenith\ndistance (deg)", _zenith),
    )
    axes = figure.subplots(3, 1, sharex=True, gridspec_kw={"height_ratios": (1.5, 1, 1)})
    groups = (
        ("selected", [r for r in runs if r.selected and not r.quarantine], {"marker": "o", "color": _GOOD}),
        ("rejected", [r for r in runs if r.selected is False and not r.quarantine], {"marker": "X", "color": _BAD}),
        ("quarantine", [r for r in runs if r.quarantine], {"marker": "s", "color": _STOPPED}),
        ("not judged", [r for r in runs if r.selected is None and not r.quarantine], {"marker": "d", "color": _OTHER}),
    )
    for axis, (label, value) in zip(axes, panels, strict=True):
        values = [v for r in runs if (v := value(r)) is not None]
        for name, members, style in groups:
            points = [(r, v) for r in members if (v := value(r)) is not None]
            if members:
                axis.scatter(
                    [r.start for r, _ in points],
                    [v for _, v in points],
                    s=38,
                    zorder=3,
                    label=name,
                    linewidths=0,
                    **style,
                )
        axis.set_ylabel(label)
        axis.grid(visible=True, color="#e4e7ea", lw=0.7)
        axis.spines[["top", "right"]].set_visible(False)
        if not values:
            axis.text(0.5, 0.5, "not measured", transform=axis.transAxes, ha="center", va="center", color=_OTHER)
            axis.set_yticks([])
        else:
            _limits(axis, values)
    for run in runs:
        height = _rate(run)
        if height is not None:
            place = {"xytext": (0, 7), "textcoords": "offset points", "ha": "center"}
            axes[0].annotate(str(run.run_id), (run.start, height), fontsize=7.5, color="#5b6670", **place)
    axes[2].invert_yaxis()  # high in the sky is up
    axes[0].legend(loc="upper left", bbox_to_anchor=(0, 1.28), ncols=4, frameon=False, handletextpad=0.2)
    starts = [r.start for r in runs if r.start is not None]
    # half an hour at least, also around a single run
    axes[2].set_xlim(min(starts) - _MARGIN, max(starts) + _MARGIN)
    axes[2].xaxis.set_major_locator(AutoDateLocator(maxticks=9))
    axes[2].xaxis.set_major_formatter(DateFormatter("%H:%M"))
    axes[2].set_xlabel("UTC")


def _rate(run: ReportRun) -> float | None:
    return run.quantity(R422)


def _nsb(run: ReportRun) -> float | None:
    return run.quantity(NSB)


def _zenith(run: ReportRun) -> float | None:
    return run.zenith_deg if run.zenith_deg is not None and math.isfinite(run.zenith_deg) else None


def _limits(axis: Any, values: list[float]) -> None:
    """Room above and below, also for a single value; a night without changes must not look like noise."""
    low, high = min(values), max(values)
    middle, half = (low + high) / 2, max((high - low) / 2, 0.05 * abs(low + high) / 2, 1e-3)
    axis.set_ylim(middle - 1.45 * half, middle + 1.45 * half)
