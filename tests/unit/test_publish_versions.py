"""Publication and withdrawal on a real file system: whole versions or none, whoever dies and whenever."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lstops.errors import ConfigError, DataError, JobFailure, StorageError
from lstops.publish.bundle import build_bundle
from lstops.publish.model import CHECKSUMS, WITHDRAWN, Published, VersionState
from lstops.publish.publisher import WithdrawnContentError, publish
from lstops.publish.versions import current_version, list_versions, locked, problems, remove_tree
from lstops.publish.withdraw import supersede, withdraw
from lstops.site.layout import Layout

from .published_site import CANDIDATES, FOLDER, make_request, make_site

TESTS = Path(__file__).resolve().parents[1]


@pytest.fixture
def layout(tmp_path: Path) -> Iterator[Layout]:
    yield make_site(tmp_path / "base")
    if (tmp_path / "base" / "DL3").exists():
        remove_tree(tmp_path / "base" / "DL3")  # read-only folders would outlive pytest's own tidying up


def publish_runs(layout: Layout, **changes: object) -> Published:
    return publish(build_bundle(make_request(**changes), layout), layout)


def test_a_version_is_complete_read_only_and_current(layout: Layout) -> None:
    done = publish_runs(layout)
    version = layout.absolute(done.path)
    assert (done.version, done.is_new, done.supersedes) == ("v0001", True, None)
    assert version.stat().st_mode & 0o777 == 0o550
    assert {p.stat().st_mode & 0o777 for p in version.iterdir()} == {0o440}
    assert os.readlink(version.parent / "current") == "v0001"
    assert problems(version) == ()
    assert {p.name for p in version.iterdir()} == {f.name for f in done.files} | {CHECKSUMS, "bundle.json"}
    assert [p.name for p in version.parent.iterdir() if p.name.startswith(".")] == [".lock"]


def test_checksums_are_those_of_sha256sum_also_after_a_copy(layout: Layout, tmp_path: Path) -> None:
    copy = tmp_path / "elsewhere"
    shutil.copytree(layout.absolute(publish_runs(layout).path), copy)
    subprocess.run(["sha256sum", "--quiet", "--strict", "-c", CHECKSUMS], cwd=copy, check=True, timeout=180)
    copy.chmod(0o750)


def test_the_same_content_again_is_no_new_version(layout: Layout) -> None:
    first, again = publish_runs(layout), publish_runs(layout)
    assert (again.version, again.is_new, again.digest) == ("v0001", False, first.digest)
    assert "already has this content" in again.note
    assert again.files == first.files
    assert [v.version for v in list_versions(FOLDER, layout)] == ["v0001"]


def test_other_content_supersedes_and_keeps_the_old_version(layout: Layout) -> None:
    first = publish_runs(layout)
    old = {p.name: p.read_bytes() for p in layout.absolute(first.path).iterdir()}
    second = publish_runs(layout, cuts={"gammaness": 0.8})
    assert (second.version, second.supersedes) == ("v0002", "v0001")
    assert {p.name: p.read_bytes() for p in layout.absolute(first.path).iterdir()} == old
    assert [v.state for v in list_versions(FOLDER, layout)] == [VersionState.SUPERSEDED, VersionState.CURRENT]


def test_a_damaged_current_version_is_superseded_not_believed(layout: Layout) -> None:
    version = layout.absolute(publish_runs(layout).path)
    victim = version / "runs.ecsv"
    version.chmod(0o750)
    victim.unlink()
    victim.write_text("x")
    second = publish_runs(layout)
    assert second.version == "v0002"
    assert "runs.ecsv was changed" in second.note


KILLED = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from unit.published_site import make_request
from lstops.publish.bundle import build_bundle
from lstops.publish.publisher import publish
from lstops.site.layout import Layout

def die(message):
    if message.startswith(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)

layout = Layout(Path(sys.argv[2]))
publish(build_bundle(make_request(), layout), layout, progress=die)
"""


