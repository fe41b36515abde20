"""Plots of runs against time: cosmics rate, spectral index, NSB and zenith distance, and the hours of each night."""

from __future__ import annotations

from typing import Any

import numpy as np

from lstops.quality.tables import FloatArray
from lstops.report.drawing import BAD, GOOD, INK, LIMIT, MANY, OTHER, SOFT, STOPPED, as_svg, say, tidy
from lstops.report.model import SubrunRates
from lstops.report.points import RunPoints, Standing

STYLES: dict[Standing, dict[str, Any]] = {
    Standing.SELECTED: {"marker": "o", "color": GOOD},
    Standing.REJECTED: {"marker": "X", "color": BAD},
    Standing.QUARANTINE: {"marker": "s", "color": STOPPED},
    Standing.NOT_JUDGED: {"marker": "d", "color": OTHER},
}
#: column, label, height; zenith is drawn downwards: high in the sky is up
_PANELS = (
    ("r422", "d$R$/d$I$ at 422 p.e.\n(s$^{-1}$ p.e.$^{-1}$)", 1.7),
    ("index", "spectral index\nat 422 p.e.", 1.0),
    ("nsb_pe", "NSB, pedestal\nstd (p.e.)", 1.0),
    ("zenith_deg", "zenith\ndistance (deg)", 1.0),
)
_SIZE_INCH = (11.5, 7.2)
#: runs up to this many are drawn with their duration and number, and subruns behind them
_FEW = 45
_DAY_S = 86400.0
#: nights over more days than this are put together by month
_DAYS_OF_BARS = 250


def time_svg(points: RunPoints, subruns: SubrunRates | None = None) -> bytes | None:
    """Four panels over UTC.

    Parameters
    ----------
    points : RunPoints
    subruns : SubrunRates, optional
        Drawn behind the runs.

    Returns
    -------
    bytes or None
        None if nothing is known of any run (calibration runs have nothing to show).
    """
    known = np.isfinite(points.start_s) & np.any([np.isfinite(getattr(points, n)) for n, _, _ in _PANELS], axis=0)
    shown = points.take(known)
    return as_svg(lambda figure: _draw(figure, shown, subruns), _SIZE_INCH) if len(shown) else None


def _draw(figure: Any, points: RunPoints, subruns: SubrunRates | None) -> None:
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    axes = figure.subplots(len(_PANELS), 1, sharex=True, gridspec_kw={"height_ratios": [h for _, _, h in _PANELS]})
    few = len(points) <= _FEW
    if subruns is not None:
        time, rate = subruns.time_s, subruns.r422
        kept = np.isfinite(rate)
        axes[0].scatter(
            _utc(time[kept]), rate[kept], s=3, color="#b8c0c7", linewidths=0, rasterized=kept.sum() > MANY,
            label="subruns", zorder=1,
        )  # fmt: skip
    for axis, (column, label, _) in zip(axes, _PANELS, strict=True):
        _panel(axis, points, column, few, subruns)
        axis.set_ylabel(label)
    if few:
        _numbers(axes[0], points)
    axes[-1].invert_yaxis()
    handles, labels = axes[0].get_legend_handles_labels()
    legend = figure.legend(handles, labels, loc="outside upper left", ncols=8, frameon=False, handletextpad=0.2)
    for handle in legend.legend_handles:
        if hasattr(handle, "set_sizes"):
            handle.set_sizes([38])  # small points are hard to tell apart in the legend
            handle.set_alpha(1)
    # half an hour at least, also around a single run
    margin = max(900.0, 0.015 * float(np.ptp(points.start_s)))
    axes[-1].set_xlim(*_utc(np.array([points.start_s.min() - margin, np.nanmax(_ends(points)) + margin])))
    locator = AutoDateLocator(minticks=3, maxticks=10)
    axes[-1].xaxis.set_major_locator(locator)
    axes[-1].xaxis.set_major_formatter(ConciseDateFormatter(locator))
    axes[-1].set_xlabel("UTC")


def _seen(values: FloatArray, points: RunPoints, column: str, subruns: SubrunRates | None) -> tuple[float, ...]:
    """What an axis has to show besides most of the runs."""
    lines = points.limits.get(column, ())
    if column == "zenith_deg":  # has no absurd values
        return (*lines, float(values.min()), float(values.max()))
    if column == "r422" and subruns is not None and np.isfinite(subruns.r422).any():
        return (*lines, *map(float, np.nanpercentile(subruns.r422, [1, 99])))
    return tuple(lines)


