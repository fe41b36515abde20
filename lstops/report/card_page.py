"""The page of a production's report card: verdict, numbers by node, figures."""

from __future__ import annotations

from typing import Any

import lstops
from lstops.production.gates import Gates, failures
from lstops.production.report_card import EnergyBin, NodeCard, Reference, ReportCard
from lstops.report.card_plots import figures
from lstops.report.page import number, render


def card_page(card: ReportCard, reference: Reference, gates: Gates) -> str:
    """One HTML page that needs nothing else."""
    return render(
        "report_card.html.j2",
        card=card,
        version=lstops.__version__,
        level=number(card.nsb_level_ghz, 2),
        failures=[failure.text for failure in failures(card, gates)],
        gates=gates,
        rows=[_row(node, gates, reference) for node in card.nodes],
        figures=figures(card, reference, gates),
        reference=reference,
    )


def _row(node: NodeCard, gates: Gates, reference: Reference) -> dict[str, Any]:
    """The mean numbers of a node's judged bins, each with the published one of the nearest zenith distance."""
    mine = _means(gates.judged(node.zd_deg, node.bins))
    published = reference.nearest(node.zd_deg)
    theirs = _means(gates.judged(published.zd_deg, published.bins))
    return {
        "zd": number(node.zd_deg, 1),
        "az": number(node.az_deg, 1),
        "events": node.n_events,
        "reference_zd": number(published.zd_deg, 1),
        "cells": [
            f"{number(mine[name], digits)} ({number(theirs[name], digits)})"
            for name, digits in (("bias", 3), ("resolution", 3), ("angular_resolution_deg", 3))
        ],
        "area": f"{_area(mine['effective_area_m2'])} ({_area(theirs['effective_area_m2'])})",
        "auc": f"{node.roc.auc:.3f} ± {node.roc.auc_error:.3f}" if node.roc else "–",
        "protons": node.roc.n_protons if node.roc else 0,
    }


def _area(value: float | None) -> str:
    return "–" if value is None else f"{value / 1e4:.2f}"


def _means(bins: list[EnergyBin]) -> dict[str, float | None]:
    found: dict[str, float | None] = {}
    for name in ("bias", "resolution", "angular_resolution_deg", "effective_area_m2"):
        values = [v for v in (getattr(b, name) for b in bins) if v is not None]
        found[name] = sum(values) / len(values) if values else None
    return found
