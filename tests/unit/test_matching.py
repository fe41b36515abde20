"""A run that cannot be matched blocks itself only, with the reason."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import tables
from sites import make_site

from lstops.catalog.tables import ProductionRow, RunRow
from lstops.night import Night, Run, RunSource, RunType
from lstops.operations.matching import Causes, Matching, match_runs
from lstops.operations.nightly import layout_of
from lstops.reduction.cuts import load_cuts
from lstops.reduction.jobs import RunJob
from lstops.site.model import Site


def match(site: Site, sources: Mapping[int, RunSource | None]) -> tuple[tuple[RunJob, ...], Causes]:
    """Runs of equal NSB against one production."""
    night = Night.parse("20240115")
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
    return match_runs(site, night, runs, {run: RunRow(run_id=run) for run in sources}, matching)


def test_a_source_without_coordinates_is_named(tmp_path: Path) -> None:
    sources = {1: None, 2: RunSource("Nowhere", None, None), 3: RunSource("Nowhere", 10.0, None)}
    jobs, causes = match(make_site(tmp_path), sources)
    assert jobs == ()
    assert set(causes) == {"run 1", "run 2", "run 3"}
    for run in sources:
        cause, remedy = causes[f"run {run}"]
        assert f"run {run} has no source with coordinates" in cause
        assert "target list" in remedy


def test_dl1_of_another_version_of_lstchain_is_named(tmp_path: Path) -> None:
    site = make_site(tmp_path)
    path = layout_of(site).absolute(layout_of(site).dl1_run(Night.parse("20240115"), "v0.12", "tailcut84", 7))
    path.parent.mkdir(parents=True)
    with tables.open_file(str(path), "w") as file:
        file.root._v_attrs["LSTCHAIN_VERSION"] = "0.10.4"
    jobs, causes = match(site, {7: RunSource("Crab", 83.6, 22.0)})
    assert jobs == ()
    cause, remedy = causes["run 7"]
    assert "dl1_LST-1.Run00007.h5 was made by lstchain 0.10.4, the models of run 7 are for 0.12.3" in cause
    assert "lstchain 0.10.4" in remedy
