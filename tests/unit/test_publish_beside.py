"""A version beside the current one: readers do not get it until somebody says so, whoever dies or withdraws."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from lstops.publish.audit import audit_published
from lstops.publish.bundle import build_bundle
from lstops.publish.findings import Code
from lstops.publish.model import Published
from lstops.publish.publisher import publish
from lstops.publish.versions import current_version, list_versions, problems, remove_tree
from lstops.publish.withdraw import supersede, withdraw
from lstops.site.layout import Layout

from .published_site import FOLDER, make_request, make_site

OTHER = FOLDER.replace("prod_a", "prod_b")
CUTS = {"gammaness": 0.8}


@pytest.fixture
def layout(tmp_path: Path) -> Iterator[Layout]:
    yield make_site(tmp_path / "base")
    if (tmp_path / "base" / "DL3").exists():
        remove_tree(tmp_path / "base" / "DL3")  # read-only folders would outlive pytest's own tidying up


def publish_runs(layout: Layout, **changes: object) -> Published:
    return publish(build_bundle(make_request(**changes), layout), layout)


def states(layout: Layout, folder: str = FOLDER) -> dict[str, str]:
    return {version.version: version.state.value for version in list_versions(folder, layout)}


def pointer_findings(layout: Layout) -> list[str]:
    return [
        finding.path
        for finding in audit_published(layout, lambda _: False, lambda _: False)
        if finding.code is Code.POINTER
    ]


def test_current_stays_until_it_is_told(layout: Layout) -> None:
    publish_runs(layout)
    for _ in range(2):
        assert publish_runs(layout, cuts=CUTS, beside=True).version == "v0002"
        assert states(layout) == {"v0001": "current", "v0002": "beside"}
    # the usual publication of what is current changes nothing either
    assert publish_runs(layout).version == "v0001"
    assert states(layout) == {"v0001": "current", "v0002": "beside"}
    assert pointer_findings(layout) == []
    assert publish_runs(layout, cuts=CUTS).version == "v0002"
    assert states(layout) == {"v0001": "superseded", "v0002": "current"}


def test_alone_in_its_folder_nobody_gets_it(layout: Layout) -> None:
    publish_runs(layout, beside=True)
    assert states(layout) == {"v0001": "beside"}
    assert current_version(layout.absolute(FOLDER)) is None
    assert pointer_findings(layout) == []


def test_a_newer_version_leaves_it_behind(layout: Layout) -> None:
    publish_runs(layout)
    publish_runs(layout, cuts=CUTS, beside=True)
    publish_runs(layout, cuts={"gammaness": 0.9})
    assert states(layout) == {"v0001": "superseded", "v0002": "superseded", "v0003": "current"}
    # it was never approved: a withdrawal goes back to what was
    assert withdraw(FOLDER, "v0003", "Ana", "clouds", layout).current == "v0001"


def test_a_person_takes_it_up(layout: Layout) -> None:
    publish_runs(layout)
    publish_runs(layout, cuts=CUTS, beside=True)
    assert supersede(FOLDER, "v0001", f"{FOLDER}/v0002", "Ana", "better cuts", layout).current == "v0002"
    assert states(layout) == {"v0001": "superseded", "v0002": "current"}


@pytest.mark.parametrize("by_whom", ["a person", "the same reprocessing again"])
def test_what_was_taken_up_is_one_like_any_other(layout: Layout, by_whom: str) -> None:
    """A newer version comes and is withdrawn: readers get what they got before, not nothing and not an older one."""
    publish_runs(layout)
    publish_runs(layout, cuts=CUTS, beside=True)
    for _ in range(2):
        if by_whom == "a person":
            supersede(FOLDER, "v0001", f"{FOLDER}/v0002", "Ana", "better cuts", layout)
        else:
            publish_runs(layout, cuts=CUTS)
    publish_runs(layout, cuts={"gammaness": 0.9})
    assert withdraw(FOLDER, "v0003", "Ana", "clouds", layout).current == "v0002"
    assert problems(layout.absolute(f"{FOLDER}/v0002")) == ()
    (layout.absolute(FOLDER) / "current").unlink()
    assert pointer_findings(layout) == [f"{FOLDER}/current"]


def test_a_person_takes_it_up_in_another_folder(layout: Layout) -> None:
    publish_runs(layout)
    publish_runs(layout, folder=OTHER, production="prod_b", beside=True)
    supersede(FOLDER, "v0001", f"{OTHER}/v0001", "Ana", "newer production", layout)
    assert states(layout, OTHER) == {"v0001": "current"}
    assert os.readlink(layout.absolute(OTHER) / "current") == "v0001"
    assert current_version(layout.absolute(FOLDER)) is None
