"""`scripts/make-environment`: what it says and leaves when an installation fails. pip itself is a stand-in here."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts/make-environment"
#: notes what it is asked for; fails if one of its words is in the file `refused`
PIP = """#!/bin/sh
[ "$1" = --version ] && exit
echo "$*" >> "{folder}/asked"
for word; do grep -qxF -e "$word" "{folder}/refused" && {{ echo "no wheel for $word"; exit 1; }}; done
exit 0
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "an environment"
    (folder / "bin").mkdir(parents=True)
    (folder / "refused").touch()
    python = folder / "bin/python"
    python.write_text(PIP.format(folder=folder))
    python.chmod(0o755)
    return folder


def make(folder: Path, refused: str = "") -> subprocess.CompletedProcess[str]:
    (folder / "refused").write_text(f"{refused}\n")
    words = [str(SCRIPT), str(folder), "all.lock", sys.executable, "extra.lock"]
    return subprocess.run(words, capture_output=True, text=True, check=False)


def test_everything_is_installed_from_the_locks(folder: Path) -> None:
    done = make(folder)
    assert (done.returncode, done.stderr) == (0, "")
    asked = (folder / "asked").read_text().splitlines()
    assert [("--require-hashes" in line, line.split()[-1]) for line in asked] == [
        (True, "all.lock"), (False, "."), (True, "extra.lock"),
    ]  # fmt: skip
    assert (folder / ".ready").exists()


def test_without_wheels_of_the_extra_it_goes_on_and_says_so(folder: Path) -> None:
    done = make(folder, "extra.lock")
    assert done.returncode == 0
    assert "goes without extra.lock, which cannot be installed here" in done.stderr
    assert "no wheel for extra.lock" in (folder / "install.log").read_text()
    assert (folder / ".ready").exists()


@pytest.mark.parametrize("refused", ["all.lock", "--editable"])
def test_without_anything_else_it_stops_and_is_not_ready(folder: Path, refused: str) -> None:
    done = make(folder, refused)
    assert done.returncode == 1
    assert f"no wheel for {refused}" in done.stderr
    assert "make again" in done.stderr
    assert not (folder / ".ready").exists()
    assert make(folder).returncode == 0
    assert (folder / ".ready").exists()
