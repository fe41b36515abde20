"""The plan of a night, which runs can be interpolated, and source names as people write them."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timezone

import pytest

from lstops.errors import ConfigError
from lstops.night import Night
from lstops.reduction.cuts import load_cuts
from lstops.reduction.geometry import Field, IrfNode, why_not
from lstops.reduction.plan import IndexRequest, ModelSet, NightRequest, RunJob, plan_index, plan_night, split_runs
from lstops.site.layout import Layout
from lstops.site.model import Site
from lstops.step.model import ArtifactKind

FIELD = Field.at(datetime(2024, 1, 15, tzinfo=timezone.utc))
MC_FIELD = Field(-4.847, 37.37)
MODELS = ModelSet("20240115_v0.12.3_crab", "dec_2276", 0.25, "models/AllSky/x/dec_2276", "ab" * 32)
NIGHT = Night.parse("20240115")


def node(zd: float, az: float) -> IrfNode:
    return IrfNode(f"mc/IRF/irf_{zd}_{az}.fits.gz", zd, az, MC_FIELD.delta_deg(zd, az), "cd" * 32)


GRID = tuple(node(zd, az) for zd in (10, 23, 35) for az in (175, 355))


def job(run: int = 2001, source: str = "Crab", zd: float = 20.0, az: float = 110.0, **changes: object) -> RunJob:
    made = RunJob(run, f"DL1/dl1_LST-1.Run{run:05d}.h5", source, 83.6324, -0.5, zd, az, MODELS, GRID)
    return replace(made, **changes)  # type: ignore[arg-type]


def night(*runs: RunJob) -> NightRequest:
    return NightRequest(NIGHT, "v0.12", "tailcut84", "0.12.3", load_cuts(), runs)


def test_delta_is_that_of_irf_headers() -> None:
    # nodes of the synthetic grid as lstchain 0.12.3 wrote them into B_DELTA
    field = Field(-0.0846 * 57.29577951308232, 0.6522 * 57.29577951308232)
    for zd, az, delta in ((10, 175, 42.63172922627), (10, 355, 62.6316664960027), (35, 355, 87.63160466535798)):
        assert field.delta_deg(zd, az) == pytest.approx(delta, abs=1e-4)


def test_inside_and_outside_the_hull() -> None:
    assert why_not(20, 110, GRID, FIELD) is None
    assert why_not(11.5, 130, GRID, FIELD) is None
    for zd, az in ((9.0, 175.0), (36.0, 100.0), (60.0, 100.0)):
        reason = why_not(zd, az, GRID, FIELD)
        assert reason is not None
        assert f"zd {zd:.2f}" in reason
        assert "outside the 6 IRF nodes" in reason


def test_grids_that_span_nothing() -> None:
    assert "span no area" in (why_not(20, 110, GRID[:2], FIELD) or "")
    one_zenith = [node(20, az) for az in (100, 175, 355)]
    assert "one line" in (why_not(20, 110, one_zenith, FIELD) or "")
    assert "no area" in (why_not(20, 110, (), FIELD) or "")


def test_runs_outside_are_refused_with_reason_and_remedy() -> None:
    accepted, refused = split_runs([job(), job(2002, zd=60.0), job(2003, source="{in:dl2}")], FIELD)
    assert [j.run for j in accepted] == [2001]
    assert [r.run for r in refused] == [2002, 2003]
    assert "outside" in refused[0].reason
    assert "test nodes" in refused[0].remedy
    assert "'{'" in refused[1].reason


def test_a_night(site: Site) -> None:
    plan = plan_night(night(job(2002), job(2001)), site)
    assert [s.name for s in plan.stages] == ["dl2", "dl3"]
    assert all(s.quarantine for s in plan.stages)
    assert [s.subject for s in plan.steps()] == ["run 2001", "run 2002"] * 2
    dl2, dl3 = plan.stage("dl2").steps[0], plan.stage("dl3").steps[0]
    assert dl2.primary.path == "DL2/20240115/v0.12/tailcut84/nsb_tuning_0.25/dl2_LST-1.Run02001.h5"
    assert dl2.inputs[1].sha256 == MODELS.sha256
    assert "{in:models}/lstchain_config.json" in dl2.commands[0]
    assert dl3.inputs[0].path == dl2.primary.path
    assert dl3.primary.path == "lstops/dl3/20240115/v0.12/20240115_v0.12.3_crab/std_cuts/Crab/dl3_LST-1.Run02001.fits"
    assert len([i for i in dl3.inputs if i.group == "irf"]) == 6
    assert all(i.sha256 for i in dl3.inputs if i.kind is ArtifactKind.IRF)
    assert "--source-dec=-0.5deg" in dl3.commands[0]
    assert dl3.files["cuts.json"] == load_cuts().text
    assert plan.plan_id == plan_night(night(job(2001), job(2002)), site).plan_id


@pytest.mark.parametrize(
    "name", ["Crab's nebula", 'M 1 "the crab"', "-1ES 1959+650", "$(rm -rf /)", "a;b|c&d", "../up", "PKS 0625-35 (off)"]
)
def test_source_names_are_one_word_of_a_command(site: Site, name: str) -> None:
    step = plan_night(night(job(source=name)), site).stage("dl3").steps[0]
    assert [w for w in step.commands[0] if name in w] == [f"--source-name={name}"]
    assert step.primary.path.count("/") == 7
    assert ".." not in step.primary.path
    assert step.primary.expect["object"] == name


@pytest.mark.parametrize("name", ["", "  ", "'Crab'", '"Crab"', "~root", "Crab ", "{scratch}", "Cräb", "a\nb"])
def test_source_names_that_would_change_on_the_way(site: Site, name: str) -> None:
    with pytest.raises(ConfigError, match="run 2001") as caught:
        plan_night(night(job(source=name)), site)
    assert "overlay" in caught.value.remedy


def test_a_configuration_of_its_own_and_twice_the_same_run(site: Site) -> None:
    own = replace(MODELS, config="models/config.json")
    dl2 = plan_night(night(job(models=own)), site).stage("dl2").steps[0]
    assert "{in:config}" in dl2.commands[0]
    assert dl2.inputs[2].path == "models/config.json"
    with pytest.raises(ConfigError, match="named twice"):
        plan_night(night(job(), job()), site)


def test_index_of_the_whole_runs(site: Site) -> None:
    folder = Layout(site.base).dl3_candidates(NIGHT, "v0.12", "p", "std_cuts", "Crab")
    files = tuple(f"{folder}/dl3_LST-1.Run0200{i}.fits" for i in (2, 1))
    step = plan_index(IndexRequest(NIGHT, "0.12.3", "Crab", files), site).steps()[0]
    assert [i.path for i in step.inputs] == sorted(files)
    assert [o.path for o in step.outputs] == [f"{folder}/hdu-index.fits.gz", f"{folder}/obs-index.fits.gz"]
    assert step.subject == "source Crab"
    for wrong in ((), (*files, "elsewhere/dl3_LST-1.Run02003.fits")):
        with pytest.raises(ConfigError, match="one folder"):
            plan_index(IndexRequest(NIGHT, "0.12.3", "Crab", wrong), site)
