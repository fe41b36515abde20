"""What lies at the place of a product and is none of ours: taken over by its content, or moved aside; never lost."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from sites import make_site

from lstops.site.layout import Layout
from lstops.site.model import Site
from lstops.step.adoption import ADOPTED
from lstops.step.assess import Standing, assess
from lstops.step.manifest import ManifestStore
from lstops.step.model import CORE_ENVIRONMENT, ArtifactKind, Input, Output, Plan, Step
from lstops.step.report import Ending
from lstops.step.runner import run_step
from lstops.step.verify.dl2 import PROVENANCE

from . import products
from .conftest import copy_step, make_plan

DL1, MODELS, DL2, MADE_ANEW = "DL1/dl1_LST-1.Run02001.h5", "models/m", "DL2/dl2_LST-1.Run02001.h5", "anew.h5"


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """One whose plain environment has a version of lstchain: the steps of these tests are copies."""
    environment = {"lstchain_version": "0.12.3", "activate": "/bin/true"}
    return make_site(tmp_path, environments={"0.12.3": environment, CORE_ENVIRONMENT: environment})


@pytest.fixture
def plan(site: Site) -> Plan:
    """Makes the DL2 of a run; the command's product differs from what lies there in its first event's energy."""
    for path in (DL1, DL2):
        (site.base / path).parent.mkdir()
    products.dl1(site.base / DL1)
    products.dl2(site.base / MADE_ANEW)
    folder = site.base / MODELS
    folder.mkdir(parents=True)
    for stem in ("reg_energy", "cls_gh", "reg_disp_norm", "cls_disp_sign"):
        (folder / f"{stem}.sav").write_bytes(b"x")
    (folder / "lstchain_config.json").write_text('{"events_filters": {}}')
    step = Step(
        kind="dl2",
        label="DL2 of run 2001",
        subject="run 2001",
        commands=(("cp", "{in:anew}", "{out:dl2}"),),
        inputs=(
            Input(name="dl1", kind=ArtifactKind.DL1_MERGED, path=DL1),
            Input(name="models", kind=ArtifactKind.MODELS, path=MODELS),
            Input(name="anew", kind=ArtifactKind.FILE, path=MADE_ANEW),
        ),
        outputs=(Output(name="dl2", kind=ArtifactKind.DL2, path=DL2, counts_from=("dl1",)),),
        environment=CORE_ENVIRONMENT,
    )
    return make_plan((step,))


def lstosa(site: Site, events: int = 200, models: str = MODELS, dl1: str = DL1, version: str = "0.12.3") -> bytes:
    """A DL2 file as lstosa leaves it: with lstchain's word on what it was made from, and no manifest."""
    path = products.dl2(site.base / DL2, events, gammaness=np.full(events, 0.25))
    inputs = [
        {"role": "dl1 input file", "url": str(site.base / dl1)},
        {"role": "trained model directory", "url": str(site.base / models)},
    ]
    with h5py.File(path, "a") as file:
        if models:
            file[PROVENANCE] = json.dumps({"activity_name": "lstchain_dl1_to_dl2", "input": inputs})
        file.attrs["LSTCHAIN_VERSION"] = version
    return path.read_bytes()


def aside(layout: Layout) -> list[Path]:
    folder = layout.absolute(layout.aside)
    return sorted(p for p in folder.rglob("*") if p.is_file()) if folder.exists() else []


def test_what_fits_is_taken_over(site: Site, layout: Layout, plan: Plan) -> None:
    content = lstosa(site)
    assert run_step(plan, 0, site).ending is Ending.DONE
    assert (site.base / DL2).read_bytes() == content
    manifest = ManifestStore(layout.manifests).read(DL2)
    assert manifest is not None
    assert manifest.plan_context[ADOPTED] is True
    assert manifest.versions["lstchain"] == "0.12.3"
    assert manifest.outputs[0].facts["events"] == 200
    assert [a.state for a in assess(plan, layout, site)] == [Standing.DONE]
    assert run_step(plan, 0, site).ending is Ending.UP_TO_DATE
    assert aside(layout) == []


def newer_models(site: Site) -> bytes:
    content = lstosa(site)
    os.utime(site.base / MODELS / "cls_gh.sav", ns=(2**62, 2**62))
    return content


def truncated(site: Site) -> bytes:
    content = lstosa(site)[:5000]
    (site.base / DL2).write_bytes(content)
    return content


@pytest.mark.parametrize(
    ("leave", "why"),
    [
        (lambda site: lstosa(site, events=150), "150 events, but 200 of its input"),
        (lambda site: lstosa(site, models="models/other"), "was made from the models"),
        (lambda site: lstosa(site, models=""), "does not say which models"),
        (lambda site: lstosa(site, dl1="DL1/dl1_LST-1.Run02002.h5"), "was made from the DL1"),
        (lambda site: lstosa(site, version="0.10.7"), "lstchain 0.10.7 made it"),
        (newer_models, "are newer"),
        (truncated, "truncated, damaged"),
    ],
)
def test_what_does_not_fit_is_moved_aside_with_the_reason(
    site: Site, layout: Layout, plan: Plan, leave: Callable[[Site], bytes], why: str
) -> None:
    content = leave(site)
    assert run_step(plan, 0, site).ending is Ending.DONE
    assert (site.base / DL2).read_bytes() == (site.base / MADE_ANEW).read_bytes()
    kept, said = aside(layout)
    assert kept.read_bytes() == content
    assert why in said.read_text()


def test_a_step_that_fails_leaves_it_where_it_is(site: Site, layout: Layout, plan: Plan) -> None:
    content = lstosa(site, events=150)
    products.dl2(site.base / MADE_ANEW, 10)
    with pytest.raises(Exception, match="10 events, but 200"):
        run_step(plan, 0, site)
    assert (site.base / DL2).read_bytes() == content
    assert aside(layout) == []


def test_what_was_changed_after_it_was_made_is_kept(site: Site, layout: Layout) -> None:
    (site.base / "a").write_text("hello")
    plan = make_plan((copy_step("a", "out/b"),))
    run_step(plan, 0, site)
    (site.base / "out/b").write_text("somebody's work")
    run_step(plan, 0, site)
    assert (site.base / "out/b").read_text() == "hello"
    assert aside(layout)[0].read_text() == "somebody's work"


def test_our_own_products_are_replaced(site: Site, layout: Layout) -> None:
    (site.base / "a").write_text("one")
    plan = make_plan((copy_step("a", "out/b"), copy_step("a", "lstops/own/b")))
    for content in ("one", "another", "a third"):
        (site.base / "a").write_text(content)
        assert [run_step(plan, index, site).ending for index in (0, 1)] == [Ending.DONE, Ending.DONE]
    ManifestStore(layout.manifests).path_of("lstops/own/b").unlink()
    ManifestStore(layout.manifests).path_of("out/b").unlink()
    # what a step left that died before its manifest: the same content need not be kept
    assert [run_step(plan, index, site).ending for index in (0, 1)] == [Ending.DONE, Ending.DONE]
    assert aside(layout) == []
