"""The whole chain with the real lstchain, step by step as on a cluster: tuned production, night, index."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from chain import CRAB, CUTS, PRODUCTION, SOURCE, product, request, run_all, run_in_one_task
from same_content import fits_differences, hdf5_differences
from tiny import RUN, site_at

from lstops.errors import DataError, ProductInvalid
from lstops.night import Night
from lstops.production.card_plan import CardSettings, with_report_cards
from lstops.production.gates import failures, load_gates
from lstops.production.report_card import read_report_card, reference_text
from lstops.reduction.jobs import RunJob
from lstops.reduction.plan import IndexRequest, plan_index, plan_night
from lstops.reduction.refusal import split_runs
from lstops.site.layout import Layout
from lstops.site.model import Site
from lstops.step.manifest import ManifestStore
from lstops.step.model import ArtifactKind, Plan
from lstops.step.plans import save_plan
from lstops.step.report import Ending
from lstops.step.runner import run_step
from lstops.step.verify import InputFacts, inspect, verify

pytest.importorskip("lstchain", reason="needs the science environment")


def test_production_facts(production: Plan, layout: Layout) -> None:
    models = product(layout, production.stage("train").steps[0].primary.path).facts
    assert models["training_dirs"] == [[10.0, 100.0], [35.0, 100.0]]
    assert set(models["trees"].values()) == {10}
    assert "lstchain_config.json" in models["files"]
    tuned = product(layout, production.stage("tune").steps[0].primary.path).facts["image_modifier"]
    assert tuned["extra_noise_in_dim_pixels"] > 0
    tuning = json.loads(layout.absolute(production.stage("tune").steps[0].outputs[1].path).read_text())
    assert len(tuning["subruns"]) == 2
    noise = tuning["values"]["extra_noise_in_dim_pixels"]
    assert noise["value"] == pytest.approx(tuned["extra_noise_in_dim_pixels"])
    assert noise["spread"] == pytest.approx(0, abs=0.2)
    for step in production.stage("dl2").steps:
        facts = product(layout, step.primary.path).facts
        assert facts["interpolated"] is True
        assert facts["events"] > 100
        assert 0 <= facts["dropped"] < facts["events"]
    for step in production.stage("irf").steps:
        facts = product(layout, step.primary.path).facts
        assert facts["zd_deg"] == pytest.approx(step.primary.expect["zd_deg"], abs=0.01)
        assert facts["area_max_m2"] > 1e3


def test_report_card(production: Plan, site: Site, layout: Layout) -> None:
    settings = CardSettings(load_gates("small"), reference_text())
    plan = with_report_cards(production, settings, site)
    save_plan(plan, site)
    (index,) = plan.indices("report")
    assert run_step(plan, index, site).ending is Ending.DONE
    card = read_report_card(layout.absolute(plan.steps()[index].primary.path))
    assert card.roc_note == ""
    assert [(node.zd_deg, node.az_deg) for node in card.nodes] == [(10, 175), (10, 355), (35, 175), (35, 355)]
    for node in card.nodes:
        assert node.roc is not None
        assert node.roc.proton_zd_deg == node.zd_deg
        assert 0.7 < node.roc.auc < 0.99
        for b in settings.gates.judged(node.zd_deg, node.bins):
            assert b.resolution is not None
            assert b.angular_resolution_deg is not None
            assert b.effective_area_m2 is not None
            assert b.effective_area_m2 > 1e4
    assert set(card.importances) == {"reg_energy", "reg_disp_norm", "cls_disp_sign", "cls_gh"}
    assert sum(mean for mean, _ in card.importances["cls_gh"].values()) == pytest.approx(1, abs=1e-4)
    strict = settings.gates.limits.model_copy(update={"energy_resolution": 0.01})
    found = failures(card, settings.gates.model_copy(update={"limits": strict}))
    assert any("energy resolution" in failure.text for failure in found)
    page = layout.absolute(plan.steps()[index].outputs[1].path).read_text()
    assert page.count("<img ") == 9


def test_a_warm_worker_makes_the_same_products(production: Plan, site: Site, tmp_path: Path) -> None:
    """Two nodes from DL1 to IRF in one task, beside those that single commands made; every table is equal."""
    base = tmp_path / "warm"
    shutil.copytree(site.base, base)
    there = site_at(base)
    here, copy = (ManifestStore(Layout(s.base, s.work).manifests) for s in (site, there))
    indices = [index for stage in ("dl1ab", "dl2", "irf") for index in production.indices(stage)[-2:]]
    products = [production.steps()[index].primary.path for index in indices]
    for path in products:
        copy.remove(path)
        (base / path).unlink()
    said = run_in_one_task(save_plan(production, there), indices)
    assert "warm: lstchain_create_irf_files, lstchain_dl1_to_dl2, lstchain_dl1ab, lstops.science.stamp; " in said
    for path in products:
        differences = hdf5_differences if path.endswith(".h5") else fits_differences
        number, names = differences(site.base / path, base / path)
        assert (number > 2, names) == (True, []), path
        old, new = here.read(path), copy.read(path)
        assert old is not None
        assert new is not None
        assert (new.label, new.commands, new.versions, new.log) == (old.label, old.commands, old.versions, old.log)
        assert [o.facts for o in new.outputs] == [o.facts for o in old.outputs]


def test_a_finished_production_is_a_no_op(production: Plan, site: Site, layout: Layout) -> None:
    assert set(run_all(production, site)) == {Ending.UP_TO_DATE}
    assert not list(layout.staging.iterdir())


def test_night_to_gammapy(job: RunJob, site: Site, layout: Layout) -> None:
    accepted, refused = split_runs([job, replace(job, run=2009, zd_deg=60.0)])
    assert [r.run for r in refused] == [2009]
    plan = plan_night(request(*accepted), site)
    assert set(run_all(plan, site)) <= {Ending.DONE, Ending.UP_TO_DATE}
    dl3 = plan.stage("dl3").steps[0].primary.path
    facts = product(layout, dl3).facts
    assert (facts["obs_id"], facts["object"]) == (RUN, SOURCE)
    assert facts["irf_zd_deg"] == pytest.approx(job.zd_deg, abs=0.05)
    assert 2.0 < facts["ontime_s"] < 2.6

    index = plan_index(IndexRequest(Night.parse("20240115"), "0.12.3", SOURCE, (dl3,)), site)
    assert run_all(index, site) == [Ending.DONE]
    from gammapy.data import DataStore

    store = DataStore.from_dir(layout.absolute(dl3).parent)
    observation = store.get_observations(required_irf="point-like")[0]
    assert observation.obs_id == RUN
    assert len(observation.events.table) == facts["events"]


def test_a_run_is_what_lstchain_makes_when_typed_by_hand(
    production: Plan, job: RunJob, site: Site, layout: Layout, tmp_path: Path
) -> None:
    """DL2 event by event, DL3 HDU by HDU; the DL3 says besides what it was made with."""
    plan = plan_night(request(job), site)
    run_all(plan, site)
    dl2, dl3 = (layout.absolute(plan.stage(name).steps[0].primary.path) for name in ("dl2", "dl3"))
    tools, models = Path(sys.executable).parent, layout.absolute(job.models.path)
    cuts = tmp_path / "cuts.json"
    cuts.write_text(CUTS.text)
    # the tool takes the geomagnetic field of the moment at which it runs; here its clock shows the middle of the run
    facts = inspect(ArtifactKind.DL2, dl2)
    clock = (
        "import sys; from astropy.time import Time; from lstchain.tools.lstchain_create_dl3_file import main; "
        f"now = Time({(facts['t_start'] + facts['t_stop']) / 2!r}, format='unix'); Time.now = lambda: now; "
        "sys.argv[0] = 'lstchain_create_dl3_file'; main()"
    )
    words = ["-d", tmp_path / dl2.name, "-i", layout.absolute(job.irfs[0].path).parent, "-p", "irf*.fits.gz",
             "--source-name", SOURCE, "--source-ra", f"{CRAB[0]!r}deg", "--source-dec", f"{CRAB[1]!r}deg",
             "--config", cuts]  # fmt: skip
    today = tmp_path / "today"
    today.mkdir()
    for command in (
        (tools / "lstchain_dl1_to_dl2", "-f", layout.absolute(job.dl1), "-p", models, "-o", tmp_path,
         "-c", models / "lstchain_config.json"),
        (sys.executable, "-c", clock, *words, "-o", tmp_path),
        (tools / "lstchain_create_dl3_file", *words, "-o", today),
    ):  # fmt: skip
        subprocess.run(list(map(str, command)), check=True, cwd=tmp_path)
    number, names = hdf5_differences(dl2, tmp_path / dl2.name)
    assert (number > 2, names) == (True, [])
    number, names = fits_differences(dl3, tmp_path / dl3.name)
    assert (number > 5, names) == (True, [])
    # with the field of today, years after the run, cuts and responses are those of a direction some tenths of a degree
    # away: an event at a cut may come or go, nothing else of the data changes
    from astropy.io import fits

    with fits.open(dl3) as ours, fits.open(today / dl3.name) as todays:
        events = [dict(zip(h["EVENTS"].data["EVENT_ID"].tolist(), h["EVENTS"].data["TIME"], strict=True))
                  for h in (ours, todays)]  # fmt: skip
        assert len(events[0].keys() ^ events[1].keys()) <= 0.01 * len(events[0])
        assert all(events[1].get(number, time) == time for number, time in events[0].items())
        assert np.allclose(ours["GH_CUTS"].data["cut"], todays["GH_CUTS"].data["cut"], rtol=0.02)

    header = fits.getheader(dl3, "EVENTS")
    assert (header["MODELS"], header["MODELSHA"]) == (PRODUCTION, job.models.sha256)
    assert (header["CUTSET"], header["CUTSHA"], header["IRFNODES"]) == (CUTS.name, CUTS.digest, str(len(job.irfs)))
    assert {header[f"IRFS{n:04d}"] for n in range(1, len(job.irfs) + 1)} == {node.sha256 for node in job.irfs}


def test_a_dl3_that_is_made_again_has_the_same_bytes(job: RunJob, site: Site, layout: Layout) -> None:
    """And so have the responses: what was killed and made again does not make anything after it out of date."""
    plan = plan_night(request(job), site)
    run_all(plan, site)
    path = plan.stage("dl3").steps[0].primary.path
    before = product(layout, path).state.sha256
    ManifestStore(layout.manifests).remove(path)
    layout.absolute(path).unlink()
    assert run_all(plan, site) == [Ending.UP_TO_DATE, Ending.DONE]
    assert product(layout, path).state.sha256 == before


def middle_of_the_run(layout: Layout, dl1: str) -> str:
    """A subrun file that holds the middle third of the run's events; its path."""
    import tables

    path = dl1.replace(".h5", ".0001.h5")
    shutil.copyfile(layout.absolute(dl1), layout.absolute(path))
    with tables.open_file(str(layout.absolute(path)), "a") as file:
        table = file.root.dl1.event.telescope.parameters.LST_LSTCam
        third = table.nrows // 3
        table.remove_rows(2 * third, table.nrows)
        table.remove_rows(0, third)
    return path


