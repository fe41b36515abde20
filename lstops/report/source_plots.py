"""Two small plots of a source check: theta2 and spectrum; drawn by the step and by the night report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from lstops.report.drawing import plain
from lstops.report.source import INTEGRAL_RANGE_TEV, LogParabola, SourceCheck

_SIZE_INCH = (5.0, 3.4)
_DPI = 110
_ON, _OFF, _GREY = "#1f5fa8", "#c0392b", "#7f8c8d"


def write_plots(check: SourceCheck, where: str) -> list[Path]:
    """Write WHERE/theta2.png and WHERE/spectrum.png; WHERE_theta2.png ... where it is no folder and has no final "/".

    Returns
    -------
    list of Path
    """
    prefix = Path(where)
    folder = prefix.is_dir() or where.endswith("/")
    (prefix if folder else prefix.parent).mkdir(parents=True, exist_ok=True)
    written = []
    for name, draw in (("theta2", draw_theta2), ("spectrum", draw_spectrum)):
        path = prefix / f"{name}.png" if folder else prefix.with_name(f"{prefix.name}_{name}.png")
        _save(draw, check, path)
        written.append(path)
    return written


def _save(draw: Any, check: SourceCheck, path: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=_SIZE_INCH, layout="constrained")
    FigureCanvasAgg(figure)
    draw(figure.subplots(), check)
    figure.savefig(path, dpi=_DPI, metadata={"Software": "lstops"})


def draw_theta2(axes: Any, check: SourceCheck) -> None:
    """Squared distance from the source, on and off."""
    t = check.theta2
    edges = np.array(t.edges_deg2)
    centres = (edges[1:] + edges[:-1]) / 2
    axes.stairs(t.off, edges, fill=True, color=_OFF, alpha=0.15)
    axes.errorbar(centres, t.off, yerr=t.off_error, fmt=".", color=_OFF, markersize=3, lw=1, label="off (scaled)")
    axes.errorbar(centres, t.on, yerr=np.sqrt(t.on), fmt="o", color=_ON, markersize=3.5, lw=1, label="on")
    axes.set(
        xlabel="$\\theta^2$ (deg$^2$)",
        ylabel="events per bin",
        xlim=(0, edges[-1]),
        ylim=(0, None),
    )
    axes.locator_params(axis="x", nbins=5)
    axes.set_title(
        f"{plain(check.source_name)}: {check.significance:.1f} $\\sigma$ in {check.live_time_s / 60:.1f} min",
        fontsize=10,
    )
    axes.legend(frameon=False, fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)


def draw_spectrum(axes: Any, check: SourceCheck) -> None:
    """E2 dN/dE in erg / (cm2 s)."""
    erg = 1.602176634  # TeV in erg, exact since the SI of 2019
    energy = np.geomspace(check.energy_range_tev[0], INTEGRAL_RANGE_TEV[1], 200)
    axes.plot(
        energy, erg * energy**2 * dnde(check.reference, energy), "--", color=_GREY, lw=1.3, label=check.reference_name
    )
    if check.spectrum:
        axes.plot(energy, erg * energy**2 * dnde(check.spectrum, energy), color=_ON, lw=1.5, label="fit")
    for p in check.points:
        x = [[p.energy_tev - p.energy_min_tev], [p.energy_max_tev - p.energy_tev]]
        scale = erg * p.energy_tev**2
        if p.dnde is not None:
            axes.errorbar(
                p.energy_tev, scale * p.dnde, xerr=x, yerr=scale * (p.dnde_error or 0), fmt="o", color=_ON, ms=4
            )
        elif p.dnde_upper_limit is not None:
            top = scale * p.dnde_upper_limit
            axes.errorbar(p.energy_tev, top, xerr=x, yerr=0.4 * top, uplims=True, fmt="_", color=_ON, lw=1)
    axes.set(xscale="log", yscale="log", xlabel="energy (TeV)", ylabel="$E^2$ d$N$/d$E$ (erg cm$^{-2}$ s$^{-1}$)")
    reference = erg * energy**2 * dnde(check.reference, energy)
    axes.set_ylim(reference.min() / 5, reference.max() * 5)
    axes.set_title(f"{plain(check.source_name)}: spectrum", fontsize=10)
    axes.legend(frameon=False, fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)


def dnde(spectrum: LogParabola, energy_tev: Any) -> Any:
    """Differential flux, 1 / (cm2 s TeV)."""
    x = np.log(np.asarray(energy_tev) / spectrum.reference_tev)
    return spectrum.amplitude * np.exp(-(spectrum.alpha + spectrum.beta * x) * x)
