"""The tasks of an analysis request, without Airflow and lstchain: real PostgreSQL, steps finished by hand."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from typer.testing import CliRunner

from lstops.catalog.database import catalog_session
from lstops.catalog.overlay import add_decision
from lstops.catalog.productions import RegisteredProduction, register_production
from lstops.embedded.postgres import EmbeddedPostgres
from lstops.errors import ConfigError, DataError
from lstops.night import Night
from lstops.operations.nightly import ingest, judge, layout_of
from lstops.operations.reduction import plan_collection, plan_reduction
from lstops.operations.reduction import publish as publish_night
from lstops.operations.report import make_report, write_report
from lstops.operations.request import build_plan, plan_measurement, store_plan
from lstops.operations.request_bundle import collect, publish
from lstops.operations.request_cli import app
from lstops.publish.cli import withdraw_app
from lstops.publish.withdraw import withdraw
from lstops.quality.overlay import OverlayAction
from lstops.reduction.cuts import load_cuts
from lstops.reduction.geometry import Field
from lstops.reduction.request import ReductionRequest
from lstops.report.attention import actions
from lstops.report.night import night_report
from lstops.report.source import LogParabola, SourceCheck, Theta2
from lstops.report.summary import headline
from lstops.site.model import Site
from lstops.step.inputs import InputReader, environment_version
from lstops.step.manifest import ArtifactRecord, Manifest, ManifestStore, full_state
from lstops.step.model import ArtifactKind, Step, step_key
from lstops.step.plans import load_plan

from .nights import NIGHT, night_site, run_catalog, run_summary, write, write_tailcuts

LATER = Night.parse("20191125")
#: the good runs of these nights around this place, below 33.5 deg
TARGET, NIGHTS = "0.15 5.0", {NIGHT: (1604, 1607, 1609, 1615), LATER: (1732,)}
RUNS = tuple(run for runs in NIGHTS.values() for run in runs)
REQUEST = ReductionRequest(target=TARGET, zd_max_deg=33.5)
#: a run of the later night with bad subruns here and there, at 43.9 deg; the last of them is subrun 128
FLASHED = 1736
#: the nearest to them
LINE = "dec_931"
PRODUCTION, IRF_DIR = "20191121_v0.12.3_nsb_tuning_0.15", "mc/IRF/x"
REFERENCE = LogParabola(amplitude=3e-11, alpha=2.5, beta=0.1)
CHECK = SourceCheck(
    source_name="Nowhere", ra_deg=0.15, dec_deg=5.0, gammapy_version="1.3", energy_range_tev=(0.05, 20.0),
    live_time_s=3600.0, counts_on=300, counts_off=60, excess=280.0, background=20.0, significance=25.3,
    spectrum=REFERENCE, flux=4.7e-10, flux_error=2e-11, reference=REFERENCE, reference_name="x", reference_flux=4.7e-10,
    ratio=1.0, ratio_error=0.04, runs=(), theta2=Theta2(edges_deg2=(0, 0.1), on=(1,), off=(1,), off_error=(1,)),
)  # fmt: skip
DONE_HERE = {"kind": "x", "label": "x", "subject": "x", "commands": [["x"]], "environment": "0.12.3", "versions": {},
             "plan_id": "x", "plan_context": {}, "index": 0, "host": "h", "job": "", "wall_s": 1.0, "cpu_s": 1.0,
             "started": "2024-01-16T08:00:00+00:00", "ended": "2024-01-16T08:01:00+00:00", "max_rss_mb": 1.0,
             "log": "x", "files": {}}  # fmt: skip


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedPostgres]:
    postgres = EmbeddedPostgres(tmp_path_factory.mktemp("pg"))
    postgres.start()
    yield postgres
    postgres.stop()


@pytest.fixture
def site(
    server: EmbeddedPostgres, shared: Path, repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Site:
    """A site with two nights of data check, the NSB of its runs, a production with six IRF nodes, and empty DL1."""
    site_file = repository / "config/sites/local.yaml"
    monkeypatch.setenv("LSTOPS_SITE", str(site_file))
    site = night_site(server, shared, site_file, tmp_path, NIGHTS, monkeypatch)
    layout = layout_of(site)
    for night in NIGHTS:
        ingest(site, night)
    for run in (*RUNS, FLASHED):
        write_tailcuts(site, *layout.tailcuts(run), 0.15)
    make_production(site)
    return site


def make_production(site: Site, name: str = PRODUCTION, level_ghz: float = 0.15) -> None:
    # of the time of the runs, as that which the responses are interpolated to
    when = datetime.strptime(str(NIGHT), "%Y%m%d").replace(tzinfo=timezone.utc)
    layout, field = layout_of(site), Field.at(when)
    store = ManifestStore(layout.manifests)
    for zd in (10.0, 24.0, 45.0):
        for az in (175.0, 355.0):
            path = f"{IRF_DIR}/irf_{zd:.0f}_{az:.0f}.fits.gz"
            write(site, path, path)
            facts = {"zd_deg": zd, "az_deg": az, "b_delta_deg": field.delta_deg(zd, az), "empty_bins_tev": []}
            made = ArtifactRecord(
                name="irf", kind=ArtifactKind.IRF, path=path, state=full_state(layout.absolute(path)), facts=facts
            )
            files = {"cuts.json": load_cuts(site.cuts).text}
            store.write(
                Manifest.model_validate({**DONE_HERE, "key": path, "files": files, "inputs": [], "outputs": [made]})
            )
    with catalog_session() as session:
        register_production(
            session,
            RegisteredProduction(
                name=name, line=LINE, lstchain_version="0.12.3", tailcut="tailcut84",
                nsb_level_ghz=level_ghz, models_path="models/x", models_sha256="ab" * 32, irf_dir=IRF_DIR, config={},
                facts={"config_path": "models/x.json", "training_dirs": [[10.0, 100.0], [45.0, 100.0]]}, plan_id="p",
            ),
        )  # fmt: skip


def decide(run: int, action: OverlayAction, *subruns: int) -> None:
    with catalog_session() as session:
        add_decision(session, run, action, "Ana", "lidar", subruns)


def write_output(path: Path) -> None:
    """What the publication looks into: DL3 files and their index; anything else is text."""
    path.parent.mkdir(parents=True, exist_ok=True)
    hdus = ("EVENTS", "GTI", "POINTING", "EFFECTIVE AREA")
    if path.name.startswith("dl3"):
        run = int(path.name[-10:-5])
        tables = [fits.BinTableHDU(Table({"START": [0.0], "ENERGY": [1.0]}), name=name) for name in hdus]
        tables[0].header["OBS_ID"] = run
        fits.HDUList([fits.PrimaryHDU(), *tables]).writeto(path)
    elif "-index" in path.name:
        runs = sorted(int(p.name[-10:-5]) for p in path.parent.glob("dl3*.fits"))
        rows = [(r, "events", ".", f"dl3_LST-1.Run{r:05d}.fits", hdu, 1) for r in runs for hdu in hdus]
        names = ("OBS_ID", "HDU_TYPE", "FILE_DIR", "FILE_NAME", "HDU_NAME", "SIZE")
        table = Table(rows=rows, names=names) if path.name.startswith("hdu") else Table({"OBS_ID": np.array(runs)})
        title = "HDU INDEX" if path.name.startswith("hdu") else "OBS INDEX"
        fits.HDUList([fits.PrimaryHDU(), fits.BinTableHDU(table, name=title)]).writeto(path)
    elif path.name == "check.json":
        path.write_text(CHECK.model_dump_json())
    else:
        path.write_text(path.name)


def finish(site: Site, step: Step) -> None:
    """Leave behind what a step leaves that has run."""
    layout = layout_of(site)
    reader = InputReader(layout)
    inputs = []
    for item in step.inputs:
        path = layout.absolute(item.path)
        if not path.exists():
            write(site, item.path, item.path)
        state = reader.known_state(item) or reader.cache.state(item.path, path)
        inputs.append(ArtifactRecord(name=item.name, kind=item.kind, path=item.path, state=state))
    for output in step.outputs:
        write_output(layout.absolute(output.path))
    outputs = [
        ArtifactRecord(name=o.name, kind=o.kind, path=o.path, state=full_state(layout.absolute(o.path)))
        for o in step.outputs
    ]
    key = step_key(step, {i.name: i.state.sha256 for i in inputs}, environment_version(site, step))
    ManifestStore(layout.manifests).write(Manifest.model_validate({
        **DONE_HERE, "key": key, "kind": step.kind, "label": step.label, "subject": step.subject,
        "inputs": inputs, "outputs": outputs,
    }))  # fmt: skip


def failed(step: Step, stage: str) -> dict[str, object]:
    return {"stage": stage, "quarantined": [{"subject": step.subject, "what": "disk on fire.", "remedy": "water."}]}


def test_a_request_from_plan_to_bundle(site: Site) -> None:
    layout = layout_of(site)
    assert load_plan(layout.plan_file(plan_measurement(site, REQUEST))).steps() == ()
    made = build_plan(site, REQUEST)
    assert made.causes == {}
    assert made.nights == NIGHTS
    assert [s.subject for s in made.plan.stage("dl3").steps] == [f"run {run}" for run in RUNS]
    folder = layout.request_candidates(REQUEST.name)
    assert {s.primary.path.rpartition("/")[0] for s in made.plan.stage("dl3").steps} == {folder}
    assert made.plan.stage("dl2").steps[0].primary.path == layout.dl2_run(NIGHT, "v0.12", "tailcut84", 0.15, 1604)

    plan_id = store_plan(site, REQUEST)
    assert plan_id == made.plan.plan_id
    *good, bad = made.plan.stage("dl3").steps
    assert bad.subject == "run 1732"
    for step in (*made.plan.stage("dl2").steps, *good):
        finish(site, step)
    decide(1604, OverlayAction.EXCLUDE)
    collection_id = collect(site, plan_id, [{"stage": "dl2", "quarantined": []}, failed(bad, "dl3")])
    collection = load_plan(layout.plan_file(collection_id))
    (index,) = collection.stage("index").steps
    # one run was excluded meanwhile, one failed
    assert [i.path for i in index.inputs] == [f"{folder}/dl3_LST-1.Run0{run}.fits" for run in (1607, 1609, 1615)]
    layout.absolute(f"{folder}/dl3_LST-1.Run01604.fits").unlink()
    finish(site, index)

    (version,) = publish(site, plan_id, collection_id, [])
    assert version == f"DL3/requests/{REQUEST.name}/v0001"
    rows = Table.read(layout.absolute(f"{version}/runs.ecsv"), format="ascii.ecsv")
    selected = dict(zip(rows["run_id"].tolist(), rows["selected"].tolist(), strict=True))
    assert selected == {1604: False, 1607: True, 1609: True, 1615: True, 1732: True}
    text = layout.absolute(f"{version}/runs.ecsv").read_text()
    assert "lidar" in text
    assert "disk on fire" in text
    bundle = json.loads(layout.absolute(f"{version}/bundle.json").read_text())
    assert (bundle["production"], bundle["night"]) == (PRODUCTION, "20191121")
    assert bundle["request"] == REQUEST.model_dump(mode="json")
    assert f"Request      {TARGET}, zd 0 to 33.5 deg" in layout.absolute(f"{version}/README.txt").read_text()
    assert layout.absolute(f"{version}/cuts.json").read_text() == load_cuts(site.cuts).text
    # the same again is no new version
    assert publish(site, plan_id, collection_id, []) == [version]


def test_a_cut_set_that_was_edited_since_is_not_published_in_place_of_the_one_that_was_used(
    site: Site, tmp_path: Path
) -> None:
    used = load_cuts(site.cuts).text
    own = tmp_path / "own.json"
    own.write_text(used)
    request = REQUEST.model_copy(update={"cuts": str(own)})
    plan_id, collection_id = reduced(site, request)
    own.write_text(used.replace("0.32", "0.4"))
    (version,) = publish(site, plan_id, collection_id, [])
    assert layout_of(site).absolute(f"{version}/cuts.json").read_text() == used
    own.unlink()
    assert publish(site, plan_id, collection_id, []) == [version]


def reduced(site: Site, request: ReductionRequest) -> tuple[str, str]:
    """A request up to its index; the ids of its plans."""
    layout = layout_of(site)
    plan_id = store_plan(site, request)
    for step in load_plan(layout.plan_file(plan_id)).steps():
        finish(site, step)
    collection_id = collect(site, plan_id, [])
    for step in load_plan(layout.plan_file(collection_id)).stage("index").steps:
        finish(site, step)
    return plan_id, collection_id


def test_a_request_of_which_nothing_is_left_fails_and_says_why(site: Site) -> None:
    """Each stage goes on without what failed; a bundle of nothing would end green, and nobody would be told."""
    plan_id = store_plan(site, REQUEST)
    steps = load_plan(layout_of(site).plan_file(plan_id)).stage("dl3").steps
    collection_id = collect(site, plan_id, [failed(step, "dl3") for step in steps[:1]])
    with pytest.raises(DataError, match=r"nothing of .* could be published: run 1604: disk on fire") as caught:
        publish(site, plan_id, collection_id, [])
    assert caught.value.remedy == "water."
    for run in RUNS:
        decide(run, OverlayAction.EXCLUDE)
    with pytest.raises(DataError, match=r"every run was excluded|disk on fire"):
        publish(site, plan_id, collect(site, plan_id, []), [])


def test_dropped_subruns_and_what_says_which_events_they_are(site: Site) -> None:
    decide(1607, OverlayAction.DROP_SUBRUNS, 3, 4)
    made = build_plan(site, REQUEST)
    reason, remedy = made.causes["run 1607"]
    assert "subruns 3-4 shall be left out" in reason
    assert "exclude the run" in remedy
    assert "run 1607" not in [s.subject for s in made.plan.stage("dl3").steps]
    for subrun in (3, 4):
        write(site, layout_of(site).dl1_subrun(NIGHT, "v0.12", "tailcut84", 1607, subrun), "events")
    made = build_plan(site, REQUEST)
    assert made.causes == {}
    assert made.plan.context["runs"]["1607"]["dropped_subruns"] == [3, 4]
    assert made.plan.stage("dl3").steps[1].primary.expect["dropped_subruns"] == [3, 4]


def test_a_subrun_that_nobody_judged_is_left_out(site: Site) -> None:
    """The data check of its last subrun failed; its events are in the run-wise DL1 all the same."""
    assert "dropped_subruns" not in build_plan(site, REQUEST).plan.context["runs"]["1607"]
    for subrun in (0, 1, 999):
        write(site, layout_of(site).dl1_subrun(NIGHT, "v0.12", "tailcut84", 1607, subrun), "events")
    made = build_plan(site, REQUEST)
    assert made.causes == {}
    assert made.plan.context["runs"]["1607"]["dropped_subruns"] == [999]
    assert "dropped_subruns" not in made.plan.context["runs"]["1609"]


def test_a_run_is_kept_without_its_bad_subruns(site: Site) -> None:
    request = ReductionRequest(target=TARGET, zd_min_deg=43.5, zd_max_deg=44)
    assert "subruns 11,23,26,31" in build_plan(site, request).causes[f"run {FLASHED}"][0]
    for subrun in range(134):
        write(site, layout_of(site).dl1_subrun(LATER, "v0.12", "tailcut84", FLASHED, subrun), "events")
    made = build_plan(site, request)
    assert made.causes == {}
    dropped = made.plan.context["runs"][str(FLASHED)]["dropped_subruns"]
    assert (dropped[0], dropped[-1], len(dropped)) == (11, 128, 26)


def two_skies(site: Site) -> tuple[str, str]:
    """A night in which the moon rises, reduced up to its two indices; the ids of its plans."""
    layout = layout_of(site)
    write(site, layout.tailcuts(1615)[1], "Additional NSB rate (over dark MC): 0.55 p.e./ns\n")
    make_production(site, "20191121_v0.12.3_nsb_tuning_0.55", 0.55)
    run_summary(site, dict.fromkeys(NIGHTS[NIGHT], "DATA"))
    run_catalog(site, "Nowhere", list(NIGHTS[NIGHT]))
    catalog = layout.absolute(layout.run_catalog(NIGHT))
    catalog.write_text(catalog.read_text().replace("83.6324 22.0174", TARGET))
    ingest(site, NIGHT)
    judge(site, NIGHT)
    plan = load_plan(layout.plan_file(plan_reduction(site, NIGHT)))
    for step in plan.steps():
        finish(site, step)
    collection_id = plan_collection(site, NIGHT, plan.plan_id, [])
    collection = load_plan(layout.plan_file(collection_id))
    for step in collection.stage("index").steps:
        finish(site, step)
    return plan.plan_id, collection_id


def test_a_night_with_two_skies_is_two_bundles(site: Site) -> None:
    """The moon rises, other models fit: the night's runs of one source are published by production."""
    layout = layout_of(site)
    paths = publish_night(site, NIGHT, *two_skies(site))
    assert [sorted(p.name[-10:-5] for p in layout.absolute(path).glob("dl3*")) for path in sorted(paths)] == [
        ["01604", "01607", "01609"], ["01615"],
    ]  # fmt: skip
    assert all(path.endswith("/Nowhere/v0001") for path in paths)
    text = layout.absolute(f"{sorted(paths)[0]}/runs.ecsv").read_text()
    assert "in the bundle with 20191121_v0.12.3_nsb_tuning_0.55" in text
    assert {bundle.runs for bundle in make_report(site, NIGHT).published} == {(1604, 1607, 1609), (1615,)}


