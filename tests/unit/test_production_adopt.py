"""Taking over products that others made: by their content, and without changing them."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import pytest
import yaml
from astropy import units
from astropy.table import QTable
from sites import make_site
from typer.testing import CliRunner

from lstops.errors import ConfigError, ProductInvalid
from lstops.operations.registration import GivenLevel, give_level, registrations
from lstops.production.adopt import AdoptedStep, Adoption, adopt, plan_of_tree
from lstops.production.cli import app
from lstops.production.cost import seen_rates
from lstops.production.outline import save_production_plan
from lstops.site.layout import Layout
from lstops.site.model import Site
from lstops.step.adoption import ADOPTED
from lstops.step.assess import Standing, assess
from lstops.step.digest import sha256_file
from lstops.step.manifest import ManifestStore
from lstops.step.model import ArtifactKind, Input, Output, Plan, Step

from . import products
from .conftest import copy_step, make_plan
from .test_production_from_lstmcpipe import DL1, MODELS, NODES, PROD, TEST, document

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
    with pytest.raises(ConfigError, match="absent does not exist"):
        plan_of_tree(tmp_path / "absent", site)


CHAIN = {
    "tailcut": {"picture_thresh": 8, "boundary_thresh": 4},
    "events_filters": {"intensity": [50, math.inf]},
    **{
        f"{name}_features": ["log_intensity", "width"]
        for name in ("energy_regression", "particle_classification", "disp_regression", "disp_classification")
    },
    **{section: {"x": 1} for section in ("EventSelector", "DL3Cuts", "DataBinning")},
}
GAMMA, PROTON = (f"{DL1}/TrainingDataset/{particle}/dec_2276" for particle in ("GammaDiffuse", "Protons"))
MERGED = {
    "gamma": f"{GAMMA}/gamma_merged.h5",
    "proton": f"{PROTON}/proton_merged.h5",
    "test": f"{DL1}/TestingDataset/Gamma/dl1_{PROD}_{TEST}_merged.h5",
}
DL2 = f"/fefs/aswg/data/mc/DL2/AllSky/{PROD}/TestingDataset/Gamma/dec_2276/{TEST}/dl2_{PROD}_{TEST}_merged.h5"
IRF = f"/fefs/aswg/data/mc/IRF/AllSky/{PROD}/{TEST}/irf.fits.gz"
#: what follows from what, in the order of the plan
CHAIN_OF_STEPS = ("config", "gamma", "proton", "test", "models", "dl2", "irf")


def place(base: Path, path: str) -> Path:
    found = base / path.removeprefix("/fefs/aswg/data/")
    found.parent.mkdir(parents=True, exist_ok=True)
    return found


@pytest.fixture(scope="module")
def lstmcpipe_tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What lstmcpipe leaves: two training nodes (gammas split), a test node, and the configuration with its folder."""
    base = tmp_path_factory.mktemp("tree") / "base"
    for n, node in enumerate(NODES):
        products.mc_dl1(place(base, f"{GAMMA}/{node}/train/dl1_{node}_run{n}.h5"), 100)
        products.mc_dl1(place(base, f"{PROTON}/{node}/dl1_{node}_run{n}.h5"), 150)
    products.mc_dl1(place(base, f"{DL1}/TestingDataset/Gamma/{TEST}/dl1_run1.h5"), 120)
    for name, n, runs in (("gamma", 200, 2), ("proton", 300, 2), ("test", 120, 1)):
        products.mc_dl1(place(base, MERGED[name]), n, runs)
    for stem in FORESTS:
        place(base, f"{MODELS}/{stem}.sav").write_bytes(b"no pickle: it must never be loaded")
    dirs = QTable({"zd": [6, 23] * units.deg, "az": [180, 99] * units.deg})
    dirs.write(place(base, f"{MODELS}/training_dirs.ecsv"), format="ascii.ecsv")
    products.dl2(place(base, DL2), 120)
    products.irf(place(base, IRF), header={"ZEN_PNT": 10.0, "AZ_PNT": 102.199})
    folder = base / "configurations" / PROD
    folder.mkdir(parents=True)
    (folder / "lstmcpipe_config.yml").write_text(yaml.safe_dump(document()))
    (folder / "lstchain_config.json").write_text(json.dumps(CHAIN))
    place(base, f"{GAMMA}/notes.txt").write_text("somebody's")
    return base


