"""NSB of data: in the images or in the waveforms, as the selection recommends, and never otherwise in silence."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import tables
from sites import make_site

from lstops.catalog.tables import ProductionRow
from lstops.errors import ConfigError
from lstops.night import Night
from lstops.nsb.finder import RunNsb
from lstops.nsb.sample import SampleNsb, TypicalSubrun, recommend
from lstops.nsb.tailcuts import Tailcut
from lstops.operations import plan_data, planning, production
from lstops.operations.planned import Planned, store
from lstops.operations.planning import plan_request
from lstops.operations.production import Sample, Tuned, production_name, tuned_to
from lstops.operations.production_run import preview, request_of
from lstops.production.branches import DAG_STAGES
from lstops.production.grid import known_grid
from lstops.production.needs import ZenithRange
from lstops.production.request import ProductionRequest, check_request
from lstops.production.reuse import Existing
from lstops.production.tuning import Choice, Tuning, choose, parse_tuning
from lstops.science.tune_nsb import TuningLevel, combine
from lstops.site.layout import Layout
from lstops.site.model import Site, Trainer
from lstops.step.model import Plan

from .test_production_needs import NEAR, crab_tree

RUNS = (2001, 2002)
SUBRUNS = ("DL1/dl1_LST-1.Run02001.0003.h5", "DL1/dl1_LST-1.Run02002.0001.h5")
MISSING = "there is no simtel file in mc/DL0/LSTProd2/TrainingDataset/GammaDiffuse/dec_2276/sim_telarray/"
TRAIN = ("10.000_az_100.000", "35.000_az_100.000")
TEST = ("10.0_az_102.199", "32.059_az_175.158")
Put = Callable[[str, str], Path]


def sky(median_pe: float) -> SampleNsb:
    return SampleNsb(median_pe, 0, recommend(median_pe), ())


def no_obstacle() -> None:
    return None


def not_asked() -> str:
    raise AssertionError("nobody needs the raw events")


@pytest.mark.parametrize(
    ("asked", "median_pe", "level", "said"),
    [
        (Tuning.AUTO, 1.2, TuningLevel.IMAGE, "1.20 p.e.: The standard Monte Carlo fits. Images are tuned."),
        (Tuning.AUTO, 3.9, TuningLevel.IMAGE, "(lstchain_tune_nsb, then dl1ab). Images are tuned."),
        (Tuning.AUTO, 4.1, TuningLevel.WAVEFORM, "(waveform_nsb_tuning in the step from R0 to DL1). It is simulated"),
        (Tuning.AUTO, math.nan, TuningLevel.IMAGE, "NSB of the runs unknown: The NSB is unknown"),
        (Tuning.WAVEFORM, 2.0, TuningLevel.WAVEFORM, "then dl1ab). It is simulated in the waveforms, as asked."),
        (Tuning.IMAGE, 4.1, TuningLevel.IMAGE, "step from R0 to DL1). Images are tuned, as asked."),
    ],
)
def test_what_is_chosen_says_what_is_recommended(
    asked: Tuning, median_pe: float, level: TuningLevel, said: str
) -> None:
    found = choose(asked, sky(median_pe), no_obstacle if level is TuningLevel.WAVEFORM else not_asked)
    assert found.level is level
    assert said in found.note


def test_without_raw_events_waveforms_are_refused_if_asked_for_and_else_images_are_tuned_with_the_reason() -> None:
    found = choose(Tuning.AUTO, sky(4.5), lambda: "there is no simtel file in mc/x")
    assert found == Choice(
        TuningLevel.IMAGE,
        "NSB of the runs 4.50 p.e.: Simulate the NSB in the waveforms (waveform_nsb_tuning in the step from R0 to "
        "DL1). Images are tuned instead, because there is no simtel file in mc/x. With the raw events there, or a "
        "zenith range that needs none of the missing nodes, plan again.",
    )
    with pytest.raises(ConfigError, match=r"cannot be tuned in the waveforms: there is no simtel file in mc/x\."):
        choose(Tuning.WAVEFORM, sky(4.5), lambda: "there is no simtel file in mc/x")


def test_the_request_names_a_way_of_tuning_for_data_only() -> None:
    assert [parse_tuning(text) for text in (None, "", "auto", "image", "waveform")] == [
        Tuning.AUTO, Tuning.AUTO, Tuning.AUTO, Tuning.IMAGE, Tuning.WAVEFORM,
    ]  # fmt: skip
    with pytest.raises(ConfigError, match="'images' is no way of NSB tuning") as told:
        request_of({"night": "20240115", "tuning": "images"})
    assert told.value.remedy == "write auto, image, waveform."
    assert request_of({"night": "20240115", "tuning": "waveform"}).tuning is Tuning.WAVEFORM
    assert request_of({"night": "20240115"}).tuning is Tuning.AUTO
    with pytest.raises(ConfigError, match="--tuning would have no effect"):
        check_request(ProductionRequest(levels_ghz=(0.1,), target="Crab", zenith=NEAR, tuning=Tuning.IMAGE))


def test_several_subruns_give_the_rate_of_the_waveforms_with_its_spread() -> None:
    blocks = [{"nsb_tuning": True, "nsb_tuning_rate_GHz": rate, "spe_location": None} for rate in (2.0, 2.6, 2.2)]
    found = combine(blocks)
    assert found.block == {"nsb_tuning": True, "nsb_tuning_rate_GHz": 2.2, "spe_location": None}
    assert found.values["nsb_tuning_rate_GHz"]["spread"] == pytest.approx(0.305505, abs=1e-6)


def test_what_a_sample_is_tuned_to(site: Site, put: Put, monkeypatch: pytest.MonkeyPatch) -> None:
    night = Night.parse("20240115")
    typical = tuple(TypicalSubrun(night, run, subrun, 4.4) for run, subrun in ((2001, 3), (2002, 1), (2001, 7)))
    found = SampleNsb(4.4, 0, recommend(4.4), typical)
    levels = {run: RunNsb(run, level, Tailcut(18, 9)) for run, level in zip(RUNS, (2.0, 2.4), strict=True)}
    monkeypatch.setattr(production, "nsb_of_sample", lambda *_: found)
    monkeypatch.setattr(production, "read_nsb", lambda *_: (levels, {}))
    tuned = tuned_to(site, Sample(dict.fromkeys(RUNS, night)))
    assert [path.rpartition("/")[2] for path in tuned.subruns] == ["dl1_LST-1.Run02001.0003.h5"]
    with tables.open_file(str(put(tuned.subruns[0].replace("0003", "0007"), "")), "w") as file:
        file.root._v_attrs["LSTCHAIN_VERSION"] = "0.12.3"
    tuned = tuned_to(site, Sample(dict.fromkeys(RUNS, night)))
    assert [path.rpartition("/")[2] for path in tuned.subruns] == ["dl1_LST-1.Run02001.0007.h5"]
    assert tuned.level_ghz == 2.2
    assert tuned.context == {"night": "20240115", "sample_runs": list(RUNS), "nsb_level_ghz": 2.2}
    assert production_name(site, tuned) == "20240115_v0.12.3_nsb_tuning_2.20"
    accelerated = production_name(site, tuned, TuningLevel.WAVEFORM, Trainer.ACCELERATED)
    assert accelerated == "20240115_v0.12.3_nsb_tuning_2.20_waveform_accelerated"


# -- the plan of runs -------------------------------------------------------------------------------------------------
@pytest.fixture
def bright(tmp_path: Path, put: Put, monkeypatch: pytest.MonkeyPatch) -> Site:
    """A site with the DL1 of a base production, and runs of a bright sky."""
    site = make_site(tmp_path, production={"base_production": "base", "tuning_simtel": "mc/true.simtel.zst"})
    layout = Layout(site.base, site.work)
    for particle, prefix in (("GammaDiffuse", "node_corsika_theta"), ("Protons", "node_theta")):
        for node in TRAIN:
            put(f"{layout.mc_dl1_train('base', 'dec_2276', particle, f'{prefix}_{node}_')}/dl1_{node}.h5", "x")
    for node in TEST:
        put(f"{layout.mc_dl1_test('base', 'Gamma', f'node_theta_{node}_')}/dl1_{node}.h5", "x")
    sample = Sample(dict.fromkeys(RUNS, Night.parse("20240115")))
    monkeypatch.setattr(plan_data, "sample_of", lambda *_: sample)
    monkeypatch.setattr(plan_data, "tuned_to", lambda *_: Tuned(sample, sky(4.4), SUBRUNS, 2.21))
    for name in ("LSTOPS_DATABASE_URL", "LSTOPS_HOME"):
        monkeypatch.delenv(name, raising=False)
    return site


def planned(site: Site, tuning: Tuning = Tuning.AUTO) -> tuple[Planned, Plan]:
    request = ProductionRequest(runs=RUNS, target="Crab", zenith=ZenithRange.parse("0:35"), tuning=tuning)
    (found,) = plan_request(site, request)
    assert found.plan is not None
    return found, found.plan


def test_a_bright_sky_is_simulated_in_the_waveforms_of_the_raw_events(bright: Site, put: Put) -> None:
    crab_tree(bright.base, put)
    found, plan = planned(bright)
    assert found.notes[0].endswith("It is simulated in the waveforms.")
    name = "20240115_v0.12.3_nsb_tuning_2.21_waveform"
    assert plan.context["production"] == name
    assert plan.context["nsb_level_ghz"] == 2.21
    assert plan.context["sample_runs"] == list(RUNS)
    assert plan.context["subruns"] == list(SUBRUNS)
    assert tuple(stage.name for stage in plan.stages) == DAG_STAGES
    counts = {stage.name: len(stage.steps) for stage in plan.stages}
    assert counts["tune"] == counts["train"] == 1
    assert counts["dl1ab"] == 0
    nodes = len(plan.context["test_nodes"])
    assert counts["r0_to_dl1"] == 2 * len(known_grid().line("dec_2276").nodes) + nodes
    assert counts["irf"] == nodes


def test_every_subrun_is_measured_and_all_steps_read_what_was_found(bright: Site, put: Put) -> None:
    crab_tree(bright.base, put)
    _, plan = planned(bright)
    (tune,) = plan.stage("tune").steps
    (command,) = tune.commands
    assert command[:5] == ("python", "-m", "lstops.science.tune_nsb", "--level", "waveform")
    assert command.count("--data") == 2
    assert [item.path for item in tune.inputs] == [*SUBRUNS, "mc/true.simtel.zst"]
    assert tune.primary.expect["values"] == {"waveform_nsb_tuning.nsb_tuning": True}
    assert [output.name for output in tune.outputs] == ["config", "tuning"]
    update = json.loads(tune.files["update.json"])
    assert "waveform_nsb_tuning" not in update, "the rate is what the data give, not the level"
    assert update["tailcut"] == {"picture_thresh": 18, "boundary_thresh": 9}
    for step in plan.stage("r0_to_dl1").steps:
        assert tune.primary.path in [item.path for item in step.inputs]
    made = {output.path for step in plan.steps() for output in step.outputs}
    assert f"mc/DL1/AllSky/{plan.context['production']}/lstmcpipe/README.md" in made


def test_it_is_another_production_than_the_level_and_than_tuned_images(bright: Site, put: Put) -> None:
    crab_tree(bright.base, put)
    plans = [planned(bright, tuning)[1] for tuning in (Tuning.AUTO, Tuning.WAVEFORM, Tuning.IMAGE)]
    level = ProductionRequest(levels_ghz=(2.21,), target="Crab", zenith=NEAR)
    plans += [one.plan for one in plan_request(bright, level) if one.plan is not None]
    digests = [plan.context["settings_sha256"]["dec_2276"] for plan in plans]
    assert digests[0] == digests[1]
    assert len(set(digests)) == 3
    assert len({plan.context["production"] for plan in plans}) == 3


def test_an_equal_production_of_tuned_waveforms_is_used(
    bright: Site, put: Put, monkeypatch: pytest.MonkeyPatch
) -> None:
    crab_tree(bright.base, put)
    context = planned(bright)[1].context
    digest = context["settings_sha256"]["dec_2276"]
    there = Existing("mine", "dec_2276", 2.21, digest, tuple(context["test_nodes"]))
    monkeypatch.setattr(planning, "_existing", lambda _: ((there,), ()))
    (found,) = plan_request(bright, ProductionRequest(runs=RUNS, target="Crab", zenith=NEAR))
    assert found.plan is None
    assert found.title.startswith("mine is the same production")


def test_tuned_waveforms_that_lack_test_nodes_keep_their_name_and_their_subruns(
    bright: Site, put: Put, monkeypatch: pytest.MonkeyPatch
) -> None:
    crab_tree(bright.base, put)
    context = planned(bright)[1].context
    some = Existing("mine", "dec_2276", 2.21, context["settings_sha256"]["dec_2276"], tuple(context["test_nodes"][:-2]))
    row = ProductionRow(name="mine", line="dec_2276")
    monkeypatch.setattr(planning, "_existing", lambda _: ((some,), ()))
    monkeypatch.setattr(plan_data, "registered_as", lambda _: (row,))
    monkeypatch.setattr(plan_data, "context_of", lambda *_: {"subruns": SUBRUNS[:1]})
    found, plan = planned(bright)
    assert plan.context["production"] == "mine"
    assert plan.context["subruns"] == list(SUBRUNS[:1])
    assert plan.context["test_nodes"] == context["test_nodes"]
    assert any("mine is the same but for 2 test node(s)" in note for note in found.notes)


def test_without_raw_events_images_are_tuned_and_plan_and_preview_say_so(bright: Site) -> None:
    found, plan = planned(bright)
    assert "Simulate the NSB in the waveforms" in found.notes[0]
    assert f"Images are tuned instead, because {MISSING}" in found.notes[0]
    assert plan.context["production"] == "20240115_v0.12.3_nsb_tuning_2.21"
    assert len(plan.stage("dl1ab").steps) > 0
    assert plan.stage("tune").steps[0].commands[0][4] == "image"
    store(bright, [found])
    assert found.notes[0] in preview(bright, plan.plan_id)["text"]
    with pytest.raises(ConfigError, match="cannot be tuned in the waveforms: " + MISSING):
        planned(bright, Tuning.WAVEFORM)


def test_one_node_without_raw_events_is_an_obstacle(bright: Site, put: Put) -> None:
    crab_tree(bright.base, put)
    line = known_grid().line("dec_2276")
    name = line.nodes[3].name(line.protons)
    folder = bright.base / f"mc/DL0/LSTProd2/TrainingDataset/Protons/dec_2276/sim_telarray/{name}/output_v1.4"
    (folder / f"{name}run1.simtel.gz").unlink()
    found, _ = planned(bright)
    assert f"there is no simtel file in {folder.relative_to(bright.base)}. With" in found.notes[0]


def test_a_line_that_the_grid_does_not_know_has_its_images_tuned(bright: Site, put: Put) -> None:
    layout = Layout(bright.base, bright.work)
    for particle, prefix in (("GammaDiffuse", "node_corsika_theta"), ("Protons", "node_theta")):
        put(f"{layout.mc_dl1_train('base', 'dec_1111', particle, f'{prefix}_{TRAIN[0]}_')}/dl1.h5", "x")
    nightly = bright.nightly.model_copy(update={"declination_line": "dec_1111"})
    (found,) = plan_request(bright.model_copy(update={"nightly": nightly}), ProductionRequest(runs=RUNS))
    assert "the grid of simulated raw events has no line dec_1111" in found.notes[0]
