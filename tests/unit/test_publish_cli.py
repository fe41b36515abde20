"""`lstops published` as a person types it."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from lstops.errors import ConfigError, DataError, ProductInvalid
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


@pytest.mark.parametrize("command", ["list", "check"])
def test_a_folder_is_named_in_any_way_and_a_wrong_one_is_no_answer(layout: Layout, command: str) -> None:
    """Nothing to check, and exit status 0, looked like a whole bundle."""
    for word in (
        FOLDER,
        f"{FOLDER}/",
        f"{FOLDER}/v0001",
        f"{FOLDER}/current",
        str(layout.base / FOLDER),
        "DL3/20240115",
    ):
        assert "v0001" in CliRunner().invoke(app, [command, word], catch_exceptions=False).output
    for word in ("DL3/typo", f"{FOLDER}x", "."):
        with pytest.raises(ConfigError, match="holds no published version"):
            CliRunner().invoke(app, [command, word], catch_exceptions=False)


def test_one_broken_pointer_does_not_hide_the_others(layout: Layout) -> None:
    other = FOLDER.replace("prod_a", "prod_b")
    publish(build_bundle(make_request(folder=other), layout), layout)
    pointer = layout.absolute(FOLDER) / "current"
    pointer.unlink()
    pointer.symlink_to("v0009")
    listed = CliRunner().invoke(app, ["list"])
    assert (other in listed.output, listed.exit_code, "'v0009'" in str(listed.exception)) == (True, 1, True)
    checked = CliRunner().invoke(app, ["check"], catch_exceptions=False).output
    assert [f"{folder}/v0001: whole" in checked for folder in (FOLDER, other)] == [True, True]


def test_check_names_the_damage(layout: Layout) -> None:
    version = layout.absolute(f"{FOLDER}/v0001")
    (version / "cuts.json").chmod(0o640)
    (version / "cuts.json").write_text("{}")
    with pytest.raises(ProductInvalid, match=r"cuts\.json was changed"):
        CliRunner().invoke(app, ["check", FOLDER], catch_exceptions=False)


def test_check_of_what_is_named(layout: Layout) -> None:
    publish(build_bundle(make_request(cuts={"gammaness": 0.8}), layout), layout)
    both = f"{FOLDER}/v0001: whole\n{FOLDER}/v0002: whole\n"
    for path, said in {
        FOLDER: both,
        f"{FOLDER}/": both,
        "DL3/20240115": both,
        str(layout.base / "DL3"): both,
        f"{FOLDER}/v0001": f"{FOLDER}/v0001: whole\n",
        f"{FOLDER}/current": f"{FOLDER}/v0002: whole\n",
    }.items():
        assert CliRunner().invoke(app, ["check", path], catch_exceptions=False).output == said
        assert CliRunner().invoke(app, ["list", path], catch_exceptions=False).output.count("DL3/") == said.count("DL3")


@pytest.mark.parametrize("command", ["check", "list"])
@pytest.mark.parametrize(
    "path", [f"{FOLDER[:-1]}p", f"{FOLDER}/v0009", f"{FOLDER}/v0001/README.txt", ".", "DL2", "/etc", "DL3/../DL3"]
)
def test_what_is_nothing_published_is_refused(layout: Layout, command: str, path: str) -> None:
    with pytest.raises(ConfigError, match=r"holds no published version|not below the site's base") as caught:
        CliRunner().invoke(app, [command, path], catch_exceptions=False)
    assert caught.value.remedy
    if path.endswith("Crap"):
        assert caught.value.remedy == f"did you mean {FOLDER}?"


def test_nothing_published_is_said(layout: Layout) -> None:
    remove_tree(layout.base / "DL3")
    assert CliRunner().invoke(app, ["check"], catch_exceptions=False).output == "nothing is published\n"
    (layout.base / "DL3").mkdir()


@pytest.mark.parametrize("command", ["check", "list"])
def test_a_folder_that_cannot_be_read_does_not_hide_the_others(
    layout: Layout, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = layout.absolute("DL3/20240114")
    closed.mkdir()
    scandir = os.scandir

    def scan(path: Any) -> Any:
        if str(path) == str(closed):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return scandir(path)

    monkeypatch.setattr("os.scandir", scan)
    said = CliRunner().invoke(app, [command])
    assert "v0001" in said.output
    assert isinstance(said.exception, DataError)
    assert f"{closed} cannot be read (Permission denied)" in said.exception.what


def test_paths_are_not_cut(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    assert FOLDER in CliRunner().invoke(app, ["list"], catch_exceptions=False).output