def half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def another_irf(base: Path, **changes: object) -> None:
    place(base, IRF).unlink()
    products.irf(place(base, IRF), **changes)


Damage = Callable[[Path], object]
BROKEN: dict[str, tuple[Damage, str, str]] = {
    "a merge that ended half way": (lambda base: half(place(base, MERGED["gamma"])), "gamma", "truncated"),
    "a merge without one of its files": (
        lambda base: products.mc_dl1(place(base, MERGED["gamma"]), 100), "gamma", "hold 200 (dl1_node"),
    "another particle under the name": (
        lambda base: shutil.copy(place(base, MERGED["gamma"]), place(base, MERGED["proton"])), "proton", "300"),
    "data in the place of simulation": (
        lambda base: products.dl1(place(base, MERGED["test"]), 120), "test", "simulat"),
    "forests with three files": (
        lambda base: place(base, f"{MODELS}/cls_gh.sav").unlink(), "models", "cls_gh.sav is missing"),
    "forests without their pointings": (
        lambda base: place(base, f"{MODELS}/training_dirs.ecsv").unlink(), "models", "no training_dirs.ecsv"),
    "a DL2 that was opened and never filled": (
        lambda base: place(base, DL2).write_bytes(b""), "dl2", "empty"),
    "a DL2 of other events": (lambda base: products.dl2(place(base, DL2), 119), "dl2", "119"),
    "a DL2 that is cut off": (lambda base: half(place(base, DL2)), "dl2", "truncated"),
    "a text under the name of a DL2": (lambda base: place(base, DL2).write_text("x" * 5000), "dl2", "HDF5"),
    "the response of another node": (
        lambda base: another_irf(base), "irf", "az"),
    "an empty response": (
        lambda base: another_irf(base, area=np.zeros(15), header={"ZEN_PNT": 10.0, "AZ_PNT": 102.199}), "irf", "zero"),
}  # fmt: skip


def content(base: Path) -> dict[str, str]:
    return {str(p.relative_to(base)): sha256_file(p) for p in sorted(base.rglob("*")) if p.is_file()}


def adopted_tree(tree: Path, tmp_path: Path, damage: Damage) -> tuple[Site, dict[str, AdoptedStep]]:
    base = Path(shutil.copytree(tree, tmp_path / "base"))
    damage(base)
    before, site = content(base), make_site(base)
    found = adopt(site, plan_of_tree(base / "configurations" / PROD, site))
    after = content(base)
    assert {path: after[path] for path in before} == before, "nothing that was there is changed"
    assert all(path.startswith("lstops/") or "lstchain_config_" in path for path in set(after) - set(before))
    return site, dict(zip(CHAIN_OF_STEPS, found, strict=True))


def test_a_tree_of_lstmcpipe_is_taken_over_as_it_is(lstmcpipe_tree: Path, tmp_path: Path) -> None:
    site, steps = adopted_tree(lstmcpipe_tree, tmp_path, lambda base: None)
    assert {name: step.outcome for name, step in steps.items()} == dict.fromkeys(CHAIN_OF_STEPS, Adoption.ADOPTED)
    again = adopt(site, plan_of_tree(site.base / "configurations" / PROD, site))
    assert {step.outcome for step in again} == {Adoption.KNOWN}


@pytest.mark.parametrize("case", BROKEN)
def test_what_its_content_does_not_show_is_refused_whatever_its_name(
    lstmcpipe_tree: Path, tmp_path: Path, case: str
) -> None:
    damage, refused, words = BROKEN[case]
    site, steps = adopted_tree(lstmcpipe_tree, tmp_path, damage)
    assert steps[refused].outcome is Adoption.REFUSED
    assert words in steps[refused].why
    assert steps[refused].remedy
    follows = {"gamma": {"models", "dl2", "irf"}, "proton": {"models", "dl2", "irf"}, "test": {"dl2", "irf"},
               "models": {"dl2", "irf"}, "dl2": {"irf"}, "irf": set()}[refused]  # fmt: skip
    assert {name for name, step in steps.items() if step.outcome is Adoption.REFUSED} == {refused, *follows}
    assert {steps[name].outcome for name in set(CHAIN_OF_STEPS) - {refused, *follows}} == {Adoption.ADOPTED}
    made = {manifest.outputs[0].path for manifest in ManifestStore(Layout(site.base).manifests).all()}
    assert not made & {steps[name].step.primary.path for name in (refused, *follows)}


