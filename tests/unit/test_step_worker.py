"""Several steps in one process: each as if it ran alone, whatever the others do.

A toy distribution called lstchain stands for the real one, with console scripts that look around, fail, crash and leak.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sites import make_site

from lstops.errors import JobFailure
from lstops.site.layout import Layout
from lstops.site.model import Site
from lstops.step.manifest import Manifest, ManifestStore
from lstops.step.model import Plan, Step
from lstops.step.plans import save_plan
from lstops.step.report import Ending, StepReport, read_report
from lstops.step.worker_tools import tools_worth_warming

from .conftest import copy_step, make_plan

pytestmark = pytest.mark.timeout(300)

TOOLS = """
import atexit, json, os, random, signal, sys, tempfile, threading, time
open(os.environ["IMPORTS"], "a").write("x")
RESULT = []

def look():
    seen = {
        "argv": sys.argv, "cwd": os.getcwd(), "stdin": sys.stdin.read(), "tmp": tempfile.gettempdir(),
        "environ": {k: v for k, v in sorted(os.environ.items()) if k not in ("_", "SHLVL", "LC_CTYPE")},
        "leader": os.getsid(0) == os.getpid(), "umask": os.umask(0o27),
        "term": signal.getsignal(signal.SIGTERM) is signal.SIG_DFL, "threads": threading.active_count(),
        "int": signal.getsignal(signal.SIGINT) is signal.default_int_handler, "state": list(RESULT),
    }
    RESULT.append("changed by a step")
    json.dump(seen, open(sys.argv[1], "w"))
    print("seen on", "stdout"); print("seen on stderr", file=sys.stderr)

def late():
    # what is written after main() returned: by a thread, and by an exit function that closes the file
    out = open(sys.argv[1], "w")
    atexit.register(lambda: (out.write("at exit\\n"), out.close()))
    threading.Thread(target=lambda: (time.sleep(0.2), out.write("thread\\n"))).start()

def number():
    open(sys.argv[1], "w").write(str(random.random()))

def fail():
    how = sys.argv[2]
    open(sys.argv[1], "w").write("half")
    if how == "raise": raise RuntimeError("as it happens")
    if how == "exit": sys.exit(3)
    if how == "text": sys.exit("a last word")
    if how == "return": return 4
    if how == "none": os.unlink(sys.argv[1])
    if how == "abort": os.abort()
    if how == "kill": os.kill(os.getpid(), 9)
    if how == "parent":
        open(sys.argv[3], "w").write(str(os.getpid())); os.kill(os.getppid(), 9); time.sleep(600)
    if how == "sleep":
        open(sys.argv[3], "w").write(str(os.getpid())); time.sleep(600)

def leak():
    hog = b"x" * (int(sys.argv[2]) * 1024 * 1024)
    open(sys.argv[1], "w").write(str(len(hog)))
"""
# what `lstops step run` does, without the time that the command line takes to import
RUN = """
import sys
from pathlib import Path
from lstops.errors import LstOpsError
from lstops.step.plans import load_plan, site_of_plan
from lstops.step.worker import run_steps
plan = Path(sys.argv[1])
try:
    sys.exit(run_steps(load_plan(plan), [int(word) for word in sys.argv[2:]], site_of_plan(plan), "7"))
except LstOpsError as error:
    print(error)
    sys.exit(error.exit_code)
