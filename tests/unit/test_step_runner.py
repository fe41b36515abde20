"""The runner: whole products or none, whatever happens."""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sites import make_site

from lstops.errors import BusyError, ConfigError, DataError, JobFailure, ProductInvalid, StorageError
from lstops.site.layout import Layout
from lstops.site.model import Site
from lstops.step.assess import Standing, assess, pending
from lstops.step.inputs import InputReader
from lstops.step.manifest import ArtifactRecord, ManifestStore, full_state
from lstops.step.model import ArtifactKind, Input, Plan
from lstops.step.plans import save_plan
from lstops.step.report import Ending, read_report
from lstops.step.runner import run_step
from lstops.step.staging import move_into_place

from .conftest import copy_step, make_plan

Put = Callable[[str, str], Path]


class Trap:
    """A pickle that leaves a mark when it is loaded."""

    def __init__(self, mark: str) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return open, (self.mark, "w")


def standing(plan: Plan, layout: Layout, site: Site) -> list[Standing]:
    return [a.state for a in assess(plan, layout, site)]


def leftovers(layout: Layout) -> list[Path]:
    return list(layout.staging.glob("*")) if layout.staging.exists() else []


def test_run_verify_record_and_skip(site: Site, layout: Layout, put: Put) -> None:
    put("in/a", "hello")
    plan = make_plan((copy_step("in/a", "out/b"),), (copy_step("out/b", "out/c"),))
    assert standing(plan, layout, site) == [Standing.PENDING, Standing.WAITING]
    assert run_step(plan, 0, site, job="7").ending is Ending.DONE
    assert standing(plan, layout, site) == [Standing.DONE, Standing.PENDING]
    assert run_step(plan, 1, site).ending is Ending.DONE
    assert (site.base / "out/c").read_text() == "hello"
    manifest = ManifestStore(layout.manifests).read("out/b")
    assert manifest is not None
    assert (manifest.job, manifest.outputs[0].state.size) == ("7", 5)
    before = (site.base / "out/b").stat().st_mtime_ns
    assert run_step(plan, 0, site).ending is Ending.UP_TO_DATE
    assert (site.base / "out/b").stat().st_mtime_ns == before
    assert standing(plan, layout, site) == [Standing.DONE, Standing.DONE]
    assert (site.base / "out/b").stat().st_mode & 0o777 == 0o640
    assert leftovers(layout) == []


def test_a_changed_source_recomputes_only_what_it_touches(site: Site, layout: Layout, put: Put) -> None:
    put("in/a", "one")
    put("in/z", "other")
    plan = make_plan((copy_step("in/a", "out/b"), copy_step("in/z", "out/y")), (copy_step("out/b", "out/c"),))
    for index in range(3):
        run_step(plan, index, site)
    put("in/a", "two!")
    assert standing(plan, layout, site) == [Standing.PENDING, Standing.DONE, Standing.WAITING]
    run_step(plan, 0, site)
    assert pending(assess(plan, layout, site)) == (2,)
    run_step(plan, 2, site)
    assert (site.base / "out/c").read_text() == "two!"


def test_a_touched_source_with_the_same_content_is_not_remade(site: Site, layout: Layout, put: Put) -> None:
    path = put("in/a", "one")
    plan = make_plan((copy_step("in/a", "out/b"),))
    run_step(plan, 0, site)
    os.utime(path, ns=(1, 1))
    assert standing(plan, layout, site) == [Standing.PENDING]
    assert run_step(plan, 0, site).ending is Ending.UP_TO_DATE
    assert standing(plan, layout, site) == [Standing.DONE]


