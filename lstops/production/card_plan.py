"""The last stage of a production's plan: a report card for each line that it trains."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from lstops.production.gates import Gates
from lstops.production.grid import Particle, line_in_path, particle_in_path
from lstops.production.plan import CUTS_FILE
from lstops.site.model import Site
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
    steps = [card for step in plan.steps() if (card := _card(plan, step, settings, site)) is not None]
    return add_steps(plan, steps)


def add_steps(plan: Plan, steps: Sequence[Step]) -> Plan:
    """The plan with steps more in its last stage, `report`."""
    if not steps:
        return plan
    stages, there = plan.stages, tuple[Step, ...]()
    if stages and stages[-1].name == STAGE:
        stages, there = stages[:-1], stages[-1].steps
    return plan.model_copy(update={"stages": (*stages, Stage(name=STAGE, steps=(*there, *steps)))})


def _card(plan: Plan, train: Step, settings: CardSettings, site: Site) -> Step | None:
    if train.primary.kind is not ArtifactKind.MODELS:
        return None
    models, nodes, files = train.primary.path, _nodes(plan, train.primary.path), dict[str, str]()
    if not nodes:
        return None
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
        "nsb_level_ghz": plan.context.get("nsb_level_ghz", plan.context.get("nsb_ghz")),
        "cuts": json.loads(cuts) if cuts else None,
        "gates": settings.gates.model_dump(),
        "reference": settings.reference,
    }
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


def _nodes(plan: Plan, models: str) -> list[tuple[str, Step]]:
    """DL2 made with these forests, each with the step that makes its response; no diffuse gammas."""
    made = {
        step.primary.path
        for step in plan.steps()
        if step.primary.kind is ArtifactKind.DL2 and any(item.path == models for item in step.inputs)
    }
    return [
        (item.path, step)
        for step in plan.steps()
        if step.primary.kind is ArtifactKind.IRF and particle_in_path(step.primary.path) is not Particle.GAMMA_DIFFUSE
        for item in step.inputs
        if item.path in made and item.name in ("dl2", "gamma")
    ]