@pytest.mark.parametrize("lost", [IRF, DL2])
def test_what_is_gone_or_under_another_name_is_missing(lstmcpipe_tree: Path, tmp_path: Path, lost: str) -> None:
    _, steps = adopted_tree(
        lstmcpipe_tree, tmp_path, lambda base: place(base, lost).rename(place(base, lost.replace(PROD, "other") + "x"))
    )
    assert steps["irf" if lost == IRF else "dl2"].outcome is Adoption.MISSING
    assert steps["irf"].outcome is (Adoption.MISSING if lost == IRF else Adoption.REFUSED)
    assert steps["models"].outcome is Adoption.ADOPTED


NOISE = {"image_modifier": {"increase_nsb": True, "extra_noise_in_dim_pixels": 2.197}}


def registrable(tree: Path, tmp_path: Path, tuning: dict[str, object]) -> tuple[Site, Plan]:
    """The tree with its response below the folder of the line, and its configuration tuned; adopted."""
    base = Path(shutil.copytree(tree, tmp_path / "base"))
    folder, site, pipe = base / "configurations" / PROD, make_site(base), document()
    (folder / "lstchain_config.json").write_text(json.dumps(CHAIN | tuning))
    (response,) = pipe["stages"]["dl2_to_irfs"]
    response["output"] = IRF.replace(TEST, f"dec_2276/{TEST}")
    place(base, IRF).rename(place(base, response["output"]))
    if tuning is NOISE:
        pipe["stages"]["dl1ab"] = pipe["stages"].pop("r0_to_dl1")
        pipe["stages_to_run"] = ["dl1ab" if stage == "r0_to_dl1" else stage for stage in pipe["stages_to_run"]]
    (folder / "lstmcpipe_config.yml").write_text(yaml.safe_dump(pipe))
    plan = plan_of_tree(folder, site)
    assert {item.outcome for item in adopt(site, plan)} == {Adoption.ADOPTED}
    save_production_plan(plan, site)
    return site, plan


def word(level_ghz: float) -> GivenLevel:
    at = datetime(2026, 1, 2, 3, 4, tzinfo=timezone.utc)
    return GivenLevel(nsb_level_ghz=level_ghz, author="Ana", reason="tuned to run 2001", at=at)


def test_what_does_not_say_its_nsb_is_registered_with_a_persons_word(
    lstmcpipe_tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site, plan = registrable(lstmcpipe_tree, tmp_path, NOISE)
    monkeypatch.setattr("lstops.site.model.load_site", lambda _: site)
    told = CliRunner().invoke(app, ["adopt", str(site.base / "configurations" / PROD)], catch_exceptions=False)
    assert f"Its NSB is not known: `lstops production register {PROD} --nsb GHZ --author" in told.output
    with pytest.raises(ProductInvalid, match="does not say its NSB") as caught:
        registrations(site, plan.plan_id)
    assert f"lstops production register {PROD} --nsb GHZ" in caught.value.remedy
    with pytest.raises(ConfigError, match="99"):
        give_level(site, plan.plan_id, word(99.0))
    with pytest.raises(ConfigError, match="needs an author and a reason"):
        give_level(site, plan.plan_id, word(0.31).model_copy(update={"author": " "}))
    give_level(site, plan.plan_id, word(0.31))
    (production,) = registrations(site, plan.plan_id)
    source = {"author": "Ana", "reason": "tuned to run 2001", "at": "2026-01-02T03:04:00+00:00"}
    assert (production.nsb_level_ghz, production.facts["nsb_level_source"]) == (0.31, source)
    # the number alone, as before it had an author
    (Layout(site.base).plan_dir(plan.plan_id) / "nsb_level.json").write_text('{"nsb_level_ghz": 0.31}')
    with pytest.raises(ProductInvalid, match="does not say its NSB"):
        registrations(site, plan.plan_id)


def test_a_known_nsb_is_not_overwritten(lstmcpipe_tree: Path, tmp_path: Path) -> None:
    site, plan = registrable(lstmcpipe_tree, tmp_path, {})
    with pytest.raises(ConfigError, match=r"has 0.00 GHz, as its plan says, not 0.31 GHz"):
        give_level(site, plan.plan_id, word(0.31))
    (production,) = registrations(site, plan.plan_id)
    assert production.nsb_level_ghz == 0
    assert "nsb_level_source" not in production.facts