def test_a_run_without_its_middle_subrun(job: RunJob, site: Site, layout: Layout) -> None:
    """Events are out, and intervals and live time agree with what is left, as gammapy sees it."""
    from gammapy.data import DataStore

    subrun = middle_of_the_run(layout, job.dl1)
    try:
        out = inspect(ArtifactKind.DL1, layout.absolute(subrun))
        plan = plan_night(request(replace(job, source="Crab without", dropped=(subrun,))), site)
        assert set(run_all(plan, site)) <= {Ending.DONE, Ending.UP_TO_DATE}
        whole = product(layout, plan.stage("dl2").steps[0].primary.path).facts
    finally:
        layout.absolute(subrun).unlink()
    dl3 = plan.stage("dl3").steps[0].primary.path
    facts = product(layout, dl3).facts
    left = [(whole["t_start"], out["t_start"]), (out["t_stop"], whole["t_stop"])]
    assert facts["gti"] == 2
    assert np.abs(np.array(facts["intervals_unix_s"]) - left).max() < 0.1
    assert facts["gti_s"] == pytest.approx(sum(stop - start for start, stop in left), abs=0.1)

    assert run_all(plan_index(IndexRequest(Night.parse("20240115"), "0.12.3", "Crab without", (dl3,)), site), site)
    observation = DataStore.from_dir(layout.absolute(dl3).parent).get_observations(required_irf="point-like")[0]
    assert observation.observation_live_time_duration.to_value("s") == pytest.approx(facts["livetime_s"], abs=1e-6)
    assert 0.9 < facts["deadc"] < 1
    times = observation.events.time.unix
    assert len(times) > 20
    assert not ((times > out["t_start"]) & (times < out["t_stop"])).any()


