"""The plots of the comparison of a campaign with its truth: small PNG files for docs/physics.md."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from lstops.report.closure import TOLERANCE, Closure

_SIZE_INCH, _DPI = (5.4, 3.4), 100
_COLOURS = ("#1f5fa8", "#c0392b", "#27864b", "#7f8c8d")


def write_closure_plots(closure: Closure, folder: Path) -> tuple[Path, ...]:
    """Write closure_spectrum.png, closure_pulls.png and closure_energy_bias.png."""
    plots: dict[str, Callable[[Any, Closure], None]] = {
        "closure_spectrum": draw_spectrum,
        "closure_pulls": draw_pulls,
        "closure_energy_bias": draw_energy_bias,
    }
    written = []
    for name, draw in plots.items():
        path = folder / f"{name}.png"
        _save(draw, closure, path)
        written.append(path)
    return tuple(written)


def _save(draw: Callable[[Any, Closure], None], closure: Closure, path: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=_SIZE_INCH, layout="constrained")
    FigureCanvasAgg(figure)
    draw(figure.subplots(), closure)
    figure.savefig(path, dpi=_DPI, metadata={"Software": "lstops"})


def draw_spectrum(axes: Any, closure: Closure) -> None:
    """Measured over true flux against energy, one series a source; open symbols have fewer than 100 events."""
    axes.axhspan(1 - TOLERANCE, 1 + TOLERANCE, color="#000000", alpha=0.07, lw=0)
    axes.axhline(1, color="black", lw=0.8)
    for source, colour in zip(closure.sources, _COLOURS, strict=False):
        for enough in (True, False):
            points = [p for p in source.points if p.counts is enough]
            if not points:
                continue
            low, high = (np.array([getattr(p, f"energy_{end}_tev") for p in points]) for end in ("min", "max"))
            middle = np.sqrt(low * high)
            axes.errorbar(
                middle,
                [p.ratio for p in points],
                xerr=[middle - low, high - middle],
                yerr=[p.error for p in points],
                fmt="o",
                color=colour,
                mfc=colour if enough else "white",
                markersize=4,
                lw=1,
                label=source.source if enough else f"{source.source}, fewer than 100 events",
            )
    axes.set(xscale="log", xlabel="reconstructed energy (TeV)", ylabel="measured / true flux", ylim=(0.4, 1.6))
    axes.legend(frameon=False, fontsize=8)


def draw_pulls(axes: Any, closure: Closure) -> None:
    """Distribution of the pulls of the light curves, and the normal distribution."""
    pulls = [[part.pull for part in source.slices] for source in closure.sources]
    edges = np.linspace(-5, 5, 21)
    axes.hist(
        [np.clip(p, -4.99, 4.99) for p in pulls],
        bins=edges,
        stacked=True,
        color=_COLOURS[: len(pulls)],
        alpha=0.75,
        label=[f"{s.source}: mean {s.pulls.mean:+.2f}, width {s.pulls.width:.2f}" for s in closure.sources],
    )
    x = np.linspace(-5, 5, 201)
    total = sum(map(len, pulls))
    axes.plot(x, total * (edges[1] - edges[0]) * np.exp(-(x**2) / 2) / np.sqrt(2 * np.pi), color="black", lw=1)
    # the legend stands above the bars
    axes.set(
        xlabel="(measured - true flux) / error, parts of 1 s",
        ylabel="parts per bin",
        ylim=(0, 1.3 * axes.get_ylim()[1]),
    )
    axes.legend(frameon=False, fontsize=8)


def draw_energy_bias(axes: Any, closure: Closure) -> None:
    """Energy bias of gammas under the bright sky (points), and what the responses assume (lines)."""
    axes.axhline(0, color="black", lw=0.8)
    for (name, models), colour in zip(sorted(closure.models.items()), _COLOURS, strict=False):
        for points, style, what in (
            (models.assumed, "--", "assumed by the responses"),
            (models.seen, "o", "bright sky"),
        ):
            axes.errorbar(
                [np.sqrt(p.energy_min_tev * p.energy_max_tev) for p in points],
                [p.bias for p in points],
                yerr=[p.error for p in points] if style == "o" else None,
                fmt=style,
                color=colour,
                markersize=4,
                lw=1,
                label=f"{name} models, {what}",
            )
    axes.set(xscale="log", xlabel="true energy (TeV)", ylabel="median of reconstructed / true energy - 1")
    axes.legend(frameon=False, fontsize=8)