def _panel(axis: Any, points: RunPoints, column: str, few: bool, subruns: SubrunRates | None) -> None:
    values: FloatArray = getattr(points, column)
    tidy(axis)
    finite = np.isfinite(values)
    if not finite.any():
        say(axis, "not measured")
        axis.set_yticks([])
        return
    low, high = limits_for(values[finite], _seen(values[finite], points, column, subruns))
    many = len(points) > MANY
    size = 38 if few else 16 if not many else 9
    for standing, members in points.groups():
        rows = members & finite
        at = _utc((points.start_s + _ends(points)) / 2)
        style = STYLES[standing]
        if few:
            axis.hlines(
                values[rows], _utc(points.start_s[rows]), _utc(_ends(points)[rows]), color=style["color"], lw=2.2
            )
        axis.scatter(
            at[rows], np.clip(values[rows], low, high), s=size, zorder=3, label=standing.value, linewidths=0,
            rasterized=many, **style,
        )  # fmt: skip
    decided = points.decided & finite
    if decided.any():
        axis.scatter(
            at[decided], np.clip(values[decided], low, high), s=size + 70, zorder=4, facecolors="none", edgecolors=INK,
            linewidths=1.2, label="decided by a person",
        )  # fmt: skip
    for k, limit in enumerate(points.limits.get(column, ())):
        axis.axhline(limit, color=LIMIT, lw=1, ls="--", zorder=2, label="limit" if k == 0 else None)
    axis.set_ylim(low, high)
    above, below = int((values[finite] > high).sum()), int((values[finite] < low).sum())
    for count, place, side in ((above, "top", "above"), (below, "bottom", "below")):
        if count:
            words = f"{count} {side}, drawn at the edge"
            at_edge = 0.97 if place == "top" else 0.03
            axis.text(
                0.995, at_edge, words, transform=axis.transAxes, ha="right", va=place, fontsize=8, color=SOFT
            )  # fmt: skip


def _numbers(axis: Any, points: RunPoints) -> None:
    """Run numbers above the points, two heights in turn so that short runs can be read."""
    order = np.argsort(points.start_s)
    low, high = axis.get_ylim()
    for k, row in enumerate(order):
        height = points.r422[row]
        if np.isfinite(height):
            axis.annotate(
                str(points.run_number[row]),
                (_utc((points.start_s + _ends(points)) / 2)[row], min(max(height, low), high)),
                xytext=(0, 7 + 9 * (k % 2 if len(points) > 15 else 0)),
                textcoords="offset points", ha="center", fontsize=7.5, color=SOFT,
            )  # fmt: skip


def limits_for(values: FloatArray, lines: tuple[float, ...] = ()) -> tuple[float, float]:
    """Range of an axis: all values with room around, but of many far ones only the nearer.

    A night without changes must not look like noise, and one absurd value must not press the others flat.

    Parameters
    ----------
    values : array of float, shape (n,)
        Finite values, at least one.
    lines : tuple of float
        Limits that have to be seen too.
    """
    first, last = np.percentile(values, [5, 95])
    reach = max(last - first, 0.15 * abs(first + last) / 2, 2e-3)
    low, high = max(values.min(), first - reach), min(values.max(), last + reach)
    low, high = min(low, *lines, low), max(high, *lines, high)
    middle, half = (low + high) / 2, max((high - low) / 2, 0.05 * abs(low + high) / 2, 1e-3)
    return float(middle - 1.3 * half), float(middle + 1.3 * half)


def hours_svg(points: RunPoints) -> bytes | None:
    """Hours of selected and of rejected runs, by night or, over a long time, by month; None without any."""
    known = np.isfinite(points.start_s) & np.isfinite(points.elapsed_s)
    shown = points.take(known)
    return as_svg(lambda figure: _draw_hours(figure, shown), (11.5, 2.9)) if len(shown) else None


def _draw_hours(figure: Any, points: RunPoints) -> None:
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    # a night is named by the date of its evening
    night = ((points.start_s - _DAY_S / 2) // _DAY_S).astype("datetime64[D]")
    by_month = (night.max() - night.min()).astype(int) > _DAYS_OF_BARS
    start = night.astype("datetime64[M]").astype("datetime64[D]") if by_month else night
    bins, place = np.unique(start, return_inverse=True)
    width = (
        0.9 * ((bins.astype("datetime64[M]") + 1).astype("datetime64[D]") - bins).astype(float)
        if by_month
        else np.full(len(bins), 0.8)
    )
    axis = figure.subplots()
    tidy(axis)
    bottom = np.zeros(len(bins))
    for standing in (Standing.SELECTED, Standing.REJECTED, Standing.QUARANTINE, Standing.NOT_JUDGED):
        members = points.standing == standing.value
        hours = np.bincount(place[members], weights=points.elapsed_s[members], minlength=len(bins)) / 3600
        if members.any():
            hatch = "////" if standing is Standing.REJECTED else None
            axis.bar(
                bins, hours, width, bottom, color=STYLES[standing]["color"], label=standing.value, align="edge",
                hatch=hatch, edgecolor="white", linewidth=0.2,
            )  # fmt: skip
            bottom += hours
    axis.set_ylabel("hours per month" if by_month else "hours per night")
    axis.set_ylim(0, 1.05 * max(bottom.max(), 0.1))
    axis.set_xlim(bins[0] - np.timedelta64(1, "D"), bins[-1] + np.timedelta64(int(width[-1]) + 2, "D"))
    locator = AutoDateLocator(minticks=3, maxticks=10)
    axis.xaxis.set_major_locator(locator)
    axis.xaxis.set_major_formatter(ConciseDateFormatter(locator))
    axis.set_xlabel("month" if by_month else "night (date of its evening)")
    axis.legend(loc="upper left", bbox_to_anchor=(0, 1.16), ncols=4, frameon=False)


def _ends(points: RunPoints) -> FloatArray:
    return points.start_s + np.nan_to_num(points.elapsed_s, nan=0.0, posinf=0.0, neginf=0.0)


def _utc(time_s: FloatArray) -> Any:
    return np.asarray(time_s * 1e3).astype("datetime64[ms]")
