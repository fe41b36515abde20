"""Plan of a production whose NSB is tuned to data, from the DL1 of a base production.

tune -> dl1ab -> merge -> train -> dl2 -> irf. A node that fails fails its stage: forests trained without a node are
worse than none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lstops.errors import ConfigError
from lstops.production.grid import Node, Particle, parse_node
from lstops.production.inventory import TRAINING, Dataset, Inventory, McFile, training_nodes
from lstops.production.tuned_paths import TunedPaths
from lstops.production.tuning import TuneRequest, tune_step
from lstops.reduction.cuts import CutSet
from lstops.science.tune_nsb import TuningLevel
from lstops.site.layout import Layout
from lstops.site.model import ForestSettings, Site
from lstops.step.model import ArtifactKind, Input, Output, Plan, Stage, Step

CUTS_FILE = "cuts.json"


@dataclass(frozen=True)
class TunedProductionRequest:
    """What is asked for.

    Attributes
    ----------
    production : str
        Name of the new production, "20240115_v0.12.3_crab_nsb_tuning_0.25".
    subruns : tuple of str
        Typical subruns of the data: DL1 with images and interleaved pedestals, relative to the site's base.
    simtel : str or None
        Simulated showers with true p.e. of the base production, relative to the base; None: that of the site file.
    nodes : tuple of Node
        Training nodes the line must have; empty: those of the inventory.
    """

    production: str
    lstchain_version: str
    subruns: tuple[str, ...]
    cuts: CutSet
    simtel: str | None = None
    nodes: tuple[Node, ...] = ()


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
        self.paths = TunedPaths(self.layout, request.production, inventory.line)
        self.train = {p: inventory.nodes(Dataset.TRAIN, p) for p in TRAINING}
        self.test = inventory.nodes(Dataset.TEST, Particle.GAMMA)
        self.nodes = training_nodes(self.train[TRAINING[0]], self.train[TRAINING[1]], request.nodes)
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
                "subruns": list(request.subruns),
                "cuts": request.cuts.name,
                "cuts_sha256": request.cuts.digest,
                "nodes": [str(node) for node in self.nodes],
            },
        )

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
        return Input(name="config", kind=ArtifactKind.LSTCHAIN_CONFIG, path=self.paths.config)

    def _tune(self) -> Step:
        request = self.request
        tuning = TuneRequest(
            production=request.production,
            lstchain_version=request.lstchain_version,
            level=TuningLevel.IMAGE,
            subruns=request.subruns,
            update=forest_update(self.site.production.forests),
            config=self.paths.config,
            record=self.paths.tuning,
            simtel=request.simtel,
        )
        return tune_step(tuning, self.site)

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
                    path=self.paths.dl1(file),
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
                self.paths.merged_train(particle),
            )
            for particle in TRAINING
        ]
        steps += [
            self._merge(f"test {parse_node(node)[1]}", node, files, self.paths.test_dl1(self.test[node]))
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
            Input(name=f"dl1-{i}", group="dl1", kind=ArtifactKind.DL1, path=self.paths.dl1(file))
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
            Input(name=name, kind=ArtifactKind.DL1_MERGED, path=self.paths.merged_train(particle))
            for name, particle in zip(("gamma", "proton"), TRAINING, strict=True)
        )
        models = Output(
            name="models",
            kind=ArtifactKind.MODELS,
            path=self.paths.models,
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
                path=self.paths.test_dl1(self.test[node]),
            ),
            Input(name="models", kind=ArtifactKind.MODELS, path=self.paths.models),
            self._config(),
        ]
        dl2 = Output(name="dl2", kind=ArtifactKind.DL2, path=self.paths.test_dl2(self.test[node]), counts_from=("dl1",))
        return self._step("mc-dl2", f"DL2 of test {parse_node(node)[1]}", node, [command], inputs, [dl2])

    def _irf(self, node: str) -> Step:
        command = ("lstchain_create_irf_files", "-g", "{in:dl2}", "-o", "{out:irf}", "--overwrite",
                   "--config", f"{{file:{CUTS_FILE}}}")  # fmt: skip
        cuts, pointing = self.request.cuts, parse_node(node)[1]
        irf = Output(
            name="irf",
            kind=ArtifactKind.IRF,
            path=self.paths.irf(node, cuts.name),
            expect={
                "useful_energy_tev": list(cuts.useful_energy_tev),
                "zd_deg": pointing.zd_deg,
                "az_deg": pointing.az_deg,
                "point_like": cuts.point_like,
            },
        )
        inputs = [Input(name="dl2", kind=ArtifactKind.DL2, path=self.paths.test_dl2(self.test[node]))]
        stamp = (
            "python",
            "-m",
            "lstops.science.stamp",
            f"--cuts={{file:{CUTS_FILE}}}",
            "{out:irf}",
            f"CUTSET={cuts.name}",
        )
        return self._step("irf", f"IRF of {pointing}", node, [command, stamp], inputs, [irf], {CUTS_FILE: cuts.text})
