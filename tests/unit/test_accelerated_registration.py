"""What accelerated and retrained forests need to be registered, and as what. On a real PostgreSQL."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from sites import make_site

from lstops.catalog.database import catalog_session
from lstops.catalog.productions import RegisteredProduction, find_productions, register_production, withdraw
from lstops.errors import ConfigError, ProductInvalid
from lstops.operations.registration import first_status
from lstops.operations.trainers import refuse_other_trainer, require_as_good, trusted_cards
from lstops.production.report_card import ReportCard
from lstops.site.model import FirstStatus, Site
from lstops.step.model import Plan

from .test_production_registry import catalog, server
from .test_production_report_card import LINE, ROC, published, with_roc

__all__ = ["catalog", "server"]

NAME, CARD, TRUSTED_CARD = "fast", "cards/fast.json", "cards/trusted.json"


def plan_of(**context: Any) -> Plan:
    """A plan without steps that says of its forests what planners say."""
    compare = {LINE: {"settings_sha256": "same", "production": ""}}
    said = {"production": NAME, "trainer": "accelerated", "compare": compare, "nsb_level_ghz": 0.25, **context}
    return Plan(kind="mc_production", title=NAME, site="test", lstchain_version="0.12.3", stages=(), context=said)


def write_card(site: Site, path: str, card: ReportCard) -> None:
    (site.base / path).parent.mkdir(parents=True, exist_ok=True)
    (site.base / path).write_text(card.model_dump_json())


def register(name: str, level: float = 0.25, **facts: Any) -> None:
    said = {"settings_sha256": "same", "report_card": TRUSTED_CARD, **facts}
    with catalog_session() as session:
        register_production(
            session,
            RegisteredProduction(name, LINE, "0.12.3", "tailcut84", level, "m", "0" * 64, "i", {}, said, "plan-1"),
        )


@pytest.fixture
def site(tmp_path: Path) -> Site:
    made = make_site(tmp_path)
    write_card(made, CARD, published())
    write_card(made, TRUSTED_CARD, published().model_copy(update={"production": "trusted"}))
    return made


@pytest.mark.parametrize(
    ("level", "facts"),
    [
        (0.25, {"settings_sha256": "other"}),
        (0.50, {}),
        (0.25, {"report_card": None}),
        (0.25, {"trainer": "accelerated"}),
    ],
)
def test_without_its_like_from_lstchain_there_is_nothing_to_be_as_good_as(
    catalog: None, site: Site, level: float, facts: dict[str, Any]
) -> None:
    register("trusted", level, **facts)
    with pytest.raises(ProductInvalid, match=f"no production on {LINE} with a report card") as caught:
        require_as_good(site, plan_of(), {LINE: CARD})
    assert "make the same production with `trainer: lstchain`" in caught.value.remedy
    assert f"lstops production register {NAME}" in caught.value.remedy
    assert trusted_cards(plan_of()) == {}


def test_as_good_as_its_like_from_lstchain(catalog: None, site: Site) -> None:
    register("trusted", trainer="lstchain")
    assert trusted_cards(plan_of()) == {LINE: TRUSTED_CARD}
    require_as_good(site, plan_of(), {LINE: CARD})
    write_card(site, CARD, with_roc(published(), ROC.model_copy(update={"auc": 0.8})))
    with pytest.raises(ProductInvalid, match=r"not as good as those that lstchain trained for trusted: area below"):
        require_as_good(site, plan_of(), {LINE: CARD})
    require_as_good(site, plan_of(trainer="lstchain"), {LINE: CARD})
    with pytest.raises(ProductInvalid, match="cannot be compared"):
        require_as_good(site, plan_of(), {})
    with catalog_session() as session:
        withdraw(session, "trusted", None, "Ben", "a node was missing")
    assert trusted_cards(plan_of()) == {}


def test_the_source_of_a_retraining_may_be_its_like(catalog: None, site: Site) -> None:
    register("trusted", settings_sha256="of a production")
    compare = {LINE: {"settings_sha256": "of a retraining", "production": "trusted"}}
    require_as_good(site, plan_of(compare=compare), {LINE: CARD})


@pytest.mark.parametrize(
    ("context", "status"),
    [
        ({"trainer": "lstchain"}, FirstStatus.CURRENT),
        ({"trainer": "lstchain", "retrained_from": "old"}, FirstStatus.CANDIDATE),
        ({}, FirstStatus.CANDIDATE),
    ],
)
def test_who_waits_for_a_person(tmp_path: Path, context: dict[str, Any], status: FirstStatus) -> None:
    assert first_status(make_site(tmp_path), plan_of(**context)) is status


def test_a_name_keeps_its_trainer(catalog: None, site: Site) -> None:
    register(NAME, trainer="lstchain")
    with pytest.raises(ConfigError, match=f"the forests of {NAME} on {LINE} were trained with `trainer: lstchain`"):
        refuse_other_trainer(plan_of())
    refuse_other_trainer(plan_of(trainer="lstchain"))
    refuse_other_trainer(plan_of(production="another"))
    with catalog_session() as session:
        assert [row.name for row in find_productions(session, NAME)] == [NAME]
