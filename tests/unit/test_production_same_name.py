"""A plan never puts other products in the place of those of a registered production. On a real PostgreSQL."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from lstops.catalog.database import catalog_session
from lstops.catalog.productions import RegisteredProduction, register_production, withdraw
from lstops.errors import ConfigError
from lstops.operations.abandon import abandon
from lstops.operations.nightly import layout_of
from lstops.operations.planned import store
from lstops.operations.planning import plan_request
from lstops.operations.same_name import refuse_other_production
from lstops.production.cli import app
from lstops.production.outline import save_production_plan
from lstops.production.request import ProductionRequest
from lstops.site.model import ForestSettings, Site
from lstops.step.adoption import ADOPTED, adopted_manifest
from lstops.step.manifest import ArtifactRecord, ManifestStore, full_state
from lstops.step.model import ArtifactKind, Plan

from .test_production_given_config import given, wrong_label
from .test_production_given_config import site as configured
from .test_production_lint import Document
from .test_production_needs import NEAR, crab_tree
from .test_production_registry import catalog as registry
from .test_production_registry import server

__all__ = ["configured", "registry", "server"]

LINE = "dec_2276"


def planned(site: Site, request: ProductionRequest) -> Plan:
    (found,) = plan_request(site, request)
    assert found.plan is not None
    return found.plan


def register(site: Site, request: ProductionRequest) -> Plan:
    """Plan, store and register as if it had been made."""
    found = plan_request(site, request)
    store(site, found)
    plan = found[0].plan
    assert plan is not None
    context = plan.context
    facts = {
        "settings_sha256": context.get("settings_sha256", {}).get(LINE, ""),
        "test_nodes": context.get("test_nodes", []),
        "cuts_sha256": context.get("cuts_sha256", ""),
    }
    updates = [step.files["update.json"] for step in plan.steps() if "update.json" in step.files]
    production = RegisteredProduction(
        context["production"], LINE, plan.lstchain_version, "tailcut84", context["nsb_ghz"], "m", "0" * 64, "i",
        json.loads("".join(updates) or "{}"), facts, plan.plan_id,
    )  # fmt: skip
    with catalog_session() as session:
        register_production(session, production)
    return plan


def at(level: float = 0.14, **more: Any) -> ProductionRequest:
    return ProductionRequest(target="Crab", zenith=NEAR, levels_ghz=(level,), **more)


@pytest.fixture
def crab(registry: None, site: Site, put: Callable[[str, str], Path]) -> Site:
    """The raw events of the Crab's line, and a catalogue."""
    crab_tree(site.base, put)
    return site


def test_the_same_production_is_planned_again(crab: Site) -> None:
    plan = register(crab, at())
    assert planned(crab, at()) == plan
    assert planned(crab, at(0.22)).context["production"].endswith("0.22")


def test_a_level_under_the_name_of_another_is_refused(crab: Site) -> None:
    register(crab, at(name="mine"))
    with pytest.raises(
        ConfigError, match=r"mine is registered on dec_2276 \(current\).* 0\.14 GHz of extra NSB, not 0"
    ) as e:
        planned(crab, at(0.22, name="mine"))
    assert "--name" in e.value.remedy
    with catalog_session() as session:
        withdraw(session, "mine", None, "Ana", "wrong gains")
    with pytest.raises(ConfigError, match="withdrawn"):
        planned(crab, at(0.22, name="mine"))


def test_other_forests_or_cuts_under_the_same_automatic_name_are_refused(crab: Site) -> None:
    register(crab, at())
    forests = crab.production.model_copy(update={"forests": ForestSettings(n_estimators=7)})
    other = crab.model_copy(update={"production": forests})
    with pytest.raises(ConfigError, match="other settings"):
        planned(other, at())
    assert planned(other, at(name="small")).context["production"] == "small"
    with pytest.raises(ConfigError, match="other cuts"):
        planned(crab.model_copy(update={"cuts": "small"}), at())


def test_lines_of_one_production_share_their_configuration(crab: Site) -> None:
    def on_another_line(plan: Plan) -> Plan:
        return plan.model_copy(update={"context": {**plan.context, "settings_sha256": {"dec_3476": "of that line"}}})

    plan = register(crab, at(name="mine"))
    refuse_other_production(crab, on_another_line(plan))
    forests = crab.production.model_copy(update={"forests": ForestSettings(n_estimators=7)})
    small = planned(crab.model_copy(update={"production": forests}), at(name="small"))
    taken = small.model_copy(update={"context": {**small.context, "production": "mine"}})
    with pytest.raises(ConfigError, match="another lstchain configuration, which the lines of a production share"):
        refuse_other_production(crab, on_another_line(taken))


