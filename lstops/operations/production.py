"""The plan of a Monte Carlo production that is tuned to a sample of runs."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lstops.catalog.database import catalog_session
from lstops.catalog.nights import find_run, night_runs, run_table
from lstops.errors import DataError
from lstops.night import Night
from lstops.nsb.finder import RunNsb
from lstops.nsb.sample import SampleNsb, TypicalSubrun, sample_nsb
from lstops.operations.nightly import layout_of, read_nsb, selected_runs
from lstops.operations.trainers import comparison
from lstops.production.grid import Node
from lstops.production.inventory import only_test_nodes, scan_inventory
from lstops.production.plan import TunedProductionRequest, plan_tuned_production
from lstops.production.pull_request import tuned_lstmcpipe_config, with_pull_request
from lstops.production.reuse import Method, Settings
from lstops.production.trainer import name_suffix
from lstops.quality.datacheck import read_datacheck
from lstops.quality.profiles import load_profile
from lstops.quality.tables import SubrunTable
from lstops.reduction.cuts import load_cuts
from lstops.science.tune_nsb import TuningLevel
from lstops.site.model import Site, Trainer
from lstops.step.model import Plan

NodeFilter = Callable[[Sequence[Node]], Sequence[Node]]


@dataclass(frozen=True)
class Sample:
    """The runs whose sky a production shall have.

    Attributes
    ----------
    runs : dict
        Run number -> its night.
    """

    runs: Mapping[int, Night]

    @property
    def nights(self) -> tuple[Night, ...]:
        """Nights of the runs, in order."""
        return tuple(sorted(set(self.runs.values())))

    @property
    def name(self) -> str:
        """For a production's name: the night, or the first of several."""
        return str(self.nights[0])


def sample_of(site: Site, night: Night | None, runs: Sequence[int], profile: str | None = None) -> Sample:
    """The selected runs of a night, or the runs that are named.

    Raises
    ------
    DataError
        If there are none.
    """
    if night is not None:
        chosen = {run.number: night for run in selected_runs(site, night, profile)}
    else:
        with catalog_session() as session:
            chosen = {run: Night(find_run(session, run).night) for run in runs}
    if not chosen:
        raise DataError(
            f"no run of the night {night.iso} is selected." if night else "no run is named.",
            "name a night with good runs; see `lstops why RUN` for the verdicts.",
        )
    return Sample(chosen)


@dataclass(frozen=True)
class Tuned:
    """What a production is tuned to.

    Attributes
    ----------
    nsb : SampleNsb
        Of the sample, with the recommendation of the selection.
    subruns : tuple of str
        DL1 of the typical subruns, relative to the site's base.
    level_ghz : float
        Median extra NSB of the runs.
    """

    sample: Sample
    nsb: SampleNsb
    subruns: tuple[str, ...]
    level_ghz: float

    @property
    def context(self) -> dict[str, Any]:
        """What the context of a plan says about it."""
        runs = sorted(self.sample.runs)
        return {"night": self.sample.name, "sample_runs": runs, "nsb_level_ghz": self.level_ghz}


def tuned_to(site: Site, sample: Sample, profile: str | None = None) -> Tuned:
    """What a production for a sample of runs is tuned to.

    Raises
    ------
    DataError
        If the NSB of no run is known, or the DL1 was made by another version of lstchain.
    """
    found = nsb_of_sample(site, sample, profile)
    typical = typical_subruns(site, sample, found)
    _require_version(site, typical)
    nsb = {}
    for night in sample.nights:
        nsb.update(read_nsb(site, night, [run for run, n in sample.runs.items() if n == night])[0])
    return Tuned(sample, found, tuple(_dl1(site, subrun) for subrun in typical), production_level_ghz(nsb))


def nsb_of_sample(site: Site, sample: Sample, profile: str | None = None) -> SampleNsb:
    """The NSB of a sample by its data check, what is recommended for it, and its typical subruns."""
    layout, version = layout_of(site), site.nightly.pipeline_version
    rules = load_profile(profile or site.nightly.profile).sample
    subruns = [read_datacheck(layout.absolute(layout.datacheck(n, version))).subruns for n in sample.nights]
    with catalog_session() as session:
        rows = [row for night in sample.nights for row in night_runs(session, night) if row.run_id in sample.runs]
        table = run_table(rows)
    return sample_nsb(
        table.mean_diffuse_nsb_std_pe,
        SubrunTable.concatenate(subruns),
        table.run_number,
        ignore_unknown=rules.ignore_runs_without_nsb,
        spread=rules.spread_typical_subruns,
        n_typical=rules.n_typical_subruns,
    )


