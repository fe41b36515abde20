"""A level that a person gives at the registration: who said it, and why, is kept. On a real PostgreSQL."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from lstops.catalog.database import catalog_session
from lstops.catalog.productions import find_productions, production_events
from lstops.catalog.tables import ProductionEventRow, ProductionRow
from lstops.errors import ConfigError
from lstops.operations.rebuild import rebuild
from lstops.production.cli import app

from .test_production_adopt import NOISE, lstmcpipe_tree, registrable
from .test_production_from_lstmcpipe import PROD
from .test_production_registry import catalog as registry
from .test_production_registry import server

__all__ = ["lstmcpipe_tree", "registry", "server"]


def test_who_gave_the_level_is_shown_and_survives_the_catalogue(
    registry: None, lstmcpipe_tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site, _ = registrable(lstmcpipe_tree, tmp_path, NOISE)
    monkeypatch.setattr("lstops.site.model.load_site", lambda _: site)
    nobody = CliRunner().invoke(app, ["register", PROD, "--nsb", "0.31"])
    assert isinstance(nobody.exception, ConfigError)
    assert "needs an author and a reason" in nobody.exception.what
    silent = CliRunner().invoke(app, ["register", PROD, "--author", "Ana"])
    assert isinstance(silent.exception, ConfigError)
    assert "without --nsb" in silent.exception.what
    words = ["--author", "Ana", "--reason", "tuned to run 2001"]
    done = CliRunner().invoke(app, ["register", PROD, "--nsb", "0.31", *words], catch_exceptions=False)
    assert done.exit_code == 0, done.output

    def shown() -> tuple[str, str, list[tuple[str, str, str]]]:
        (row,) = json.loads(CliRunner().invoke(app, ["list", "--json"]).output)
        source = row["nsb_level_source"]
        with catalog_session() as session:
            events = [(event.action, event.author, event.reason) for event in production_events(session, PROD)]
        return source["author"], source["reason"], events

    before = shown()
    assert before[:2] == ("Ana", "tuned to run 2001")
    assert ("NSB given", "Ana", "0.31 GHz: tuned to run 2001") in before[2]
    with catalog_session() as session:
        session.query(ProductionEventRow).delete()
        session.query(ProductionRow).delete()
    rebuild(site)
    assert shown() == before
    with catalog_session() as session:
        (row,) = find_productions(session, PROD)
        assert row.nsb_level_ghz == 0.31
