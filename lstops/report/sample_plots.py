"""Plots of a sample of runs: where they pointed, how bright their sky was, and the run that oscillates most."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from lstops.quality.tables import FloatArray
from lstops.quality.targets import Position
from lstops.report.drawing import GOOD, INK, LIMIT, MANY, OTHER, SOFT, STOPPED, as_svg, plain, say, tidy
from lstops.report.odd import OddRun
from lstops.report.points import RunPoints, Standing
from lstops.report.run_plots import STYLES, limits_for

_SQUARE_INCH = (5.4, 4.2)
#: pointings all within this of the source are drawn as offsets from it (deg)
_NEAR_DEG = 5.0
#: pointings within such a cell count as one; with more cells than this their counts would only be in the way
_CELL_DEG, _MOST_LABELS = 0.1, 16


def pointing_svg(points: RunPoints, sources: Sequence[Position], circles_deg: tuple[float, ...] = ()) -> bytes | None:
    """Where the runs pointed, with the sources; None if no pointing is known.

    One source, and all runs near it: offsets from it. Otherwise the sky in right ascension and declination.

    Parameters
    ----------
    points : RunPoints
    sources : sequence of Position
        What to mark.
    circles_deg : tuple of float
        Radii around a single source: the range of offsets that was asked for.
    """
    shown = points.take(np.isfinite(points.ra_deg) & np.isfinite(points.dec_deg))
    if not len(shown):
        return None
    if len(sources) == 1:
        x, y = _offsets(shown, sources[0])
        if np.max(np.hypot(x, y)) <= _NEAR_DEG:
            return as_svg(lambda f: _draw_near(f.subplots(), shown, sources[0], x, y, circles_deg), _SQUARE_INCH)
    return as_svg(lambda f: _draw_sky(f.subplots(), shown, sources), _SQUARE_INCH)


def _offsets(points: RunPoints, source: Position) -> tuple[FloatArray, FloatArray]:
    """Offsets in right ascension (times the cosine of the declination) and declination, in degrees."""
    across = (points.ra_deg - source.ra_deg + 180) % 360 - 180
    return across * np.cos(np.deg2rad(source.dec_deg)), points.dec_deg - source.dec_deg


def _scatter(axis: Any, points: RunPoints, x: FloatArray, y: FloatArray) -> None:
    many = len(points) > MANY
    for standing, members in points.groups():
        axis.scatter(
            x[members], y[members], s=12 if many else 30, label=standing.value, linewidths=0,
            alpha=0.5 if many else 0.8, rasterized=many, **STYLES[standing],
        )  # fmt: skip


def _draw_near(
    axis: Any, points: RunPoints, source: Position, x: FloatArray, y: FloatArray, circles_deg: tuple[float, ...]
) -> None:
    tidy(axis)
    _scatter(axis, points, x, y)
    angle = np.linspace(0, 2 * np.pi, 181)
    for k, radius in enumerate(circles_deg):
        label = f"{' to '.join(f'{r:g}' for r in circles_deg)} deg" if k == 0 else None
        axis.plot(radius * np.cos(angle), radius * np.sin(angle), "--", color=LIMIT, lw=1, label=label)
    axis.plot(0, 0, "*", color=INK, ms=11, label=plain(source.name))
    _count_clusters(axis, points, x, y)
    reach = 1.15 * max(float(np.max(np.hypot(x, y))), *circles_deg, 0.1)
    axis.set(xlim=(reach, -reach), ylim=(-reach, reach), aspect="equal")
    axis.set(xlabel=r"$\Delta$RA cos(dec) (deg), east is left", ylabel=r"$\Delta$dec (deg)")
    _legend_above(axis)


def _draw_sky(axis: Any, points: RunPoints, sources: Sequence[Position]) -> None:
    tidy(axis)
    _scatter(axis, points, points.ra_deg, points.dec_deg)
    for source in sources:
        near = np.hypot(*_offsets(points, source)) < _NEAR_DEG
        name = f"{plain(source.name)}: {_counts(points, near)}"
        # the name stands on the side of the middle, where there is room
        side = {"xytext": (7, 4), "ha": "left"} if source.ra_deg > 120 else {"xytext": (-7, 4), "ha": "right"}
        place = (source.ra_deg, source.dec_deg)
        axis.annotate(name, place, textcoords="offset points", fontsize=8, color=SOFT, **side)
    axis.set(xlim=(360, 0), xticks=range(0, 361, 60), xlabel="right ascension (deg)", ylabel="declination (deg)")
    low, high = float(points.dec_deg.min()), float(points.dec_deg.max())
    axis.set_ylim(max(-90, low - 8), min(90, high + 8))
    axis.plot([], [], " ", label="selected / all runs")
    _legend_above(axis)


def _counts(points: RunPoints, rows: Any) -> str:
    return f"{int((points.standing[rows] == Standing.SELECTED.value).sum())} / {int(rows.sum())}"


def _count_clusters(axis: Any, points: RunPoints, x: FloatArray, y: FloatArray) -> None:
    """Write how many runs lie on top of each other, unless they are scattered."""
    cells, place = np.unique(np.round(np.stack([x, y]) / _CELL_DEG), axis=1, return_inverse=True)
    if cells.shape[1] > _MOST_LABELS:
        return
    for k in range(cells.shape[1]):
        rows = place.ravel() == k
        axis.annotate(
            _counts(points, rows), (float(x[rows].mean()), float(y[rows].mean())), xytext=(0, 8),
            textcoords="offset points", ha="center", fontsize=8.5, color=SOFT,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 1, "alpha": 0.85},
        )  # fmt: skip


def _legend_above(axis: Any) -> None:
    legend = axis.figure.legend(loc="outside upper left", ncols=4, frameon=False, fontsize=8.5, handletextpad=0.2)
    for handle in legend.legend_handles:
        if hasattr(handle, "set_sizes"):
            handle.set_sizes([38])
            handle.set_alpha(1)


def nsb_svg(points: RunPoints, median_pe: float, borders_pe: tuple[float, ...] = ()) -> bytes | None:
    """How many runs had which NSB; None if it is known of none.

    Parameters
    ----------
    points : RunPoints
    median_pe : float
        Of the selected runs; NaN if unknown.
    borders_pe : tuple of float
        Between the recommendations for the Monte Carlo.
    """
    shown = points.take(np.isfinite(points.nsb_pe))
    return as_svg(lambda f: _draw_nsb(f.subplots(), shown, median_pe, borders_pe), _SQUARE_INCH) if len(shown) else None


def _draw_nsb(axis: Any, points: RunPoints, median_pe: float, borders_pe: tuple[float, ...]) -> None:
    tidy(axis)
    low, high = limits_for(points.nsb_pe)
    edges = np.linspace(max(low, 0), high, 36)
    bottom = np.zeros(len(edges) - 1)
    for standing in (Standing.SELECTED, Standing.REJECTED, Standing.QUARANTINE):
        values = points.nsb_pe[points.standing == standing.value]
        if len(values):
            counts, _ = np.histogram(np.clip(values, edges[0], edges[-1]), edges)
            axis.stairs(
                bottom + counts, edges, baseline=bottom, fill=True, color=STYLES[standing]["color"],
                hatch="////" if standing is Standing.REJECTED else None, ec="white", lw=0.3, label=standing.value,
            )  # fmt: skip
            bottom += counts
    if np.isfinite(median_pe):
        axis.axvline(median_pe, color=INK, lw=1.6, label=f"median of selected {median_pe:.2f} p.e.")
    for k, border in enumerate(b for b in borders_pe if edges[0] < b < edges[-1]):
        axis.axvline(border, color=LIMIT, lw=1, ls="--", label="other Monte Carlo beyond" if k == 0 else None)
    for k, limit in enumerate(points.limits.get("nsb_pe", ())):
        axis.axvline(limit, color=STOPPED, lw=1, ls=":", label="limit" if k == 0 else None)
    axis.set(xlabel="NSB: std of the pedestal charge (p.e.)", ylabel="runs", xlim=(edges[0], edges[-1]))
    axis.set_ylim(0, 1.05 * max(bottom.max(), 1))
    axis.legend(loc="best", frameon=False, fontsize=8.5)


def odd_svg(odd: OddRun) -> bytes:
    """The rate of a run against time, and its periodogram with the strongest period."""
    return as_svg(lambda figure: _draw_odd(figure, odd), (11.5, 2.9))


def _draw_odd(figure: Any, odd: OddRun) -> None:
    curve, spectrum = figure.subplots(1, 2, gridspec_kw={"width_ratios": (1.5, 1)})
    tidy(curve)
    curve.plot(odd.time_s / 60, odd.r422, ".-", color=GOOD, lw=0.7, ms=4)
    curve.set_ylim(*limits_for(odd.r422))
    curve.set(xlabel=f"time since the start of run {odd.run_number} (min)")
    curve.set_ylabel("d$R$/d$I$ at 422 p.e.\n(s$^{-1}$ p.e.$^{-1}$)")
    tidy(spectrum)
    if not np.isfinite(odd.power).any():
        say(spectrum, "no periodogram")
        return
    period, power = odd.peak
    spectrum.plot(odd.periods_s, odd.power, color=GOOD, lw=1.4)
    longest = float(odd.periods_s.max())
    spectrum.axvspan(min(float(np.ptp(odd.time_s)), longest), longest, color=OTHER, alpha=0.15, lw=0)
    spectrum.plot(period, power, "v", color=STOPPED, ms=8, clip_on=False)
    late = period > 1500
    spectrum.annotate(
        _period_text(period), (period, power), xytext=(-9 if late else 9, -4), textcoords="offset points",
        ha="right" if late else "left", va="top", fontsize=9, fontweight="bold",
    )  # fmt: skip
    spectrum.set(xscale="log", xlabel="period (s); grey: longer than the run", ylim=(0, 1.12 * power))
    spectrum.set_ylabel("Lomb-Scargle power\n(s$^{-2}$ p.e.$^{-2}$)")
    spectrum.set_xlim(float(odd.periods_s.min()), longest)


def _period_text(period_s: float) -> str:
    return f"{period_s:.0f} s" if period_s < 600 else f"{period_s / 60:.0f} min"
