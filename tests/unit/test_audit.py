"""`lstops audit`: each thing that can be wrong with a site is done to a good one, and is named with its remedy."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sites import make_site as make_site_file
from typer.testing import CliRunner

from lstops.operations.audit import AuditReport, audit_site
from lstops.operations.audit_cli import app
from lstops.publish.bundle import build_bundle
from lstops.publish.publisher import publish
from lstops.publish.versions import remove_tree
from lstops.publish.withdraw import supersede, withdraw
from lstops.site.layout import Layout

from .published_site import CANDIDATES, FOLDER, make_request, make_site, write_file

V1, V2 = f"{FOLDER}/v0001", f"{FOLDER}/v0002"
DL3 = "dl3_LST-1.Run02001.fits"


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    layout = make_site(tmp_path_factory.mktemp("good") / "site", production=True)
    publish(build_bundle(make_request(), layout), layout)
    publish(build_bundle(make_request(cuts={"gammaness": 0.8}), layout), layout)
    yield layout.base
    remove_tree(layout.base / "DL3")


@pytest.fixture
def layout(good: Path, tmp_path: Path) -> Iterator[Layout]:
    layout = Layout(Path(shutil.copytree(good, tmp_path / "site", symlinks=True)))
    yield layout
    remove_tree(layout.base / "DL3")


def audit(layout: Layout, *, full: bool = True, grace_s: float = 0.0, share: float = 0.0) -> AuditReport:
    return audit_site(make_site_file(layout.base), full=full, catalogue=False, grace_s=grace_s, share=share)


def found(report: AuditReport) -> list[tuple[str, str]]:
    assert all(f.what and f.remedy.endswith(".") for f in report.findings)
    return [(f.code.value, f.path) for f in report.findings]


def test_a_good_site_has_no_findings(layout: Layout) -> None:
    for full in (True, False):
        report = audit(layout, full=full)
        assert report.text().startswith("nothing found in ")
        assert (report.n_versions, report.n_products) == (2, 8)
        assert report.n_read == (10 if full else 0)


def rewrite(path: Path, content: bytes) -> None:
    """Other content of the same size and time, as a failing disk leaves it, in spite of read-only modes."""
    state, folder = path.stat(), path.parent.stat()
    path.parent.chmod(0o750)
    path.chmod(0o640)
    path.write_bytes(content)
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
    path.chmod(state.st_mode & 0o777)
    path.parent.chmod(folder.st_mode & 0o777)


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    rewrite(path, bytes(content))


def test_one_altered_byte_is_named_where_it_is_read(layout: Layout) -> None:
    flip(layout.absolute(f"{V1}/{DL3}"))
    flip(layout.absolute("DL2/dl2_LST-1.Run02002.h5"))
    assert found(audit(layout)) == [("changed", "DL2/dl2_LST-1.Run02002.h5"), ("damaged", V1)]
    assert f"{DL3} was changed" in audit(layout).text()
    assert found(audit(layout, full=False)) == []  # sizes and times are as they were
    assert found(audit(layout, full=False, share=1.0)) != []


def test_a_file_altered_together_with_its_checksum_is_still_named(layout: Layout) -> None:
    from lstops.step.digest import sha256_file

    path, sums = layout.absolute(f"{V1}/{DL3}"), layout.absolute(f"{V1}/SHA256SUMS")
    old = sha256_file(path)
    flip(path)
    rewrite(sums, sums.read_bytes().replace(old.encode(), sha256_file(path).encode()))
    report = audit(layout)
    assert found(report) == [("damaged", V1), ("damaged", V1)]
    assert "is not the file that its step made" in report.text()


def test_a_run_list_altered_together_with_its_checksum_is_still_named(layout: Layout) -> None:
    from lstops.step.digest import sha256_file

    path, sums = layout.absolute(f"{V1}/runs.ecsv"), layout.absolute(f"{V1}/SHA256SUMS")
    old = sha256_file(path)
    rewrite(path, path.read_bytes().replace(b"clouds, of course", b"laser, off course"))
    rewrite(sums, sums.read_bytes().replace(old.encode(), sha256_file(path).encode()))
    report = audit(layout)
    assert found(report) == [("damaged", V1)]
    assert "not the content that bundle.json describes" in report.text()


def open_version(layout: Layout) -> Path:
    version = layout.absolute(V1)
    version.chmod(0o750)
    return version


def in_version(layout: Layout, change: Callable[[Path], None]) -> None:
    change(open_version(layout))
    layout.absolute(V1).chmod(0o550)


def point_to(layout: Layout, version: str) -> None:
    pointer = layout.absolute(FOLDER) / "current"
    pointer.unlink()
    pointer.symlink_to(version)


#: reading it is an input/output error, also for root
UNREADABLE = "/proc/self/mem"


def replace_by_link(path: Path) -> None:
    path.unlink()
    path.symlink_to(UNREADABLE)


def write_sealed(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    path.chmod(0o440)


def in_reprocessing(layout: Layout, name: str) -> None:
    path = layout.base / "lstops/reprocessing/std_1" / name
    path.parent.mkdir(parents=True)
    path.touch()


DAMAGES: dict[str, tuple[Callable[[Layout], object], list[tuple[str, str]]]] = {
    "published file gone": (
        lambda at: in_version(at, lambda version: (version / DL3).unlink()),
        [("damaged", V1)],
    ),
    "foreign file in a version": (
        lambda at: in_version(at, lambda version: (version / "x.txt").touch(0o440)),
        [("damaged", V1)],
    ),
    "file can be written": (lambda at: (at.base / V1 / DL3).chmod(0o660), [("writable", f"{V1}/{DL3}")]),
    "version can be written": (open_version, [("writable", V1)]),
    "pointer gone": (lambda at: (at.base / FOLDER / "current").unlink(), [("pointer", f"{FOLDER}/current")]),
    "pointer into nothing": (lambda at: point_to(at, "v0009"), [("pointer", f"{FOLDER}/current")]),
    "file beside the versions": (
        lambda at: (at.base / FOLDER / "note.txt").touch(),
        [("foreign", f"{FOLDER}/note.txt")],
    ),
    "link out of the tree": (lambda at: (at.base / "DL3/x").symlink_to("/tmp"), [("foreign", "DL3/x")]),
    "publication that died": (
        lambda at: (at.base / FOLDER / ".stage-v0003-1").mkdir(),
        [("leftover", f"{FOLDER}/.stage-v0003-1")],
    ),
    "product gone": (
        lambda at: (at.base / "DL2/dl2_LST-1.Run02001.h5").unlink(),
        [("missing", "DL2/dl2_LST-1.Run02001.h5")],
    ),
    "product grown": (
        lambda at: (at.base / "DL2/dl2_LST-1.Run02001.h5").write_text("longer than it was before"),
        [("changed", "DL2/dl2_LST-1.Run02001.h5")],
    ),
    "models with another file": (
        lambda at: (at.base / "models/AllSky/prod_a/dec_2276/x").write_text("x"),
        [("changed", "models/AllSky/prod_a/dec_2276")],
    ),
    "DL1 made again": (
        lambda at: (at.base / "DL1/dl1_LST-1.Run02001.h5").write_text("by a later lstosa"),
        [("stale", "DL1/dl1_LST-1.Run02001.h5")],
    ),
    "manifest cut off": (
        lambda at: (at.manifests / "DL2/dl2_LST-1.Run02001.h5.json").write_text("{"),
        [("unreadable", "lstops/manifests/DL2/dl2_LST-1.Run02001.h5.json")],
    ),
    "index manifest gone": (
        lambda at: (at.manifests / CANDIDATES / "hdu-index.fits.gz.json").unlink(),
        [("unfinished", f"{CANDIDATES}/hdu-index.fits.gz"), ("unfinished", f"{CANDIDATES}/obs-index.fits.gz"),
         ("unreadable", f"lstops/manifests/{CANDIDATES}/obs-index.fits.gz.link")],
    ),
    "file among the manifests": (
        lambda at: (at.manifests / "notes.txt").touch(),
        [("foreign", "lstops/manifests/notes.txt")],
    ),
    "candidate that no step finished": (
        lambda at: (at.base / CANDIDATES / "dl3_LST-1.Run09999.fits").touch(),
        [("unfinished", f"{CANDIDATES}/dl3_LST-1.Run09999.fits")],
    ),
    "candidate of a reprocessing that no step finished": (
        lambda at: write_file(at, "lstops/reprocessing/r/dl3/20240115/dl3_LST-1.Run09999.fits", "x"),
        [("unfinished", "lstops/reprocessing/r/dl3/20240115/dl3_LST-1.Run09999.fits")],
    ),
    "file in a production": (
        lambda at: (at.base / "mc/DL1/AllSky/prod_a/TrainingDataset/x.h5").touch(),
        [("unfinished", "mc/DL1/AllSky/prod_a/TrainingDataset/x.h5")],
    ),
    "file of a reprocessing that no step finished": (
        lambda at: in_reprocessing(at, "dl3/20240115/x.fits"),
        [("unfinished", "lstops/reprocessing/std_1/dl3/20240115/x.fits")],
    ),
    "what a reprocessing says of a night": (lambda at: in_reprocessing(at, "nights/20240115.json"), []),
    "notice that is no text": (
        lambda at: in_version(at, lambda version: write_sealed(version / "WITHDRAWN.txt", b"\xff\xfe")),
        [("damaged", f"{V1}/WITHDRAWN.txt")],
    ),
    "notice that cannot be read": (
        lambda at: in_version(at, lambda version: (version / "WITHDRAWN.txt").symlink_to(UNREADABLE)),
        [("damaged", f"{V1}/WITHDRAWN.txt")],
    ),
    "version that is a link": (
        lambda at: (at.base / FOLDER / "v0003").symlink_to("/tmp"),
        [("foreign", f"{FOLDER}/v0003")],
    ),
    "manifest that cannot be read": (
        lambda at: replace_by_link(at.manifests / "DL2/dl2_LST-1.Run02001.h5.json"),
        [("unreadable", "lstops/manifests/DL2/dl2_LST-1.Run02001.h5.json")],
    ),
    "index manifest that cannot be read": (
        lambda at: replace_by_link(at.manifests / CANDIDATES / "hdu-index.fits.gz.json"),
        [("unreadable", f"lstops/manifests/{CANDIDATES}/hdu-index.fits.gz.json"),
         ("unreadable", f"lstops/manifests/{CANDIDATES}/obs-index.fits.gz.link")],
    ),
    "step that died": (lambda at: (at.staging / "abc-1").mkdir(parents=True), [("leftover", "lstops/staging/abc-1")]),
}  # fmt: skip


def test_a_damaged_notice_and_a_version_that_is_a_link_are_named(layout: Layout, tmp_path: Path) -> None:
    withdraw(FOLDER, "v0001", "Ana", "clouds", layout)
    rewrite(layout.absolute(f"{V1}/WITHDRAWN.txt"), b"\xff\xfe")
    (tmp_path / "elsewhere").mkdir()
    (layout.absolute(FOLDER) / "v0003").symlink_to(tmp_path / "elsewhere")
    assert found(audit(layout)) == [("damaged", f"{V1}/WITHDRAWN.txt"), ("foreign", f"{FOLDER}/v0003")]
    assert withdraw(FOLDER, "v0002", "Ana", "clouds", layout).current is None, "it stays out of use"


@pytest.mark.parametrize("by", ["/etc", "../../x", ""])
def test_a_notice_that_names_nothing_of_the_site_is_no_end_of_the_audit(layout: Layout, by: str) -> None:
    supersede(FOLDER, "v0001", V2, "Ana", "cuts", layout)
    notice = layout.absolute(f"{V1}/SUPERSEDED.txt")
    rewrite(notice, notice.read_bytes().replace(V2.encode(), by.encode()))
    (layout.base / "DL3/x").touch()
    damaged = [] if by else [("damaged", f"{V1}/SUPERSEDED.txt")]
    assert found(audit(layout)) == [*damaged, ("foreign", "DL3/x")]


@pytest.mark.parametrize("name", DAMAGES)
def test_what_can_be_wrong_is_named(layout: Layout, name: str) -> None:
    damage, expected = DAMAGES[name]
    damage(layout)
    left = sorted(layout.base.rglob("*"))
    assert found(audit(layout, full=False)) == expected
    assert sorted(layout.base.rglob("*")) == left  # nothing is removed or mended


@pytest.mark.parametrize("full", [True, False])
def test_files_on_a_failing_disk_are_named_and_the_rest_looked_at(
    layout: Layout, monkeypatch: pytest.MonkeyPatch, full: bool
) -> None:
    from lstops.step.digest import sha256_file

    bad = (f"{V1}/{DL3}", "DL2/dl2_LST-1.Run02001.h5", "DL1/dl1_LST-1.Run02001.h5")

    def read(path: Path) -> str:
        if layout.relative(path) in bad:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return sha256_file(path)

    monkeypatch.setattr("lstops.publish.versions.sha256_file", read)
    monkeypatch.setattr("lstops.step.manifest.sha256_file", read)
    for path in bad[1:]:
        os.utime(layout.absolute(path))  # so that it is read
    (layout.base / "DL3/x").touch()
    report = audit(layout, full=full)
    expected = [("foreign", "DL3/x"), *(("unreadable", path) for path in sorted(bad[1:]))]
    assert found(report) == ([("damaged", V1)] if full else []) + expected
    assert report.text().count("cannot be read (Input/output error)") == 2 + full


def test_a_folder_that_cannot_be_read_is_named(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    scandir, bad = os.scandir, {str(layout.base / "DL3"), str(layout.manifests / "DL2"), str(layout.staging)}

    def scan(path: str | Path) -> Any:
        if str(path) in bad:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return scandir(path)

    monkeypatch.setattr("os.scandir", scan)
    report = audit(layout)
    assert [path for code, path in found(report) if code == "unreadable"] == ["DL3", "lstops/manifests/DL2"]
    # what the manifests would tell is not known: nothing is called useless
    assert {code for code, _ in found(report)} == {"unreadable"}


#: POSIX locks are by process: another one must hold it
HOLDER = "import fcntl, sys, time; f = open(sys.argv[1], 'r+'); fcntl.lockf(f, 2); print(flush=True); time.sleep(60)"


def test_what_is_being_worked_on_is_not_left_behind(layout: Layout) -> None:
    (layout.staging / "abc-1").mkdir(parents=True)
    (layout.base / FOLDER / ".stage-v0003-1").mkdir()
    assert found(audit(layout, full=False, grace_s=3600)) == []
    layout.locks.mkdir(exist_ok=True)
    (layout.locks / "abc.lock").touch()
    argv = [sys.executable, "-c", HOLDER, str(layout.locks / "abc.lock")]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        assert found(audit(layout, full=False)) == [("leftover", f"{FOLDER}/.stage-v0003-1")]
        holder.kill()
    assert ("leftover", "lstops/staging/abc-1") in found(audit(layout, full=False))


def test_a_withdrawn_version_that_is_still_current_is_named(layout: Layout) -> None:
    withdraw(FOLDER, "v0002", "Ana", "clouds", layout)
    assert found(audit(layout)) == []
    point_to(layout, "v0002")
    report = audit(layout)
    assert found(report) == [("pointer", f"{FOLDER}/current")]
    assert "lstops withdraw" in report.text()


def test_the_command_line(layout: Layout, repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LSTOPS_SITE", str(repository / "config/sites/local.yaml"))
    monkeypatch.setenv("LSTOPS_HOME", str(layout.base.parent))
    monkeypatch.setenv("LSTOPS_VENV_SCIENCE", "/nonexistent")
    good = CliRunner().invoke(app, ["--no-catalogue", "--full"])
    assert (good.exit_code, "nothing found" in good.output) == (0, True)
    (layout.base / "DL3/x").touch()
    bad = CliRunner().invoke(app, ["--no-catalogue", "--json"])
    assert bad.exit_code == 1
    assert [f["code"] for f in json.loads(bad.output)["findings"]] == ["foreign"]
    assert "move it away" in CliRunner().invoke(app, ["--no-catalogue"]).output


@pytest.mark.parametrize("path", ["../../../etc/passwd", "/etc/passwd"])
def test_a_manifest_that_points_out_of_the_base_is_named_and_the_rest_looked_at(layout: Layout, path: str) -> None:
    manifest = layout.manifests / f"{CANDIDATES}/{DL3}.json"
    document = json.loads(manifest.read_text())
    for part in ("inputs", "outputs"):
        manifest.write_text(json.dumps({**document, part: [{**document[part][0], "path": path}]}))
        report = audit(layout)
        assert ("unreadable", layout.relative(manifest)) in found(report)
        assert path not in report.text()


def test_a_product_behind_a_link_out_of_the_base_is_named_and_not_read(layout: Layout, tmp_path: Path) -> None:
    product = layout.absolute(f"{CANDIDATES}/{DL3}")
    shutil.move(product, tmp_path / DL3)
    product.symlink_to(tmp_path / DL3)
    assert ("changed", f"{CANDIDATES}/{DL3}") in found(audit(layout))
