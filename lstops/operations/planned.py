"""What plans of productions have in common, whatever was asked for: sources, a name, trainer, cards, a price."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lstops.catalog.database import catalog_session
from lstops.catalog.productions import previous_cards
from lstops.errors import ConfigError, TransportError
from lstops.operations.nightly import layout_of
from lstops.operations.same_name import refuse_other_production
from lstops.operations.sources import require_sources
from lstops.operations.trainers import refuse_other_trainer, trusted_cards
from lstops.production.branches import DAG_STAGES, with_branches
from lstops.production.card_plan import CardSettings, with_report_cards
from lstops.production.cost import StageCost
from lstops.production.gates import load_gates
from lstops.production.outline import plan_level_ghz, save_production_plan
from lstops.production.report_card import reference_text
from lstops.production.trainer import with_trainer
from lstops.site.model import Site, Trainer
from lstops.step.model import Plan, Stage

# stages of lstmcpipe that go by another name there
_DAG_NAMES = {
    "config": "tune",
    "train_test_split": "split",
    "merge_dl1": "merge",
    "train_pipe": "train",
    "dl1_to_dl2": "dl2",
    "dl2_to_irfs": "irf",
    "dl2_to_sensitivity": "sensitivity",
}


@dataclass(frozen=True)
class Planned:
    """One plan with what a person wants to know before it runs.

    Attributes
    ----------
    plan : Plan or None
        None: a registered production is the same, see `notes`.
    """

    title: str
    plan: Plan | None
    costs: tuple[StageCost, ...]
    notes: tuple[str, ...]

    @property
    def cpu_h(self) -> float:
        """CPU hours of what is left to do."""
        return sum(cost.cpu_h for cost in self.costs)


def complete(site: Site, plan: Plan, trainer: Trainer = Trainer.LSTCHAIN) -> Plan:
    """The plan with its trainer and report cards, in the stages and branches of the DAG.

    Raises
    ------
    ConfigError
        If another production has this name, or one of another trainer.
    DataError
        If something that the plan reads is missing.
    """
    require_sources(site, plan)
    plan = with_trainer(plan, trainer, site)
    refuse_other_trainer(plan)
    refuse_other_production(site, plan)
    settings = CardSettings(load_gates(site.production.gates), reference_text(), _previous_cards(site, plan))
    return with_branches(in_dag_stages(with_report_cards(plan, settings, site)))


def _previous_cards(site: Site, plan: Plan) -> dict[str, str]:
    """By line: the report card of the production that this one follows, if it has one."""
    level = plan_level_ghz(plan)
    try:
        with catalog_session() as session:
            found = previous_cards(session, str(plan.context["production"]), plan.lstchain_version, level)
        # what accelerated forests must be no worse than is shown beside them
        found |= trusted_cards(plan)
    except (ConfigError, TransportError):
        return {}  # without a catalogue there is nothing to compare with; `plan_request` says so
    layout = layout_of(site)
    return {line: path for line, path in found.items() if layout.absolute(path).exists()}


def in_dag_stages(plan: Plan) -> Plan:
    """The same steps in the stages that the DAG `mc_production` has a task for; what a plan lacks is empty."""
    mine = {_DAG_NAMES.get(stage.name, stage.name): stage for stage in plan.stages}
    if unknown := set(mine) - set(DAG_STAGES):
        raise ConfigError(f"{plan.title} has stages that nothing runs: {', '.join(sorted(unknown))}.", "plan it anew.")
    stages = tuple(
        mine[name].model_copy(update={"name": name}) if name in mine else Stage(name=name) for name in DAG_STAGES
    )
    return plan.model_copy(update={"stages": stages})


def store(site: Site, planned: Sequence[Planned]) -> tuple[Path, ...]:
    """Write the plans, each with its outline; returns their files."""
    return tuple(save_production_plan(p.plan, site) for p in planned if p.plan is not None)
