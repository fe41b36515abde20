"""A production at a given NSB level, of the needed nodes only: the lstmcpipe configuration that makes it, and its plan.

The extra NSB is simulated in the waveforms, from R0 on, because only there it is a number; at image level it is
measured with data (see `lstops.production.plan`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from lstops.errors import ConfigError
from lstops.nsb.tailcuts import Tailcut, pedestal_quantile_pe, tailcut_for
from lstops.production.config import LstmcpipeConfig, ProductionConfig, validate_pipe
from lstops.production.definition import dl2_file, read_production
from lstops.production.from_lstmcpipe import LstmcpipePlanRequest, plan_from_lstmcpipe
from lstops.production.grid import Grid, Line, Node, Particle
from lstops.production.lstchain_config import rate_key
from lstops.production.mc_files import Lister
from lstops.production.plan import forest_update
from lstops.reduction.cuts import SECTIONS, CutSet
from lstops.site.layout import Layout
from lstops.site.model import MAX_NSB_GHZ, Site
from lstops.step.model import Plan

#: Simulated raw events, below the site's base.
RAW = "mc/DL0/LSTProd2"
_TRAINING = (Particle.GAMMA_DIFFUSE, Particle.PROTONS)


@dataclass(frozen=True)
class LevelRequest:
    """What is asked for.

    Attributes
    ----------
    level_ghz : float
        Extra NSB over the dark Monte Carlo.
    lines : tuple of Line
        Forests are trained on each.
    test_nodes : tuple of Node
        DL2 and instrument responses are made at each, for each line.
    """

    production: str
    lstchain_version: str
    level_ghz: float
    lines: tuple[Line, ...]
    test_nodes: tuple[Node, ...]
    cuts: CutSet

    @property
    def tailcut(self) -> Tailcut:
        """The cleaning that data of this level have."""
        return tailcut_for(pedestal_quantile_pe(self.level_ghz))


def checked_level(level_ghz: float) -> float:
    """The level, if it can be one.

    Raises
    ------
    ConfigError
        If it is negative or absurd, or finer than names of productions are.
    """
    if not 0 <= level_ghz <= MAX_NSB_GHZ:
        raise ConfigError(
            f"{level_ghz:g} GHz is no level of extra NSB.",
            f"give 0 (dark) to {MAX_NSB_GHZ:g} GHz; the standard grid reaches from 0.00 to 2.34.",
        )
    if level_ghz != round(level_ghz, 2):
        raise ConfigError(
            f"a level of {level_ghz:g} GHz is finer than names of productions say: they have two decimals.",
            f"give {level_ghz:.2f}.",
        )
    return level_ghz + 0.0  # -0.0 is dark too


def plan_level(request: LevelRequest, site: Site, grid: Grid, lister: Lister) -> Plan:
    """Plan everything from the simulated raw events to the responses.

    Raises
    ------
    ConfigError
        If the level is absurd, the site lacks the version, or simulations of a node are missing.
    """
    checked_level(request.level_ghz)
    config = ProductionConfig(pipe=lstmcpipe_config(request, site, grid))
    plan = plan_from_lstmcpipe(
        LstmcpipePlanRequest(
            definition=read_production(config),
            site=site,
            lister=lister,
            lstchain_version=request.lstchain_version,
            roots=((f"{site.base}/", ""),),
            changes=chain_changes(request, site),
        )
    )
    lines = ", ".join(line.name for line in request.lines)
    context = {
        **plan.context,
        "nsb_ghz": request.level_ghz,
        "tailcut": request.tailcut.directory,
        "cuts": request.cuts.name,
        "cuts_sha256": request.cuts.digest,
    }
    title = f"{request.production}: {lines}, {len(request.test_nodes)} test nodes, {request.level_ghz:.2f} GHz"
    return plan.model_copy(update={"title": title, "context": context})


def chain_changes(request: LevelRequest, site: Site) -> dict[str, Any]:
    """What is changed in the Monte Carlo configuration of the version: NSB, cleaning, forests, and the one cut set."""
    cuts = json.loads(request.cuts.text)
    tuning: dict[str, Any] = {"nsb_tuning": request.level_ghz > 0}
    if request.level_ghz > 0:
        tuning[rate_key(request.lstchain_version)] = request.level_ghz
    cleaning = {"picture_thresh": request.tailcut.picture_pe, "boundary_thresh": request.tailcut.boundary_pe}
    sections = {name: cuts[name] for name in (*SECTIONS, "IRFFITSWriter") if name in cuts}
    forests = forest_update(site.production.forests)
    return {"waveform_nsb_tuning": tuning, "tailcut": cleaning, **forests, **sections}


def lstmcpipe_config(request: LevelRequest, site: Site, grid: Grid) -> LstmcpipeConfig:
    """The same production as lstmcpipe would be told to make it at this site."""
    if not request.lines or not request.test_nodes:
        raise ConfigError("a production needs a declination line and test nodes.", "name a target or a line.")
    stages = _Writer(request, site, grid).stages()
    return written_config(request.production, request.lstchain_version, stages, site)


def written_config(
    production: str, lstchain_version: str, stages: dict[str, list[dict[str, Any]]], site: Site
) -> LstmcpipeConfig:
    """The configuration of a production of ours: all of its stages are to run."""
    return validate_pipe(
        {
            "workflow_kind": "lstchain",
            "prod_id": production,
            "source_environment": {
                "source_file": str(site.environment(lstchain_version).activate),
                "conda_env": f"lstchain-v{lstchain_version}",
            },
            "stages_to_run": list(stages),
            "stages": stages,
        },
        production,
    )


class _Writer:
    def __init__(self, request: LevelRequest, site: Site, grid: Grid) -> None:
        self.request, self.site, self.grid = request, site, grid
        self.layout = Layout(site.base, site.work)

    def stages(self) -> dict[str, list[dict[str, Any]]]:
        return {
            "r0_to_dl1": list(self._r0_to_dl1()),
            "merge_dl1": list(self._merge()),
            "train_pipe": [self._train(line) for line in self.request.lines],
            "dl1_to_dl2": [self._dl2(line, node) for line in self.request.lines for node in self.request.test_nodes],
            "dl2_to_irfs": [self._irf(line, node) for line in self.request.lines for node in self.request.test_nodes],
        }

    def _at(self, relative: str) -> str:
        return f"{self.site.base}/{relative}"

    def _name(self, node: Node) -> str:
        return node.name(self.grid.test_prefix)

    def _r0_to_dl1(self) -> Iterator[dict[str, Any]]:
        production = self.request.production
        for line in self.request.lines:
            for particle in _TRAINING:
                raw = f"{RAW}/TrainingDataset/{particle.value}/{line.name}/sim_telarray"
                for node in line.nodes:
                    name = line.node_name(node, particle)
                    output = self.layout.mc_dl1_train(production, line.name, particle.value, name)
                    yield {"input": self._at(f"{raw}/{name}/output_v1.4"), "output": self._at(output)}
        for node in self.request.test_nodes:
            raw = f"{RAW}/TestDataset/sim_telarray/{self._name(node)}/output_v1.4"
            yield {"input": self._at(raw), "output": self._at(self._test_dl1(node))}

    def _test_dl1(self, node: Node) -> str:
        return self.layout.mc_dl1_test(self.request.production, Particle.GAMMA.value, self._name(node))

    def _merged_test(self, node: Node) -> str:
        return f"{self._test_dl1(node)}/dl1_{self.request.production}_{self._name(node)}_merged.h5"

    def _merged_train(self, line: Line, particle: Particle) -> str:
        return self.layout.mc_dl1_train_merged(self.request.production, line.name, particle.value)

    def _merge(self) -> Iterator[dict[str, Any]]:
        for line in self.request.lines:
            for particle in _TRAINING:
                output = self._merged_train(line, particle)
                folder = self._at(output.rpartition("/")[0])
                yield {"input": folder, "output": self._at(output), "options": "--pattern */*.h5 --no-image"}
        for node in self.request.test_nodes:
            target = self._at(self._merged_test(node))
            yield {"input": self._at(self._test_dl1(node)), "output": target, "options": "--no-image"}

    def _train(self, line: Line) -> dict[str, Any]:
        gamma, proton = (self._at(self._merged_train(line, particle)) for particle in _TRAINING)
        models = self._at(self.layout.models(self.request.production, line.name))
        return {"input": {"gamma": gamma, "proton": proton}, "output": models}

    def _dl2_folder(self, line: Line, node: Node) -> str:
        production, particle = self.request.production, Particle.GAMMA.value
        return self._at(self.layout.mc_dl2_test(production, particle, line.name, self._name(node)))

    def _dl2(self, line: Line, node: Node) -> dict[str, Any]:
        return {
            "input": self._at(self._merged_test(node)),
            "path_model": self._at(self.layout.models(self.request.production, line.name)),
            "output": self._dl2_folder(line, node),
        }

    def _irf(self, line: Line, node: Node) -> dict[str, Any]:
        request = self.request
        folder = self.layout.irf_dir(request.production, Particle.GAMMA.value, line.name, request.cuts.name)
        return {
            "input": {"gamma_file": dl2_file(self._merged_test(node), self._dl2_folder(line, node))},
            "output": self._at(f"{folder}/irf_{request.production}_{self._name(node)}.fits.gz"),
            "options": " ".join(irf_options(request.cuts)),
        }


def irf_options(cuts: CutSet) -> Sequence[str]:
    """Switches of lstchain_create_irf_files that a cut set asks for."""
    writer = json.loads(cuts.text).get("IRFFITSWriter", {})
    switches = ("point_like", "energy_dependent_gh", "energy_dependent_theta")
    return [f"--{name.replace('_', '-')}" for name in switches if writer.get(name)]