def test_only_the_missing_test_nodes_are_planned_and_the_others_stay(crab: Site) -> None:
    narrow = ProductionRequest(target="Crab", zenith=NEAR, levels_ghz=(0.14,), name="narrow")
    plan = register(crab, narrow)
    (wide,) = plan_request(crab, ProductionRequest(lines=(LINE,), zenith=type(NEAR)(30, 50), levels_ghz=(0.14,)))
    assert wide.plan is not None
    assert wide.plan.context["production"] == "narrow"
    assert set(wide.plan.context["test_nodes"]) > set(plan.context["test_nodes"])
    trained = [[s for s in p.steps() if s.kind == "train"] for p in (plan, wide.plan)]
    assert trained[0] == trained[1]
    assert any("only those are planned" in note for note in wide.notes)


def test_a_configuration_may_be_planned_again_but_not_another_of_its_name(
    configured: Site, registry: None, tmp_path: Path
) -> None:
    plan = register(configured, given(tmp_path))
    assert planned(configured, given(tmp_path)) == plan
    changed = given(tmp_path, wrong_label, despite_errors=True)
    with pytest.raises(ConfigError, match=r"0\.14 GHz of extra NSB, not 0\.15; another configuration"):
        planned(configured, changed)
    assert changed.config is not None
    chain = changed.config.with_name("lstchain_config.json")
    given(tmp_path)
    chain.write_text(json.dumps(json.loads(chain.read_text()) | {"random_forest_energy_regressor_args": {}}))
    with pytest.raises(ConfigError, match=r"another production: another configuration"):
        planned(configured, ProductionRequest(config=changed.config))


def begin(site: Site, plan: Plan) -> Plan:
    """Store a plan and make its first product, as the stage `tune` does."""
    save_production_plan(plan, site)
    index, step = next((i, s) for i, s in enumerate(plan.steps()) if s.primary.kind is ArtifactKind.LSTCHAIN_CONFIG)
    text = step.files.get("lstchain_config.json") or step.files["update.json"]
    make(site, plan, index, text)
    return plan


def make(site: Site, plan: Plan, index: int, text: str = "x") -> Path:
    """The products of a step, with their manifest; returns where the first is."""
    layout, step, records = layout_of(site), plan.steps()[index], []
    for o in step.outputs:
        path = layout.absolute(o.path)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        records.append(ArtifactRecord(name=o.name, kind=o.kind, path=o.path, state=full_state(path), facts={}))
    manifest = adopted_manifest(plan, index, step, "key", (), tuple(records), {})
    context = {name: value for name, value in manifest.plan_context.items() if name != ADOPTED}
    ManifestStore(layout.manifests).write(manifest.model_copy(update={"plan_context": context}))
    return layout.absolute(step.primary.path)


def test_a_plan_that_has_made_nothing_holds_no_name(crab: Site) -> None:
    save_production_plan(planned(crab, at(name="mine")), crab)
    assert planned(crab, at(0.22, name="mine")).context["nsb_ghz"] == 0.22


def test_what_another_plan_has_begun_is_not_replaced(crab: Site) -> None:
    first = begin(crab, planned(crab, at(name="mine")))
    assert planned(crab, at(name="mine")) == first, "the same request goes on"
    begun = rf"mine was begun by another plan, {first.plan_id}, .* 0\.14 GHz .* not 0\.22"
    with pytest.raises(ConfigError, match=begun) as e:
        planned(crab, at(0.22, name="mine"))
    assert "lstops production abandon mine" in e.value.remedy
    assert "lstops production status mine" in e.value.remedy
    forests = crab.production.model_copy(update={"forests": ForestSettings(n_estimators=7)})
    with pytest.raises(ConfigError, match=r"begun by another plan.* other settings"):
        planned(crab.model_copy(update={"production": forests}), at(name="mine"))
    with pytest.raises(ConfigError, match="other cuts"):
        planned(crab.model_copy(update={"cuts": "small"}), at(name="mine"))
    wide = planned(crab, ProductionRequest(lines=(LINE,), zenith=type(NEAR)(0, 50), levels_ghz=(0.14,), name="mine"))
    assert set(wide.context["test_nodes"]) > set(first.context["test_nodes"]), "more test nodes replace nothing"


