"""The task runner: order, resumption, failures, interruption."""

from __future__ import annotations

import fcntl
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from lstops.errors import DataError, JobFailure, StorageError
from lstops.simulate.tasks import SCRATCH_PREFIX, STATE_DIR, Task, TaskRunner


@dataclass
class Bench:
    """Three tasks a, b -> c over files in a folder; every run of one appends a line to a journal."""

    base: Path
    lines: list[str] = field(default_factory=list)
    warmed: int = 0

    def task(self, name: str, spec: object = None, needs: tuple[str, ...] = (), fail: bool = False) -> Task:
        path = self.base / f"{name}.txt"

        def action() -> None:
            with open(self.base / "journal", "a") as journal:
                journal.write(name + "\n")
            if fail:
                raise DataError(f"{name} is bad.", "fix it.")
            inputs = [(self.base / f"{need}.txt").read_text() for need in needs]
            path.write_text(f"{name}={spec}({','.join(inputs)})")

        return Task(name, spec, (path,), action, needs)

    def run(self, *tasks: Task, nproc: int = 2) -> int:
        def warm() -> None:
            self.warmed += 1

        return TaskRunner(self.base, nproc, warm, self.lines.append).run(tasks)

    def journal(self) -> list[str]:
        path = self.base / "journal"
        return sorted(path.read_text().split()) if path.exists() else []


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def _three(bench: Bench, spec: object = None) -> list[Task]:
    return [bench.task("a", spec), bench.task("b"), bench.task("c", None, ("a", "b"))]


@pytest.mark.parametrize("nproc", [1, 2, 8])
def test_needs_are_done_first_and_a_second_call_does_nothing(bench: Bench, nproc: int) -> None:
    assert bench.run(*_three(bench), nproc=nproc) == 3
    assert (bench.base / "c.txt").read_text() == "c=None(a=None(),b=None())"
    assert bench.run(*_three(bench), nproc=nproc) == 0
    assert bench.journal() == ["a", "b", "c"]
    assert bench.warmed == 1


def test_a_changed_spec_runs_it_and_what_needs_it(bench: Bench) -> None:
    bench.run(*_three(bench))
    assert bench.run(*_three(bench, spec=2)) == 2
    assert (bench.base / "c.txt").read_text() == "c=None(a=2(),b=None())"


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.unlink(),
        lambda path: path.write_text("half"),
        lambda path: (path.parent / STATE_DIR / "c.json").write_text("{"),
    ],
    ids=["missing", "truncated", "record"],
)
def test_only_what_is_damaged_is_made_again(bench: Bench, damage: Callable[[Path], object]) -> None:
    bench.run(*_three(bench))
    damage(bench.base / "c.txt")
    assert bench.run(*_three(bench)) == 1
    assert (bench.base / "c.txt").read_text() == "c=None(a=None(),b=None())"


def test_a_failure_stops_only_what_needs_it(bench: Bench) -> None:
    tasks = [bench.task("a", fail=True), bench.task("b"), bench.task("c", None, ("a",)), bench.task("d", None, ("b",))]
    with pytest.raises(JobFailure, match="2 of 4") as error:
        bench.run(*tasks)
    assert "a.log" in error.value.remedy
    assert "a is bad" in (bench.base / STATE_DIR / "logs" / "a.log").read_text()
    assert (bench.base / "d.txt").exists()
    assert not (bench.base / "c.txt").exists()
    tasks[0], tasks[2] = bench.task("a"), bench.task("c", None, ("a",))
    assert bench.run(*tasks) == 2


def test_leftovers_of_an_interrupted_call_are_removed(bench: Bench) -> None:
    leftover = bench.base / "DL1" / f"{SCRATCH_PREFIX}x"
    leftover.mkdir(parents=True)
    (leftover / "half.h5").write_text("")
    bench.run(bench.task("a"))
    assert not leftover.exists()


def test_two_calls_do_not_make_the_same_site(bench: Bench) -> None:
    bench.run(bench.task("a"))
    with open(bench.base / STATE_DIR / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(StorageError, match="Another process"):
            bench.run(bench.task("a"), bench.task("b"))
    assert not (bench.base / "b.txt").exists()
    assert json.loads((bench.base / STATE_DIR / "a.json").read_text())["key"]
