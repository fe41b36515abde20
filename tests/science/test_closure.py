"""The comparison with the truth finds the flux that was thrown, and a truth that is wrong."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

pytest.importorskip("gammapy", reason="needs the science environment")

sys.path.insert(0, str(Path(__file__).parent))
from synthetic_dl3 import CRAB, wobbled, write_folder

from lstops.science.closure import closure_of


def truth_file(folder: Path, norm: float) -> Path:
    source = {"name": "Crab", "ra_deg": CRAB[0], "dec_deg": CRAB[1]}
    source |= {"norm_per_tev_cm2_s": norm, "index": -2.47, "curvature": -0.24}
    path = folder / "truth.json"
    path.write_text(json.dumps({"source": source}))
    return path


def test_a_bundle_closes_with_its_truth_and_not_with_another(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "dl3", wobbled(boost=2.0))
    found = closure_of(folder, "Crab", truth_file(tmp_path, 2 * 3.23e-11), slice_s=600.0)
    assert abs(found.ratio - 1) < 3 * found.error
    assert found.pulls.n == len(found.slices) >= len(found.runs)
    assert abs(found.pulls.mean) < 3
    counted = [point for point in found.points if point.counts]
    assert counted
    assert all(abs(point.ratio - 1) < 4 * point.error for point in counted)
    wrong = closure_of(folder, "Crab", truth_file(tmp_path, 3.23e-11), slice_s=600.0)
    assert wrong.ratio == pytest.approx(2 * found.ratio, rel=0.02)
    assert wrong.open_points
