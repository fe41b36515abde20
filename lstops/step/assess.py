"""What of a plan is done and what is not, from manifests and `stat` alone (no content is read)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from lstops.site.layout import Layout
from lstops.site.model import Site
from lstops.step.inputs import InputReader, environment_version
from lstops.step.manifest import Manifest, unchanged
from lstops.step.model import Plan, Step, step_key


class Standing(str, Enum):
    """Where a step stands."""

    DONE = "done"
    PENDING = "pending"
    WAITING = "waiting"
    BLOCKED = "blocked"


@dataclass(frozen=True)
class Assessment:
    """Standing of one step.

    Attributes
    ----------
    state : Standing
        DONE: products whole and made from these inputs. PENDING: can run now. WAITING: an input comes from a step of
        the plan that is not done. BLOCKED: an input is missing and nothing in the plan makes it.
    reason : str
        Why, in plain words.
    """

    index: int
    step: Step
    state: Standing
    reason: str


def assess(
    plan: Plan, layout: Layout, site: Site, stage: str | None = None, branch: str | None = None
) -> tuple[Assessment, ...]:
    """Assess every step of a plan, or of one stage, or of one branch in a stage."""
    reader = InputReader(layout)
    states: dict[str, Standing] = {}
    found: list[Assessment] = []
    for index, step in enumerate(plan.steps()):
        state, reason = _assess_step(step, states, reader, layout, environment_version(site, step))
        states.update({output.path: state for output in step.outputs})
        found.append(Assessment(index, step, state, reason))
    wanted = range(len(found)) if stage is None else plan.indices(stage, branch)
    return tuple(found[i] for i in wanted)


def pending(assessments: Sequence[Assessment]) -> tuple[int, ...]:
    """Indices that can run now."""
    return tuple(a.index for a in assessments if a.state is Standing.PENDING)


def _assess_step(
    step: Step, states: dict[str, Standing], reader: InputReader, layout: Layout, environment: str
) -> tuple[Standing, str]:
    digests: dict[str, str] = {}
    unknown = ""
    for item in step.inputs:
        if (earlier := states.get(item.path)) is not None and earlier is not Standing.DONE:
            return Standing.WAITING, f"{item.path} is not finished"
        if not layout.absolute(item.path).exists():
            return Standing.BLOCKED, f"{item.path} does not exist"
        if state := reader.known_state(item):
            digests[item.name] = state.sha256
        else:
            unknown = item.path
    if unknown:
        return Standing.PENDING, f"{unknown} is new or has changed"
    manifest = reader.store.read(step.primary.path)
    if manifest is None:
        return Standing.PENDING, "not made yet"
    if manifest.key != step_key(step, digests, environment):
        return Standing.PENDING, "made from other inputs, another configuration or another version"
    if changed := changed_outputs(manifest, layout):
        return Standing.PENDING, f"{changed[0]} is missing or was changed after it was made"
    return Standing.DONE, "up to date"


def changed_outputs(manifest: Manifest, layout: Layout) -> tuple[str, ...]:
    """Outputs of a manifest that are missing or no longer have the recorded size and time."""
    return tuple(o.path for o in manifest.outputs if not unchanged(layout.absolute(o.path), o.state))