@pytest.mark.parametrize(
    ("point", "visible"),
    [("staging", False), ("copied dl3_LST-1.Run02001", False), ("written", False), ("verified", False),
     ("sealed", False), ("promoted", True), ("current", True)],
)  # fmt: skip
def test_killed_at_any_point(layout: Layout, point: str, visible: bool) -> None:
    argv = [sys.executable, "-c", KILLED, str(TESTS), str(layout.base), point]
    ended = subprocess.run(argv, capture_output=True, text=True, timeout=300, check=False)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    folder = layout.absolute(FOLDER)
    seen = sorted(p.name for p in folder.iterdir() if not p.name.startswith("."))
    assert [n for n in seen if n != "current"] == (["v0001"] if visible else [])
    if visible:
        assert problems(folder / "v0001") == ()
    done = publish_runs(layout)
    assert (done.version, done.is_new) == ("v0001", not visible)
    assert current_version(folder) == "v0001"
    assert problems(folder / "v0001") == ()
    assert sorted(p.name for p in folder.iterdir()) == [".lock", "current", "v0001"]


def test_killed_while_superseding_leaves_the_old_version_current(layout: Layout) -> None:
    publish_runs(layout, cuts={"gammaness": 0.1})
    argv = [sys.executable, "-c", KILLED, str(TESTS), str(layout.base), "sealed"]
    assert subprocess.run(argv, timeout=300, check=False).returncode == -signal.SIGKILL
    assert current_version(layout.absolute(FOLDER)) == "v0001"
    assert publish_runs(layout).version == "v0002"


def test_a_file_that_cannot_be_written_whole_leaves_nothing(layout: Layout) -> None:
    bundle = build_bundle(make_request(), layout)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, hard))
    try:
        with pytest.raises(StorageError, match="no space left"):
            publish(bundle, layout)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [p.name for p in layout.absolute(FOLDER).iterdir()] == [".lock"]
    assert publish(bundle, layout).version == "v0001"


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a tmpfs needs root")
def test_a_full_disk_leaves_nothing(tmp_path: Path) -> None:
    base = tmp_path / "small"
    base.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(base)], check=False, timeout=30)
    if mounted.returncode:
        pytest.skip("this machine does not let root mount a tmpfs")
    try:
        layout = make_site(base)
        filler = base / "filler"
        free = os.statvfs(base).f_bavail * os.statvfs(base).f_frsize
        filler.write_bytes(bytes(free - 40_000))
        bundle = build_bundle(make_request(), layout)
        with pytest.raises(StorageError, match="no space left"):
            publish(bundle, layout)
        assert [p.name for p in layout.absolute(FOLDER).iterdir()] == [".lock"]
        filler.unlink()
        assert publish(bundle, layout).version == "v0001"
    finally:
        subprocess.run(["umount", str(base)], check=True, timeout=30)


OTHER = FOLDER.replace("prod_a", "prod_b")


def test_superseded_by_another_folder_leaves_current_and_does_not_come_back(layout: Layout) -> None:
    publish_runs(layout)
    publish_runs(layout, folder=OTHER, production="prod_b")
    for _ in range(2):
        done = supersede(FOLDER, "v0001", f"{OTHER}/v0001", "Ana", "newer production", layout)
        assert (done.by, done.current) == (f"{OTHER}/v0001", None)
    version = layout.absolute(f"{FOLDER}/v0001")
    assert problems(version) == ()
    assert version.stat().st_mode & 0o777 == 0o550
    assert "newer production" in (version / "SUPERSEDED.txt").read_text()
    again = publish_runs(layout)
    assert (again.is_new, again.version) == (False, "v0001")
    assert f"stays superseded by {OTHER}/v0001" in again.note
    assert current_version(layout.absolute(FOLDER)) is None
    withdraw(OTHER, "v0001", "Ana", "clouds", layout)
    assert publish_runs(layout).version == "v0001"  # what replaced it is gone: it may be used again
    assert current_version(layout.absolute(FOLDER)) == "v0001"


