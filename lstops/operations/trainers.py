"""Forests that another trainer than lstchain's grew: under whose name, and no worse than whose."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lstops.catalog.database import catalog_session
from lstops.catalog.productions import Trusted, all_productions, trusted_production
from lstops.catalog.tables import ProductionRow
from lstops.errors import ConfigError, ProductInvalid, TransportError
from lstops.operations.nightly import layout_of
from lstops.production.gates import load_gates, require_no_worse
from lstops.production.outline import plan_level_ghz
from lstops.production.report_card import read_report_card
from lstops.production.reuse import Retraining, Settings
from lstops.production.trainer import trainer_of
from lstops.site.model import Site, Trainer
from lstops.step.model import Plan

#: in the context of a plan: by line, what its accelerated forests are compared with
_KEY = "compare"


def comparison(settings: Mapping[str, Settings | Retraining], production: str = "") -> dict[str, Any]:
    """What the context of a plan says about its trainer; nothing for lstchain's own.

    Parameters
    ----------
    settings : mapping of str to Settings or Retraining
        By declination line.
    production : str
        One that is known to be the same but for its trainer.
    """
    found = {
        line: {"settings_sha256": one.lstchain_digest, "production": production}
        for line, one in settings.items()
        if one.trainer is not Trainer.LSTCHAIN
    }
    trainers = {one.trainer.value for one in settings.values() if one.trainer is not Trainer.LSTCHAIN}
    return {_KEY: found, "trainer": trainers.pop()} if found else {}


def trusted_cards(plan: Plan) -> dict[str, str]:
    """By line: the report card that accelerated forests are compared with, as far as there is one."""
    with catalog_session() as session:
        found = {line: trusted_production(session, wanted) for line, wanted in _wanted(plan).items()}
    return {line: str(row.facts["report_card"]) for line, row in found.items() if row is not None}


def require_as_good(site: Site, plan: Plan, cards: Mapping[str, str]) -> None:
    """Refuse accelerated forests that are worse than lstchain's of the same settings, or cannot be compared with them.

    Parameters
    ----------
    cards : mapping of str to str
        Declination line -> report card, relative to the base.

    Raises
    ------
    ProductInvalid
        Naming the numbers, or the production that is missing and how to make it.
    """
    if trainer_of(plan) is Trainer.LSTCHAIN:
        return
    layout, gates, name = layout_of(site), load_gates(site.production.gates), plan.context["production"]
    trusted = trusted_cards(plan)
    for line in _wanted(plan):
        if line not in trusted or line not in cards:
            raise ProductInvalid(
                f"{name} is not registered: its accelerated forests cannot be compared, because no production on "
                f"{line} with a report card is registered whose forests lstchain trained with the same settings.",
                "make the same production with `trainer: lstchain` under another name and register it; then `lstops "
                f"production register {name}`: nothing is computed again.",
            )
        require_no_worse(
            read_report_card(layout.absolute(cards[line])), read_report_card(layout.absolute(trusted[line])), gates
        )


def _wanted(plan: Plan) -> dict[str, Trusted]:
    return {
        line: Trusted(
            line=line,
            lstchain_version=plan.lstchain_version,
            nsb_level_ghz=plan_level_ghz(plan) or 0.0,
            settings_sha256=wanted["settings_sha256"],
            name=wanted["production"],
            but=str(plan.context["production"]),
        )
        for line, wanted in plan.context.get(_KEY, {}).items()
    }


def refuse_other_trainer(plan: Plan) -> None:
    """Refuse to put forests in the place of those of another trainer.

    Raises
    ------
    ConfigError
        If a production of this name is registered whose forests another trainer grew.
    """
    name, trainer = str(plan.context["production"]), trainer_of(plan)
    try:
        with catalog_session() as session:
            found = [(row.line, trainer_of_row(row)) for row in all_productions(session) if row.name == name]
    except (ConfigError, TransportError):
        return  # without a catalogue nothing is registered
    for line, other in found:
        if other is not trainer:
            raise ConfigError(
                f"the forests of {name} on {line} were trained with `trainer: {other.value}`, not `{trainer.value}`.",
                "give the production another name, or the same trainer.",
            )


def trainer_of_row(row: ProductionRow) -> Trainer:
    """Who trained the forests of a registered production."""
    return Trainer(row.facts.get("trainer") or Trainer.LSTCHAIN.value)
