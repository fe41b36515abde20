"""The last stage of a production's plan: a report card for each line that it trains."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from lstops.production.gates import Gates
from lstops.production.grid import Particle, line_in_path, particle_in_path
from lstops.production.outline import plan_level_ghz
from lstops.production.plan import CUTS_FILE
from lstops.production.trainer import trainer_of
from lstops.site.model import Site, Trainer
from lstops.step.model import ArtifactKind, Input, Output, Plan, Stage, Step

STAGE = "report"
KIND = "report-card"


@dataclass(frozen=True)
class CardSettings:
    """What a card is judged by and compared with.

    Attributes
    ----------
    reference : str
        Published numbers, the text of a file of config/reference.
    previous : mapping of str to str
        By declination line: report card (path below the base) of the production before.
    """

    gates: Gates
    reference: str
    previous: Mapping[str, str] = field(default_factory=dict)


def card_path(production: str, line: str) -> str:
    """Where the card of a line is, relative to the base: beside the production's lstchain configuration."""
    return f"mc/DL1/AllSky/{production}/report_card_{line}.json"


def with_report_cards(plan: Plan, settings: CardSettings, site: Site) -> Plan:
    """The plan with the stage `report`; as it is, if it trains no forests or makes no responses with them."""
    responses = _responses(plan)
    cards = (_card(plan, step, responses.get(step.primary.path, []), settings, site) for step in plan.steps())
    return add_steps(plan, [card for card in cards if card is not None])


def add_steps(plan: Plan, steps: Sequence[Step]) -> Plan:
    """The plan with steps more in its last stage, `report`."""
    if not steps:
        return plan
    stages, there = plan.stages, tuple[Step, ...]()
    if stages and stages[-1].name == STAGE:
        stages, there = stages[:-1], stages[-1].steps
    return plan.model_copy(update={"stages": (*stages, Stage(name=STAGE, steps=(*there, *steps)))})


def _card(
    plan: Plan, train: Step, nodes: Sequence[tuple[str, Step]], settings: CardSettings, site: Site
) -> Step | None:  # fmt: skip
    if train.primary.kind is not ArtifactKind.MODELS or not nodes:
        return None
    models, files = train.primary.path, dict[str, str]()
    by_name = {item.name: item for item in train.inputs}
    production = str(plan.context.get("production", plan.title))
    line = line_in_path(models) or str(plan.context.get("line", ""))
    inputs = [Input(name="models", kind=ArtifactKind.MODELS, path=models), by_name["config"], by_name["proton"]]
    command = ["python", "-m", "lstops.science.report_card", "--about", "{file:about.json}", "--models", "{in:models}",
               "--config", "{in:config}", "--protons", "{scratch}/protons"]  # fmt: skip
    cuts: str | None = None
    for i, (dl2, irf) in enumerate(nodes):
        inputs.append(Input(name=f"dl2-{i}", kind=ArtifactKind.DL2, path=dl2))
        inputs.append(Input(name=f"irf-{i}", kind=ArtifactKind.IRF, path=irf.primary.path))
        command += ["--node", f"{{in:dl2-{i}}}", f"{{in:irf-{i}}}"]
        cuts = irf.files.get(CUTS_FILE)
    if line in settings.previous:
        inputs.append(Input(name="previous", kind=ArtifactKind.FILE, path=settings.previous[line]))
        command += ["--previous", "{in:previous}"]
    about = {
        "production": production,
        "line": line,
        "lstchain_version": plan.lstchain_version,
        "nsb_level_ghz": plan_level_ghz(plan),
        "cuts": json.loads(cuts) if cuts else None,
        "gates": settings.gates.model_dump(),
        "reference": settings.reference,
    }
    if trainer_of(plan) is not Trainer.LSTCHAIN:
        about["trainer"] = trainer_of(plan).value
    files["about.json"] = json.dumps(about, sort_keys=True)
    path = card_path(production, line)
    protons = ("lstchain_dl1_to_dl2", "-f", "{in:proton}", "-p", "{in:models}", "-o", "{scratch}/protons",
               "-c", "{in:config}")  # fmt: skip
    return Step(
        kind=KIND,
        label=f"report card of {production}, {line}",
        subject=line,
        commands=(protons, (*command, "--json", "{out:card}", "--page", "{out:page}")),
        inputs=tuple(inputs),
        outputs=(
            Output(name="card", kind=ArtifactKind.FILE, path=path),
            Output(name="page", kind=ArtifactKind.FILE, path=path.removesuffix(".json") + ".html"),
        ),
        files=files,
        resources=site.resources_for(KIND),
        environment=plan.lstchain_version,
    )


def _responses(plan: Plan) -> dict[str, list[tuple[str, Step]]]:
    """By forests: the DL2 made with them, each with the step that makes its response; no diffuse gammas."""
    forests = {
        step.primary.path: item.path
        for step in plan.steps()
        if step.primary.kind is ArtifactKind.DL2
        for item in step.inputs
        if item.kind is ArtifactKind.MODELS
    }
    found: dict[str, list[tuple[str, Step]]] = {}
    for step in plan.steps():
        if step.primary.kind is ArtifactKind.IRF and particle_in_path(step.primary.path) is not Particle.GAMMA_DIFFUSE:
            for item in step.inputs:
                if item.path in forests and item.name in ("dl2", "gamma"):
                    found.setdefault(forests[item.path], []).append((item.path, step))
    return found
