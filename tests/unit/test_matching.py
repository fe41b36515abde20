"""A run that cannot be matched blocks itself only, with the reason."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
import tables
from sites import make_site

from lstops.catalog.tables import ProductionRow, RunRow
from lstops.night import Night, Run, RunSource, RunType
from lstops.nsb.finder import RunNsb
from lstops.nsb.match import MatchKind
from lstops.nsb.tailcuts import Tailcut
from lstops.operations.matching import Causes, Matching, match_runs
from lstops.operations.nightly import layout_of
from lstops.operations.run_match import Available, match_production
from lstops.reduction.cuts import load_cuts
from lstops.reduction.jobs import RunJob
from lstops.site.model import Site

from . import products


def registered(name: str, level: float, line: str = "dec_2276", tailcut: str = "tailcut84") -> ProductionRow:
    return ProductionRow(
        name=name, line=line, lstchain_version="0.12.3", tailcut=tailcut, nsb_level_ghz=level,
        models_path="models/x", models_sha256="ab" * 32, irf_dir="mc/IRF/x", config={}, facts={"config_path": "x"},
    )  # fmt: skip


def match(
    site: Site, sources: Mapping[int, RunSource | None], declination: float | None = 22.0, tailcut: str = "tailcut84"
) -> tuple[tuple[RunJob, ...], Causes]:
    """Runs of equal NSB against one production."""
    night = Night.parse("20240115")
    for run in sources:
        config, log = (layout_of(site).absolute(path) for path in layout_of(site).tailcuts(run))
        config.parent.mkdir(parents=True, exist_ok=True)
        cleaning = Tailcut.parse(tailcut)
        levels = {"picture_thresh": cleaning.picture_pe, "boundary_thresh": cleaning.boundary_pe}
        config.write_text(json.dumps({"tailcuts_clean_with_pedestal_threshold": levels}))
        log.write_text("Additional NSB rate (over dark MC): 0.15 p.e./ns\n")
    production = registered("p", 0.15, tailcut=tailcut)
    runs = [Run(run, night, RunType.DATA, 1, None, source) for run, source in sources.items()]
    matching = Matching(Available((production,)), 0.1, load_cuts())
    rows = {run: RunRow(run_id=run, quantities={"mean_dec_deg": declination}) for run in sources}
    return match_runs(site, night, runs, rows, matching)


def test_a_source_without_coordinates_is_named(tmp_path: Path) -> None:
    sources = {1: None, 2: RunSource("Nowhere", None, None), 3: RunSource("Nowhere", 10.0, None)}
    jobs, causes = match(make_site(tmp_path), sources)
    assert jobs == ()
    assert set(causes) == {"run 1", "run 2", "run 3"}
    for run in sources:
        cause, remedy = causes[f"run {run}"]
        assert f"run {run} has no source with coordinates" in cause
        assert "target list" in remedy


def test_a_run_whose_start_is_not_known_blocks_only_itself(tmp_path: Path) -> None:
    jobs, causes = match(make_site(tmp_path), {1: None, 2: RunSource("Crab", 83.63, 22.01)})
    assert jobs == ()
    assert set(causes) == {"run 1", "run 2"}
    assert "start_s, mean_ra_deg is not known" in causes["run 2"][0]


def test_a_bright_sky_needs_dl1_of_its_own_cleaning(tmp_path: Path) -> None:
    """Models of images cleaned with 12/6 are not for those of the first pass over the night."""
    site, source = make_site(tmp_path), {7: RunSource("Crab", 83.6, 22.0)}
    first, own = (
        layout_of(site).absolute(layout_of(site).dl1_run(Night.parse("20240115"), "v0.12", folder, 7))
        for folder in ("tailcut84", "tailcut1206")
    )
    for path in (first, own):
        path.parent.mkdir(parents=True)
    products.dl1(first, run=7)
    cause, remedy = match(site, source, tailcut="tailcut1206")[1]["run 7"]
    assert "needs images cleaned with 12/6" in cause
    assert "tailcut1206/dl1_LST-1.Run00007.h5 does not exist" in cause
    assert "auxiliary/TailCuts/dl1ab_Run00007.json" in remedy
    products.dl1(own, run=7)
    for picture, words in ((8, "are cleaned with 8/6, those of p with 12/6"), (12, "start_s")):
        with tables.open_file(str(own), "a") as file:
            levels = {"picture_thresh": picture, "boundary_thresh": 6}
            config = json.dumps({"tailcuts_clean_with_pedestal_threshold": levels})
            file.root.dl1.event.telescope.parameters.LST_LSTCam.attrs["config"] = config
        assert words in match(site, source, tailcut="tailcut1206")[1]["run 7"][0]


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


@pytest.mark.parametrize(
    ("declination", "words", "remedy"),
    [
        (38.2, "line too far: dec_2276 is 15.4 deg away in declination", "at 0.15 GHz with tailcut84 on dec_3476"),
        (-75.0, "line too far: dec_2276 is 97.8 deg away in declination", "no line is simulated near it"),
        (None, "the pointing of run 7 is not known", "data check"),
    ],
)
def test_a_run_far_from_every_line_is_named(tmp_path: Path, declination: float | None, words: str, remedy: str) -> None:
    jobs, causes = match(make_site(tmp_path), {7: RunSource("Mrk 421", 166.1, 38.2)}, declination)
    assert jobs == ()
    assert words in causes["run 7"][0]
    assert remedy in causes["run 7"][1]


@pytest.mark.parametrize(("low", "high", "level"), [(0.25, 0.75, 0.5), (0.10, 0.20, 0.15), (0.3, 0.1, 0.2)])
def test_of_two_productions_that_fit_equally_the_standard_is_taken(
    tmp_path: Path, low: float, high: float, level: float
) -> None:
    site, rows = make_site(tmp_path), (registered("a", low), registered("b", high))
    nsb = RunNsb(7, level, Tailcut(8, 4))
    for standard in ("a", "b"):
        available = Available(rows, {("dec_2276", "0.12.3"): standard})
        found = match_production(site, nsb, 22.0, available, tolerance_ghz=0.3)
        assert found.production is not None
        assert (found.production.name, found.match.kind) == (standard, MatchKind.WITHIN_TOLERANCE)


@pytest.mark.parametrize(("declination", "line"), [(22.0, "dec_2276"), (32.3, "dec_3476"), (9.9, "dec_931")])
def test_of_a_production_of_the_whole_sky_the_nearest_line_is_taken(
    tmp_path: Path, declination: float, line: str
) -> None:
    rows = tuple(registered("sky", 0.15, line) for line in ("dec_931", "dec_2276", "dec_3476"))
    found = match_production(make_site(tmp_path), RunNsb(7, 0.14, Tailcut(8, 4)), declination, Available(rows))
    assert found.production is not None
    assert (found.production.line, found.match.usable) == (line, True)
