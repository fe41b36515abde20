"""Small plots of one run: theta squared, counts map, rate against zenith distance."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timezone
from typing import Any

import numpy as np

from lstops.report.drawing import BAD, GOOD, INK, SOFT, as_svg, data_uri, plain, tidy
from lstops.report.source import RateBin, RunCheck, RunLook, SourceCheck

_SIZE_INCH = (11.2, 3.1)
#: more than that on a page make it too large for a browser, and take longer to draw than to measure
MOST_LOOKS = 60


def look_svg(look: RunLook, source_name: str) -> bytes:
    """The three plots of a run beside each other, as SVG."""

    def draw(figure: Any) -> None:
        left, middle, right = figure.subplots(1, 3, gridspec_kw={"width_ratios": [1.15, 1, 1.15]})
        draw_theta2(left, look)
        draw_map(middle, look, source_name)
        draw_rates(right, look.rates)

    return as_svg(draw, _SIZE_INCH)


def look_views(check: SourceCheck) -> list[dict[str, str]]:
    """Heading and image of each run, for the pages; of many runs those that a person would look at first."""
    about = {run.run_id: run for run in check.runs}
    views = []
    shown = set(_oddest(check.runs))
    for look in check.looks:
        if look.run_id not in shown:
            continue
        run = about[look.run_id]
        words = (
            f"run {look.run_id}: {run.significance:.1f} σ, excess {run.excess:.0f} in {run.live_time_s / 60:.1f} min"
        )
        views.append({"words": words, "src": data_uri(look_svg(look, check.source_name))})
    return views


def looks_words(check: SourceCheck) -> str:
    """Which runs are shown, if not all of them."""
    if len(check.looks) <= MOST_LOOKS:
        return ""
    return (
        f"Of {len(check.looks)} runs the {MOST_LOOKS} are shown whose excess rate is farthest from the others'; "
        "check.json holds all."
    )


def _oddest(runs: Sequence[RunCheck]) -> list[int]:
    """The runs whose excess rate differs most from the median, in its errors."""
    rate = np.array([run.excess / max(run.live_time_s, 1.0) for run in runs])
    error = np.array(
        [np.sqrt(run.counts_on + run.alpha**2 * run.counts_off + 1) / max(run.live_time_s, 1.0) for run in runs]
    )
    order = np.argsort(-np.abs(rate - np.median(rate)) / error, kind="stable") if len(runs) else ()
    return [runs[i].run_id for i in list(order)[:MOST_LOOKS]]


def draw_theta2(axes: Any, look: RunLook) -> None:
    """Squared distance from the source, on and off."""
    t = look.theta2
    edges = np.array(t.edges_deg2)
    middle = (edges[1:] + edges[:-1]) / 2
    tidy(axes)
    axes.stairs(t.off, edges, fill=True, color=BAD, alpha=0.15)
    axes.errorbar(middle, t.off, yerr=t.off_error, fmt=".", color=BAD, markersize=3, lw=1, label="off (scaled)")
    axes.errorbar(middle, t.on, yerr=np.sqrt(t.on), fmt="o", color=GOOD, markersize=3, lw=1, label="on")
    axes.set(xlabel="$\\theta^2$ (deg$^2$)", ylabel="events per bin", xlim=(0, edges[-1]), ylim=(0, None))
    axes.locator_params(axis="x", nbins=4)
    axes.legend(frameon=False, fontsize=8)


def draw_map(axes: Any, look: RunLook, source_name: str) -> None:
    """Events after cuts around the pointing; east is to the left, as on the sky."""
    edges = np.array(look.map_edges_deg)
    mesh = axes.pcolormesh(edges, edges, np.array(look.counts), cmap="viridis", rasterized=True)
    axes.figure.colorbar(mesh, ax=axes, label="events per bin", shrink=0.9)
    axes.plot(*look.source_deg, "o", mfc="none", mec="white", ms=11, mew=1.3)
    axes.annotate(
        plain(source_name), look.source_deg, xytext=(0, 9), textcoords="offset points", color="white", fontsize=7.5,
        ha="center",
    )  # fmt: skip
    axes.plot(0, 0, "+", color="white", ms=8)
    axes.set(xlabel="east of the pointing (deg)", ylabel="north (deg)", aspect="equal")
    axes.set_xlim(edges[-1], edges[0])
    if look.outside:
        axes.set_title(f"{look.outside} events outside", fontsize=8, color=SOFT)


def draw_rates(axes: Any, rates: tuple[RateBin, ...]) -> None:
    """Rate of events after cuts against zenith distance, the parts of the run in order of time."""
    tidy(axes)
    zenith = np.array([r.zenith_deg for r in rates])
    rate = np.array([r.rate_hz for r in rates])
    error = np.array([r.rate_error_hz for r in rates])
    axes.plot(zenith, rate, "-", color=SOFT, lw=0.7)
    axes.errorbar(zenith, rate, yerr=error, fmt="o", color=GOOD, markersize=4, lw=1)
    for row, side in ((0, "first"), (-1, "last")) if rates else ():
        clock = f"{datetime.fromtimestamp(rates[row].time_unix_s, timezone.utc):%H:%M:%S}"
        axes.annotate(
            f"{side}, {clock}", (zenith[row], rate[row]), xytext=(0, 12 if row == 0 else -16),
            textcoords="offset points", fontsize=7.5, color=INK,
            # towards the middle, clear of the axis
            ha="left" if zenith[row] < np.median(zenith) else "right",
        )  # fmt: skip
    axes.set(xlabel="zenith distance (deg)", ylabel="events after cuts (s$^{-1}$)")
    if rates:
        # a run at one zenith distance must not look like noise
        middle, half = (zenith.min() + zenith.max()) / 2, max(np.ptp(zenith) * 0.85, 0.02)
        axes.set_xlim(middle - half, middle + half)
        axes.set_ylim(0, 1.35 * (rate + error).max() or 1)
        axes.ticklabel_format(axis="x", useOffset=False)
        axes.locator_params(axis="x", nbins=5)
