"""A run that cannot be matched blocks itself only, with the reason."""

from __future__ import annotations

import json
from pathlib import Path

from sites import make_site

from lstops.catalog.tables import ProductionRow, RunRow
from lstops.night import Night, Run, RunSource, RunType
from lstops.operations.matching import Matching, match_runs
from lstops.operations.nightly import layout_of
from lstops.reduction.cuts import load_cuts


def test_a_source_without_coordinates_is_named(tmp_path: Path) -> None:
    site, night = make_site(tmp_path), Night.parse("20240115")
    sources = {1: None, 2: RunSource("Nowhere", None, None), 3: RunSource("Nowhere", 10.0, None)}
    for run in sources:
        config, log = (layout_of(site).absolute(path) for path in layout_of(site).tailcuts(run))
        config.parent.mkdir(parents=True, exist_ok=True)
        levels = {"picture_thresh": 8, "boundary_thresh": 4}
        config.write_text(json.dumps({"tailcuts_clean_with_pedestal_threshold": levels}))
        log.write_text("Additional NSB rate (over dark MC): 0.15 p.e./ns\n")
    production = ProductionRow(
        name="p", line="dec_2276", lstchain_version="0.12.3", tailcut="tailcut84", nsb_level_ghz=0.15,
        models_path="models/x", models_sha256="ab" * 32, irf_dir="mc/IRF/x", config={}, facts={"config_path": "x"},
    )  # fmt: skip
    runs = [Run(run, night, RunType.DATA, 1, None, source) for run, source in sources.items()]
    matching = Matching((production,), 0.1, load_cuts())
    jobs, causes = match_runs(site, night, runs, {run: RunRow(run_id=run) for run in sources}, matching)
    assert jobs == ()
    assert set(causes) == {"run 1", "run 2", "run 3"}
    for run in sources:
        cause, remedy = causes[f"run {run}"]
        assert f"run {run} has no source with coordinates" in cause
        assert "target list" in remedy