def test_a_run_with_an_interruption(job: RunJob, site: Site, layout: Layout) -> None:
    """Ten seconds without data, as of a subrun that is missing: no good time, with and without a dropped subrun."""
    import tables

    run = RUN + 200
    dl1 = layout.dl1_run(Night.parse("20240115"), "v0.12", "tailcut84", run)
    shutil.copyfile(layout.absolute(job.dl1), layout.absolute(dl1))
    with tables.open_file(str(layout.absolute(dl1)), "a") as file:
        table = file.root.dl1.event.telescope.parameters.LST_LSTCam
        table.cols.obs_id[:] = np.full(table.nrows, run)
        later = np.arange(table.nrows) > 0.8 * table.nrows
        table.cols.dragon_time[:] = table.cols.dragon_time[:] + 10.0 * later
    subrun = middle_of_the_run(layout, dl1)
    try:
        for dropped, parts, seconds in (((), 2, 2.5), ((subrun,), 3, 2.5 * 2 / 3)):
            holed = replace(job, run=run, dl1=dl1, source=f"Crab {parts}", dropped=dropped)
            plan = plan_night(request(holed), site)
            assert set(run_all(plan, site)) <= {Ending.DONE, Ending.UP_TO_DATE}
            facts = product(layout, plan.stage("dl3").steps[0].primary.path).facts
            assert facts["gti"] == parts
            assert facts["gti_s"] == pytest.approx(seconds, abs=0.1)
            assert facts["livetime_s"] == pytest.approx(facts["gti_s"] * facts["deadc"])
    finally:
        layout.absolute(subrun).unlink()


