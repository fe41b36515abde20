"""A plan never puts other products in the place of those of a registered production. On a real PostgreSQL."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lstops.catalog.database import catalog_session
from lstops.catalog.productions import RegisteredProduction, register_production, withdraw
from lstops.errors import ConfigError
from lstops.operations.planning import plan_request, store
from lstops.operations.same_name import refuse_other_production
from lstops.production.request import ProductionRequest
from lstops.site.model import ForestSettings, Site
from lstops.step.model import Plan

from .test_production_given_config import given, wrong_label
from .test_production_given_config import site as configured
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
