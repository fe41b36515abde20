"""The command line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from sites import make_site

from lstops.cli import main

from .conftest import copy_step, make_plan


@pytest.mark.parametrize(
    "command",
    [[], ["step"], ["step", "run"], ["step", "list"], ["site", "check"], ["runs"], ["why"], ["products"], ["night"],
     ["catalog", "upgrade"], ["nights"], ["quality", "ingest"], ["quality", "select"], ["production", "plan"],
     ["production", "lint"], ["jobs"], ["services", "start"], ["published"], ["publish"], ["withdraw"], ["supersede"],
     ["overlay", "add"], ["trace"], ["audit"], ["catalog", "rebuild"], ["simulate", "make-site"]],
    ids=" ".join,
)  # fmt: skip
def test_every_command_explains_itself(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*command, "--help"]) == 0
    assert "Usage" in capsys.readouterr().out


def test_an_error_is_a_message_a_remedy_and_an_exit_status(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("LSTOPS_SITE", raising=False)
    assert main(["site", "check"]) == 78
    said = capsys.readouterr().err
    assert "ConfigError: no site file given." in said
    assert "remedy: set LSTOPS_SITE" in said
    assert "Traceback" not in said


def test_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["step", "run"]) == 2
    assert main(["no-such-command"]) == 2


def test_step_run_and_list(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from lstops.step.plans import save_plan

    site = make_site(tmp_path)
    (tmp_path / "a").write_text("x")
    path = str(save_plan(make_plan((copy_step("a", "out/b"),)), site))
    assert main(["step", "run", path, "--index", "0"]) == 0
    assert main(["step", "run", path, "--index", "0"]) == 0
    assert main(["step", "run", path, "--index", "7"]) == 65
    assert main(["step", "list", path]) == 0
    said = capsys.readouterr()
    assert "copy to out/b: done" in said.out
    assert "copy to out/b: up-to-date" in said.out
    assert "has no step 7" in said.err


def test_a_compute_node_imports_little() -> None:
    """`lstops step run` must not wait for what only the Airflow host needs."""
    code = (
        "import sys, lstops.cli, lstops.step.runner; "
        "heavy = ('airflow', 'sqlalchemy', 'lstchain', 'astropy', 'matplotlib', 'numpy'); "
        "print([name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
