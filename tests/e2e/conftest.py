"""The demo, run once for each kind of cluster, as a user runs it."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

#: a quarter of an hour on a busy machine, by request
collect_ignore = [] if os.environ.get("LSTOPS_TEST_PRODUCTION") == "1" else ["test_production_slurm.py"]
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


def _command(cluster: str) -> list[str]:
    return [sys.executable, "-m", "lstops.demo", "run", "--cluster", cluster]


def run_demo(home: Path, cluster: str) -> str:
    """What `make demo` runs after the environments are there."""
    done = subprocess.run(
        _command(cluster),
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


def kill_demo_at(home: Path, cluster: str, words: str) -> str:
    """Start a demo, and when a step of the task named runs, kill -9 all of it: services, tasks, jobs, itself."""
    process = subprocess.Popen(
        _command(cluster), env=_environ(home), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert process.stdout is not None
    lines: list[str] = []
    for line in process.stdout:
        lines.append(line)
        sys.stdout.write(line)
        if words in line and "success" not in line and _steps_of(home):
            break
    victims = _all_of(home)
    for victim in victims:
        with contextlib.suppress(psutil.NoSuchProcess):
            victim.kill()
    process.wait(timeout=120)  # before psutil does, which would keep the exit status to itself
    psutil.wait_procs([victim for victim in victims if victim.pid != process.pid], timeout=120)
    assert process.returncode == -signal.SIGKILL, "".join(lines)[-6000:]
    assert _all_of(home) == []
    return "".join(lines)


def _all_of(home: Path) -> list[psutil.Process]:
    """Every process that belongs to a demo, by its environment or its command; not the tests."""
    found = []
    for process in psutil.process_iter():
        try:
            ours = process.environ().get("LSTOPS_HOME") == str(home) or any(str(home) in w for w in process.cmdline())
            if ours and process.pid != os.getpid() and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found


def _steps_of(home: Path) -> list[psutil.Process]:
    """The steps that run now."""

    def wait() -> list[psutil.Process]:
        return [p for p in _all_of(home) if {"step", "run"} <= set(_words(p))]

    deadline = time.monotonic() + 180
    while not (found := wait()) and time.monotonic() < deadline:
        time.sleep(0.2)
    return found


def _words(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.NoSuchProcess:
        return []


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
    """A demo that lost its power in the middle, and was started again."""
    home = tmp_path_factory.mktemp("demo") / "home with blanks"
    try:
        kill_demo_at(home, "local", "nightly: dl2")
    except BaseException:
        stop_demo(home)
        raise
    return demo_in(home, "local")


def copy_inputs(source: Path, target: Path) -> None:
    """Link the synthetic site's files, without what the demo made of them."""

    def made(folder: str, names: list[str]) -> set[str]:
        here = Path(folder)
        tuned = {n for n in names if here.name == "AllSky" and "nsb_tuning" in n}
        return tuned | {n for n in names if n in _MADE or (here.name == "mc" and n == "DL2")}

    shutil.copytree(source, target, ignore=made, copy_function=os.link, symlinks=True)
