"""The outline of a plan: what each step is about and on which steps it waits, in a file that is read in a moment.

A plan of ten NSB levels has 33 000 steps and a hundred megabytes. Questions about its state need of each step only the
stage, the node, the paths of its products and its parents.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lstops.errors import ConfigError
from lstops.production.branches import COMMON, UNDIVIDED
from lstops.production.grid import Node, line_in_path, node_in_path, particle_in_path
from lstops.site.layout import Layout
from lstops.site.model import Site
from lstops.step.manifest import write_atomically
from lstops.step.model import Plan, Step
from lstops.step.plans import load_plan, save_plan

KIND = "mc_production"
_FILE = "outline.json"
#: in the context of a plan whose level a person gave
LEVEL_GIVEN = "nsb_level_given"
#: in the facts of a registered production whose level a person gave: author, reason and time
LEVEL_SOURCE = "nsb_level_source"
_SCHEMA = 2
_TRAINING = "TrainingDataset"


@dataclass(frozen=True, slots=True)
class OutlineStep:
    """One step.

    Attributes
    ----------
    line : str or None
        What its product's path names, else the branch that it belongs to.
    particle, node : str or None
        What its product's path names.
    is_training : bool
        Whether its product is training data.
    products : tuple of str
        Relative to the site's base; the first names the manifest.
    parents : tuple of int
        Steps of the plan that make its inputs.
    """

    stage: str
    label: str
    line: str | None
    particle: str | None
    node: str | None
    is_training: bool
    products: tuple[str, ...]
    parents: tuple[int, ...]

    @property
    def where(self) -> str:
        """Line, particle and node, as far as it has them; for people."""
        words = (self.line, self.particle, self.node and f"node {self.node}")
        return " ".join(word for word in words if word) or self.label


@dataclass(frozen=True, slots=True)
class Outline:
    """A plan in short."""

    plan_id: str
    title: str
    production: str
    stages: tuple[str, ...]
    steps: tuple[OutlineStep, ...]


def outline_of(plan: Plan, plan_id: str | None = None) -> Outline:
    """The outline of a plan; its id takes a second to work out for large plans, where it is known it can be given."""
    steps = plan.steps()
    maker = {output.path: index for index, step in enumerate(steps) for output in step.outputs}
    stages = [stage.name for stage in plan.stages for _ in stage.steps]
    return Outline(
        plan_id=plan_id or plan.plan_id,
        title=plan.title,
        production=str(plan.context.get("production", plan.title)),
        stages=tuple(stage.name for stage in plan.stages),
        steps=tuple(_outline_step(stage, step, maker) for stage, step in zip(stages, steps, strict=True)),
    )


def _outline_step(stage: str, step: Step, maker: dict[str, int]) -> OutlineStep:
    path = step.primary.path
    particle, node = particle_in_path(path), node_in_path(path)
    parents = dict.fromkeys(maker[item.path] for item in step.inputs if item.path in maker)
    return OutlineStep(
        stage=stage,
        label=step.label,
        line=line_in_path(path) or (step.branch if step.branch not in (COMMON, UNDIVIDED) else None),
        particle=particle.value if particle else None,
        node=str(node) if node else None,
        is_training=_TRAINING in path.split("/"),
        products=tuple(output.path for output in step.outputs),
        parents=tuple(parents),
    )


def plan_level_ghz(plan: Plan) -> float | None:
    """The NSB that a plan was made for, was measured for it, or follows from its configuration; None if unknown."""
    return level_in(plan.context)


def level_in(context: Mapping[str, Any]) -> float | None:
    """The same from the context of a plan, which the manifests of its products have, too."""
    level = context.get("nsb_level_ghz", context.get("nsb_ghz"))
    return None if level is None else float(level)


def node_of(step: OutlineStep) -> Node | None:
    """The direction that a step is about."""
    if step.node is None:
        return None
    zd, _, az = step.node.removeprefix("theta_").partition("_az_")
    return Node.of(zd, az)


def save_production_plan(plan: Plan, site: Site) -> Path:
    """Write a plan and its outline below the site's work area; returns the plan's path."""
    path = save_plan(plan, site)
    _write(path.with_name(_FILE), outline_of(plan, path.parent.name))
    return path


def load_outline(layout: Layout, plan_id: str) -> Outline:
    """The outline of a stored plan; made anew if it is missing or of an older lstops.

    Raises
    ------
    ConfigError
        If there is no such plan.
    """
    plan_file = layout.plan_file(plan_id)
    found = _read(plan_file.with_name(_FILE))
    if found is None or found.plan_id != plan_id:
        found = outline_of(load_plan(plan_file))
        _write(plan_file.with_name(_FILE), found)
    return found


def find_plan(layout: Layout, production: str) -> str:
    """The id of the last plan of a production; an id of a plan is taken as it is.

    Raises
    ------
    ConfigError
        If no stored plan is about it, naming those that there are.
    """
    if layout.plan_file(production).exists():
        return production
    known: dict[str, str] = {}
    for folder in sorted(_plans(layout), key=lambda folder: (folder / "plan.json").stat().st_mtime_ns):
        known[_production_of(layout, folder)] = folder.name
    try:
        return known[production]
    except KeyError:
        names = ", ".join(list(known)[-8:]) or "none"
        raise ConfigError(
            f"no plan of a production {production!r} is stored.",
            f"give one of: {names}; or plan it with `lstops production plan`.",
        ) from None


def _plans(layout: Layout) -> Iterator[Path]:
    return (path.parent for path in layout.plan_dir("x").parent.glob(f"{KIND}-*/plan.json"))


def _production_of(layout: Layout, folder: Path) -> str:
    """The production of a plan, from the head of its outline: the rest is not read."""
    try:
        with (folder / _FILE).open() as stream:
            head = json.loads(stream.readline())
        if head["schema"] == _SCHEMA:
            return str(head["production"])
    except (FileNotFoundError, ValueError, KeyError):
        pass
    return load_outline(layout, folder.name).production


def _write(path: Path, outline: Outline) -> None:
    head = {
        "schema": _SCHEMA,
        "plan_id": outline.plan_id,
        "title": outline.title,
        "production": outline.production,
        "stages": outline.stages,
    }
    names = {name: position for position, name in enumerate(outline.stages)}
    rows = [
        [names[s.stage], s.label, s.line, s.particle, s.node, int(s.is_training), s.products, s.parents]
        for s in outline.steps
    ]
    write_atomically(path, f"{json.dumps(head)}\n{json.dumps(rows, separators=(',', ':'))}\n")


def _read(path: Path) -> Outline | None:
    try:
        first, _, rest = path.read_text().partition("\n")
        head, rows = json.loads(first), json.loads(rest)
        if head["schema"] != _SCHEMA:
            return None
        stages: list[str] = head["stages"]
        steps = tuple(_row(stages, row) for row in rows)
        return Outline(head["plan_id"], head["title"], head["production"], tuple(stages), steps)
    except (FileNotFoundError, ValueError, KeyError, TypeError, IndexError):
        return None


def _row(stages: list[str], row: list[Any]) -> OutlineStep:
    stage, label, line, particle, node, training, products, parents = row
    return OutlineStep(stages[stage], label, line, particle, node, bool(training), tuple(products), tuple(parents))
