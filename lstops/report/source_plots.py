"""Small plots of a source check: theta2, spectrum, light curve; drawn by the step and by the pages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from lstops.report.drawing import plain
from lstops.report.source import INTEGRAL_RANGE_TEV, LogParabola, SourceCheck

_SIZE_INCH = (5.0, 3.4)
_DPI = 110
#: a run that is less significant is given as an upper limit; few runs have their numbers written beside them
_SEEN, _FEW = 2.0, 20
#: light curves longer than that are drawn against days, others against minutes
_MANY_NIGHTS_S = 86400.0
_ON, _OFF, _GREY = "#1f5fa8", "#c0392b", "#7f8c8d"


def write_plots(check: SourceCheck, where: str) -> list[Path]:
    """Write WHERE/theta2.png and others; WHERE_theta2.png ... where it is no folder and has no final "/".

    Returns
    -------
    list of Path
    """
    prefix = Path(where)
    folder = prefix.is_dir() or where.endswith("/")
    (prefix if folder else prefix.parent).mkdir(parents=True, exist_ok=True)
    written = []
    for name, draw in (("theta2", draw_theta2), ("spectrum", draw_spectrum), ("light_curve", draw_light_curve)):
        if draw is draw_light_curve and not check.light_curve:
            continue
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
    if published := check.reference_points:
        at = np.array([p.energy_tev for p in published])
        flux, error = (np.array([getattr(p, n) or 0.0 for p in published]) for n in ("dnde", "dnde_error"))
        axes.errorbar(
            at, erg * at**2 * flux, yerr=erg * at**2 * error, fmt="s", color=_GREY, ms=2.5, lw=0.8,
            label=plain(check.reference_points_name),
        )  # fmt: skip
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


def draw_light_curve(axes: Any, check: SourceCheck) -> None:
    """Flux of each run above 0.1 TeV against time; what the whole spectrum gives, and the reference, as lines."""
    points = sorted(check.light_curve, key=lambda p: p.start_unix_s)
    middle = np.array([(p.start_unix_s + p.stop_unix_s) / 2 for p in points])
    half = np.array([(p.stop_unix_s - p.start_unix_s) / 2 for p in points])
    days = middle.max() - middle.min() > _MANY_NIGHTS_S
    zero, unit = (40587 - 0.0, 86400.0) if days else (-middle.min() / 60.0, 60.0)
    x = middle / unit + zero
    for p, at, wide in zip(points, x, half / unit, strict=True):
        if (p.significance or 0) >= _SEEN or p.flux_upper_limit is None:
            axes.errorbar(at, p.flux, xerr=wide, yerr=p.flux_error, fmt="o", color=_ON, ms=4, lw=1)
        else:
            axes.errorbar(at, p.flux_upper_limit, xerr=wide, yerr=0.15 * p.flux_upper_limit, uplims=True, fmt="_",
                          color=_ON, lw=1)  # fmt: skip
        if len(points) <= _FEW:
            axes.annotate(str(p.run_id), (at, p.flux), xytext=(0, 12), textcoords="offset points", fontsize=7,
                          ha="center", color=_GREY)  # fmt: skip
    axes.axhline(check.reference_flux, ls="--", color=_GREY, lw=1.3, label=plain(check.reference_name))
    if check.flux is not None:
        axes.axhline(check.flux, color=_ON, lw=1, label="all runs")
    low, high = INTEGRAL_RANGE_TEV
    axes.set_xlabel("modified Julian date (UTC)" if days else "minutes since the middle of the first run")
    axes.set_ylabel(f"flux {low:g} to {high:g} TeV (cm$^{{-2}}$ s$^{{-1}}$)")
    axes.set_ylim(0, 1.4 * max([p.flux + p.flux_error for p in points] + [check.reference_flux]))
    axes.margins(x=0.12)
    axes.set_title(f"{plain(check.source_name)}: light curve, 95 % limits below {_SEEN:g} $\\sigma$", fontsize=10)
    axes.legend(frameon=False, fontsize=8, loc="lower left")
    axes.spines[["top", "right"]].set_visible(False)


def dnde(spectrum: LogParabola, energy_tev: Any) -> Any:
    """Differential flux, 1 / (cm2 s TeV)."""
    x = np.log(np.asarray(energy_tev) / spectrum.reference_tev)
    return spectrum.amplitude * np.exp(-(spectrum.alpha + spectrum.beta * x) * x)