def test_superseded_content_does_not_come_back_over_newer_content(layout: Layout) -> None:
    publish_runs(layout)
    publish_runs(layout, cuts={"gammaness": 0.8})
    publish_runs(layout, cuts={"gammaness": 0.9})
    supersede(FOLDER, "v0002", f"{FOLDER}/v0003", "Ana", "wrong cut", layout)
    assert publish_runs(layout, cuts={"gammaness": 0.8}).version == "v0002"
    assert current_version(layout.absolute(FOLDER)) == "v0003"


def test_what_a_withdrawn_version_had_replaced_elsewhere_is_given_back(layout: Layout) -> None:
    publish_runs(layout)
    publish_runs(layout, folder=OTHER, production="prod_b")
    supersede(FOLDER, "v0001", f"{OTHER}/v0001", "Ana", "newer production", layout)
    for _ in range(2):
        done = withdraw(OTHER, "v0001", "Ana", "clouds", layout)
        assert (done.current, done.freed) == (None, (FOLDER,))
        assert [v.state.value for v in list_versions(FOLDER, layout)] == ["current"]


def test_an_old_version_is_superseded_without_touching_what_is_current(layout: Layout) -> None:
    for gammaness in (0.7, 0.8, 0.9):
        publish_runs(layout, cuts={"gammaness": gammaness})
    assert supersede(FOLDER, "v0001", f"{FOLDER}/v0002", "Ana", "wrong cut", layout).current == "v0003"
    assert current_version(layout.absolute(FOLDER)) == "v0003"


def test_a_version_is_not_replaced_by_one_of_other_runs_or_a_damaged_one(layout: Layout) -> None:
    publish_runs(layout)
    make_site(layout.base, runs=(3001,), seed=3)
    publish_runs(layout, folder=OTHER, runs=(3001,), rejected=())
    with pytest.raises(ConfigError, match="has not one run of"):
        supersede(FOLDER, "v0001", f"{OTHER}/v0001", "Ana", "the wrong line of the list", layout)
    make_site(layout.base)
    publish_runs(layout, cuts={"gammaness": 0.8})
    cuts = layout.absolute(f"{FOLDER}/v0001/cuts.json")
    cuts.chmod(0o640)
    cuts.write_text("{}")
    with pytest.raises(ConfigError, match=r"is damaged \(cuts.json was changed\)"):
        supersede(FOLDER, "v0002", f"{FOLDER}/v0001", "Ana", "back", layout)
    assert current_version(layout.absolute(FOLDER)) == "v0002"


@pytest.mark.parametrize("words", ["\x1b[31mred", "\udcff", "a\x00b", "\u202etxet"])
def test_words_that_cannot_be_shown_are_refused(layout: Layout, words: str) -> None:
    publish_runs(layout)
    for author, reason in ((words, "clouds"), ("Ana", words)):
        with pytest.raises(ConfigError, match="cannot be shown"):
            withdraw(FOLDER, "v0001", author, reason, layout)
    notice = withdraw(FOLDER, "v0001", " Ana\n Núñez ", "clouds:\r\n# lidar", layout)
    assert (notice.author, notice.reason) == ("Ana Núñez", "clouds: # lidar")


