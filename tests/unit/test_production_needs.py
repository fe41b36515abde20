"""What a request for a production needs of the sky, what it costs, and what is there already."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from lstops.cluster.waits import QueueWaits
from lstops.errors import ConfigError
from lstops.nsb.tailcuts import noise_mismatch_percent
from lstops.operations.planned import store
from lstops.operations.planning import plan_request
from lstops.operations.production_run import request_of
from lstops.production.config import ProductionConfig, read_config, write_config
from lstops.production.cost import Rate, assumed_rates, estimate, seen_rates
from lstops.production.definition import read_production
from lstops.production.findings import Severity
from lstops.production.grid import known_grid
from lstops.production.level import LevelRequest, checked_level, lstmcpipe_config, plan_level
from lstops.production.lint import lint_file
from lstops.production.needs import (
    Pointing,
    ZenithRange,
    all_sky_submissions,
    nearest_line,
    nodes_around,
    track,
)
from lstops.production.outline import load_outline
from lstops.production.plan_cli import levels_of
from lstops.production.request import ProductionRequest, check_request
from lstops.production.reuse import Existing, Fit, Method, Settings, find_existing
from lstops.reduction.cuts import load_cuts
from lstops.site.layout import Layout
from lstops.site.model import ForestSettings, Site
from lstops.step.assess import Assessment, Standing, assess
from lstops.step.model import Plan

GRID = known_grid()
CRAB_DEC = 22.0145
NEAR = ZenithRange.parse("0:35")


def raw_events(folder: str, pattern: str) -> list[str]:
    """Two simtel files in every folder."""
    stem = next(part for part in folder.split("/") if part.startswith("node_"))
    return [f"{folder}/{stem}run{i}.simtel.gz" for i in range(2)] if pattern.endswith(".gz") else []


def crab(level: float = 0.14, zenith: ZenithRange = NEAR) -> LevelRequest:
    around = nodes_around(track(CRAB_DEC, GRID.latitude_deg, zenith), GRID.test_nodes)
    lines = (nearest_line(CRAB_DEC, GRID),)
    return LevelRequest("v0.12.3_crab_nsb_tuning", "0.12.3", level, lines, around.nodes, load_cuts())


def test_the_all_sky_level_of_lstmcpipe() -> None:
    assert all_sky_submissions(GRID) == 3375


@pytest.mark.parametrize(
    ("declination", "line"), [(22.01, "dec_2276"), (38.2, "dec_3476"), (-0.01, "dec_min_413"), (61.0, "dec_6166")]
)
def test_the_nearest_line_is_never_a_dense_one(declination: float, line: str) -> None:
    assert nearest_line(declination, GRID).name == line


def test_a_source_far_from_every_line_is_refused() -> None:
    with pytest.raises(ConfigError, match="dec_min_2924, is 40"):
        nearest_line(-70.0, GRID)


def test_the_track_of_the_crab() -> None:
    pointings = track(CRAB_DEC, GRID.latitude_deg, NEAR)
    zds = [p.zd_deg for p in pointings]
    # culmination at 6.75 deg, and the wobble position north of it
    assert min(zds) == pytest.approx(GRID.latitude_deg - CRAB_DEC - 0.4, abs=1e-6)
    assert max(zds) <= 35
    highest = min(pointings, key=lambda p: p.zd_deg)
    assert highest.az_deg == pytest.approx(180)
    with pytest.raises(ConfigError, match=r"culminates at 6\.7"):
        track(CRAB_DEC, GRID.latitude_deg, ZenithRange(1, 5))


def test_test_nodes_enclose_the_pointings_and_no_more() -> None:
    around = nodes_around(track(CRAB_DEC, GRID.latitude_deg, NEAR), GRID.test_nodes)
    assert len(around.nodes) < 20 < len(GRID.test_nodes)
    assert max(node.zd_deg for node in around.nodes) > 35, "nodes beyond the range are needed to enclose its end"
    assert not any(node.zd_deg > 45 for node in around.nodes)
    # in lstchain's plane not even the whole grid encloses the culmination; a request says so
    assert around.outside
    assert all(p.zd_deg < 12 for p in around.outside)


def test_one_pointing_needs_one_triangle() -> None:
    around = nodes_around([Pointing(28.0, 100.0)], GRID.test_nodes)
    assert 3 <= len(around.nodes) <= 6
    assert not around.outside


@pytest.mark.parametrize("text", ["", "a:b", "35:10", "-1:20", "10:90", "nan:20"])
def test_what_is_no_zenith_range(text: str) -> None:
    with pytest.raises(ConfigError, match="no range of zenith distances"):
        ZenithRange.parse(text)


def test_a_level_is_planned_on_the_needed_nodes_only(site: Site) -> None:
    request = crab()
    plan = plan_level(request, site, GRID, raw_events)
    n = len(request.test_nodes)
    assert {s.name: len(s.steps) for s in plan.stages} == {
        "config": 1, "r0_to_dl1": 2 * 19 + n, "merge_dl1": 2 + n, "train_pipe": 1, "dl1_to_dl2": n, "dl2_to_irfs": n,
    }  # fmt: skip
    assert len(plan.steps()) < 150
    (config,) = plan.stage("config").steps
    assert config.environment == "0.12.3", "the configuration is the one of the lstchain that runs"
    changes = json.loads(config.files["update.json"])
    assert changes["waveform_nsb_tuning"] == {"nsb_tuning": True, "nsb_tuning_rate_GHz": 0.14}
    assert {"EventSelector", "DL3Cuts", "DataBinning"} <= set(changes)
    assert len({s.primary.path.rsplit("/", 1)[0] for s in plan.stage("dl2_to_irfs").steps}) == 1
    made: set[str] = set()
    for stage in plan.stages[1:]:
        for step in stage.steps:
            assert stage.name == "r0_to_dl1" or all(i.path in made or "config" in i.path for i in step.inputs)
        made |= {o.path for step in stage.steps for o in step.outputs}
    assert plan_level(request, site, GRID, raw_events).plan_id == plan.plan_id


@pytest.mark.parametrize(("level", "picture"), [(0.0, 8), (0.22, 8), (0.38, 10), (0.81, 12), (2.34, 18)])
def test_a_level_has_the_cleaning_of_its_data(site: Site, level: float, picture: int) -> None:
    plan = plan_level(crab(level), site, GRID, raw_events)
    changes = json.loads(plan.stage("config").steps[0].files["update.json"])
    assert changes["tailcut"]["picture_thresh"] == picture
    assert changes["waveform_nsb_tuning"]["nsb_tuning"] is (level > 0)


@pytest.mark.parametrize("level", [-0.1, 15.1, float("nan"), float("inf")])
def test_absurd_levels_are_refused(level: float) -> None:
    with pytest.raises(ConfigError, match="no level of extra NSB"):
        checked_level(level)


def test_the_configuration_of_a_level_is_one_that_lstmcpipe_would_run(site: Site, tmp_path: Path) -> None:
    path = tmp_path / "level.yml"
    write_config(ProductionConfig(pipe=lstmcpipe_config(crab(), site, GRID)), path)
    report = lint_file(path)
    assert {str(f.code) for f in report.findings if f.severity is Severity.ERROR} == set()
    assert read_production(read_config(path)).lines == ("dec_2276",)


SETTINGS = Settings(
    lstchain_version="0.12.3", line="dec_2276", tailcut="tailcut84", cuts_sha256="c", forests=ForestSettings(),
    method=Method.WAVEFORM, source="mc", training_nodes=("n1", "n2"),
)  # fmt: skip


def existing(name: str, level: float, nodes: tuple[str, ...] = ("a", "b"), **changes: object) -> Existing:
    return Existing(name, "dec_2276", level, SETTINGS.model_copy(update=changes).digest, nodes)


def test_an_equal_production_is_reused_and_one_that_lacks_nodes_extended() -> None:
    equal, small = existing("equal", 0.14), existing("small", 0.14, ("a",))
    assert find_existing(SETTINGS, 0.14, ["a"], [small, equal], 0.1).fit is Fit.EQUAL
    assert find_existing(SETTINGS, 0.14, ["a", "b"], [small, equal], 0.1).production == "equal"
    found = find_existing(SETTINGS, 0.14, ["a", "b"], [small], 0.1)
    assert (found.fit, found.missing_nodes) == (Fit.LACKS_NODES, ("b",))


def test_another_level_is_offered_with_its_mismatch() -> None:
    found = find_existing(SETTINGS, 0.14, ["a"], [existing("p22", 0.22), existing("p07", 0.07)], 0.1)
    assert (found.fit, found.production) == (Fit.OTHER_LEVEL, "p07")
    assert found.mismatch_percent == pytest.approx(noise_mismatch_percent(0.14, 0.07))
    assert -10 < found.mismatch_percent < -9
    assert "differs by -9.3 %" in found.text()
    assert find_existing(SETTINGS, 0.14, ["a"], [existing("far", 0.50)], 0.1).fit is Fit.NONE


@pytest.mark.parametrize(
    "change", [{"lstchain_version": "0.11.0"}, {"cuts_sha256": "x"}, {"forests": ForestSettings(n_estimators=50)}]
)
def test_other_settings_are_another_production(change: dict[str, object]) -> None:
    assert find_existing(SETTINGS, 0.14, ["a"], [existing("other", 0.14, **change)], 0.1).fit is Fit.NONE


def test_cost_is_by_history_where_there_is_one(site: Site) -> None:
    plan = plan_level(crab(), site, GRID, raw_events)
    found = assess(plan, Layout(site.base, site.work), site)
    assumed = assumed_rates()
    rough = {c.stage: c for c in estimate(plan, found, {}, assumed, QueueWaits())}
    n_files = sum(len(step.commands) for step in plan.stage("r0_to_dl1").steps)
    assert rough["r0_to_dl1"].cpu_h == pytest.approx(n_files * assumed["r0-to-dl1"].cpu_s / 3600)
    assert rough["r0_to_dl1"].basis == "assumed"
    seen = {"r0-to-dl1": Rate(cpu_s=36, output_mb=10, peak_mb=900, n_steps=7)}
    waits = QueueWaits({"r0_to_dl1": 12.0}, 3.0)
    better = {c.stage: c for c in estimate(plan, found, seen, assumed, waits)}
    assert better["r0_to_dl1"].cpu_h == pytest.approx(n_files * 0.01)
    assert better["r0_to_dl1"].basis == "history (7 steps)"
    assert better["train_pipe"] == replace(rough["train_pipe"], queue_min=3.0)
    assert (rough["r0_to_dl1"].queue_min, better["r0_to_dl1"].queue_min) == (None, 12.0)
    done = [replace_state(a) for a in found]
    assert {c.queue_min for c in estimate(plan, done, {}, assumed, QueueWaits())} == {0.0}
    assert sum(c.cpu_h for c in estimate(plan, done, {}, assumed, waits)) == 0
    with pytest.raises(ConfigError, match="nothing is known about the cost of 'config'"):
        estimate(plan, found, {}, {}, waits)


def replace_state(assessment: Assessment) -> Assessment:
    return replace(assessment, state=Standing.DONE)


def test_no_history_is_no_rate() -> None:
    assert seen_rates([]) == {}


BOTH = [
    (ProductionRequest(), "names no source"),
    (ProductionRequest(runs=(1,), levels_ghz=(0.1,)), "--runs and --nsb"),
    (ProductionRequest(levels_ghz=(0.1,)), "which part of the sky"),
    (ProductionRequest(levels_ghz=(0.1,), target="Crab"), "down to which zenith distance"),
    (ProductionRequest(levels_ghz=(0.1,), target="Crab", lines=("dec_2276",), zenith=NEAR), "--target and --line"),
    (ProductionRequest(levels_ghz=(0.1,), all_sky=True, zenith=NEAR), "--all-sky needs no"),
    (ProductionRequest(config=Path("x.yml"), target="Crab"), "says itself which lines"),
    (ProductionRequest(runs=(1,), lstchain_config=Path("x.json")), "--lstchain-config would have no effect"),
    (ProductionRequest(runs=(1,), roots=(("/x/", ""),)), "--root would have no effect"),
    (ProductionRequest(runs=(1,), despite_errors=True), "--despite-errors would have no effect"),
    (ProductionRequest(config=Path("x.yml"), profile="deep"), "--profile would have no effect"),
    (ProductionRequest(runs=(1,), lines=("dec_2276", "dec_2276")), "the line dec_2276 is named twice"),
    (ProductionRequest(levels_ghz=(0.14, 0.22, 0.14), target="Crab", zenith=NEAR), "the level 0.14 GHz is named twice"),
    (ProductionRequest(levels_ghz=(0.0, -0.0), target="Crab", zenith=NEAR), "the level 0.00 GHz is named twice"),
]
#: a level that is none is named in every door, before anything is planned
AT_A_LEVEL = {"target": "Crab", "zenith": NEAR}
NO_LEVELS = (-0.1, -1e-9, 15.1, 1e9, math.inf, -math.inf, math.nan)
NO_NAMES = ("../x", "a/b", "/abs", ".", "..", "a b", "x;y", "-x", "", "a\n", "\u00e4", "x" * 121)


@pytest.mark.parametrize("level", NO_LEVELS)
def test_a_negative_or_absurd_level_is_refused_in_the_command_and_in_the_form(level: float) -> None:
    with pytest.raises(ConfigError, match="is no level of extra NSB"):
        check_request(ProductionRequest(levels_ghz=(0.14, level), **AT_A_LEVEL))  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="is no level of extra NSB"):
        request_of({"nsb_ghz": level, "target": "Crab", "zenith_range": "0:35"})


@pytest.mark.parametrize(("level", "remedy"), [(0.141, "give 0.14"), (1e-320, "give 0.00"), (0.005, "give 0.01")])
def test_a_level_finer_than_names_is_refused(level: float, remedy: str) -> None:
    """Two productions would have one name, and the second would take the place of the first."""
    with pytest.raises(ConfigError, match="finer than names") as caught:
        check_request(ProductionRequest(levels_ghz=(level,), **AT_A_LEVEL))  # type: ignore[arg-type]
    assert caught.value.remedy.startswith(remedy)


def test_minus_zero_is_dark() -> None:
    request = check_request(ProductionRequest(levels_ghz=(-0.0,), **AT_A_LEVEL))  # type: ignore[arg-type]
    assert [math.copysign(1, level) for level in request.levels_ghz] == [1]


@pytest.mark.parametrize(("text", "remedy"), [("0,14", "write 0.14 for one, 0.00,14.00"), ("1,2", "write 1.2 for one")])
def test_levels_that_may_be_a_decimal_comma_are_refused(text: str, remedy: str) -> None:
    with pytest.raises(ConfigError, match="decimal comma") as caught:
        levels_of(text)
    assert remedy in caught.value.remedy
    assert levels_of("0,0.14") == [0.0, 0.14]
    assert levels_of("2") == [2.0]


@pytest.mark.parametrize("field", ["all_sky", "despite_errors"])
def test_switches_of_the_form_are_true_or_false(field: str) -> None:
    form = {"nsb_ghz": 0.14} if field == "all_sky" else {"config": "/x.yml"}
    assert getattr(request_of({**form, field: True}), field) is True
    with pytest.raises(ConfigError, match=f"{field} is 'no'"):
        request_of({**form, field: "no"})


def test_the_form_names_the_version() -> None:
    assert request_of({"config": "/x.yml", "lstchain_version": "0.12.3"}).lstchain_version == "0.12.3"


@pytest.mark.parametrize("level", ["high", "0.14 GHz", [0.14], {"a": 1}, True])
def test_a_level_that_is_no_number_is_named(level: object) -> None:
    """The form of the web page refuses it by its schema, the REST interface too; whatever comes through is named."""
    with pytest.raises(ConfigError, match="nsb_ghz"):
        request_of({"nsb_ghz": level, "target": "Crab", "zenith_range": "0:35"})


@pytest.mark.parametrize("runs", ["2001", ["2001"], [2001.5], [True], {"a": 1}, 2001])
def test_runs_that_are_none_are_named(runs: object) -> None:
    with pytest.raises(ConfigError, match="no list of run numbers"):
        request_of({"runs": runs})


@pytest.mark.parametrize("name", NO_NAMES)
def test_a_name_that_leads_elsewhere_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="cannot name a production"):
        check_request(ProductionRequest(levels_ghz=(0.14,), name=name, **AT_A_LEVEL))  # type: ignore[arg-type]


def test_run_numbers_are_positive() -> None:
    with pytest.raises(ConfigError, match="-3 is no run number"):
        check_request(ProductionRequest(runs=(2001, -3)))


@pytest.mark.parametrize(("request_", "message"), BOTH, ids=[m for _, m in BOTH])
def test_requests_that_say_nothing_or_two_things(request_: ProductionRequest, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_request(request_)


def crab_tree(base: Path, put: Callable[[str, str], Path]) -> None:
    raw = "mc/DL0/LSTProd2"
    line = GRID.line("dec_2276")
    for particle in ("GammaDiffuse", "Protons"):
        for node in line.nodes:
            prefix = line.protons if particle == "Protons" else line.gamma_diffuse
            name = node.name(prefix)
            put(f"{raw}/TrainingDataset/{particle}/dec_2276/sim_telarray/{name}/output_v1.4/{name}run1.simtel.gz", "x")
    for node in GRID.test_nodes:
        name = node.name(GRID.test_prefix)
        put(f"{raw}/TestDataset/sim_telarray/{name}/output_v1.4/{name}run1.simtel.gz", "x")


def test_crab_below_35_degrees_at_two_levels(
    site: Site, put: Callable[[str, str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LSTOPS_DATABASE_URL", raising=False)
    monkeypatch.delenv("LSTOPS_HOME", raising=False)
    crab_tree(site.base, put)
    request = ProductionRequest(target="Crab", zenith=NEAR, levels_ghz=(0.14, 0.22))
    planned = plan_request(site, request)
    assert [p.plan.context["nsb_ghz"] for p in planned if p.plan] == [0.14, 0.22]
    for found in planned:
        assert isinstance(found.plan, Plan)
        steps = len(found.plan.steps())
        assert any(
            f"{steps} steps; lstmcpipe's all-sky level has 3375 submissions (96.9% saved)" in n for n in found.notes
        )
        assert any("responses cannot be interpolated" in n for n in found.notes)
        assert any("existing productions were not looked for" in n for n in found.notes)
    paths = store(site, planned)
    assert len(paths) == 2
    assert planned[0].plan is not None
    outline = load_outline(Layout(site.base, site.work), planned[0].plan.plan_id)
    assert outline.production == "v0.12.3_crab_zd0-35_nsb_tuning_0.14"


def test_a_missing_simulation_is_named(site: Site) -> None:
    with pytest.raises(ConfigError, match=r"no simtel file in mc/DL0/LSTProd2/TrainingDataset/GammaDiffuse/dec_2276"):
        plan_request(site, ProductionRequest(target="Crab", zenith=NEAR, levels_ghz=(0.14,)))