def typical_subruns(site: Site, sample: Sample, found: SampleNsb) -> tuple[TypicalSubrun, ...]:
    """The subruns of the sample whose NSB is nearest to the median of its runs, the nearest first.

    As many as the site tunes with; the DL1 of each is there, if that of any is.

    Parameters
    ----------
    found : SampleNsb
        Of this sample, see `nsb_of_sample`.

    Raises
    ------
    DataError
        If none has interleaved pedestals.
    """
    if not found.typical:
        nights = ", ".join(night.iso for night in sample.nights)
        raise DataError(
            f"none of the {len(sample.runs)} runs of {nights} has a known NSB.",
            "name a night with good runs and interleaved pedestals; see `lstops why RUN` for the verdicts.",
        )
    layout = layout_of(site)
    there = [t for t in found.typical if layout.absolute(_dl1(site, t)).exists()]
    return tuple(there or found.typical[:1])[: site.production.tuning_subruns]


def _require_version(site: Site, typical: Sequence[TypicalSubrun]) -> None:
    """The Monte Carlo is configured as the data were: by the same version of lstchain.

    Raises
    ------
    DataError
        If the DL1 of a typical subrun was made by another one.
    """
    from lstops.step.verify.dl1 import made_by

    wanted = site.nightly.lstchain_version
    for path in (_dl1(site, subrun) for subrun in typical):
        found = made_by(layout_of(site).absolute(path))
        if found not in (None, wanted):
            raise DataError(
                f"{path} was made by lstchain {found}, the Monte Carlo would be by {wanted}, whose standard "
                "configuration (`lstchain_dump_config --mc`) is not that of the data.",
                f"add lstchain {found} to `environments` of the site file and plan with it (--lstchain, in the form "
                f"lstchain_version), or wait for DL1 of {wanted}.",
            )


def _dl1(site: Site, subrun: TypicalSubrun) -> str:
    nightly = site.nightly
    return layout_of(site).dl1_subrun(
        subrun.night, nightly.pipeline_version, nightly.tailcut, subrun.run_number, subrun.subrun
    )


def production_level_ghz(nsb: Mapping[int, RunNsb]) -> float:
    """The NSB level of a production for these runs: their median, never below the dark simulation.

    Raises
    ------
    DataError
        If the NSB of no run is known.
    """
    if not nsb:
        raise DataError("the NSB of no selected run is known.", "look at the log of the stage `nsb`.")
    return max(0.0, round(statistics.median(run.extra_ghz for run in nsb.values()), 2))


def production_name(
    site: Site, tuned: Tuned, level: TuningLevel = TuningLevel.IMAGE, trainer: Trainer = Trainer.LSTCHAIN
) -> str:
    """Name of a production tuned to data: what it is for, by whose software, how much NSB, and where it is put."""
    where = "" if level is TuningLevel.IMAGE else f"_{level.value}"
    version = site.nightly.lstchain_version
    return f"{tuned.sample.name}_v{version}_nsb_tuning_{tuned.level_ghz:.2f}{where}{name_suffix(trainer)}"


def build_plan(
    site: Site, tuned: Tuned, line: str, keep: NodeFilter | None = None, name: str | None = None,
    trainer: Trainer = Trainer.LSTCHAIN,
) -> Plan:  # fmt: skip
    """The plan of the production whose images are tuned to a sample of runs.

    Parameters
    ----------
    line : str
        Declination line to train on.
    keep : callable, optional
        Which of the base production's test nodes are needed; default: all.
    name : str, optional
        Of the production; default: night, version and level.
    trainer : Trainer
        Named in its context and settings; the steps are lstchain's.
    """
    layout, nightly = layout_of(site), site.nightly
    request = TunedProductionRequest(
        production=name or production_name(site, tuned, trainer=trainer),
        lstchain_version=nightly.lstchain_version,
        subruns=tuned.subruns,
        cuts=load_cuts(site.cuts),
    )
    inventory = scan_inventory(layout, site.production.base_production, line)
    if keep is not None:
        inventory = only_test_nodes(inventory, keep(inventory.test_nodes))
    plan = plan_tuned_production(request, site, inventory)
    context = {
        **plan.context,
        **tuned.context,
        "tailcut": nightly.tailcut,
        "test_nodes": [str(node) for node in inventory.test_nodes],
    }
    settings = {line: tuned_settings(site, context, trainer)}
    context = {**context, "settings_sha256": {line: settings[line].digest}, **comparison(settings)}
    plan = plan.model_copy(update={"context": context})
    return with_pull_request(plan, tuned_lstmcpipe_config(request, site, inventory), site)


def tuned_settings(site: Site, context: Mapping[str, Any], trainer: Trainer) -> Settings:
    """What makes a tuned production differ from others, besides level and test nodes; from its plan's context."""
    return Settings(
        lstchain_version=site.nightly.lstchain_version,
        line=context["line"],
        tailcut=context["tailcut"],
        cuts_sha256=context["cuts_sha256"],
        forests=site.production.forests,
        trainer=trainer,
        method=Method.IMAGE,
        source=context["base_production"],
        training_nodes=tuple(context["nodes"]),
    )
