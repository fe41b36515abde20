"""The demo, run once for each kind of cluster, as a user runs it."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
#: what the synthetic site does not bring but the demo makes
_MADE = {"lstops", "DL2", "DL3", "models", "IRF"}


@dataclass(frozen=True)
class Demo:
    """A demo that ran to its end and is still up."""

    home: Path
    cluster: str
    output: str

    @property
    def base(self) -> Path:
        return self.home / "site"

    def again(self) -> str:
        """Run it once more."""
        return run_demo(self.home, self.cluster)

    def lstops(self, *words: str) -> str:
        """Run the command line against this demo."""
        words_quoted = " ".join(map(shlex.quote, (str(Path(sys.executable).with_name("lstops")), *words)))
        script = f". {shlex.quote(str(self.home / 'demo.env'))}; {words_quoted}"
        environ = {**_environ(self.home), "COLUMNS": "200"}
        done = subprocess.run(["bash", "-c", script], env=environ, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


def _environ(home: Path) -> dict[str, str]:
    science = REPOSITORY / ".venv-lstchain"
    return {**os.environ, "LSTOPS_HOME": str(home), "LSTOPS_VENV_SCIENCE": str(science)}


def run_demo(home: Path, cluster: str) -> str:
    """What `make demo` runs after the environments are there."""
    command = [sys.executable, "-m", "lstops.demo", "run", "--cluster", cluster]
    done = subprocess.run(
        command,
        env=_environ(home),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=2400,
        check=False,
    )
    sys.stdout.write(done.stdout)
    assert done.returncode == 0, done.stdout[-6000:]
    return done.stdout


def stop_demo(home: Path) -> None:
    subprocess.run([sys.executable, "-m", "lstops.demo", "stop", "--home", str(home)], env=_environ(home), check=True)


@pytest.fixture(scope="session")
def demo_in() -> Iterator[Callable[[Path, str], Demo]]:
    """Start demos; all are stopped at the end."""
    homes: list[Path] = []

    def start(home: Path, cluster: str) -> Demo:
        homes.append(home)
        return Demo(home, cluster, run_demo(home, cluster))

    yield start
    for home in homes:
        stop_demo(home)


@pytest.fixture(scope="session")
def local_demo(tmp_path_factory: pytest.TempPathFactory, demo_in: Callable[[Path, str], Demo]) -> Demo:
    return demo_in(tmp_path_factory.mktemp("demo") / "home with blanks", "local")


def copy_inputs(source: Path, target: Path) -> None:
    """Link the synthetic site's files, without what the demo made of them."""

    def made(folder: str, names: list[str]) -> set[str]:
        here = Path(folder)
        tuned = {n for n in names if here.name == "AllSky" and "nsb_tuning" in n}
        return tuned | {n for n in names if n in _MADE or (here.name == "mc" and n == "DL2")}

    shutil.copytree(source, target, ignore=made, copy_function=os.link, symlinks=True)