@pytest.mark.parametrize(
    ("version", "by", "author", "message"),
    [("v0001", f"{FOLDER}/v0001", "Ana", "cannot supersede itself"), ("v0001", f"{FOLDER}/v0007", "Ana", "no version"),
     ("v0007", f"{FOLDER}/v0001", "Ana", "no version"), ("v0001", f"{FOLDER}/v0002", " ", "author and a reason"),
     ("v0001", FOLDER, "Ana", "no published version"), ("v0001", f"{FOLDER}/v0003", "Ana", "withdrawn or superseded"),
     ("v0003", f"{FOLDER}/v0001", "Ana", "was withdrawn by Eva"), ("v0001", "DL3/../../x/v0001", "Ana", "stay below")],
)  # fmt: skip
def test_what_cannot_be_superseded_is_refused_and_nothing_changes(
    layout: Layout, version: str, by: str, author: str, message: str
) -> None:
    for gammaness in (0.7, 0.8, 0.9):
        publish_runs(layout, cuts={"gammaness": gammaness})
    withdraw(FOLDER, "v0003", "Eva", "clouds", layout)
    before = list_versions(FOLDER, layout)
    with pytest.raises(ConfigError, match=message):
        supersede(FOLDER, version, by, author, "because", layout)
    assert list_versions(FOLDER, layout) == before


KILLED_NOTICE = """
import os, signal, sys
from pathlib import Path
import lstops.publish.withdraw as module
from lstops.site.layout import Layout

def die(*args):
    os.kill(os.getpid(), signal.SIGKILL)

setattr(module, sys.argv[2], die)
folder = sys.argv[3]
module.supersede(folder, "v0002", folder + "/v0001", "Ana", "back", Layout(Path(sys.argv[1])))
"""


@pytest.mark.parametrize("point", ["write_notice", "seal", "point_current"])
def test_a_supersession_that_was_killed_is_finished_by_the_next(layout: Layout, point: str) -> None:
    publish_runs(layout)
    publish_runs(layout, cuts={"gammaness": 0.8})
    argv = [sys.executable, "-c", KILLED_NOTICE, str(layout.base), point, FOLDER]
    assert subprocess.run(argv, timeout=300, check=False).returncode == -signal.SIGKILL
    assert [v.version for v in list_versions(FOLDER, layout)] == ["v0001", "v0002"]
    assert supersede(FOLDER, "v0002", f"{FOLDER}/v0001", "Ana", "back", layout).current == "v0001"
    assert [v.state for v in list_versions(FOLDER, layout)] == [VersionState.CURRENT, VersionState.SUPERSEDED]
    assert problems(layout.absolute(f"{FOLDER}/v0002")) == ()


