"""A small site on this machine and steps made of ordinary commands."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from sites import make_site

from lstops.site.layout import Layout
from lstops.site.model import Site
from lstops.step.model import CORE_ENVIRONMENT, ArtifactKind, Input, Output, Plan, Stage, Step


def copy_step(
    source: str, target: str, *, command: tuple[str, ...] = ("cp", "{in:a}", "{out:b}"), **more: object
) -> Step:
    """A step that makes one file from another."""
    values: dict[str, object] = {
        "kind": "copy",
        "label": f"copy to {target}",
        "subject": f"file {target}",
        "commands": (command,),
        "inputs": (Input(name="a", kind=ArtifactKind.FILE, path=source),),
        "outputs": (Output(name="b", kind=ArtifactKind.FILE, path=target),),
        "environment": CORE_ENVIRONMENT,
        **more,
    }
    return Step(**values)  # type: ignore[arg-type]


def make_plan(*stages: tuple[Step, ...]) -> Plan:
    """A plan of the given stages, called s0, s1, ..."""
    return Plan(
        kind="test",
        title="a test",
        site="test",
        lstchain_version="0.12.3",
        stages=tuple(Stage(name=f"s{i}", steps=steps) for i, steps in enumerate(stages)),
    )


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return make_site(tmp_path)


@pytest.fixture
def layout(site: Site) -> Layout:
    return Layout(site.base, site.work)


@pytest.fixture
def put(tmp_path: Path) -> Callable[[str, str], Path]:
    """Write a source file below the base."""

    def write(relative: str, text: str) -> Path:
        path = tmp_path / relative
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    return write