def test_a_bundle_that_is_refused_stops_only_itself(site: Site) -> None:
    """Somebody withdrew one of two: the other one is published again all the same, and the report tells both."""
    layout, plans = layout_of(site), two_skies(site)
    first, second = publish_night(site, NIGHT, *plans)
    runs = sorted(int(p.name[-10:-5]) for p in layout.absolute(first).glob("dl3*"))
    withdraw(first.rpartition("/")[0], "v0001", "Ana", "clouds", layout)
    (ended,) = make_report(site, NIGHT).ended
    # by hand it is on the page at once
    page = write_report(site, NIGHT)
    page.write_text("as before")
    CliRunner().invoke(withdraw_app, [first, "--author", "Ana", "--reason", "clouds"], catch_exceptions=False)
    assert "withdrawn by Ana: clouds" in page.read_text()
    assert (ended.path, ended.words, list(ended.runs)) == (first, "withdrawn by Ana: clouds", runs)

    told: list[str] = []
    assert publish_night(site, NIGHT, *plans, tell=told.append) == [second]
    assert ["withdrawn by Ana: clouds" in told[0], told[1].startswith(f"{second}: v0001 already has")] == [True, True]
    report = make_report(site, NIGHT)
    assert [p.what for p in report.problems if "not published" in p.what and "withdrawn by Ana" in p.what]
    assert "withdrawn by Ana: clouds" in night_report(report)
    # what a person has withdrawn is not taken for a publication that failed
    assert not [a for a in actions(report) if "started again" in a.remedy or str(runs[0]) in a.subject]

    withdraw(second.rpartition("/")[0], "v0001", "Ana", "clouds", layout)
    assert publish_night(site, NIGHT, *plans) == []
    assert "withdrawn by Ana: clouds; " in headline(make_report(site, NIGHT))


