"""The tasks behind the DAGs, with bad input: clear errors, the rest goes on. Real PostgreSQL, no Airflow."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from lstops.catalog.database import catalog_session
from lstops.catalog.nights import night_runs
from lstops.catalog.overlay import add_decision
from lstops.catalog.tables import NightRow
from lstops.catalog.verdicts import verdicts
from lstops.embedded.postgres import EmbeddedPostgres
from lstops.errors import ConfigError, DataError
from lstops.operations.nightly import (
    NightState,
    ingest,
    judge,
    layout_of,
    night_state,
    plan_nsb_measurement,
    read_nsb,
    selected_runs,
)
from lstops.operations.reduction import plan_reduction
from lstops.operations.report import make_report, write_report
from lstops.quality.overlay import OverlayAction
from lstops.report.model import ProductState
from lstops.site.model import Site
from lstops.step.plans import load_plan

from .nights import NIGHT, night_site, run_catalog, run_summary, write


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
    """A site with one night of datacheck: 15 runs, no DL1."""
    return night_site(server, shared, repository / "config/sites/local.yaml", tmp_path, [NIGHT], monkeypatch)


def close(site: Site) -> None:
    write(site, layout_of(site).night_finished(NIGHT, "v0.12"), "")


def test_open_closed_and_empty_nights(site: Site) -> None:
    run_summary(site, {1: "PEDCALIB"})
    assert night_state(site, NIGHT) is NightState.OPEN
    close(site)
    assert night_state(site, NIGHT) is NightState.EMPTY
    run_summary(site, {1: "PEDCALIB", 2: "DATA"})
    assert night_state(site, NIGHT) is NightState.CLOSED
    layout_of(site).absolute(layout_of(site).run_summary(NIGHT)).unlink()
    assert night_state(site, NIGHT) is NightState.EMPTY


@pytest.mark.parametrize("size", [0, 1000, 200_000])
def test_a_truncated_datacheck_is_named_and_listed(site: Site, size: int) -> None:
    layout = layout_of(site)
    path = layout.absolute(layout.datacheck(NIGHT, "v0.12"))
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(DataError, match=r"DL1_datacheck_20191121\.h5"):
        ingest(site, NIGHT)
    with catalog_session() as session:
        row = session.get(NightRow, NIGHT.date)
        assert row is not None
        assert "DL1_datacheck_20191121.h5" in row.problem


def test_ingest_and_judge_again_change_nothing(site: Site) -> None:
    first = ingest(site, NIGHT)
    assert first.ingested.is_new
    judged = judge(site, NIGHT)
    assert judged.selected
    assert not ingest(site, NIGHT).ingested.is_new
    assert judge(site, NIGHT) == judged


def test_people_decide_what_is_reduced(site: Site) -> None:
    """An excluded run is left out, an included one taken; verdicts, plan and report say who and why."""
    out, taken, trimmed = 1610, 1604, 1612
    run_summary(site, dict.fromkeys((out, taken, trimmed), "DATA"))
    run_catalog(site, "Crab", [out, taken, trimmed])  # 1604 points elsewhere
    ingest(site, NIGHT)
    before = judge(site, NIGHT)
    assert {out, trimmed} <= set(before.selected)
    assert taken in before.rejected
    with catalog_session() as session:
        add_decision(session, out, OverlayAction.EXCLUDE, "ana", "laser")
        add_decision(session, taken, OverlayAction.INCLUDE, "ben", "dust, corrected")
        add_decision(session, trimmed, OverlayAction.DROP_SUBRUNS, "ana", "car", (0, 1))
    after = judge(site, NIGHT)
    assert set(after.selected) == set(before.selected) - {out} | {taken}
    assert "excluded, by ana" in after.text()
    assert {run.number for run in selected_runs(site, NIGHT)} == {taken, trimmed}
    with catalog_session() as session:
        stored = verdicts(session, NIGHT, "standard")
    assert (stored[out].selected, stored[out].effective) == (True, False)
    assert (stored[taken].selected, stored[taken].effective) == (False, True)
    assert stored[trimmed].decisions[0]["subruns"] == [0, 1]
    good_time = stored[trimmed].good_time
    assert good_time is not None
    assert good_time["intervals"][0]["first_subrun"] >= 2
    assert good_time["good_s"] < good_time["total_s"]
    plan_reduction(site, NIGHT)
    runs = {run.run_id: run for run in make_report(site, NIGHT).runs}
    assert (runs[out].selected, runs[taken].selected) == (False, True)
    assert runs[out].quarantine is None, "an excluded run is not even tried"
    assert runs[taken].quarantine is not None
    assert "included, by ben" in runs[taken].decision
    counted, whole = runs[trimmed].elapsed_s, runs[trimmed].quantities["elapsed_time_s"]
    assert counted is not None
    assert whole is not None
    assert whole - counted == pytest.approx(27.28, abs=0.01), "the first two subruns"
    assert "dust, corrected" in write_report(site, NIGHT).read_text()


def test_an_unknown_profile_is_refused(site: Site) -> None:
    ingest(site, NIGHT)
    with pytest.raises(ConfigError, match="nonsense"):
        judge(site, NIGHT, "nonsense")


def test_runs_without_dl1_block_only_themselves(site: Site) -> None:
    """Nothing was transferred but the datacheck: no NSB, no models; the night still ends in a plan and a report."""
    ingest(site, NIGHT)
    chosen = judge(site, NIGHT).selected
    run_summary(site, dict.fromkeys(chosen, "DATA"))
    source = """Crab 'the "Nebula"'  $(touch /tmp/pwned) <b>"""
    run_catalog(site, source, list(chosen))
    with catalog_session() as session:
        session.delete(session.get_one(NightRow, NIGHT.date))
    ingest(site, NIGHT)
    selected = judge(site, NIGHT).selected
    assert selected
    measurement = load_plan(layout_of(site).plan_file(plan_nsb_measurement(site, NIGHT)))
    assert measurement.steps() == ()
    assert read_nsb(site, NIGHT, selected)[0] == {}
    plan = load_plan(layout_of(site).plan_file(plan_reduction(site, NIGHT)))
    assert plan.steps() == ()
    report = make_report(site, NIGHT)
    blocked = {run.run_id: run.quarantine for run in report.runs if run.quarantine}
    assert set(blocked) == set(selected)
    for quarantine in blocked.values():
        assert quarantine.cause
        assert quarantine.remedy
    assert all(run.dl2 is ProductState.NONE for run in report.runs)
    assert {run.source for run in report.runs} == {source}
    page = write_report(site, NIGHT).read_text()
    assert source not in page, "the name must be escaped"
    assert "&lt;b&gt;" in page


def test_the_site_s_profile_may_be_a_file_of_its_own(site: Site, repository: Path, tmp_path: Path) -> None:
    own = tmp_path / "ours.yaml"
    text = (repository / "config/profiles/standard.yaml").read_text()
    own.write_text(text.replace("name: standard", "name: ours", 1))
    site = site.model_copy(update={"nightly": site.nightly.model_copy(update={"profile": str(own)})})
    ingest(site, NIGHT)
    selected = judge(site, NIGHT).selected
    assert selected
    run_summary(site, dict.fromkeys(selected, "DATA"))
    plan_reduction(site, NIGHT)
    assert make_report(site, NIGHT).profile == "ours"
    # a night that was reduced with it once is told with it, whatever the site's profile is
    usual = site.model_copy(update={"nightly": site.nightly.model_copy(update={"profile": "standard"})})
    assert make_report(usual, NIGHT).profile == "ours"


def test_the_source_of_the_catalogue_is_kept_as_written(site: Site) -> None:
    source = "  1ES 0229+200 'b\" "
    run_catalog(site, source, [1604])
    run_summary(site, {1604: "DATA"})
    ingest(site, NIGHT)
    with catalog_session() as session:
        found = {row.source_name for row in night_runs(session, NIGHT) if row.run_id == 1604}
    assert found <= {source, source.strip()}
    assert found
