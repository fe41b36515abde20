"""Which nodes the responses of a DL3 file come from.

lstchain notes the pointing that it interpolated to, but neither nodes nor weights, and falls back to the nearest node
with a printed line. Both follow from the pointing; the effective area of the file must then be the one interpolated
from these nodes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from lstops.reduction.geometry import IrfNode, NodeWeight, collapsing, weights
from lstops.step.model import ArtifactKind
from lstops.step.verify.common import Facts, InputFacts
from lstops.step.verify.fitsfile import by_class, read
from lstops.step.verify.response import AREA

#: pyirf interpolates the logarithm of the area above this floor (m2), and makes it zero again afterwards
_FLOOR_M2 = 1.0
_TOLERANCE = 1e-3


def examine(
    hdus: fits.HDUList,
    facts: Facts,
    inputs: Sequence[InputFacts],
    useful_tev: Sequence[float] | None,
    nearest: bool = False,
) -> tuple[Facts, list[str]]:
    """Nodes and weights of the responses, and what is wrong with them.

    Parameters
    ----------
    facts : dict
        Of the file: what lstchain interpolated to (mean_zd_deg, mean_az_deg, b_delta_deg).
    inputs : sequence of InputFacts
        Of the step; those of kind IRF are the nodes it had.
    useful_tev : (low, high) or None
        Energies between which the area of no node may be empty.
    nearest : bool
        The responses are meant to be those of the one node among the inputs, not interpolated.
    """
    files = sorted((i for i in inputs if i.kind is ArtifactKind.IRF), key=lambda i: i.path.name)
    if not files:
        return {}, []
    if not {"mean_zd_deg", "mean_az_deg", "b_delta_deg"} <= set(facts):
        return {}, ["its header does not say which pointing the responses are for"]
    zd_deg, az_deg, delta_deg = facts["mean_zd_deg"], facts["mean_az_deg"], facts["b_delta_deg"]
    paths = {item.path.name: item.path for item in files}
    nodes = [_node(item) for item in files]
    if nearest and len(nodes) != 1:
        return {}, [f"{len(nodes)} IRF nodes are among the inputs, and the responses were to be those of one"]
    chosen = (NodeWeight(nodes[0], 1.0),) if nearest else weights(zd_deg, az_deg, delta_deg, nodes)
    if not chosen:
        return {}, [
            f"its pointing (zd {zd_deg:.2f} az {az_deg:.2f} deg) lies outside the {len(files)} IRF nodes: "
            "lstchain took the nearest node instead of interpolating"
        ]
    found: Facts = {
        "irf_nodes": [
            {"file": w.node.path, "zd_deg": w.node.zd_deg, "az_deg": w.node.az_deg, "weight": round(w.weight, 6)}
            for w in chosen
        ]
    }
    contents = {w.node.path: read(paths[w.node.path]) for w in chosen}
    findings = _area(hdus, chosen, list(contents.values()))
    findings += [
        f"it was made with the cut set {_cut_set(hdus)[:12]}, its responses {name} with {_cut_set(node)[:12]}"
        for name, node in contents.items()
        if _cut_set(node) and _cut_set(node) != _cut_set(hdus)
    ]
    if useful_tev is not None and (reason := collapsing(chosen, (float(useful_tev[0]), float(useful_tev[1])))):
        findings.append(reason.rstrip("."))
    return found, findings


def _cut_set(hdus: fits.HDUList) -> str:
    """Digest of the cut set that a file was made with, as it says itself; empty if it does not (lstmcpipe's)."""
    return str(hdus[0].header.get("CUTSHA", ""))


def _node(item: InputFacts) -> IrfNode:
    facts = item.facts
    empty = tuple((float(low), float(high)) for low, high in facts.get("empty_bins_tev", ()))
    return IrfNode(item.path.name, facts["zd_deg"], facts["az_deg"], facts["b_delta_deg"], empty_bins_tev=empty)


def _area(hdus: fits.HDUList, chosen: Sequence[NodeWeight], nodes: Sequence[fits.HDUList]) -> list[str]:
    here = _values(hdus)
    there = [_values(node) for node in nodes]
    if here is None or any(area is None or area.shape != here.shape for area in there):
        return ["its effective area does not have the bins of the IRF nodes"]
    logs = [np.log(np.maximum(area, _FLOOR_M2)) for area in there if area is not None]
    expected = np.exp(sum(w.weight * log for w, log in zip(chosen, logs, strict=True)))
    off = np.abs(here - expected)[expected > 2 * _FLOOR_M2] / expected[expected > 2 * _FLOOR_M2]
    if not off.size or off.max() <= _TOLERANCE:
        return []
    told = ", ".join(f"{w.node.where} x {w.weight:.2f}" for w in chosen)
    return [
        f"its effective area is up to {off.max():.1%} off the one interpolated from the nodes {told}: lstchain took "
        "others, or the nearest node instead of interpolating"
    ]


def _values(hdus: fits.HDUList) -> NDArray[np.float64] | None:
    tables = by_class(hdus, AREA)
    if not tables or "EFFAREA" not in tables[0].columns.names or not len(tables[0].data):
        return None
    values: NDArray[np.float64] = np.asarray(tables[0].data["EFFAREA"], dtype=float)[0]
    return values