def test_requests_that_cannot_be(site: Site) -> None:
    with pytest.raises(ConfigError, match="unknown"):
        build_plan(site, ReductionRequest(target="Krab"))
    with pytest.raises(ConfigError, match=f"'other' is not registered .*|registered: {PRODUCTION}") as caught:
        build_plan(site, REQUEST.model_copy(update={"production": "other"}))
    assert PRODUCTION in caught.value.remedy
    # before anything is measured
    for changes in ({"production": "other"}, {"cuts": "no-such"}, {"cuts": "../../etc/passwd"}):
        with pytest.raises(ConfigError, match=r"'other' is not registered|cannot read the cut set"):
            plan_measurement(site, REQUEST.model_copy(update=changes))
    with pytest.raises(ConfigError, match="of 0 sources"):
        build_plan(site, ReductionRequest(runs=(99999,)))
    named = build_plan(site, REQUEST.model_copy(update={"runs": (1604, 1610, 99999)}))
    assert named.nights == {NIGHT: (1604,)}
    assert set(named.causes) == {"run 1610", "run 99999"}
    nothing = REQUEST.model_copy(update={"since": "20200101"})
    with pytest.raises(DataError, match="the catalogue has no such run"):
        store_plan(site, nothing)
    far = ReductionRequest(target="0.15 5.0", zd_min_deg=42, zd_max_deg=44)
    with pytest.raises(DataError, match="run 1619: "):
        store_plan(site, far)
    assert (
        not list(layout_of(site).absolute("DL3").glob("**/v0*")) if layout_of(site).absolute("DL3").exists() else True
    )


