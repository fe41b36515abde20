"""`lstops published` as a person types it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from lstops.errors import ProductInvalid
from lstops.publish.bundle import build_bundle
from lstops.publish.cli import app
from lstops.publish.publisher import publish
from lstops.publish.versions import remove_tree
from lstops.publish.withdraw import withdraw
from lstops.site.layout import Layout

from .published_site import FOLDER, make_request, make_site


@pytest.fixture
def layout(tmp_path: Path, repository: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Layout]:
    layout = make_site(tmp_path / "site")
    monkeypatch.setenv("LSTOPS_SITE", str(repository / "config/sites/local.yaml"))
    monkeypatch.setenv("LSTOPS_HOME", str(tmp_path))
    monkeypatch.setenv("LSTOPS_VENV_SCIENCE", str(tmp_path / "venv"))
    monkeypatch.setenv("COLUMNS", "200")
    publish(build_bundle(make_request(), layout), layout)
    yield layout
    remove_tree(layout.base / "DL3")


def test_list_and_check(layout: Layout) -> None:
    runner = CliRunner()
    assert "v0001" in runner.invoke(app, ["list"], catch_exceptions=False).output
    assert f"{FOLDER}/v0001: whole" in runner.invoke(app, ["check"], catch_exceptions=False).output
    withdraw(FOLDER, "v0001", "Ana", "clouds [sic]", layout)
    assert "clouds [sic]" in runner.invoke(app, ["list", FOLDER], catch_exceptions=False).output


def test_check_names_the_damage(layout: Layout) -> None:
    version = layout.absolute(f"{FOLDER}/v0001")
    (version / "cuts.json").chmod(0o640)
    (version / "cuts.json").write_text("{}")
    with pytest.raises(ProductInvalid, match=r"cuts\.json was changed"):
        CliRunner().invoke(app, ["check", FOLDER], catch_exceptions=False)