@pytest.mark.parametrize(
    ("command", "error", "text"),
    [
        (("false",), JobFailure, "exit status 1"),
        (("true",), ProductInvalid, "exit status 0 but made no b"),
        (("touch", "{out:b}"), ProductInvalid, "b"),
        (("no-such-command-here",), JobFailure, "is not in the science environment"),
        (("sh", "-c", "kill -9 $$"), JobFailure, "killed by SIGKILL"),
        (("sh", "-c", 'echo half > "$1"; exit 3', "sh", "{out:b}"), JobFailure, "exit status 3"),
        (("sh", "-c", "echo 'No space left on device'; exit 1"), StorageError, "no space left"),
    ],
)
def test_failures_leave_nothing_behind(
    site: Site, layout: Layout, put: Put, command: tuple[str, ...], error: type[Exception], text: str
) -> None:
    put("in/a", "hello")
    plan = make_plan((copy_step("in/a", "out/b", command=command),))
    with pytest.raises(error, match=text):
        run_step(plan, 0, site)
    assert not (site.base / "out/b").exists()
    assert leftovers(layout) == []
    report = read_report(layout.step_report(plan.plan_id, 0))
    assert report is not None
    assert (report.ending, report.error) == (Ending.FAILED, error.__name__)
    assert report.remedy
    assert standing(plan, layout, site) == [Standing.PENDING]


def test_missing_and_unfinished_inputs_are_named(site: Site, put: Put) -> None:
    plan = make_plan((copy_step("in/a", "out/b"),), (copy_step("out/b", "out/c"),))
    with pytest.raises(DataError, match=r"in/a does not exist"):
        run_step(plan, 0, site)
    with pytest.raises(DataError, match=r"out/b does not exist.*'copy to out/b'"):
        run_step(plan, 1, site)
    put("out/b", "half-writ")
    with pytest.raises(DataError, match="has no manifest: it is unfinished"):
        run_step(plan, 1, site)


def test_a_product_changed_by_hand_is_not_used(site: Site, layout: Layout, put: Put) -> None:
    put("in/a", "hello")
    plan = make_plan((copy_step("in/a", "out/b"),), (copy_step("out/b", "out/c"),))
    run_step(plan, 0, site)
    (site.base / "out/b").write_text("tampered")
    with pytest.raises(DataError, match="was changed after it was made"):
        run_step(plan, 1, site)
    assert standing(plan, layout, site) == [Standing.PENDING, Standing.WAITING]
    run_step(plan, 0, site)
    assert (site.base / "out/b").read_text() == "hello"


def test_pinned_digest(site: Site, put: Put) -> None:
    put("in/a", "hello")
    pinned = Input(name="a", kind=ArtifactKind.FILE, path="in/a", sha256="0" * 64)
    with pytest.raises(DataError, match="is not the content that the plan expects"):
        run_step(make_plan((copy_step("in/a", "out/b", inputs=(pinned,)),)), 0, site)


LOADER = (
    "import pickle, sys; pickle.load(open(sys.argv[1] + '/reg_energy.sav', 'rb')); open(sys.argv[2], 'w').write('x')"
)


