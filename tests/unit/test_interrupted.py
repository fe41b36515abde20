"""Publication, withdrawal, supersession and steps, hit at every change of a file that they make.

Whoever is killed, loses half of what was not durable yet, or finds the disk full: a reader never sees a part of
anything, the audit is clean or names what is left, and the same again gives what an undisturbed run gives. To hit every
change takes minutes (LSTOPS_TEST_SWEEP=1); by default every sixth is hit.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from sites import make_site as make_site_file

from lstops.operations.audit import audit_site
from lstops.publish.bundle import build_bundle
from lstops.publish.findings import Code
from lstops.publish.model import Bundle
from lstops.publish.publisher import publish
from lstops.publish.versions import (
    POINTER_PREFIX,
    STAGE_PREFIX,
    current_version,
    list_versions,
    problems,
    remove_tree,
    version_folders,
)
from lstops.publish.withdraw import supersede, withdraw
from lstops.site.layout import Layout
from lstops.step.assess import Standing, assess
from lstops.step.guards import storage_errors
from lstops.step.model import ArtifactKind, Output, Plan
from lstops.step.plans import load_plan, save_plan
from lstops.step.runner import run_step
from lstops.step.staging import move_into_place

from .conftest import copy_step, make_plan
from .faults import interrupt, sweep
from .published_site import FOLDER, make_request, make_site

EVERY = int(os.environ.get("LSTOPS_TEST_SWEEP", "6"))
OTHER = FOLDER.replace("prod_a", "prod_b")
#: what an interruption may leave for the audit to name; nothing else
NAMED = {Code.LEFTOVER, Code.POINTER, Code.WRITABLE, Code.UNFINISHED}
#: what a publication that died leaves is hidden; so no reader sees it
VISIBLE = ("v0001", "v0002", "v0003", "current")


@dataclass(frozen=True)
class Case:
    """An operation on published versions, and what it finds."""

    name: str
    prepare: Callable[[Layout, tuple[Bundle, ...]], object]
    act: Callable[[Layout, tuple[Bundle, ...]], object]


def _first_two(layout: Layout, bundles: tuple[Bundle, ...]) -> None:
    for bundle in bundles[:2]:
        publish(bundle, layout)


def _two_folders(layout: Layout, bundles: tuple[Bundle, ...]) -> None:
    publish(bundles[0], layout)
    publish(bundles[2], layout)


def _replaced(layout: Layout, bundles: tuple[Bundle, ...]) -> None:
    _two_folders(layout, bundles)
    supersede(FOLDER, "v0001", f"{OTHER}/v0001", "Ana", "newer", layout)


CASES = (
    Case("publish", lambda layout, bundles: None, lambda layout, bundles: publish(bundles[0], layout)),
    Case(
        "publish again",
        lambda layout, bundles: publish(bundles[0], layout),
        lambda layout, bundles: publish(bundles[1], layout),
    ),
    Case("withdraw", _first_two, lambda layout, bundles: withdraw(FOLDER, "v0002", "Ana", "clouds", layout)),
    Case(
        "supersede in the folder",
        _first_two,
        lambda layout, bundles: supersede(FOLDER, "v0002", f"{FOLDER}/v0001", "Ana", "back", layout),
    ),
    Case(
        "supersede by another folder",
        _two_folders,
        lambda layout, bundles: supersede(FOLDER, "v0001", f"{OTHER}/v0001", "Ana", "newer", layout),
    ),
    Case(
        "withdraw what had replaced another",
        _replaced,
        lambda layout, bundles: withdraw(OTHER, "v0001", "Ana", "clouds", layout),
    ),
)


@pytest.fixture(autouse=True)
def _quick_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing here waits for the disk: what is not durable is cut by hand."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Layout, tuple[Bundle, ...]]:
    """A site with DL3 and three planned bundles: two contents of one folder, and one of another folder."""
    layout = make_site(tmp_path_factory.mktemp("interrupted") / "site")
    changes: tuple[dict[str, object], ...] = (
        {}, {"cuts": {"gammaness": 0.8}}, {"folder": OTHER, "production": "prod_b", "beside": True}
    )  # fmt: skip
    return layout, tuple(build_bundle(make_request(**change), layout) for change in changes)


def _states(layout: Layout) -> dict[str, tuple[str, str]]:
    folders = version_folders(layout)
    return {v.path: (v.state.value, v.digest) for folder in folders for v in list_versions(folder, layout)}


def _seen(layout: Layout) -> dict[str, str | None]:
    """What a reader sees, all of it whole: by folder what `current` points to."""
    found = {}
    for folder in version_folders(layout):
        absolute = layout.absolute(folder)
        assert {p.name for p in absolute.iterdir() if not p.name.startswith(".")} <= set(VISIBLE)
        for version in list_versions(folder, layout):
            assert problems(layout.absolute(version.path)) == ()
        found[folder] = current_version(absolute)
    return found


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_versions(built: tuple[Layout, tuple[Bundle, ...]], case: Case, tmp_path: Path) -> None:
    layout, bundles = built
    site, root, start = make_site_file(layout.base), layout.base / "DL3", tmp_path / "start"

    def reset(to: Path | None) -> None:
        if root.exists():
            remove_tree(root)
        if to is not None and to.exists():
            shutil.copytree(to, root, symlinks=True)

    reset(None)
    case.prepare(layout, bundles)
    if root.exists():
        shutil.copytree(root, start, symlinks=True)
    before = _seen(layout)
    hits = list(sweep(lambda: case.act(layout, bundles), EVERY))
    after, wanted = _seen(layout), _states(layout)
    assert after != before
    for fault, at in hits:
        reset(start)
        ended = interrupt(lambda: case.act(layout, bundles), fault, at)
        seen = _seen(layout)
        assert {folder: seen.get(folder) for folder in after} in _between(before, after), (fault, at)
        report = audit_site(site, full=True, catalogue=False, grace_s=0.0)
        assert {finding.code for finding in report.findings} <= NAMED, (fault, at, report.text())
        if ended == "no room":
            # whoever was told so has had his leftovers removed: room can be made by nobody else
            assert not [*root.rglob(f"{STAGE_PREFIX}*"), *root.rglob(f"{POINTER_PREFIX}*")], (fault, at)
        case.act(layout, bundles)
        assert _states(layout) == wanted, (fault, at)
        report = audit_site(site, full=True, catalogue=False, grace_s=0.0)
        assert report.findings == (), (fault, at, report.text())
    reset(None)


def _between(before: dict[str, str | None], after: dict[str, str | None]) -> list[dict[str, str | None]]:
    """Every folder is as it was or as it will be."""
    states: list[dict[str, str | None]] = [{}]
    for folder in after:
        states = [{**s, folder: value} for s in states for value in {before.get(folder), after[folder]}]
    return states


def _step_plan(text: str) -> Plan:
    """Two files from one source."""
    program = 'cat "$1" "$2" > "$3"; cp "$3" "$4"'
    words = ("{in:a}", "{file:text}", "{out:b}", "{out:c}")
    names = (("b", "out/b"), ("c", "out/foreign"))
    step = copy_step(
        "in/a", "out/b", command=("sh", "-c", program, "sh", *words), files={"text": text},
        outputs=tuple(Output(name=name, kind=ArtifactKind.FILE, path=path) for name, path in names),
    )  # fmt: skip
    return make_plan((step,))


def _contents(layout: Layout) -> list[str]:
    return [path.read_text() for path in map(layout.absolute, ("out/b", "out/foreign")) if path.exists()]


def test_a_step(tmp_path: Path) -> None:
    """Its products are made a second time; one of them was replaced by somebody's file, which is moved aside once."""
    base, start = tmp_path / "site", tmp_path / "start"
    site, layout = make_site_file(base), Layout(base)
    (base / "in").mkdir(parents=True)
    (base / "in/a").write_text("in ")
    old, new = _step_plan("old"), _step_plan("new")
    save_plan(new, site)
    run_step(old, 0, site)
    assert _contents(layout) == ["in old"] * 2
    layout.absolute("out/foreign").unlink()
    layout.absolute("out/foreign").write_text("somebody's")
    shutil.copytree(base, start, symlinks=True)
    for fault, at in list(sweep(lambda: run_step(new, 0, site), EVERY)):
        shutil.rmtree(base)
        shutil.copytree(start, base, symlinks=True)
        interrupt(lambda: run_step(new, 0, site), fault, at)
        seen = _contents(layout)
        assert set(seen) <= {"in old", "in new", "somebody's"}, (fault, at)
        kept = [p for p in (layout.absolute("out"), layout.absolute(layout.aside)) if p.exists()]
        said = [p.read_text() for folder in kept for p in folder.rglob("*") if p.is_file()]
        assert said.count("somebody's") == 1, (fault, at)
        if [a.state for a in assess(new, layout, site)] == [Standing.DONE]:
            assert seen == ["in new"] * 2, (fault, at)
        report = audit_site(site, full=True, catalogue=False, grace_s=0.0)
        allowed = {*NAMED, Code.CHANGED, Code.MISSING, Code.UNREADABLE}
        assert {f.code for f in report.findings} <= allowed, (fault, at, report.text())
        run_step(load_plan(layout.plan_file(new.plan_id)), 0, site)
        assert _contents(layout) == ["in new"] * 2, (fault, at)
        assert [p.read_text() for p in layout.absolute(layout.aside).rglob("foreign.?")] == ["somebody's"], (fault, at)
        assert list(layout.staging.glob("*")) == [], (fault, at)
        report = audit_site(site, full=True, catalogue=False, grace_s=0.0)
        # the unfinished text of a manifest stays, hidden and named: nobody can know whether its writer is dead
        assert {f.code for f in report.findings} <= {Code.LEFTOVER}, (fault, at, report.text())


def test_a_folder_that_is_replaced(tmp_path: Path) -> None:
    """Forests are a folder: a reader sees the old ones, none, or the new ones, never some of each."""
    final, staged, aside = tmp_path / "models" / "line", tmp_path / "staged", tmp_path / "aside"

    def put(folder: Path, text: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("reg_energy.sav", "cls_gh.sav"):
            (folder / name).write_text(text)

    def reset() -> None:
        shutil.rmtree(aside, ignore_errors=True)
        shutil.rmtree(final, ignore_errors=True)
        aside.mkdir()
        put(final, "old")
        put(staged, "new")

    def move() -> None:
        with storage_errors(tmp_path):
            move_into_place(staged, final, aside)

    reset()
    for fault, at in list(sweep(move)):
        reset()
        interrupt(move, fault, at)
        assert {p.read_text() for p in final.glob("*.sav")} in ({"old"}, set(), {"new"}), (fault, at)
        assert len(list(final.glob("*.sav"))) in (0, 2), (fault, at)