def test_it_is_known_without_a_catalogue_and_without_the_plan(crab: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    first = begin(crab, planned(crab, at(name="mine")))
    monkeypatch.delenv("LSTOPS_DATABASE_URL")
    file = layout_of(crab).plan_file(first.plan_id)
    for spoil in (lambda: file.write_text('{"schema_version": 0}'), file.unlink):
        spoil()
        with pytest.raises(ConfigError, match="begun by another plan"):
            planned(crab, at(0.22, name="mine"))
        assert planned(crab, at(name="mine")) == first


def test_what_is_given_up_makes_room_and_stays(crab: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    first = begin(crab, planned(crab, at(name="mine")))
    dl1 = make(crab, first, next(i for i, s in enumerate(first.steps()) if s.primary.kind is ArtifactKind.DL1))
    several = next(i for i, s in enumerate(first.steps()) if len(s.outputs) > 1)
    make(crab, first, several)
    begin(crab, planned(crab, at(name="mine2")))
    with pytest.raises(ConfigError, match="needs an author and a reason"):
        abandon(crab, "mine", "Ana", " ")
    found = abandon(crab, "mine", "Ana", "wrong level")
    layout = layout_of(crab)
    assert (found.moved, found.left) == (2 + len(first.steps()[several].outputs), 0)
    assert not [p for p in layout.manifests.rglob("*") if "/mine/" in str(p) and p.suffix in (".json", ".link")]
    assert not dl1.exists()
    assert layout.absolute(f"{found.folder}/{layout.relative(dl1)}").read_text() == "x"
    record = json.loads(layout.absolute(f"{found.folder}/abandoned.json").read_text())
    assert (record["author"], record["reason"]) == ("Ana", "wrong level")
    planned(crab, at(0.22, name="mine"))
    with pytest.raises(ConfigError, match="mine2 was begun"):
        planned(crab, at(0.22, name="mine2"))
    with pytest.raises(ConfigError, match="nothing was made"):
        abandon(crab, "mine", "Ana", "again")
    monkeypatch.setattr("lstops.site.model.load_site", lambda _: crab)
    command = ["abandon", "mine2", "--author", "Ben", "--reason", "not needed"]
    said = CliRunner().invoke(app, command, catch_exceptions=False).output
    assert "mine2 is given up: 1 product moved to lstops/aside/abandoned/mine2-" in said
    planned(crab, at(0.22, name="mine2"))


def test_what_is_registered_is_withdrawn_not_given_up(crab: Site) -> None:
    begin(crab, register(crab, at(name="mine")))
    with pytest.raises(ConfigError, match="mine is registered on dec_2276") as e:
        abandon(crab, "mine", "Ana", "wrong level")
    assert "lstops production withdraw mine" in e.value.remedy


def test_a_configuration_that_has_begun_may_ask_for_more_memory_but_not_for_other_products(
    configured: Site, tmp_path: Path
) -> None:
    def more_memory(pipe: Document, chain: Document) -> None:
        pipe["stages"]["train_pipe"][0]["extra_slurm_options"] = {"mem": "90G"}

    def other_merges(pipe: Document, chain: Document) -> None:
        pipe["stages"]["merge_dl1"][0]["options"] = "--pattern */*.h5"

    first = begin(configured, planned(configured, given(tmp_path)))
    assert planned(configured, given(tmp_path, more_memory)) != first
    assert planned(configured, given(tmp_path, other_merges)) != first, "nothing was merged yet"
    make(configured, first, next(i for i, s in enumerate(first.steps()) if s.kind == "merge"))
    assert planned(configured, given(tmp_path, more_memory)) != first
    with pytest.raises(ConfigError, match=r"by which 1 product would be made anew, as mc/DL1/.*merged\.h5"):
        planned(configured, given(tmp_path, other_merges))
    with pytest.raises(ConfigError, match=r"begun by another plan.* not 0\.15"):
        planned(configured, given(tmp_path, wrong_label, despite_errors=True))


def test_a_registered_configuration_that_cannot_be_compared_any_more_is_refused(
    configured: Site, registry: None, tmp_path: Path
) -> None:
    plan = register(configured, given(tmp_path))
    layout_of(configured).plan_file(plan.plan_id).unlink()
    with pytest.raises(ConfigError, match=r"cannot be seen") as e:
        planned(configured, given(tmp_path))
    assert "from a backup" in e.value.remedy
    save_production_plan(plan, configured)
    assert planned(configured, given(tmp_path)) == plan


def test_folders_of_another_production_are_not_written_into_despite_errors(configured: Site, tmp_path: Path) -> None:
    def elsewhere(pipe: Document, chain: Document) -> None:
        pipe["prod_id"] = "20250202_v0.10.12_mine_nsb_tuning_0.14"

    first = planned(configured, given(tmp_path))
    taken = given(tmp_path, elsewhere, despite_errors=True)
    assert planned(configured, taken).context["production"] == "20250202_v0.10.12_mine_nsb_tuning_0.14"
    train = next(i for i, step in enumerate(first.steps()) if step.kind == "train")
    make(configured, first, train)
    message = rf"20250202_v0\.10\.12_mine.* would replace models/.*, which was made for {first.context['production']}"
    with pytest.raises(ConfigError, match=message):
        planned(configured, taken)