@pytest.mark.parametrize("is_ours", [True, False], ids=["made by a step", "of somebody else"])
def test_forests_of_another_digest_are_never_unpickled(
    site: Site, layout: Layout, put: Put, tmp_path: Path, is_ours: bool
) -> None:
    """Exchanged for a pickle of the same size and time that would leave a mark: the step stops before any command."""
    mark = tmp_path / "loaded"
    trap = pickle.dumps(Trap(str(mark)))
    folder = site.base / "models/p/dec_2276"
    folder.mkdir(parents=True)
    for stem in ("reg_energy", "cls_gh", "reg_disp_norm", "cls_disp_sign"):
        (folder / f"{stem}.sav").write_bytes(bytes(len(trap)))
    state = full_state(folder)
    if is_ours:
        made = ArtifactRecord(name="models", kind=ArtifactKind.MODELS, path="models/p/dec_2276", state=state)
        put("in/a", "x")
        run_step(make_plan((copy_step("in/a", "out/b"),)), 0, site)
        store = ManifestStore(layout.manifests)
        manifest = store.read("out/b")
        assert manifest is not None
        store.write(manifest.model_copy(update={"outputs": (made,)}))
    models = Input(name="m", kind=ArtifactKind.MODELS, path="models/p/dec_2276", sha256=state.sha256)
    plan = make_plan(
        (copy_step("x", "out/dl2", inputs=(models,), command=(sys.executable, "-c", LOADER, "{in:m}", "{out:b}")),)
    )
    InputReader(layout).cache.state(models.path, folder)  # its digest is known by size and time
    victim = folder / "reg_energy.sav"
    stat = victim.stat()
    victim.write_bytes(trap)
    os.utime(victim, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    with pytest.raises(DataError, match="was changed after it was made" if is_ours else "is not the content that"):
        run_step(plan, 0, site)
    assert not mark.exists()
    assert not (site.base / "out/dl2").exists()
    pickle.loads(trap).close()
    assert mark.exists(), "the trap would have left its mark"


def test_words_never_reach_a_shell(site: Site, put: Put) -> None:
    put("in/a", "x")
    nasty = "$(touch /tmp/pwned) `id`; 'q' \"Crab Nebula\" *"
    command = ("sh", "-c", 'printf %s "$1" > "$2"', "sh", nasty, "{out:b}")
    run_step(make_plan((copy_step("in/a", "out/b", command=command),)), 0, site)
    assert (site.base / "out/b").read_text() == nasty


def test_groups_become_folders_of_links(site: Site, put: Put) -> None:
    put("in/a", "1")
    put("in/c", "2")
    inputs = tuple(Input(name=n, kind=ArtifactKind.FILE, path=f"in/{n}", group="all") for n in ("a", "c"))
    command = ("sh", "-c", 'cat "$1"/* > "$2"', "sh", "{indir:all}", "{out:b}")
    run_step(make_plan((copy_step("in/a", "out/b", inputs=inputs, command=command),)), 0, site)
    assert (site.base / "out/b").read_text() == "12"


def test_a_folder_is_replaced_as_a_whole(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / "staged").mkdir()
        (tmp_path / "staged" / name).write_text("x")
        (tmp_path / f"aside-{name}").mkdir()
        move_into_place(tmp_path / "staged", tmp_path / "out" / "models", tmp_path / f"aside-{name}")
    assert [p.name for p in (tmp_path / "out" / "models").iterdir()] == ["two"]


def test_wrong_environment_is_refused(tmp_path: Path, put: Put) -> None:
    put("in/a", "1")
    site = make_site(tmp_path, environments={
        "0.12.3": {"lstchain_version": "0.12.3", "activate": "/nonexistent"},
        "9.9.9": {"lstchain_version": "9.9.9", "activate": "/nonexistent"},
    })  # fmt: skip
    with pytest.raises(DataError, match=r"needs lstchain 9\.9\.9, this environment has"):
        run_step(make_plan((copy_step("in/a", "out/b", environment="9.9.9"),)), 0, site)


def start(plan: Plan, site: Site, index: int = 0) -> subprocess.Popen[bytes]:
    path = save_plan(plan, site)
    code = "import sys; from lstops.cli import main; sys.exit(main(sys.argv[1:]))"
    return subprocess.Popen([sys.executable, "-c", code, "step", "run", str(path), "--index", str(index)])


def wait_for(path: Path, process: subprocess.Popen[bytes], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not path.exists():
        assert process.poll() is None, "the step ended early"
        assert time.monotonic() < end, f"{path} did not appear"
        time.sleep(0.02)


SLOW = ("sh", "-c", 'echo half > "$1"; touch "$2"; while :; do sleep 1; done', "sh", "{out:b}")


def slow_plan(tmp_path: Path) -> tuple[Plan, Path]:
    flag = tmp_path / "running"
    return make_plan((copy_step("in/a", "out/b", command=(*SLOW, str(flag))),)), flag


def test_kill_9_leaves_no_product_and_the_next_attempt_cleans_up(
    site: Site, layout: Layout, put: Put, tmp_path: Path
) -> None:
    put("in/a", "hello")
    plan, flag = slow_plan(tmp_path)
    process = start(plan, site)
    wait_for(flag, process)
    process.kill()
    process.wait()
    assert not (site.base / "out/b").exists()
    assert len(leftovers(layout)) == 1
    quick = make_plan((copy_step("in/a", "out/b"),))
    assert run_step(quick, 0, site).ending is Ending.DONE
    assert leftovers(layout) == []
    subprocess.run(["pkill", "-f", str(flag)], check=False)


def test_sigterm_ends_the_command_and_reports(site: Site, layout: Layout, put: Put, tmp_path: Path) -> None:
    put("in/a", "hello")
    plan, flag = slow_plan(tmp_path)
    process = start(plan, site)
    wait_for(flag, process)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=120) == 143
    assert leftovers(layout) == []
    report = read_report(layout.step_report(plan.plan_id, 0))
    assert report is not None
    assert report.error == "TerminatedError"
    assert subprocess.run(["pgrep", "-f", str(flag)], check=False, capture_output=True).returncode == 1


@pytest.fixture
def slow_process(site: Site, put: Put, tmp_path: Path) -> Iterator[tuple[Plan, subprocess.Popen[bytes]]]:
    """A process that is making out/b, and its plan."""
    put("in/a", "hello")
    plan, flag = slow_plan(tmp_path)
    process = start(plan, site)
    try:
        wait_for(flag, process)
        yield plan, process
    finally:
        process.terminate()
        process.wait(timeout=120)


def test_two_processes_never_make_one_product(site: Site, slow_process: tuple[Plan, subprocess.Popen[bytes]]) -> None:
    with pytest.raises(BusyError, match=r"is being made by another process \(host .*pid"):
        run_step(slow_process[0], 0, site, lock_patience_s=0.0)


def test_a_process_that_ends_late_is_waited_for(site: Site, slow_process: tuple[Plan, subprocess.Popen[bytes]]) -> None:
    threading.Timer(1.5, slow_process[1].terminate).start()
    quick = make_plan((copy_step("in/a", "out/b"),))
    assert run_step(quick, 0, site).ending is Ending.DONE


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    mount = tmp_path / "disk"
    mount.mkdir()
    if os.geteuid() != 0:
        pytest.skip("mounting a small tmpfs needs root")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(mount)], check=True)
    try:
        yield mount
    finally:
        subprocess.run(["umount", "-l", str(mount)], check=True)


