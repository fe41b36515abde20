"""Plan of a production whose NSB is tuned to data, from the DL1 of a base production.

tune -> dl1ab -> merge -> train -> dl2 -> irf. A node that fails fails its stage: forests trained without a node are
worse than none.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from lstops.errors import ConfigError
from lstops.production.grid import Node, Particle, parse_node
from lstops.production.inventory import TRAINING, Dataset, Inventory, McFile
from lstops.reduction.cuts import CutSet
from lstops.site.layout import Layout
from lstops.site.model import ForestSettings, Site
from lstops.step.model import ArtifactKind, Input, Output, Plan, Stage, Step

#: nodes of gammas and of protons are the same direction if their names agree to this
_SAME_NODE_DEG = 0.02
CUTS_FILE = "cuts.json"


@dataclass(frozen=True)
class TunedProductionRequest:
    """What is asked for.

    Attributes
    ----------
    production : str
        Name of the new production, "20240115_v0.12.3_crab_nsb_tuning_0.25".
    subrun : str
        Typical subrun of the data: DL1 with images and interleaved pedestals, relative to the site's base.
    simtel : str or None
        Simulated showers with true p.e. of the base production, relative to the base; None: that of the site file.
    nodes : tuple of Node
        Training nodes the line must have; empty: those of the inventory.
    """

    production: str
    lstchain_version: str
    subrun: str
    cuts: CutSet
    simtel: str | None = None
    nodes: tuple[Node, ...] = ()


def config_path(production: str) -> str:
    """Where the lstchain configuration of a tuned production lies."""
    return f"mc/DL1/AllSky/{production}/lstchain_config_{production}.json"


def forest_update(forests: ForestSettings) -> dict[str, dict[str, int]]:
    """Changes to lstchain's configuration for the hyper-parameters of the four forests."""
    names = ("energy_regressor", "disp_regressor", "disp_classifier", "particle_classifier")
    return {f"random_forest_{name}_args": forests.model_dump() for name in names}


def plan_tuned_production(request: TunedProductionRequest, site: Site, inventory: Inventory) -> Plan:
    """Plan everything from the tuning to the instrument response.

    Raises
    ------
    ConfigError
        If the nodes of gammas and protons differ, a node of the line is missing, there are no test nodes, or no
        simulation to tune with is named.
    """
    site.environment(request.lstchain_version)
    return _Planner(request, site, inventory).plan()


