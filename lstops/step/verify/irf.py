"""IRF files of one node.

`expect` of an output may hold `useful_energy_tev` (two true energies in TeV between which no bin of the effective area
may be empty), `zd_deg` and `az_deg` (of the node) and `point_like`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lstops.step.model import Output
from lstops.step.verify import response
from lstops.step.verify.common import MAKE_AGAIN, Facts, InputFacts, refuse
from lstops.step.verify.fitsfile import read

#: nodes are given with three decimals in folder names, with five in headers
_NODE_TOLERANCE_DEG = 0.02
_MORE_EVENTS = "simulate more events at this node, narrow the useful energies, or widen the bins of the cut set."


def inspect(path: Path) -> Facts:
    """Pointing, cuts and energy range of an IRF file.

    Raises
    ------
    DataError
        With everything that keeps lstchain from using it.
    """
    found = response.examine(read(path), None)
    refuse(path, found.findings)
    return found.facts


def check(output: Output, path: Path, inputs: Sequence[InputFacts]) -> Facts:
    """Facts of an IRF file that was just made.

    Raises
    ------
    DataError
        See `inspect`; also if an energy bin in the useful range is empty, or the pointing is not that of the node.
    """
    useful = output.expect.get("useful_energy_tev")
    found = response.examine(read(path), (float(useful[0]), float(useful[1])) if useful else None)
    findings = list(found.findings)
    if found.empty_bins:
        bins = ", ".join(f"{low:.3g}-{high:.3g}" for low, high in found.empty_bins)
        findings.append(
            f"the effective area is zero in {len(found.empty_bins)} true-energy bin(s) of the useful range "
            f"({bins} TeV): the area interpolated between nodes would collapse there"
        )
    for key in ("zd_deg", "az_deg"):
        wanted, is_now = output.expect.get(key), found.facts.get(key)
        if wanted is not None and is_now is not None and abs((is_now - wanted + 180) % 360 - 180) > _NODE_TOLERANCE_DEG:
            findings.append(f"{key} is {is_now}, that of the node is {wanted}")
    wanted = output.expect.get("point_like")
    if wanted is not None and found.facts.get("point_like") is not wanted:
        findings.append(f"it must {'' if wanted else 'not '}be point-like")
    refuse(path, findings, _MORE_EVENTS if found.empty_bins else MAKE_AGAIN)
    return found.facts
