"""What a pull request to lstmcpipe needs, written beside a production: its YAML, its lstchain JSON and a README."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from lstops.production.card_plan import add_steps
from lstops.production.config import LstmcpipeConfig
from lstops.production.definition import dl2_file
from lstops.production.documents import yaml_text
from lstops.production.grid import Particle
from lstops.production.inventory import TRAINING, Dataset, Inventory
from lstops.production.level import irf_options, written_config
from lstops.production.lstmcpipe_steps import KINDS
from lstops.production.outline import plan_level_ghz
from lstops.production.plan import TunedProductionRequest
from lstops.production.stages import StageName
from lstops.production.tuned_paths import TunedPaths
from lstops.site.layout import Layout
from lstops.site.model import Site
from lstops.step.model import CORE_ENVIRONMENT, ArtifactKind, Input, Output, Plan, Step

KIND = "pull-request"


def with_pull_request(plan: Plan, pipe: LstmcpipeConfig | str, site: Site) -> Plan:
    """The plan with a step that writes the three files below the folder of the production's configuration.

    They are products like others, with manifest and digests. The lstchain JSON is the one that the plan makes.

    Parameters
    ----------
    pipe : LstmcpipeConfig or str
        The configuration, or the text of its YAML as it was given.
    """
    configs = [
        output for step in plan.steps() for output in step.outputs if output.kind is ArtifactKind.LSTCHAIN_CONFIG
    ]
    if len(configs) != 1:
        return plan
    production = str(plan.context["production"])
    folder = f"mc/DL1/AllSky/{production}/lstmcpipe"
    yaml_name, json_name = f"lstmcpipe_config_{production}.yml", f"lstchain_config_{production}.json"
    command = f"lstmcpipe -c {yaml_name} -conf_lst {json_name}"
    text = pipe if isinstance(pipe, str) else yaml_text(pipe.to_document(), f"{production}\n{command}")
    files = {yaml_name: text, "README.md": _readme(plan, command)}
    outputs = {"yaml": yaml_name, "readme": "README.md", "chain": json_name}
    step = Step(
        kind=KIND,
        label=f"pull request of {production}",
        subject=production,
        commands=(
            ("cp", f"{{file:{yaml_name}}}", "{out:yaml}"),
            ("cp", "{file:README.md}", "{out:readme}"),
            ("cp", "{in:config}", "{out:chain}"),
        ),
        inputs=(Input(name="config", kind=ArtifactKind.LSTCHAIN_CONFIG, path=configs[0].path),),
        outputs=tuple(
            Output(name=name, kind=ArtifactKind.FILE, path=f"{folder}/{file}") for name, file in outputs.items()
        ),
        files=files,
        resources=site.resources_for(KIND),
        environment=CORE_ENVIRONMENT,
    )
    return add_steps(plan, [step])


def _readme(plan: Plan, command: str) -> str:
    context = plan.context
    level = plan_level_ghz(plan)
    unknown = "not known in GHz: see `image_modifier` and `waveform_nsb_tuning` of the lstchain configuration"
    facts = {
        "production": context["production"],
        "lstchain": plan.lstchain_version,
        "declination lines": ", ".join([context["line"]] if "line" in context else context.get("lines", [])),
        "extra NSB": unknown if level is None else f"{level:.2f} GHz",
        "cleaning": context.get("tailcut", "see the lstchain configuration"),
        "DL1 of": context.get("base_production") or _origin(plan),
        "NSB tuned with": ", ".join(context.get("subruns", [])) or ("not known" if level is None else "no data"),
        "cuts": context.get("cuts", "see the lstchain configuration"),
    }
    rows = "".join(f"- {name}: {value}\n" for name, value in facts.items())
    return f"# {context['production']}\n\n{plan.title}\n\n{rows}\nCommand:\n\n```\n{command}\n```\n"


def _origin(plan: Plan) -> str:
    kinds = {step.kind for step in plan.steps()}
    if KINDS[StageName.DL1AB] in kinds:
        return "another production, changed by dl1ab: see the inputs in the YAML"
    return "made from R0" if KINDS[StageName.R0_TO_DL1] in kinds else "read as it is: see the inputs in the YAML"


def tuned_lstmcpipe_config(request: TunedProductionRequest, site: Site, inventory: Inventory) -> LstmcpipeConfig:
    """A production tuned to data as lstmcpipe would be told to make it at this site.

    It merges every test node, and keeps the names of the base production's files; the products from the merges on lie
    where the plan's lie.
    """
    stages = _TunedWriter(request, site, inventory).stages()
    return written_config(request.production, request.lstchain_version, stages, site)


class _TunedWriter:
    def __init__(self, request: TunedProductionRequest, site: Site, inventory: Inventory) -> None:
        self.request, self.site, self.inventory = request, site, inventory
        self.layout = Layout(site.base, site.work)
        self.paths = TunedPaths(self.layout, request.production, inventory.line)
        self.tests = inventory.nodes(Dataset.TEST, Particle.GAMMA)

    def stages(self) -> dict[str, list[dict[str, Any]]]:
        models = self._at(self.paths.models)
        gamma, proton = (self._at(self.paths.merged_train(particle)) for particle in TRAINING)
        return {
            "dl1ab": list(self._dl1ab()),
            "merge_dl1": list(self._merges()),
            "train_pipe": [{"input": {"gamma": gamma, "proton": proton}, "output": models}],
            "dl1_to_dl2": [
                {"input": self._merged(node), "path_model": models, "output": self._dl2_folder(node)}
                for node in self.tests
            ],
            "dl2_to_irfs": [
                {
                    "input": {"gamma_file": dl2_file(self._merged(node), self._dl2_folder(node))},
                    "output": self._at(self.paths.irf(node, self.request.cuts.name)),
                    "options": " ".join(irf_options(self.request.cuts)),
                }
                for node in self.tests
            ],
        }

    def _at(self, relative: str) -> str:
        return f"{self.site.base}/{relative}"

    def _dl1ab(self) -> Iterator[dict[str, Any]]:
        for dataset, particle in (*((Dataset.TRAIN, p) for p in TRAINING), (Dataset.TEST, Particle.GAMMA)):
            for files in self.inventory.nodes(dataset, particle).values():
                source, target = files[0].path.rpartition("/")[0], self.paths.dl1(files[0]).rpartition("/")[0]
                yield {"input": self._at(source), "output": self._at(target)}

    def _merges(self) -> Iterator[dict[str, Any]]:
        for particle in TRAINING:
            target = self._at(self.paths.merged_train(particle))
            folder = target.rpartition("/")[0]
            yield {"input": folder, "output": target, "options": "--pattern */*.h5 --no-image"}
        for node in self.tests:
            target = self._merged(node)
            yield {"input": target.rpartition("/")[0], "output": target, "options": "--no-image"}

    def _merged(self, node: str) -> str:
        production, particle = self.request.production, Particle.GAMMA.value
        folder = self.layout.mc_dl1_test(production, particle, node)
        return self._at(f"{folder}/dl1_{production}_{node}_merged.h5")

    def _dl2_folder(self, node: str) -> str:
        line, particle = self.inventory.line, Particle.GAMMA.value
        return self._at(self.layout.mc_dl2_test(self.request.production, particle, line, node))