def test_a_request_of_rejected_runs_says_so_and_starts_nothing(site: Site) -> None:
    for run in RUNS:
        decide(run, OverlayAction.EXCLUDE)
    made = build_plan(site, REQUEST)
    assert (made.nights, made.causes) == ({}, {})
    assert f"runs by profile {site.nightly.profile}" in made.rejected
    words = ["--target", TARGET, "--zd-max", "33.5"]
    for more in ([], ["--dry-run"]):
        with pytest.raises(DataError, match=r"nothing of .* can be reduced: rejected: "):
            CliRunner().invoke(app, [*words, *more], catch_exceptions=False)
    assert not layout_of(site).absolute("lstops/plans").exists()


def test_a_run_whose_nsb_nobody_measured_is_not_called_lost(site: Site) -> None:
    for path in layout_of(site).tailcuts(1604):
        layout_of(site).absolute(path).unlink()
    assert build_plan(site, REQUEST).unmeasured == (1604,)
    shown = CliRunner().invoke(app, ["--target", TARGET, "--zd-max", "33.5", "--dry-run"], catch_exceptions=False)
    assert "measured first, then matched to models (their NSB is not known yet): 1604" in shown.output
    assert "not reduced" not in shown.output


def test_a_file_of_one_s_own_is_found_wherever_the_dag_runs(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own.json").write_text(load_cuts(site.cuts).text)
    monkeypatch.chdir(tmp_path)
    words = ["--target", TARGET, "--zd-max", "33.5", "--cuts", "own.json"]
    CliRunner().invoke(app, words, catch_exceptions=False)
    (stored,) = layout_of(site).absolute("lstops/plans").iterdir()
    assert load_plan(stored / "plan.json").context["request"]["cuts"] == str(tmp_path / "own.json")


def test_the_command_line_shows_and_stores(site: Site) -> None:
    words = ["--target", TARGET, "--zd-max", "33.5"]
    shown = CliRunner().invoke(app, [*words, "--dry-run"], catch_exceptions=False)
    assert shown.exit_code == 0
    assert all(str(run) in shown.output for run in RUNS)
    assert "not started" in shown.output
    assert not layout_of(site).absolute("lstops/plans").exists()
    stored = CliRunner().invoke(app, words, catch_exceptions=False)
    assert "No Airflow is configured" in stored.output
    assert len(list(layout_of(site).absolute("lstops/plans").iterdir())) == 1
