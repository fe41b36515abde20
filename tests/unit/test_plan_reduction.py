"""The plan of a night, which runs can be interpolated, and source names as people write them."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime, timezone

import numpy as np
import pytest

from lstops.catalog.tables import ProductionRow
from lstops.errors import ConfigError
from lstops.night import Night
from lstops.operations.report import notes_of_dl2, used_productions
from lstops.reduction.collection import SourceFiles, plan_collection
from lstops.reduction.cuts import each_run, load_cuts, parse_cuts
from lstops.reduction.geometry import Field, IrfNode, NodeWeight, collapsing, nearest, weights, why_not
from lstops.reduction.jobs import ModelSet, RunJob, with_nearest_node
from lstops.reduction.plan import IndexRequest, NightRequest, plan_index, plan_night
from lstops.reduction.refusal import Refusal, split_runs
from lstops.report.model import UsedProduction
from lstops.science.run_responses import with_intensity
from lstops.site.layout import Layout
from lstops.site.model import Site
from lstops.step.adoption import adopted_manifest
from lstops.step.manifest import ArtifactRecord, FileState, ManifestStore
from lstops.step.model import ArtifactKind

TAKEN = datetime(2024, 1, 15, tzinfo=timezone.utc)
TAKEN_S, FIELD = TAKEN.timestamp(), Field.at(TAKEN)
MC_FIELD = Field(-4.847, 37.37)
MODELS = ModelSet("20240115_v0.12.3_crab", "dec_2276", 0.25, "models/AllSky/x/dec_2276", "ab" * 32)
NIGHT = Night.parse("20240115")


def node(zd: float, az: float) -> IrfNode:
    return IrfNode(f"mc/IRF/irf_{zd}_{az}.fits.gz", zd, az, MC_FIELD.delta_deg(zd, az), "cd" * 32)


GRID = tuple(node(zd, az) for zd in (10, 23, 35) for az in (175, 355))


def job(run: int = 2001, source: str = "Crab", zd: float = 20.0, az: float = 110.0, **changes: object) -> RunJob:
    made = RunJob(run, f"DL1/dl1_LST-1.Run{run:05d}.h5", source, 83.6324, -0.5, zd, az, TAKEN_S, MODELS, GRID)
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


def test_weights_give_the_pointing_back() -> None:
    for zd, az in ((20.0, 110.0), (11.5, 130.0), (30.0, 250.0)):
        delta = FIELD.delta_deg(zd, az)
        chosen = weights(zd, az, delta, GRID)
        assert len(chosen) == 3
        assert sum(w.weight for w in chosen) == pytest.approx(1)
        assert min(w.weight for w in chosen) >= -1e-9
        assert sum(w.weight * np.cos(np.deg2rad(w.node.zd_deg)) for w in chosen) == pytest.approx(
            np.cos(np.deg2rad(zd))
        )
        assert sum(w.weight * np.sin(np.deg2rad(w.node.delta_deg)) for w in chosen) == pytest.approx(
            np.sin(np.deg2rad(delta))
        )
    # at a node, that node
    at_node = weights(23.0, 175.0, GRID[2].delta_deg, GRID)
    assert max(at_node, key=lambda w: w.weight).node == GRID[2]
    assert weights(60.0, 100.0, FIELD.delta_deg(60.0, 100.0), GRID) == ()


def test_of_nodes_at_one_place_the_nearest_in_azimuth() -> None:
    """Nodes on both sides of the magnetic meridian have the same angle to the field."""
    twin = replace(GRID[2], path="mc/IRF/irf_twin.fits.gz", az_deg=300.0)
    for az, wanted in ((110.0, GRID[2]), (290.0, twin)):
        chosen = {w.node for w in weights(20.0, az, FIELD.delta_deg(20.0, 110.0), (*GRID, twin))}
        assert wanted in chosen
        assert len(chosen & {GRID[2], twin}) == 1


def test_the_nearest_node_is_the_one_nearest_on_the_sky() -> None:
    assert nearest(24.9, 176.0, GRID)[0] == GRID[2]
    # 80 deg of azimuth are 10 deg on the sky there
    assert nearest(6.0, 95.0, GRID) == (GRID[0], pytest.approx(10.7, abs=0.1))
    assert nearest(5.0, 359.0, GRID) == (GRID[1], pytest.approx(5.0, abs=0.1))


def test_outside_the_grid_the_nearest_node_only_where_the_site_allows_it(site: Site) -> None:
    outside = job(zd=8.0, az=190.0)
    assert with_nearest_node(outside, None) == outside
    assert with_nearest_node(outside, 2.0) == outside
    refused = split_runs([outside], load_cuts())[1]
    assert "nearest_irf_node_within_deg" in refused[0].remedy
    inside = job()
    assert with_nearest_node(inside, 15.0) == inside

    allowed = with_nearest_node(outside, 5.0)
    assert allowed.irfs == (GRID[0],)
    assert allowed.nearest_deg == pytest.approx(3.1, abs=0.1)
    assert allowed.responses == (NodeWeight(GRID[0], 1.0),)
    assert split_runs([allowed], load_cuts()) == ((allowed,), ())

    plan = plan_night(night(allowed, job(2002)), site)
    assert plan.context["runs"]["2001"]["responses"] == "IRFs of the nearest node (zd 10 az 175), 3.1 deg away"
    assert "responses" not in plan.context["runs"]["2002"]
    step, usual = plan.stage("dl3").steps
    assert [item.path for item in step.inputs if item.kind is ArtifactKind.IRF] == [GRID[0].path]
    assert step.outputs[0].expect["nearest_node"] is True
    assert step.outputs[0].expect["irf_zenith_tolerance_deg"] == pytest.approx(3.6, abs=0.1)
    assert any("IRFSEP=3.07 deg" in word for command in step.commands for word in command)
    assert "nearest_node" not in usual.outputs[0].expect


def test_the_nearest_node_is_held_to_the_cuts_like_any_other() -> None:
    other = replace(GRID[0], cuts_sha256="ef" * 32)
    hole = replace(GRID[0], empty_bins_tev=((0.4, 0.63),))
    for node_, told in ((other, "made with other cuts"), (hole, "no effective area at 0.4 to 0.63 TeV")):
        changed = with_nearest_node(job(zd=8.0, az=190.0, irfs=(node_, *GRID[1:])), 5.0)
        assert told in split_runs([changed], load_cuts())[1][0].reason


def test_responses_of_lstmcpipe_with_other_cuts_are_refused() -> None:
    other = replace(GRID[0], other_cuts="DL3Cuts.gh_efficiency 0.95, not 0.7")
    (refusal,) = split_runs([job(irfs=(other, *GRID[1:]))], load_cuts())[1]
    assert "(std_cuts): DL3Cuts.gh_efficiency 0.95, not 0.7." in refusal.reason
    assert "--cuts" in refusal.remedy
    anew = replace(job(), irfs=tuple(replace(n, other_cuts="x", gamma_dl2="g.h5") for n in GRID))
    assert split_runs([anew], replace(load_cuts(), intensity_per_run=True))[1] == ()


def test_an_empty_bin_at_a_node_that_counts() -> None:
    hole = replace(GRID[2], empty_bins_tev=((0.4, 0.63),))
    reason = collapsing([NodeWeight(GRID[0], 0.7), NodeWeight(hole, 0.3)], (0.1, 5.0))
    assert reason is not None
    assert "zd 23 az 175" in reason
    assert "0.4 to 0.63 TeV" in reason
    assert collapsing([NodeWeight(GRID[0], 0.7), NodeWeight(hole, 0.3)], (1.0, 5.0)) is None
    assert collapsing([NodeWeight(GRID[0], 1.0), NodeWeight(hole, 1e-9)], (0.1, 5.0)) is None


def refusal(*changed: IrfNode, **changes: object) -> Refusal:
    nodes = tuple(next((c for c in changed if c.path == n.path), n) for n in GRID)
    accepted, refused = split_runs([job(irfs=nodes, **changes)], load_cuts())
    assert accepted == ()
    return refused[0]


def test_a_run_whose_responses_would_be_wrong_is_refused_before_anything_is_computed() -> None:
    assert len(split_runs([job(models=replace(MODELS, training_zd_deg=(10.0, 35.0)))], load_cuts())[0]) == 1
    hole = refusal(*(replace(n, empty_bins_tev=((0.4, 0.63),)) for n in GRID))
    assert "collapse" in hole.reason
    assert "simulate more events" in hole.remedy
    other = refusal(replace(GRID[0], cuts_sha256="ab" * 32))
    assert "irf_10_175.fits.gz was made with other cuts (abababab" in other.reason
    assert "IRFs of this cut set" in other.remedy
    beyond = refusal(models=replace(MODELS, training_zd_deg=(23.0, 35.0)))
    assert "zenith distance of 20.00 deg" in beyond.reason
    assert "trained from 23 to 35 deg" in beyond.reason


def test_runs_outside_are_refused_with_reason_and_remedy() -> None:
    accepted, refused = split_runs([job(), job(2002, zd=60.0), job(2003, source="{in:dl2}")])
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


def test_dl2_lies_in_the_folder_of_the_cleaning_of_its_images(site: Site) -> None:
    plan = plan_night(night(job(2001), job(2002, tailcut="tailcut1206")), site)
    folders = [step.primary.path.split("/")[3] for step in plan.stage("dl2").steps]
    assert folders == ["tailcut84", "tailcut1206"]


def test_a_run_without_some_subruns(site: Site) -> None:
    files = tuple(f"DL1/20240115/v0.12/tailcut84/dl1_LST-1.Run02001.{n:04d}.h5" for n in (12, 3))
    plan = plan_night(night(job(dropped=files), job(2002)), site)
    partial, whole = plan.stage("dl3").steps
    command, stamp = partial.commands
    assert stamp == whole.commands[1]
    assert command[:3] == ("python", "-m", "lstops.science.dl3")
    assert command[command.index("--") :] == whole.commands[0][whole.commands[0].index("--") :]
    assert [w for w in command if w.startswith("{in:dropped")] == ["{in:dropped-0}", "{in:dropped-1}"]
    assert "--dropped" not in whole.commands[0]
    assert {i.path for i in partial.inputs if i.kind is ArtifactKind.DL1} == set(files)
    assert partial.primary.expect["dropped_subruns"] == [3, 12]
    assert partial.primary.expect["whole_run"] is False
    assert "dropped_subruns" not in whole.primary.expect
    assert plan.context["runs"]["2001"]["dropped_subruns"] == [3, 12]


PER_RUN = replace(load_cuts(), intensity_per_run=True)


def test_an_intensity_cut_of_each_run(site: Site) -> None:
    """The responses around the pointing are made anew in the step of the DL3, with the cut set that it makes first."""
    nodes = tuple(replace(n, gamma_dl2=f"mc/DL2/{n.zd_deg:g}_{n.az_deg:g}.h5") for n in GRID)
    plan = plan_night(replace(night(job(irfs=nodes)), cuts=PER_RUN), site)
    step = plan.stage("dl3").steps[0]
    responses, *stamps, dl3, last = step.commands
    assert responses[2] == "lstops.science.run_responses"
    assert dl3[2] == "lstops.science.dl3"
    assert dl3[dl3.index("--config") + 1] == "{out:cuts}"
    assert dl3[dl3.index("-i") + 1] == "{outdir:irf-0}"
    assert {words[3] for words in (*stamps, last)} == {"--cuts={out:cuts}"}
    made = [output for output in step.outputs if output.kind is ArtifactKind.IRF]
    assert 3 <= len(made) < len(GRID)
    assert len(stamps) == len(made)
    assert {o.path.rpartition("/")[0] for o in step.outputs[1:]} == {
        f"{step.primary.path.rpartition('/')[0]}/responses/Run02001"
    }
    gammas = [item for item in step.inputs if item.name.startswith("gamma-")]
    assert [item.path for item in gammas] == [
        next(n.gamma_dl2 for n in nodes if n.path.rpartition("/")[2] == o.path.rpartition("/")[2]) for o in made
    ]
    assert not [item for item in step.inputs if item.kind is ArtifactKind.IRF]
    assert "--dropped" not in responses
    # a cloud that is left out has no say in the cut
    without = job(irfs=nodes, dropped=("DL1/dl1_LST-1.Run02001.0003.h5",))
    command = plan_night(replace(night(without), cuts=PER_RUN), site).stage("dl3").steps[0].commands[0]
    assert command[command.index("--dropped") + 1] == "{in:dropped-0}"
    # all that the pointing may need once it is known to a hundredth of a degree
    inside = {w.node.path.rpartition("/")[2] for w in weights(20.2, 109.8, FIELD.delta_deg(20.2, 109.8), nodes)}
    assert inside <= {o.path.rpartition("/")[2] for o in made}


def test_an_intensity_cut_of_each_run_needs_the_gammas_of_the_nodes() -> None:
    accepted, refused = split_runs([job()], PER_RUN)
    assert accepted == ()
    assert "nothing says which DL2 the responses of the node(s) zd" in refused[0].reason
    assert "one intensity cut for all runs" in refused[0].remedy


@pytest.mark.parametrize(
    ("recommended", "limit", "source"),
    [(77.123, 77.12, "the run"), (50.0, 50, "the cut set: the run would allow less"),
     (None, 50, "the cut set: the rate of this run has no clear turn-on")],
)  # fmt: skip
def test_the_cut_set_of_one_run(recommended: float | None, limit: float, source: str) -> None:
    made = with_intensity(load_cuts(), 2001, recommended)
    assert made["EventSelector"]["filters"]["intensity"] == [limit, float("inf")]
    said = made["lstops"]["intensity"]
    assert (said["run"], said["limit_pe"], said["from"], said["cut_set"]) == (2001, limit, source, load_cuts().digest)
    plain = json.loads(load_cuts().text)
    del made["lstops"], plain["lstops"], made["EventSelector"]["filters"]["intensity"]
    del plain["EventSelector"]["filters"]["intensity"]
    assert made == plain


@pytest.mark.parametrize(
    ("section", "values", "words"),
    [
        ("DL3Cuts", {"gh_eficiency": 0.9}, "DL3Cuts.gh_eficiency is unknown, the nearest is gh_efficiency"),
        ("DL3Cuts", {"gh_efficiency": 70}, "DL3Cuts.gh_efficiency is 70, not between 0 and 1"),
        ("DL3Cuts", {"max_gh_cut": "0.9"}, "DL3Cuts.max_gh_cut is '0.9', no number"),
        ("IRFFITSWriter", {"point_like": "false"}, "IRFFITSWriter.point_like is 'false', not true or false"),
        ("EventSelector", {"filters": {"intensity": [80, 50]}}, r"filters.intensity is \[80, 50\], not a lower and"),
        ("EventSelector", {"filters": {"intensity": 80}}, "filters.intensity is 80, not a lower and an upper limit"),
        ("DataBinning", {"true_energy_nbins": 10}, "true_energy_nbins is unknown, the nearest is true_energy_n_bins"),
    ],
)
def test_a_cut_set_edited_by_hand(section: str, values: dict[str, object], words: str) -> None:
    """What lstchain would only say in the last step of a production."""
    document = json.loads(load_cuts().text)
    document[section] |= values
    with pytest.raises(ConfigError, match=f"mine: .*{words}"):
        parse_cuts(json.dumps(document), "mine")


def test_a_cut_set_whose_intensity_is_none() -> None:
    document = json.loads(load_cuts().text)
    document["lstops"]["intensity_per_run"] = True
    assert parse_cuts(json.dumps(document), "mine").intensity_per_run
    assert not load_cuts().intensity_per_run
    del document["EventSelector"]["filters"]["intensity"]
    with pytest.raises(ConfigError, match=r"mine: lstops\.intensity_per_run is True, .*intensity None"):
        parse_cuts(json.dumps(document), "mine")
    # nor may a request ask for it
    document["lstops"]["intensity_per_run"] = False
    with pytest.raises(ConfigError, match=r"intensity_per_run is True, .*intensity None"):
        each_run(parse_cuts(json.dumps(document), "mine"))
    assert each_run(load_cuts()) == PER_RUN
    document["lstops"]["intensity_per_run"] = "yes"
    with pytest.raises(ConfigError, match="intensity_per_run is 'yes'"):
        parse_cuts(json.dumps(document), "mine")


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


def test_one_source_with_two_sets_of_models_is_two_bundles(site: Site) -> None:
    sources = [
        SourceFiles("Crab", 83.6, 22.0, ("lstops/dl3/b/Crab/dl3_LST-1.Run02002.fits",), "prod_b"),
        SourceFiles("Crab", 83.6, 22.0, ("lstops/dl3/a/Crab/dl3_LST-1.Run02001.fits",), "prod_a"),
        SourceFiles("Mrk 421", 166.1, 38.2, ("lstops/dl3/a/Mrk/dl3_LST-1.Run02003.fits",), "prod_a"),
    ]
    plan = plan_collection(site, "night 20240115", sources, None, "0.12.3", {"night": "20240115"})
    titles = ["Crab with prod_a", "Crab with prod_b", "Mrk 421"]
    assert plan.context == {"night": "20240115", "sources": titles}
    assert [s.subject for s in plan.steps()] == [f"source {title}" for title in titles] * 2
    assert all("--source-name=Crab" in s.commands[0] for s in plan.stage("check").steps[:2])


def test_the_lines_of_a_production_of_the_whole_sky_are_told_apart(site: Site) -> None:
    north = replace(MODELS, line="dec_3476", path="models/AllSky/x/dec_3476")
    plan = plan_night(night(job(2001), job(2002, "Mrk 421", models=north), job(2003)), site)
    rows = [
        ProductionRow(name=MODELS.production, line=line, nsb_level_ghz=0.25, lstchain_version="0.12.3")
        for line in ("dec_2276", "dec_3476", "dec_931")
    ]
    assert used_productions(plan, rows) == (
        UsedProduction(MODELS.production, "dec_2276", 0.25, "0.12.3", (2001, 2003)),
        UsedProduction(MODELS.production, "dec_3476", 0.25, "0.12.3", (2002,)),
    )
    assert used_productions(plan, ())[1] == UsedProduction(MODELS.production, "dec_3476", None, "", (2002,))


def test_what_a_person_has_to_know_of_the_dl2_of_runs(site: Site) -> None:
    plan, layout = plan_night(night(job(2001), job(2002), job(2003), job(2004)), site), Layout(site.base, site.work)
    facts: tuple[dict[str, object], ...] = (
        {"events": 1000, "extrapolated": 120, "breaks_unix_s": [[10.0, 21.0], [50.0, 60.5]]},
        {"events": 1000, "extrapolated": 9, "breaks_unix_s": [], "t_start": 5.0, "t_stop": 600.0},
        {"events": 1000},
    )
    for index, found in enumerate(facts):
        step = plan.steps()[index]
        state = FileState(size=1, mtime_ns=1, sha256="0" * 64)
        record = ArtifactRecord(name="dl2", kind=ArtifactKind.DL2, path=step.primary.path, state=state, facts=found)
        ManifestStore(layout.manifests).write(adopted_manifest(plan, index, step, "k", (), (record,), {}))
    told = (
        "12% of the events beyond the training nodes on their side of culmination: extrapolated; interrupted for 22 s"
    )
    assert notes_of_dl2(layout, plan, {2001: 30.0, 2002: 599.0, 2003: 9.0}) == {2001: told}
    lost = notes_of_dl2(layout, plan, {2002: 1200.0})[2002]
    assert lost == "its DL1 holds 595 s, the data check 1200 s: were all subruns merged?"
    assert notes_of_dl2(layout, None, {}) == {}


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
