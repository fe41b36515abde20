"""The figures of a production's report card."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from lstops.production.gates import Gates
from lstops.production.report_card import EnergyBin, NodeCard, Reference, ReportCard, same_node
from lstops.report.drawing import GOOD, LIMIT, OTHER, as_svg, data_uri, plain, tidy

_SIZE = (6.2, 3.9)
_MARKERS = "os^Dv<>P"
#: zenith distances of one figure; more would hide each other
_MANY = 6

Figure = dict[str, str]


def figures(card: ReportCard, reference: Reference, gates: Gates) -> list[Figure]:
    """Title, alternative text and address of each figure."""
    limits = gates.limits
    drawn: list[tuple[str, str, Callable[[Any], None]]] = [
        ("Energy bias", "median of reconstructed / true energy - 1 against true energy",
         partial(_curves, card, reference, "bias", "energy bias", False, (-limits.energy_bias, limits.energy_bias))),
        ("Energy resolution", "half of the central 68 % against true energy",
         partial(_curves, card, reference, "resolution", "energy resolution", False, (limits.energy_resolution,))),
        ("Angular resolution", "68 % containment in degrees against true energy",
         partial(_curves, card, reference, "angular_resolution_deg", "angular resolution (deg)", False,
                 (limits.angular_resolution_deg,))),
        ("Effective area after cuts", "square metres against true energy",
         partial(_curves, card, reference, "effective_area_m2", "effective area (m$^2$)", True,
                 (limits.effective_area_m2,))),
        ("Gammas and protons", "ROC curves by zenith distance", partial(_roc, card, reference)),
    ]  # fmt: skip
    return [{"title": title, "alt": alt, "src": data_uri(as_svg(draw, _SIZE))} for title, alt, draw in drawn] + [
        {
            "title": f"Feature importances: {name}",
            "alt": "share of the gain by feature, with the published ones",
            "src": data_uri(as_svg(partial(_importances, card, reference, name), _SIZE)),
        }
        for name in card.importances
    ]


def representative(nodes: Sequence[NodeCard]) -> list[NodeCard]:
    """One node a zenith distance, so many that they can be told apart, from the smallest to the largest."""
    by_zenith = {round(node.zd_deg): node for node in reversed(nodes)}
    found = [by_zenith[zd] for zd in sorted(by_zenith)]
    if len(found) <= _MANY:
        return found
    return [found[round(i * (len(found) - 1) / (_MANY - 1))] for i in range(_MANY)]


def _colour(index: int, count: int) -> Any:
    import matplotlib

    return matplotlib.colormaps["viridis"](0.85 * index / max(1, count - 1))


def _centre(b: EnergyBin) -> float:
    return math.sqrt(b.low_tev * b.high_tev)


def _curves(
    card: ReportCard, reference: Reference, name: str, label: str, logarithmic: bool,
    limits: Sequence[float], figure: Any,
) -> None:  # fmt: skip
    axes = figure.subplots()
    nodes = representative(card.nodes)
    old = card.previous.nodes if card.previous else ()
    errors = {"effective_area_m2": None, "angular_resolution_deg": "angular_resolution_error_deg"}
    error_name = errors.get(name, f"{name}_error")
    for i, node in enumerate(nodes):
        colour = _colour(i, len(nodes))
        bins = [b for b in node.bins if getattr(b, name) is not None and b.low_tev > 0]
        spread = [getattr(b, error_name) or 0.0 for b in bins] if error_name else None
        axes.errorbar(
            [_centre(b) for b in bins], [getattr(b, name) for b in bins], yerr=spread, color=colour, lw=1.2, ms=4,
            marker=_MARKERS[i % len(_MARKERS)], label=f"zd {node.zd_deg:.0f} deg, az {node.az_deg:.0f} deg",
        )  # fmt: skip
        past = same_node(node, old)
        if past is not None:
            before = [b for b in past.bins if getattr(b, name) is not None and b.low_tev > 0]
            axes.plot([_centre(b) for b in before], [getattr(b, name) for b in before], ":", color=colour, lw=1)
    published = reference.nearest(nodes[0].zd_deg if nodes else 0.0)
    shown = [b for b in published.bins if getattr(b, name) is not None]
    axes.plot(
        [_centre(b) for b in shown], [getattr(b, name) for b in shown], "--", color=OTHER, lw=1.2,
        label=f"{plain(reference.name)}, zd {published.zd_deg:.0f} deg",
    )  # fmt: skip
    for limit in limits:
        axes.axhline(limit, color=LIMIT, lw=1, alpha=0.7)
    axes.set(xscale="log", xlabel="true energy (TeV)", ylabel=label)
    if logarithmic:
        axes.set_yscale("log")
    elif name == "bias":
        # far below the threshold the bias is hundreds of per cent, and nobody looks at it
        axes.set_ylim(-1, 1.5)
    else:
        axes.set_ylim(0, 1.0)
    axes.legend(frameon=False, fontsize=7.5)
    tidy(axes)


def _roc(card: ReportCard, reference: Reference, figure: Any) -> None:
    from lstops.report.drawing import say

    axes = figure.subplots()
    nodes = [node for node in representative(card.nodes) if node.roc]
    for i, node in enumerate(nodes):
        assert node.roc is not None
        axes.plot(
            node.roc.false_positive, node.roc.true_positive, color=_colour(i, len(nodes)), lw=1.4,
            label=f"zd {node.zd_deg:.0f} deg: area {node.roc.auc:.3f} $\\pm$ {node.roc.auc_error:.3f}",
        )  # fmt: skip
    axes.plot([0, 1], [0, 1], "--", color=OTHER, lw=1, label="no separation")
    axes.set(xlabel="share of protons kept", ylabel="share of gammas kept", xlim=(0, 1), ylim=(0, 1.01))
    if nodes:
        axes.legend(frameon=False, fontsize=7.5, loc="lower right")
    else:
        say(axes, plain(card.roc_note or "no protons"))
    tidy(axes)


def _importances(card: ReportCard, reference: Reference, name: str, figure: Any) -> None:
    axes = figure.subplots()
    mine, published = card.importances[name], reference.importances.get(name, {})
    names = list(mine)
    places = list(range(len(names)))
    axes.barh(
        places, [mine[n][0] for n in names], xerr=[mine[n][1] for n in names], color=GOOD, height=0.6,
        error_kw={"lw": 0.8}, label=plain(card.production),
    )  # fmt: skip
    known = [(place, published[n]) for place, n in zip(places, names, strict=True) if n in published]
    axes.errorbar(
        [value for _, (value, _) in known], [place for place, _ in known], xerr=[error for _, (_, error) in known],
        fmt="D", color=OTHER, ms=4, lw=0.8, label=plain(reference.name),
    )  # fmt: skip
    axes.set_yticks(places, [plain(n) for n in names], fontsize=8)
    axes.invert_yaxis()
    axes.set(xlabel="importance (share of the forest's gain)", xlim=(0, None))
    axes.legend(frameon=False, fontsize=7.5, loc="lower right")
    tidy(axes)