def test_content_that_differs_from_its_manifest_is_not_published(layout: Layout) -> None:
    bundle = build_bundle(make_request(), layout)
    victim = layout.absolute(f"{CANDIDATES}/dl3_LST-1.Run02001.fits")
    stat, content = victim.stat(), bytearray(victim.read_bytes())
    content[-1] ^= 1  # a flipped bit: same size, same time
    victim.write_bytes(content)
    os.utime(victim, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    with pytest.raises(DataError, match="has not the content that its manifest records"):
        publish(bundle, layout)
    assert [p.name for p in layout.absolute(FOLDER).iterdir()] == [".lock"]


PUBLISHER = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from unit.published_site import make_request
from lstops.publish.bundle import build_bundle
from lstops.publish.publisher import publish
from lstops.site.layout import Layout

layout = Layout(Path(sys.argv[2]))
bundle = build_bundle(make_request(), layout)
print("ready", flush=True)
sys.stdin.readline()
done = publish(bundle, layout, wait_s=120)
print(done.version, done.is_new)
"""


def test_the_same_request_from_several_processes_at_once_is_one_version(layout: Layout) -> None:
    argv = [sys.executable, "-c", PUBLISHER, str(TESTS), str(layout.base)]
    started = [subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    for process in started:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in started:  # all of them stand before the lock now
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    said = [process.communicate(timeout=180)[0] for process in started]
    assert [process.returncode for process in started] == [0] * 3
    assert sorted(said) == ["v0001 False\n", "v0001 False\n", "v0001 True\n"]
    folder = layout.absolute(FOLDER)
    assert sorted(p.name for p in folder.iterdir()) == [".lock", "current", "v0001"]
    assert problems(folder / "v0001") == ()


def test_a_busy_folder_is_reported_with_its_holder(layout: Layout) -> None:
    bundle = build_bundle(make_request(), layout)
    with locked(layout.absolute(FOLDER), 0), pytest.raises(JobFailure, match=f"pid {os.getpid()}"):
        publish(bundle, layout, wait_s=0.2)


def test_a_foreign_current_is_left_alone(layout: Layout) -> None:
    (layout.absolute(FOLDER) / "current").mkdir(parents=True)
    with pytest.raises(ConfigError, match="not a symbolic link"):
        publish_runs(layout)


def test_withdrawal_moves_current_to_the_newest_valid_version(layout: Layout) -> None:
    publish_runs(layout)
    publish_runs(layout, cuts={"gammaness": 0.8})
    notice = withdraw(FOLDER, "v0002", "Ana", "wrong: cuts of another production", layout)
    assert notice.current == "v0001"
    version = layout.absolute(FOLDER) / "v0002"
    assert "wrong: cuts" in (version / WITHDRAWN).read_text()
    assert version.stat().st_mode & 0o777 == 0o550
    assert problems(version) == ()
    second = list_versions(FOLDER, layout)[1]
    assert second.state is VersionState.WITHDRAWN
    assert second.withdrawal is not None
    assert second.withdrawal.reason == "wrong: cuts of another production"
    assert withdraw(FOLDER, "v0001", "Ana", "also wrong", layout).current is None
    assert current_version(layout.absolute(FOLDER)) is None


def test_withdrawn_content_is_not_published_again_and_its_number_not_reused(layout: Layout) -> None:
    publish_runs(layout)
    withdraw(FOLDER, "v0001", "Ana", "clouds", layout)
    with pytest.raises(WithdrawnContentError, match="withdrawn by Ana: clouds"):
        publish_runs(layout)
    assert publish_runs(layout, cuts={"gammaness": 0.8}).version == "v0002"


def test_withdrawing_twice_keeps_the_first_notice(layout: Layout) -> None:
    publish_runs(layout)
    withdraw(FOLDER, "v0001", "Ana", "clouds", layout)
    assert withdraw(FOLDER, "v0001", "Ben", "other", layout).author == "Ana"


@pytest.mark.parametrize(
    ("version", "author", "reason", "message"),
    [("v0009", "Ana", "x", "no version 'v0009'"), ("../..", "Ana", "x", "no version"), ("v0001", " ", "x", "author")],
)
def test_bad_withdrawals(layout: Layout, version: str, author: str, reason: str, message: str) -> None:
    publish_runs(layout)
    with pytest.raises(ConfigError, match=message):
        withdraw(FOLDER, version, author, reason, layout)
    assert current_version(layout.absolute(FOLDER)) == "v0001"


def test_problems_names_every_damage(layout: Layout) -> None:
    version = layout.absolute(publish_runs(layout).path)
    version.chmod(0o750)
    (version / "dl3_LST-1.Run02002.fits").unlink()
    (version / "notes.txt").write_text("x")
    (version / "cuts.json").chmod(0o640)
    (version / "cuts.json").write_text("{}")
    assert problems(version) == (
        "dl3_LST-1.Run02002.fits is missing", "notes.txt does not belong to it", "cuts.json was changed",
    )  # fmt: skip
    assert json.loads((version / "bundle.json").read_text())["runs"] == [2001, 2002]


def test_a_withdrawal_that_died_is_finished_by_the_next(layout: Layout) -> None:
    publish_runs(layout)
    publish_runs(layout, cuts={"gammaness": 0.8})
    folder = layout.absolute(FOLDER)
    withdraw(FOLDER, "v0002", "Ana", "wrong cuts", layout)
    # as after a kill between the notice and the move of the pointer
    (folder / "current").unlink()
    (folder / "current").symlink_to("v0002")
    (folder / "v0002").chmod(0o750)
    assert withdraw(FOLDER, "v0002", "Ana", "wrong cuts", layout).current == "v0001"
    assert current_version(folder) == "v0001"
    assert (folder / "v0002").stat().st_mode & 0o777 == 0o550