def test_full_disk(small_disk: Path) -> None:
    site = make_site(small_disk)
    layout = Layout(site.base, site.work)
    (small_disk / "in").mkdir()
    (small_disk / "in/a").write_text("x")
    command = ("dd", "if=/dev/zero", "of={out:b}", "bs=64k", "count=64")
    plan = make_plan((copy_step("in/a", "out/b", command=command),))
    with pytest.raises(StorageError, match="no space left"):
        run_step(plan, 0, site)
    assert not (site.base / "out/b").exists()
    assert leftovers(layout) == []
    # with room again, the same plan goes through
    smaller = make_plan((copy_step("in/a", "out/b"),))
    assert run_step(smaller, 0, site).ending is Ending.DONE


def test_a_damaged_manifest_counts_as_none(site: Site, layout: Layout, put: Put) -> None:
    put("in/a", "hello")
    plan = make_plan((copy_step("in/a", "out/b"),))
    run_step(plan, 0, site)
    path = ManifestStore(layout.manifests).path_of("out/b")
    path.write_text(path.read_text()[:100])
    assert standing(plan, layout, site) == [Standing.PENDING]
    assert run_step(plan, 0, site).ending is Ending.DONE
    assert json.loads(path.read_text())["label"] == "copy to out/b"


def test_symlink_out_of_the_base_is_refused(
    site: Site, layout: Layout, tmp_path_factory: pytest.TempPathFactory
) -> None:
    outside = tmp_path_factory.mktemp("outside")
    (site.base / "in").symlink_to(outside)
    (outside / "a").write_text("secret")
    with pytest.raises(ConfigError, match="leads outside"):
        run_step(make_plan((copy_step("in/a", "out/b"),)), 0, site)
