"""The tasks of a Monte Carlo production."""

from __future__ import annotations

import json
import statistics
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from lstops.catalog.database import catalog_session
from lstops.catalog.nights import night_runs, run_table
from lstops.catalog.products import RegisteredProduction, record_manifests, register_production
from lstops.errors import DataError, ProductInvalid
from lstops.night import Night
from lstops.nsb.finder import RunNsb
from lstops.nsb.sample import TypicalSubrun, sample_nsb
from lstops.operations.nightly import layout_of, read_nsb, selected_runs
from lstops.production.inventory import scan_inventory
from lstops.production.plan import TunedProductionRequest, plan_tuned_production
from lstops.quality.datacheck import read_datacheck
from lstops.quality.profiles import load_profile
from lstops.reduction.cuts import load_cuts
from lstops.site.model import Site
from lstops.step.assess import Standing, assess
from lstops.step.manifest import Manifest, ManifestStore
from lstops.step.model import ArtifactKind, Plan
from lstops.step.plans import load_plan, save_plan


def typical_subrun(site: Site, night: Night, profile: str | None = None) -> TypicalSubrun:
    """The subrun of a selected run whose NSB is nearest to the median of the selected runs.

    Raises
    ------
    DataError
        If no run is selected or none has interleaved pedestals.
    """
    layout = layout_of(site)
    runs = [run.number for run in selected_runs(site, night, profile)]
    rules = load_profile(profile or site.nightly.profile).sample
    datacheck = read_datacheck(layout.absolute(layout.datacheck(night, site.nightly.pipeline_version)))
    with catalog_session() as session:
        table = run_table([row for row in night_runs(session, night) if row.run_id in runs])
    sample = sample_nsb(
        table.mean_diffuse_nsb_std_pe,
        datacheck.subruns,
        table.run_number,
        ignore_unknown=rules.ignore_runs_without_nsb,
        spread=rules.spread_typical_subruns,
        n_typical=rules.n_typical_subruns,
    )
    if not sample.typical:
        raise DataError(
            f"night {night.iso} has no selected run whose NSB is known ({len(runs)} runs selected).",
            "name a night with good runs and interleaved pedestals; see `lstops why RUN` for the verdicts.",
        )
    return sample.typical[0]


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


def production_name(site: Site, night: Night, level_ghz: float) -> str:
    """Name of a production tuned to a night: what it is for, by whose software, at which level."""
    return f"{night}_v{site.nightly.lstchain_version}_nsb_tuning_{level_ghz:.2f}"


def plan_for_night(site: Site, night: Night, profile: str | None = None) -> str:
    """Plan the production that fits the selected runs of a night and store the plan; returns its id."""
    plan = build_plan(site, night, profile)
    save_plan(plan, site)
    return plan.plan_id


def build_plan(site: Site, night: Night, profile: str | None = None) -> Plan:
    """The plan of the production that fits the selected runs of a night.

    Raises
    ------
    DataError
        If no run is selected, or the NSB of none is known.
    """
    layout = layout_of(site)
    nightly = site.nightly
    typical = typical_subrun(site, night, profile)
    nsb, _ = read_nsb(site, night, (run.number for run in selected_runs(site, night, profile)))
    level = production_level_ghz(nsb)
    subrun = layout.dl1_subrun(night, nightly.pipeline_version, nightly.tailcut, typical.run_number, typical.subrun)
    request = TunedProductionRequest(
        production=production_name(site, night, level),
        lstchain_version=nightly.lstchain_version,
        subrun=subrun,
        cuts=load_cuts(site.cuts),
    )
    inventory = scan_inventory(layout, site.production.base_production, nightly.declination_line)
    plan = plan_tuned_production(request, site, inventory)
    return plan.model_copy(
        update={"context": {**plan.context, "night": str(night), "nsb_level_ghz": level, "tailcut": nightly.tailcut}}
    )


@dataclass(frozen=True)
class StageCost:
    """What a stage needs.

    Attributes
    ----------
    cpu_h : float or None
        CPU hours of the steps to do, from the mean of earlier steps of the same kind; None if there were none.
    """

    stage: str
    steps: int
    to_do: int
    cpu_h: float | None
    mem_mb: int


def plan_cost(site: Site, plan: Plan) -> tuple[StageCost, ...]:
    """Cost of what is left to do of a plan, stage by stage."""
    layout = layout_of(site)
    seen: dict[str, list[float]] = defaultdict(list)
    for manifest in ManifestStore(layout.manifests).all():
        seen[manifest.kind].append(manifest.cpu_s)
    found = assess(plan, layout, site)
    costs = []
    for stage in plan.stages:
        left = [found[i].step for i in plan.indices(stage.name) if found[i].state is not Standing.DONE]
        known = all(step.kind in seen for step in left)
        cpu_h = sum(statistics.mean(seen[step.kind]) for step in left) / 3600 if known else None
        memory = max((step.resources.mem_mb for step in stage.steps), default=0)
        costs.append(StageCost(stage.name, len(stage.steps), len(left), cpu_h, memory))
    return tuple(costs)


def manifests_of(site: Site, plan_id: str) -> list[Manifest]:
    """The manifests of a plan whose every step is done.

    Raises
    ------
    ProductInvalid
        If a step is not done: a production with a hole is never registered.
    """
    layout = layout_of(site)
    plan = load_plan(layout.plan_file(plan_id))
    open_steps = [a for a in assess(plan, layout, site) if a.state is not Standing.DONE]
    if open_steps:
        first = open_steps[0]
        raise ProductInvalid(
            f"{plan.title}: {len(open_steps)} of {len(plan.steps())} steps are not done, "
            f"the first is {first.step.label!r} ({first.reason}).",
            "run mc_production again: it computes only what is missing.",
        )
    store = ManifestStore(layout.manifests)
    found = [store.read(step.primary.path) for step in plan.steps()]
    return [manifest for manifest in found if manifest is not None]


def register(site: Site, plan_id: str) -> str:
    """Register the production of a finished plan, with its products and their lineage; returns its name."""
    layout = layout_of(site)
    manifests = manifests_of(site, plan_id)
    context = load_plan(layout.plan_file(plan_id)).context
    outputs = {output.kind: output for manifest in manifests for output in manifest.outputs}
    models, irf, config = (
        outputs[kind] for kind in (ArtifactKind.MODELS, ArtifactKind.IRF, ArtifactKind.LSTCHAIN_CONFIG)
    )
    production = RegisteredProduction(
        name=context["production"],
        line=context["line"],
        lstchain_version=site.nightly.lstchain_version,
        tailcut=context["tailcut"],
        nsb_level_ghz=context["nsb_level_ghz"],
        models_path=models.path,
        models_sha256=models.state.sha256,
        irf_dir=irf.path.rsplit("/", 1)[0],
        config=json.loads(layout.absolute(config.path).read_text()),
        facts={**models.facts, "cuts_sha256": context["cuts_sha256"], "config_path": config.path},
        plan_id=plan_id,
    )
    with catalog_session() as session:
        record_manifests(session, manifests)
        register_production(session, production)
    return production.name