def test_nearest_node_instead_of_interpolation_is_caught(job: RunJob, site: Site, layout: Layout) -> None:
    """With the nodes of one zenith lstchain takes the nearest and ends with exit status 0."""
    nodes = tuple(n for n in job.irfs if n.zd_deg < 20)
    near = replace(job, irfs=nodes, source="Crab near")
    assert "span no area" in split_runs([near])[1][0].reason
    plan = plan_night(request(near), site)
    run_step(plan, 0, site)
    with pytest.raises(ProductInvalid, match="nearest node instead of interpolating"):
        run_step(plan, 1, site)
    assert not layout.absolute(plan.steps()[1].primary.path).exists()
    assert not list(layout.staging.iterdir())


def test_models_that_are_not_the_registered_ones_are_never_loaded(job: RunJob, site: Site) -> None:
    other = replace(job, models=replace(job.models, sha256="0" * 64, level_ghz=0.14))
    with pytest.raises(DataError, match=r"not the content that the plan expects .*expected 000000000000"):
        run_step(plan_night(request(other), site), 0, site)


def test_a_training_node_without_events_is_named(production: Plan, layout: Layout, tmp_path: Path) -> None:
    merged = layout.absolute(production.stage("merge").steps[0].primary.path)
    config = layout.absolute(production.stage("tune").steps[0].primary.path)
    words = [sys.executable, "-m", "lstops.science.complete_models", "--models", str(tmp_path), "--gamma", str(merged),
             "--config", str(config), "--node", "10.0,100.0", "--node", "35.0,100.0"]  # fmt: skip
    done = subprocess.run([*words, "--node", "6.0,180.0"], capture_output=True, text=True, check=False)
    assert done.returncode == DataError.exit_code
    assert "no events of [(6.0, 180.0)]" in done.stderr
    assert list(tmp_path.iterdir()) == []
    subprocess.run(words, check=True)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["lstchain_config.json", "training_dirs.ecsv"]


@pytest.mark.parametrize("stage", ["dl1ab", "merge", "dl2", "irf"])
@pytest.mark.parametrize("fraction", [0.05, 0.5, 0.97])
def test_real_products_cut_short_are_refused(
    production: Plan, layout: Layout, tmp_path: Path, stage: str, fraction: float
) -> None:
    output = production.stage(stage).steps[0].primary
    whole = layout.absolute(output.path)
    content = whole.read_bytes()
    broken = tmp_path / whole.name
    broken.write_bytes(content[: int(len(content) * fraction)])
    with pytest.raises(DataError, match=r"truncated|damaged"):
        inspect(output.kind, broken)


def test_a_dl2_that_lost_events_is_refused(production: Plan, layout: Layout, tmp_path: Path) -> None:
    """The last rows gone, as after a full disk, in a file that opens without complaint."""

    import tables

    step = production.stage("dl2").steps[0]
    broken = tmp_path / "dl2.h5"
    shutil.copyfile(layout.absolute(step.primary.path), broken)
    with tables.open_file(str(broken), "a") as file:
        table = file.root.dl2.event.telescope.parameters.LST_LSTCam
        table.remove_rows(table.nrows - 1, table.nrows)
    inputs = [InputFacts(i.name, i.kind, layout.absolute(i.path), product(layout, i.path).facts) for i in step.inputs]
    with pytest.raises(ProductInvalid, match="can be reconstructed"):
        verify(step.primary, broken, inputs)
