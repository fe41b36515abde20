"""Taking over products that others made: by their content, and without changing them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from lstops.errors import ConfigError
from lstops.production.adopt import Adoption, adopt, plan_of_tree
from lstops.production.cost import seen_rates
from lstops.site.layout import Layout
from lstops.site.model import Site
from lstops.step.adoption import ADOPTED
from lstops.step.assess import Standing, assess
from lstops.step.manifest import ManifestStore
from lstops.step.model import ArtifactKind, Input, Output, Plan, Step

from .conftest import copy_step, make_plan

CONFIG = "{}"
FORESTS = ("reg_energy", "cls_gh", "reg_disp_norm", "cls_disp_sign")


def models_step() -> Step:
    return Step(
        kind="train",
        label="forests",
        subject="dec_2276",
        commands=(("lstchain_mc_trainpipe", "-o", "{out:models}"),),
        inputs=(Input(name="dl1", kind=ArtifactKind.FILE, path="made"),),
        outputs=(Output(name="models", kind=ArtifactKind.MODELS, path="models/p/dec_2276"),),
        environment="0.12.3",
    )


def chain() -> Plan:
    """A file from a source, then forests; both would be made by commands that do not exist here."""
    first = copy_step("source", "made", command=("no-such-command", "{in:a}", "{out:b}"), environment="0.12.3")
    return make_plan((first,), (models_step(),))


def put_models(put: Callable[[str, str], Path]) -> None:
    for stem in FORESTS:
        put(f"models/p/dec_2276/{stem}.sav", "not a pickle: it must never be loaded")


def outcomes(site: Site, plan: Plan) -> list[Adoption]:
    return [item.outcome for item in adopt(site, plan)]


def test_what_is_there_and_whole_counts_as_done(site: Site, layout: Layout, put: Callable[[str, str], Path]) -> None:
    put("source", "s")
    made = put("made", "m")
    put_models(put)
    plan = chain()
    assert outcomes(site, plan) == [Adoption.ADOPTED, Adoption.ADOPTED]
    # sources are hashed, so that `assess` knows them
    assert [a.state for a in assess(plan, layout, site)] == [Standing.DONE, Standing.DONE]
    assert outcomes(site, plan) == [Adoption.KNOWN, Adoption.KNOWN]
    manifest = ManifestStore(layout.manifests).read("made")
    assert manifest is not None
    assert manifest.plan_context[ADOPTED] is True
    assert seen_rates([manifest]) == {}, "what was adopted says nothing about cost"
    made.write_text("changed")
    assert assess(plan, layout, site)[0].state is Standing.PENDING


def test_a_missing_product_is_missing_and_what_needs_it_refused(
    site: Site, layout: Layout, put: Callable[[str, str], Path]
) -> None:
    put("source", "s")
    put_models(put)
    first, second = adopt(site, chain())
    assert (first.outcome, second.outcome) == (Adoption.MISSING, Adoption.REFUSED)
    assert "made does not exist" in second.why
    assert ManifestStore(layout.manifests).all() == []


def test_a_models_folder_with_three_files_is_refused(site: Site, put: Callable[[str, str], Path]) -> None:
    put("source", "s")
    put("made", "m")
    put_models(put)
    (site.base / "models/p/dec_2276/cls_gh.sav").unlink()
    refused = adopt(site, chain())[1]
    assert refused.outcome is Adoption.REFUSED
    assert "cls_gh.sav is missing" in refused.why


def test_an_empty_product_is_refused(site: Site, put: Callable[[str, str], Path]) -> None:
    put("source", "s")
    put("made", "")
    assert adopt(site, chain())[0].outcome is Adoption.REFUSED


def test_own_records_are_written(site: Site, put: Callable[[str, str], Path]) -> None:
    """The configuration is lstops' own file: lstmcpipe has none at that place."""
    record = Step(
        kind="config",
        label="configuration",
        subject="p",
        commands=(("cp", "{file:c.json}", "{out:c}"),),
        outputs=(Output(name="c", kind=ArtifactKind.FILE, path="mc/c.json"),),
        files={"c.json": "{}"},
        environment="core",
    )
    assert outcomes(site, make_plan((record,))) == [Adoption.ADOPTED]
    assert (site.base / "mc/c.json").read_text() == "{}"


def test_a_folder_without_one_configuration(site: Site, tmp_path: Path) -> None:
    folder = tmp_path / "production"
    folder.mkdir()
    with pytest.raises(ConfigError, match="holds 0 configurations"):
        plan_of_tree(folder, site)