"""
NAMES = ("look", "late", "number", "fail", "leak")


@dataclass(frozen=True)
class Bench:
    folder: Path
    site: Site

    @property
    def layout(self) -> Layout:
        return Layout(self.site.base, self.site.work)

    def start(self, plan: Plan, indices: Sequence[int]) -> subprocess.Popen[str]:
        environ = {**os.environ, "PYTHONPATH": str(self.folder / "lib"), "IMPORTS": str(self.folder / "imports")}
        environ |= {"PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}"}
        return subprocess.Popen(
            [sys.executable, "-c", RUN, str(save_plan(plan, self.site)), *map(str, indices)],
            env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def run(self, steps: Sequence[Step], indices: Sequence[int] | None = None) -> tuple[int, Plan, str]:
        plan = make_plan(tuple(steps))
        process = self.start(plan, range(len(steps)) if indices is None else indices)
        out, err = process.communicate(timeout=250)
        return process.returncode, plan, out + err

    def report(self, plan: Plan, index: int) -> StepReport:
        found = read_report(self.layout.step_report(plan.plan_id, index))
        assert found is not None
        return found

    def manifest(self, plan: Plan, index: int) -> Manifest:
        found = ManifestStore(self.layout.manifests).read(plan.steps()[index].primary.path)
        assert found is not None
        return found

    def imports(self) -> int:
        path = self.folder / "imports"
        return len(path.read_text()) if path.exists() else 0


def make_bench(folder: Path, warm: bool, tools: str = TOOLS) -> Bench:
    (folder / "in").mkdir(parents=True)
    (folder / "in/a").write_text("x")
    info = folder / "lib" / "lstchain-0.12.3.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: lstchain\nVersion: 0.12.3\n")
    scripts = "".join(f"toy_{name} = toy_tools:{name}\n" for name in NAMES)
    (info / "entry_points.txt").write_text(f"[console_scripts]\n{scripts}")
    (folder / "lib" / "toy_tools.py").write_text(tools)
    (folder / "bin").mkdir()
    for name in NAMES:
        path = folder / "bin" / f"toy_{name}"
        path.write_text(f"#!{sys.executable}\nimport sys\nfrom toy_tools import {name}\nsys.exit({name}())\n")
        path.chmod(0o755)
    cluster = {"name": "test", "scheduler": "local", "warm": warm}
    return Bench(folder, make_site(folder, cluster=cluster))


@pytest.fixture
def warm(tmp_path: Path) -> Bench:
    return make_bench(tmp_path / "warm", True)


@pytest.fixture
def plain(tmp_path: Path) -> Bench:
    return make_bench(tmp_path / "plain", False)


def tool(name: str, number: int, *words: str) -> Step:
    return copy_step("in/a", f"out/{name}{number}", command=(f"toy_{name}", "{out:b}", *words), environment="0.12.3")


def alive(pid: int) -> bool:
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


def wait_until(path: Path) -> int:
    end = time.monotonic() + 120
    while not (path.exists() and path.read_text()):
        assert time.monotonic() < end, f"{path} did not appear"
        time.sleep(0.02)
    return int(path.read_text())


def neutral(bench: Bench, text: str) -> str:
    """Without the folder, and the process id in the name of the staging folder."""
    return re.sub(r"(staging/[0-9a-f]+)-\d+", r"\1-PID", text.replace(str(bench.folder), "BASE"))


def test_a_step_sees_what_it_sees_alone(warm: Bench, plain: Bench) -> None:
    steps = [tool("look", 0, "two words", "it's"), tool("look", 1)]
    seen: list[dict[str, Any]] = []
    for bench in (warm, plain):
        status, plan, said = bench.run(steps)
        assert status == 0, said
        products = [json.loads(neutral(bench, (bench.site.base / f"out/look{i}").read_text())) for i in range(2)]
        for product in products:
            # the console script lies elsewhere in this test, in a real environment it is the same file
            product["argv"][0] = Path(product["argv"][0]).name
            del product["environ"]["PYTHONPATH"], product["environ"]["IMPORTS"]
        reports = [bench.report(plan, i) for i in range(2)]
        manifests = [bench.manifest(plan, i) for i in range(2)]
        seen.append({
            "products": products,
            "log": [neutral(bench, bench.layout.step_log(plan.plan_id, i).read_text()) for i in range(2)],
            "reports": [r.model_dump(exclude={"started", "ended", "max_rss_mb"}) for r in reports],
            "manifests": [(m.key, m.label, m.commands, m.environment, m.versions, m.job, m.log) for m in manifests],
            "inputs": [[(i.name, i.kind, i.path, i.state.sha256) for i in m.inputs] for m in manifests],
        })  # fmt: skip
        assert reports[0].ending is Ending.DONE
        assert reports[0].job == "7"
    assert seen[0] == seen[1]
    assert seen[0]["products"][0]["leader"] is True
    assert seen[0]["products"][1]["state"] == []
    assert seen[0]["log"][0].splitlines()[1:] == ["seen on stdout", "seen on stderr"]
    assert (warm.imports(), plain.imports()) == (1, 2)


def test_what_is_written_after_the_end_of_main_is_there(warm: Bench, plain: Bench) -> None:
    for bench in (warm, plain):
        assert bench.run([tool("late", 0), tool("late", 1)])[0] == 0
        assert [(bench.site.base / f"out/late{i}").read_text() for i in range(2)] == ["thread\nat exit\n"] * 2


def test_random_numbers_are_not_shared(warm: Bench) -> None:
    assert warm.run([tool("number", i) for i in range(3)])[0] == 0
    assert len({(warm.site.base / f"out/number{i}").read_text() for i in range(3)}) == 3


FAILURES = ("raise", "exit", "text", "return", "none", "abort", "kill")


def test_every_way_to_fail_is_that_of_the_plain_command_and_stops_nobody_else(warm: Bench, plain: Bench) -> None:
    steps = [tool("fail", i, how) for i, how in enumerate(FAILURES)]
    steps = [tool("look", 100), *steps, copy_step("in/a", "out/plain"), copy_step("no", "out/x"), tool("look", 101)]
    found = []
    for bench in (warm, plain):
        status, plan, said = bench.run(steps)
        assert status == JobFailure.exit_code
        reports = [bench.report(plan, i) for i in range(len(steps))]
        assert [i for i, r in enumerate(reports) if r.ending is Ending.DONE] == [0, 8, 10]
        assert {p.name for p in (bench.site.base / "out").iterdir()} == {"look100", "plain", "look101"}
        assert list(bench.layout.staging.iterdir()) == []
        assert "fail3" in said
        found.append([(r.ending, r.error, neutral(bench, r.what), neutral(bench, r.remedy), r.signal) for r in reports])
    assert found[0] == found[1]
    texts = [what for _, _, what, _, _ in found[0]]
    assert "as it happens" in texts[1]
    assert "a last word" in texts[3]
    assert "exit status 4" in texts[4]
    assert [found[0][i][4] for i in (6, 7)] == [signal.SIGABRT, signal.SIGKILL]


def test_memory_is_that_of_the_step(warm: Bench) -> None:
    status, plan, said = warm.run([tool("leak", 0, "300"), tool("leak", 1, "1"), tool("leak", 2, "100")])
    assert status == 0, said
    big, small, middle = (warm.manifest(plan, i).max_rss_mb for i in range(3))
    assert small < 100 < middle < 200 < 300 < big
    assert warm.report(plan, 0).max_rss_mb == big


def test_a_killed_process_of_a_step_takes_its_command_along_and_nobody_else(warm: Bench, tmp_path: Path) -> None:
    flag = tmp_path / "pid"
    status, plan, said = warm.run([tool("fail", 0, "parent", str(flag)), tool("look", 1)])
    assert status == JobFailure.exit_code, said
    report = warm.report(plan, 0)
    assert (report.error, report.signal, report.job) == ("StepKilled", signal.SIGKILL, "7")
    assert warm.report(plan, 1).ending is Ending.DONE
    assert not alive(int(flag.read_text()))


def test_sigterm_ends_the_step_that_runs_and_begins_no_other(warm: Bench, tmp_path: Path) -> None:
    flag = tmp_path / "pid"
    plan = make_plan((tool("look", 0), tool("fail", 1, "sleep", str(flag)), tool("look", 2)))
    process = warm.start(plan, range(3))
    pid = wait_until(flag)
    # as from a scheduler, which reaches every process of the job, and in quick succession
    for _ in range(3):
        process.send_signal(signal.SIGTERM)
    process.communicate(timeout=120)
    assert process.returncode == 143
    assert not alive(pid)
    assert warm.report(plan, 0).ending is Ending.DONE
    assert warm.report(plan, 1).error == "TerminatedError"
    assert read_report(warm.layout.step_report(plan.plan_id, 2)) is None
    assert list(warm.layout.staging.iterdir()) == []


def test_a_killed_worker_leaves_nothing_running(warm: Bench, tmp_path: Path) -> None:
    flag = tmp_path / "pid"
    plan = make_plan((tool("fail", 0, "sleep", str(flag)), tool("look", 1)))
    process = warm.start(plan, range(2))
    pid = wait_until(flag)
    process.kill()
    process.communicate(timeout=120)
    end = time.monotonic() + 60
    while alive(pid):
        assert time.monotonic() < end
        time.sleep(0.02)
    # the next attempt finds neither a lock nor what the dead one left behind
    status, plan, said = warm.run([tool("look", 1), tool("number", 1)])
    assert status == 0, said


@pytest.mark.parametrize(
    ("tools", "word"),
    [
        (f"{TOOLS}\nif sys.argv[0] == '-c': raise ImportError('no such library')\n", "no such library"),
        (TOOLS.replace("def number", "def other"), "number"),
        (f"{TOOLS}\nif sys.argv[0] == '-c': threading.Thread(target=time.sleep, args=(9,), daemon=True).start()\n",
         "2 threads"),
    ],
)  # fmt: skip
def test_what_cannot_be_warm_runs_plainly(tmp_path: Path, tools: str, word: str) -> None:
    bench = make_bench(tmp_path, True, tools)
    status, plan, said = bench.run([tool("look", 0), tool("look", 1), tool("number", 2)])
    assert word in said
    assert [bench.report(plan, i).ending for i in range(2)] == [Ending.DONE, Ending.DONE]
    # a command that is broken says so in its step's log
    assert status == (JobFailure.exit_code if "def other" in tools else 0)


def test_nothing_is_imported_for_one_command_alone(warm: Bench) -> None:
    twice = tool("look", 1).model_copy(update={"commands": (("toy_look", "{out:b}"), ("toy_look", "{out:b}"))})
    scripts = {"toy_look": "toy_tools:look"}
    assert tools_worth_warming([tool("look", 0)], scripts) == ()
    assert tools_worth_warming([tool("look", 0), copy_step("in/a", "out/c")], scripts) == ()
    assert tools_worth_warming([twice], scripts) == ("toy_look",)
    assert tools_worth_warming([twice], {}) == ()
    own = twice.model_copy(
        update={"commands": (("toy_look", "{out:b}"), ("python", "-m", "lstops.science.stamp", "x"))}
    )
    assert tools_worth_warming([own], scripts) == ("lstops.science.stamp", "toy_look")
    other = own.model_copy(update={"commands": (("toy_look", "{out:b}"), ("python", "-m", "lstops.science.other"))})
    assert tools_worth_warming([other], scripts) == ()
    assert warm.run([tool("look", 0)])[0] == 0
    assert warm.imports() == 1
    # one step of several commands shares the import among these
    assert warm.run([twice])[0] == 0
    assert warm.imports() == 2


def test_an_unknown_index_is_refused_before_anything_runs(warm: Bench) -> None:
    status, _, said = warm.run([tool("look", 0)], [0, 9])
    assert (status, "has no step 9" in said) == (65, True)
    assert not (warm.site.base / "out").exists()
