"""Takes over a production that lstmcpipe made: what its content shows to be whole gets a manifest, the rest is named.

Nothing is believed because of its name. Every product is opened by the verifier of its kind and compared with the
inputs it was made from, and gets the manifest that the step of the plan would have written, marked as adopted. From
then on it counts as done: status, audit, reuse and the next run of the plan take it as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from typing import Any

from lstops.errors import ConfigError, LstOpsError, ProductInvalid
from lstops.production.config import read_config
from lstops.production.definition import read_production
from lstops.production.from_lstmcpipe import DEFAULT_ROOTS, LstmcpipePlanRequest, TreeLister, plan_from_lstmcpipe
from lstops.production.stages import StageName
from lstops.site.layout import Layout
from lstops.site.model import Site
from lstops.step.adoption import adopted_manifest, verified
from lstops.step.assess import changed_outputs
from lstops.step.inputs import InputReader, environment_version
from lstops.step.manifest import ArtifactRecord
from lstops.step.model import CORE_ENVIRONMENT, ArtifactKind, Output, Plan, Step, step_key
from lstops.step.runner import run_step


class Adoption(str, Enum):
    """What became of a step."""

    ADOPTED = "adopted"
    KNOWN = "known before"
    MISSING = "missing"
    REFUSED = "refused"


@dataclass(frozen=True)
class AdoptedStep:
    """A step, and why if it was not adopted."""

    index: int
    step: Step
    outcome: Adoption
    why: str = ""
    remedy: str = ""


def plan_of_tree(
    folder: Path, site: Site, first: StageName = StageName.MERGE_DL1, roots: Sequence[tuple[str, str]] = DEFAULT_ROOTS,
    lstchain_version: str | None = None,
) -> Plan:  # fmt: skip
    """The plan of a production whose configuration lies in a folder, over the files that are there.

    Parameters
    ----------
    folder : Path
        Holds the lstmcpipe YAML and the lstchain JSON; or the YAML itself.
    first : StageName
        First stage that is taken over. Files of earlier stages count as sources: lstmcpipe moves the DL1 files of a
        split, so that they are not where they were made.

    Raises
    ------
    ConfigError
        If there is no configuration, or more than one, or files are missing.
    """
    if not folder.exists():
        raise ConfigError(f"{folder} does not exist.", "name the folder of the configuration, or its YAML file.")
    paths = [folder] if folder.is_file() else sorted([*folder.glob("*.yml"), *folder.glob("*.yaml")])
    if len(paths) != 1:
        raise ConfigError(
            f"{folder} holds {len(paths)} configurations of lstmcpipe, not one.", "name the YAML file itself."
        )
    definition = read_production(read_config(paths[0]))
    order = list(StageName)
    stages = tuple(
        replace(stage, runs=stage.runs and order.index(stage.name) >= order.index(first)) for stage in definition.stages
    )
    if not any(stage.runs for stage in stages):
        raise ConfigError(f"{paths[0]} runs no stage from {first.value} on.", "begin with an earlier stage (--from).")
    return plan_from_lstmcpipe(
        LstmcpipePlanRequest(
            replace(definition, stages=stages), site, TreeLister(site.base), lstchain_version, tuple(roots)
        )
    )


def adopt(site: Site, plan: Plan, in_environment: bool = False) -> tuple[AdoptedStep, ...]:
    """Adopt what of a plan is there and whole. Nothing that exists is changed.

    Parameters
    ----------
    in_environment : bool
        Also load the forests, which are pickles: only in the science environment that made them, and only if their
        origin is trusted. Otherwise their files and digests are recorded.
    """
    layout = Layout(site.base, site.work)
    makers: dict[str, str] = {}
    found = []
    for index, step in enumerate(plan.steps()):
        found.append(_adopt_step(site, layout, plan, index, step, makers, in_environment))
        makers.update({output.path: step.label for output in step.outputs})
    return tuple(found)


def _adopt_step(
    site: Site, layout: Layout, plan: Plan, index: int, step: Step, makers: dict[str, str], in_environment: bool
) -> AdoptedStep:
    there = [output for output in step.outputs if layout.absolute(output.path).exists()]
    try:
        if not there and _is_a_record(step):
            run_step(plan, index, site)  # lstops' own small files: configuration and split, written by the plan
            return AdoptedStep(index, step, Adoption.ADOPTED)
        if not there:
            return AdoptedStep(index, step, Adoption.MISSING, f"{step.primary.path} does not exist", "compute it.")
        if len(there) < len(step.outputs):
            lost = next(output for output in step.outputs if output not in there)
            raise ProductInvalid(f"{lost.path} does not exist, other products of the step do.", "compute it again.")
        reader = InputReader(layout)
        records = tuple(reader.record(item, makers.get(item.path)) for item in step.inputs)
        key = step_key(step, {r.name: r.state.sha256 for r in records}, environment_version(site, step))
        old = reader.store.read(step.primary.path)
        if old is not None and old.key == key and not changed_outputs(old, layout):
            return AdoptedStep(index, step, Adoption.KNOWN)
        outputs = tuple(_verified(layout, output, records, in_environment) for output in step.outputs)
        reader.store.write(adopted_manifest(plan, index, step, key, records, outputs, {}))
    except LstOpsError as error:
        return AdoptedStep(index, step, Adoption.REFUSED, error.what, error.remedy)
    return AdoptedStep(index, step, Adoption.ADOPTED)


def _is_a_record(step: Step) -> bool:
    return step.environment == CORE_ENVIRONMENT and all(command[0] == "cp" for command in step.commands)


def _verified(
    layout: Layout, output: Output, records: Sequence[ArtifactRecord], in_environment: bool
) -> ArtifactRecord:
    """The record of a product whose content was looked at."""
    from lstops.step.verify import InputFacts, inspect, verify

    path = layout.absolute(output.path)

    def look() -> dict[str, Any]:
        if output.kind is not ArtifactKind.MODELS or in_environment:
            return verify(output, path, [InputFacts(r.name, r.kind, layout.absolute(r.path), r.facts) for r in records])
        facts = inspect(output.kind, path)
        if output.expect.get("training_dirs") and not facts["training_dirs"]:
            raise ProductInvalid(
                f"{output.path} has no training_dirs.ecsv: predictions would not be interpolated in zenith distance.",
                "write it with `python -m lstops.science.complete_models`, then adopt again.",
            )
        return facts

    return verified(layout, output, look)