class _Planner:
    def __init__(self, request: TunedProductionRequest, site: Site, inventory: Inventory) -> None:
        self.request, self.site, self.inventory = request, site, inventory
        self.layout = Layout(site.base, site.work)
        self.train = {p: inventory.nodes(Dataset.TRAIN, p) for p in TRAINING}
        self.test = inventory.nodes(Dataset.TEST, Particle.GAMMA)
        self.nodes = _training_nodes(self.train[TRAINING[0]], self.train[TRAINING[1]], request.nodes)
        if not self.test:
            raise ConfigError(
                f"production {inventory.production!r} has no test nodes: there would be no instrument response.",
                "restore its TestingDataset, or choose another base production.",
            )

    def plan(self) -> Plan:
        request = self.request
        return Plan(
            kind="mc_production",
            title=f"{request.production}, {self.inventory.line}: {len(self.nodes)} + {len(self.test)} nodes",
            site=self.site.name,
            lstchain_version=request.lstchain_version,
            stages=(
                Stage(name="tune", steps=(self._tune(),)),
                Stage(name="dl1ab", steps=tuple(self._dl1ab(files) for files in self._all_nodes())),
                Stage(name="merge", steps=self._merges()),
                Stage(name="train", steps=(self._train(),)),
                Stage(name="dl2", steps=tuple(self._dl2(node) for node in self.test)),
                Stage(name="irf", steps=tuple(self._irf(node) for node in self.test)),
            ),
            context={
                "production": request.production,
                "base_production": self.inventory.production,
                "line": self.inventory.line,
                "subrun": request.subrun,
                "cuts": request.cuts.name,
                "cuts_sha256": request.cuts.digest,
                "nodes": [str(node) for node in self.nodes],
            },
        )

    # -- paths ----------------------------------------------------------------------------------------------------
    def _models(self) -> str:
        return self.layout.models(self.request.production, self.inventory.line)

    def _dl1(self, file: McFile) -> str:
        """Tuned DL1: the name of the base file, with the node in it (merging needs names that differ)."""
        name = PurePosixPath(file.path).name
        if str(file.pointing) not in name:
            name = f"{PurePosixPath(name).stem}_{file.pointing}.h5"
        production = self.request.production
        if file.dataset is Dataset.TRAIN:
            return f"{self.layout.mc_dl1_train(production, self.inventory.line, file.particle.value, file.node)}/{name}"
        return f"{self.layout.mc_dl1_test(production, file.particle.value, file.node)}/{name}"

    def _merged_train(self, particle: Particle) -> str:
        return self.layout.mc_dl1_train_merged(self.request.production, self.inventory.line, particle.value)

    def _test_dl1(self, node: str) -> str:
        """DL1 of a test node: merged if it has several files."""
        files = self.test[node]
        if len(files) == 1:
            return self._dl1(files[0])
        folder = self.layout.mc_dl1_test(self.request.production, Particle.GAMMA.value, node)
        return f"{folder}/dl1_{self.request.production}_{node}_merged.h5"

    def _test_dl2(self, node: str) -> str:
        name = PurePosixPath(self._test_dl1(node)).name.replace("dl1", "dl2", 1)
        folder = self.layout.mc_dl2_test(self.request.production, Particle.GAMMA.value, self.inventory.line, node)
        return f"{folder}/{name}"

    # -- steps ----------------------------------------------------------------------------------------------------
    def _step(
        self, kind: str, label: str, subject: str, commands: Sequence[tuple[str, ...]], inputs: Sequence[Input],
        outputs: Sequence[Output], files: dict[str, str] | None = None,
    ) -> Step:  # fmt: skip
        return Step(
            kind=kind,
            label=label,
            subject=subject,
            commands=tuple(commands),
            inputs=tuple(inputs),
            outputs=tuple(outputs),
            files=files or {},
            resources=self.site.resources_for(kind),
            environment=self.request.lstchain_version,
        )

    def _config(self) -> Input:
        return Input(name="config", kind=ArtifactKind.LSTCHAIN_CONFIG, path=config_path(self.request.production))

    def _tune(self) -> Step:
        simtel = self.request.simtel or self.site.production.tuning_simtel
        if not simtel:
            raise ConfigError(
                "there is no simulation to tune the NSB with.",
                "set production.tuning_simtel in the site file to showers of the base production (simtel, true p.e.).",
            )
        if PurePosixPath(simtel).is_absolute():
            simtel = self.layout.relative(self.site.base / simtel)
        command = ("python", "-m", "lstops.science.tune_nsb", "--level", "image", "--data", "{in:data}",
                   "--simtel", "{in:simtel}", "--update", "{file:update.json}", "--output", "{out:config}")  # fmt: skip
        return self._step(
            "tune",
            f"NSB tuning of {self.request.production}",
            self.request.production,
            [command],
            [
                Input(name="data", kind=ArtifactKind.DL1, path=self.request.subrun),
                Input(name="simtel", kind=ArtifactKind.SIMTEL, path=simtel),
            ],
            [
                Output(
                    name="config",
                    kind=ArtifactKind.LSTCHAIN_CONFIG,
                    path=config_path(self.request.production),
                    expect={
                        "sections": ["image_modifier", "tailcut", "energy_regression_features"],
                        "values": {"image_modifier.increase_nsb": True},
                    },
                )
            ],
            {"update.json": json.dumps(forest_update(self.site.production.forests), indent=1, sort_keys=True)},
        )

    def _all_nodes(self) -> list[list[McFile]]:
        return [files for nodes in (*self.train.values(), self.test) for files in nodes.values()]

    def _dl1ab(self, files: Sequence[McFile]) -> Step:
        first = files[0]
        commands, inputs, outputs = [], [self._config()], []
        for i, file in enumerate(files):
            commands.append(("lstchain_dl1ab", "-f", f"{{in:dl1-{i}}}", "-o", f"{{out:tuned-{i}}}", "-c", "{in:config}",
                             "--no-image"))  # fmt: skip
            inputs.append(Input(name=f"dl1-{i}", kind=ArtifactKind.DL1, path=file.path))
            outputs.append(
                Output(
                    name=f"tuned-{i}",
                    kind=ArtifactKind.DL1,
                    path=self._dl1(file),
                    counts_from=(f"dl1-{i}",),
                    expect={"images": False, "simulation": True},
                )
            )
        label = f"DL1 with tuned NSB, {first.particle.value} {first.pointing}"
        return self._step("dl1ab", label, first.node, commands, inputs, outputs)

    def _merges(self) -> tuple[Step, ...]:
        steps = [
            self._merge(
                f"{particle.value} of {self.inventory.line}",
                f"{self.inventory.line} {particle.value}",
                [file for files in self.train[particle].values() for file in files],
                self._merged_train(particle),
            )
            for particle in TRAINING
        ]
        steps += [
            self._merge(f"test {parse_node(node)[1]}", node, files, self._test_dl1(node))
            for node, files in self.test.items()
            if len(files) > 1
        ]
        return tuple(steps)

    def _merge(self, what: str, subject: str, files: Sequence[McFile], output: str) -> Step:
        # lstchain's own checks raise TypeError for files whose subarray is called MonteCarloArray (ctapipe 0.25);
        # the verifier compares the counts
        command = ("lstchain_merge_hdf5_files", "-d", "{indir:dl1}", "-o", "{out:merged}", "-p", "dl1_*.h5",
                   "--no-image", "--no-progress", "--skip-checks")  # fmt: skip
        inputs = [
            Input(name=f"dl1-{i}", group="dl1", kind=ArtifactKind.DL1, path=self._dl1(file))
            for i, file in enumerate(files)
        ]
        merged = Output(
            name="merged",
            kind=ArtifactKind.DL1_MERGED,
            path=output,
            counts_from=tuple(i.name for i in inputs),
            expect={"images": False, "simulation": True},
        )
        return self._step("merge", f"merge {what}", subject, [command], inputs, [merged])

    def _train(self) -> Step:
        line = self.inventory.line
        nodes = [word for node in self.nodes for word in ("--node", f"{node.zd_text},{node.az_text}")]
        commands = [
            ("lstchain_mc_trainpipe", "--fg", "{in:gamma}", "--fp", "{in:proton}", "-o", "{out:models}",
             "-c", "{in:config}"),
            ("python", "-m", "lstops.science.complete_models", "--models", "{out:models}", "--gamma", "{in:gamma}",
             "--config", "{in:config}", *nodes),
        ]  # fmt: skip
        gamma, proton = (
            Input(name=name, kind=ArtifactKind.DL1_MERGED, path=self._merged_train(particle))
            for name, particle in zip(("gamma", "proton"), TRAINING, strict=True)
        )
        models = Output(
            name="models",
            kind=ArtifactKind.MODELS,
            path=self._models(),
            expect={"training_dirs": len(self.nodes) > 1},
        )
        label = f"random forests of {self.request.production}, {line}"
        return self._step("train", label, line, commands, [gamma, proton, self._config()], [models])

    def _dl2(self, node: str) -> Step:
        command = ("lstchain_dl1_to_dl2", "-f", "{in:dl1}", "-p", "{in:models}", "-o", "{outdir:dl2}",
                   "-c", "{in:config}")  # fmt: skip
        merged = len(self.test[node]) > 1
        inputs = [
            Input(
                name="dl1",
                kind=ArtifactKind.DL1_MERGED if merged else ArtifactKind.DL1,
                path=self._test_dl1(node),
            ),
            Input(name="models", kind=ArtifactKind.MODELS, path=self._models()),
            self._config(),
        ]
        dl2 = Output(name="dl2", kind=ArtifactKind.DL2, path=self._test_dl2(node), counts_from=("dl1",))
        return self._step("mc-dl2", f"DL2 of test {parse_node(node)[1]}", node, [command], inputs, [dl2])

    def _irf(self, node: str) -> Step:
        command = ("lstchain_create_irf_files", "-g", "{in:dl2}", "-o", "{out:irf}", "--overwrite",
                   "--config", f"{{file:{CUTS_FILE}}}")  # fmt: skip
        cuts, pointing = self.request.cuts, parse_node(node)[1]
        folder = self.layout.irf_dir(self.request.production, Particle.GAMMA.value, self.inventory.line, cuts.name)
        irf = Output(
            name="irf",
            kind=ArtifactKind.IRF,
            path=f"{folder}/irf_{self.request.production}_{node}.fits.gz",
            expect={
                "useful_energy_tev": list(cuts.useful_energy_tev),
                "zd_deg": pointing.zd_deg,
                "az_deg": pointing.az_deg,
                "point_like": cuts.point_like,
            },
        )
        inputs = [Input(name="dl2", kind=ArtifactKind.DL2, path=self._test_dl2(node))]
        return self._step("irf", f"IRF of {pointing}", node, [command], inputs, [irf], {CUTS_FILE: cuts.text})


def _training_nodes(
    gammas: dict[str, list[McFile]], protons: dict[str, list[McFile]], wanted: Sequence[Node]
) -> tuple[Node, ...]:
    """Directions of the training nodes, the same for gammas and protons and as many as the line has.

    Raises
    ------
    ConfigError
        Naming the nodes that are missing.
    """
    gamma_nodes = [files[0].pointing for files in gammas.values()]
    proton_nodes = [files[0].pointing for files in protons.values()]
    for what, there, expected in (
        ("protons", proton_nodes, gamma_nodes),
        ("diffuse gammas", gamma_nodes, proton_nodes),
        ("diffuse gammas", gamma_nodes, wanted),
    ):
        missing = [n for n in expected if not any(n.is_same(t, _SAME_NODE_DEG) for t in there)]
        if missing:
            raise ConfigError(
                f"the base production has no {what} at {', '.join(map(str, missing))}.",
                "restore these nodes: forests trained without one are wrong near it (the culmination, for instance).",
            )
    if not gamma_nodes:
        raise ConfigError("the base production has no training nodes.", "choose another base production or line.")
    return tuple(sorted(gamma_nodes))
