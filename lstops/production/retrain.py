"""Plan of new forests from the training DL1 of a production that is there: train -> dl2 -> irf, under a new name."""

from __future__ import annotations

import json
from pathlib import PurePosixPath

from lstops.errors import ConfigError
from lstops.production.grid import line_in_path
from lstops.production.naming import checked_name
from lstops.production.plan import forest_update
from lstops.site.layout import Layout
from lstops.site.model import ForestSettings, Site
from lstops.step.model import ArtifactKind, Input, Output, Plan, Stage, Step

#: what the context of the source says about itself, not about its DL1
_NOT_KEPT = ("lines", "configuration_sha256", "split_seed", "settings_sha256", "compare", "retrained_from")
_MADE = (ArtifactKind.MODELS, ArtifactKind.DL2, ArtifactKind.IRF)


def plan_retraining(source: Plan, line: str, name: str, forests: ForestSettings, site: Site) -> Plan:
    """New forests of one line, and all that is made with them, from the merged DL1 of another production.

    They are planned for the trainer of the source; see `lstops.production.trainer.with_trainer`.

    Parameters
    ----------
    source : Plan
        Of the production whose DL1 is used. Its DL1 has the NSB of that production, and so has the new one.
    name : str
        Of the new production.

    Raises
    ------
    ConfigError
        If the name is none or that of the source, or the source trains no forests of this line.
    """
    old = str(source.context["production"])
    if checked_name(name) == old:
        raise ConfigError(f"forests retrained from {old} cannot have the same name.", "give a new one.")
    return _Retraining(source, line, name, forests, site).plan()


class _Retraining:
    def __init__(self, source: Plan, line: str, name: str, forests: ForestSettings, site: Site) -> None:
        self.source, self.line, self.name, self.site = source, line, name, site
        self.old = str(source.context["production"])
        self.update = json.dumps(forest_update(forests), indent=1, sort_keys=True)
        self.config = Layout(site.base, site.work).mc_config(name)
        steps = [step for step in source.steps() if self._is_trained(step)]
        self.steps = [step for step in steps if step.primary.kind is not ArtifactKind.IRF]
        dl2 = {step.primary.path for step in self.steps}
        self.steps += [s for s in steps if s.primary.kind is ArtifactKind.IRF and dl2 & {i.path for i in s.inputs}]
        self.old_config = next(
            (i for s in self.steps for i in s.inputs if i.kind is ArtifactKind.LSTCHAIN_CONFIG), None
        )
        self.moved = {output.path: self._new(output.path) for step in self.steps for output in step.outputs}
        if self.old_config is not None:
            self.moved[self.old_config.path] = self.config

    def _is_trained(self, step: Step) -> bool:
        """Whether the step makes forests of this line or something with them."""
        line = line_in_path(step.primary.path) or self.source.context.get("line")
        return step.primary.kind in _MADE and line == self.line

    def _new(self, path: str) -> str:
        """The place of a product under the new name; DL2 is called after its DL1, which stays what it is."""
        pure = PurePosixPath(path)
        folders = [self.name if part == self.old else part for part in pure.parts[:-1]]
        last = self.name if pure.name == self.old else pure.name
        if pure.name.startswith("irf"):
            last = last.replace(self.old, self.name)
        return str(PurePosixPath(*folders, last))

    def plan(self) -> Plan:
        old_config = self.old_config
        if old_config is None or not any(step.primary.kind is ArtifactKind.MODELS for step in self.steps):
            raise ConfigError(
                f"the plan of {self.old} trains no forests of {self.line}.",
                "name a production and a line that `lstops production list` shows, made by mc_production.",
            )
        by_kind: dict[ArtifactKind, list[Step]] = {kind: [] for kind in _MADE}
        for step in self.steps:
            by_kind[step.primary.kind].append(self._moved(step))
        keep = {name: value for name, value in self.source.context.items() if name not in _NOT_KEPT}
        return Plan(
            kind=self.source.kind,
            title=f"{self.name}, {self.line}: forests retrained from the DL1 of {self.old}",
            site=self.site.name,
            lstchain_version=self.source.lstchain_version,
            stages=(
                Stage(name="tune", steps=(self._write_config(old_config),)),
                Stage(name="train", steps=tuple(by_kind[ArtifactKind.MODELS])),
                Stage(name="dl2", steps=tuple(by_kind[ArtifactKind.DL2])),
                Stage(name="irf", steps=tuple(by_kind[ArtifactKind.IRF])),
            ),
            context={
                **keep,
                "production": self.name,
                "line": self.line,
                "retrained_from": self.old,
            },
        )

    def _write_config(self, old: Input) -> Step:
        command = ("python", "-m", "lstops.science.mc_config", "--base", "{in:base}", "--update", "{file:update.json}",
                   "--output", "{out:config}")  # fmt: skip
        return Step(
            kind="config",
            label=f"lstchain configuration of {self.name}",
            subject=self.name,
            commands=(command,),
            inputs=(Input(name="base", kind=ArtifactKind.LSTCHAIN_CONFIG, path=old.path),),
            outputs=(Output(name="config", kind=ArtifactKind.LSTCHAIN_CONFIG, path=self.config),),
            files={"update.json": self.update},
            resources=self.site.resources_for("config"),
            environment=self.source.lstchain_version,
        )

    def _moved(self, step: Step) -> Step:
        return step.model_copy(
            update={
                "label": step.label.replace(self.old, self.name),
                "inputs": tuple(i.model_copy(update={"path": self.moved.get(i.path, i.path)}) for i in step.inputs),
                "outputs": tuple(o.model_copy(update={"path": self.moved[o.path]}) for o in step.outputs),
                "resources": self.site.resources_for(step.kind),
            }
        )


def training_files(plan: Plan) -> tuple[str, ...]:
    """The merged DL1 that the forests of a plan are trained on, in the order of the command."""
    trained = [step for step in plan.steps() if step.primary.kind is ArtifactKind.MODELS]
    return tuple(i.path for step in trained for i in step.inputs if i.kind is not ArtifactKind.LSTCHAIN_CONFIG)
