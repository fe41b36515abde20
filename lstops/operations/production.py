"""The tasks of a Monte Carlo production: from a sample of runs to a plan, from a finished plan to the registry."""

from __future__ import annotations

import json
import posixpath
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lstops.catalog.database import catalog_session
from lstops.catalog.nights import find_run, night_runs, run_table
from lstops.catalog.productions import RegisteredProduction, register_production
from lstops.catalog.products import CURRENT, record_manifests
from lstops.catalog.requests import close_requests
from lstops.catalog.tables import ProductionRow
from lstops.errors import DataError, ProductInvalid
from lstops.night import Night
from lstops.nsb.finder import RunNsb
from lstops.nsb.sample import TypicalSubrun, sample_nsb
from lstops.nsb.tailcuts import Tailcut
from lstops.operations.nightly import layout_of, read_nsb, selected_runs
from lstops.production.grid import Node, Particle, line_in_path, particle_in_path
from lstops.production.inventory import only_test_nodes, scan_inventory
from lstops.production.outline import outline_of
from lstops.production.plan import TunedProductionRequest, plan_tuned_production
from lstops.production.reuse import Method, Settings
from lstops.quality.datacheck import read_datacheck
from lstops.quality.profiles import load_profile
from lstops.quality.tables import SubrunTable
from lstops.reduction.cuts import load_cuts
from lstops.site.model import Site
from lstops.step.assess import Standing, assess
from lstops.step.manifest import Manifest, ManifestStore, full_state
from lstops.step.model import ArtifactKind, Plan
from lstops.step.plans import load_plan

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


def typical_subrun(site: Site, sample: Sample, profile: str | None = None) -> TypicalSubrun:
    """The subrun of the sample whose NSB is nearest to the median of its runs.

    Raises
    ------
    DataError
        If none has interleaved pedestals.
    """
    layout, version = layout_of(site), site.nightly.pipeline_version
    rules = load_profile(profile or site.nightly.profile).sample
    subruns = [read_datacheck(layout.absolute(layout.datacheck(n, version))).subruns for n in sample.nights]
    with catalog_session() as session:
        rows = [row for night in sample.nights for row in night_runs(session, night) if row.run_id in sample.runs]
        table = run_table(rows)
    found = sample_nsb(
        table.mean_diffuse_nsb_std_pe,
        SubrunTable.concatenate(subruns),
        table.run_number,
        ignore_unknown=rules.ignore_runs_without_nsb,
        spread=rules.spread_typical_subruns,
        n_typical=rules.n_typical_subruns,
    )
    if not found.typical:
        nights = ", ".join(night.iso for night in sample.nights)
        raise DataError(
            f"none of the {len(sample.runs)} runs of {nights} has a known NSB.",
            "name a night with good runs and interleaved pedestals; see `lstops why RUN` for the verdicts.",
        )
    return found.typical[0]


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


def production_name(site: Site, sample: Sample, level_ghz: float) -> str:
    """Name of a production tuned to data: what it is for, by whose software, at which level."""
    return f"{sample.name}_v{site.nightly.lstchain_version}_nsb_tuning_{level_ghz:.2f}"


def build_plan(
    site: Site, sample: Sample, line: str, profile: str | None = None, keep: NodeFilter | None = None,
    name: str | None = None,
) -> Plan:  # fmt: skip
    """The plan of the production that fits a sample of runs.

    Parameters
    ----------
    line : str
        Declination line to train on.
    keep : callable, optional
        Which of the base production's test nodes are needed; default: all.
    name : str, optional
        Of the production; default: night, version and level.

    Raises
    ------
    DataError
        If the NSB of no run is known.
    """
    layout, nightly = layout_of(site), site.nightly
    typical = typical_subrun(site, sample, profile)
    nsb = {}
    for night in sample.nights:
        nsb.update(read_nsb(site, night, [run for run, n in sample.runs.items() if n == night])[0])
    level = production_level_ghz(nsb)
    request = TunedProductionRequest(
        production=name or production_name(site, sample, level),
        lstchain_version=nightly.lstchain_version,
        subrun=layout.dl1_subrun(
            typical.night, nightly.pipeline_version, nightly.tailcut, typical.run_number, typical.subrun
        ),
        cuts=load_cuts(site.cuts),
    )
    inventory = scan_inventory(layout, site.production.base_production, line)
    if keep is not None:
        inventory = only_test_nodes(inventory, keep(inventory.test_nodes))
    plan = plan_tuned_production(request, site, inventory)
    context = {
        **plan.context,
        "night": sample.name,
        "runs": sorted(sample.runs),
        "nsb_level_ghz": level,
        "tailcut": nightly.tailcut,
        "test_nodes": [str(node) for node in inventory.test_nodes],
    }
    context["settings_sha256"] = {line: tuned_settings(site, context).digest}
    return plan.model_copy(update={"context": context})


def tuned_settings(site: Site, context: Mapping[str, Any]) -> Settings:
    """What makes a tuned production differ from others, besides level and test nodes; from its plan's context."""
    return Settings(
        lstchain_version=site.nightly.lstchain_version,
        line=context["line"],
        tailcut=context["tailcut"],
        cuts_sha256=context["cuts_sha256"],
        forests=site.production.forests,
        method=Method.IMAGE,
        source=context["base_production"],
        training_nodes=tuple(context["nodes"]),
    )


def require_whole(site: Site, plan: Plan) -> None:
    """Refuse a production with a hole.

    Raises
    ------
    ProductInvalid
        Naming the nodes (or lines) that are not whole, and why the first is not.
    """
    holes = [found for found in assess(plan, layout_of(site), site) if found.state is not Standing.DONE]
    if not holes:
        return
    outline = outline_of(plan)
    where = list(dict.fromkeys(outline.steps[hole.index].where for hole in holes))
    named = ", ".join(where[:6]) + (f" and {len(where) - 6} more" if len(where) > 6 else "")
    raise ProductInvalid(
        f"{plan.title} is not registered: {len(holes)} of {len(outline.steps)} steps are not done, at {named}. "
        f"The first is {holes[0].step.label!r} ({holes[0].reason}).",
        f"`lstops production holes {plan.context['production']}` says why; then run mc_production again: it computes "
        "only what is missing.",
    )


def require_unchanged(site: Site, manifests: Iterable[Manifest]) -> None:
    """Refuse forests and responses whose content is not what the verifiers saw; size and time can be forged.

    Raises
    ------
    ProductInvalid
        Naming the first that differs.
    """
    layout = layout_of(site)
    used = (ArtifactKind.MODELS, ArtifactKind.IRF, ArtifactKind.LSTCHAIN_CONFIG)
    for output in (o for manifest in manifests for o in manifest.outputs if o.kind in used):
        if full_state(layout.absolute(output.path)).sha256 != output.state.sha256:
            raise ProductInvalid(
                f"{output.path} is not what was verified when it was made.",
                "remove it and run mc_production again, and find out who changed it.",
            )


def registrations(site: Site, plan_id: str) -> tuple[RegisteredProduction, ...]:
    """What a finished plan registers: one production a declination line. Nothing is written.

    Raises
    ------
    ProductInvalid
        If a step is not done, or the plan makes no forests or no responses: it cannot be used for data.
    """
    layout = layout_of(site)
    plan = load_plan(layout.plan_file(plan_id))
    require_whole(site, plan)
    outputs = [output for manifest in manifests_of(site, plan) for output in manifest.outputs]
    (config,) = (output for output in outputs if output.kind is ArtifactKind.LSTCHAIN_CONFIG)
    forests = [output for output in outputs if output.kind is ArtifactKind.MODELS]
    irfs = [o.path for o in outputs if o.kind is ArtifactKind.IRF]
    irfs = [path for path in irfs if particle_in_path(path) is not Particle.GAMMA_DIFFUSE]  # those are for tests
    made = [(models, line_in_path(models.path) or str(plan.context.get("line", ""))) for models in forests]
    found = [(models, line, [p for p in irfs if line_in_path(p) == line]) for models, line in made]
    if not found or not all(responses for _, _, responses in found):
        raise ProductInvalid(
            f"{plan.title}: {len(forests)} set(s) of forests, {len(irfs)} response(s); every line needs both.",
            "plan a production that trains and makes IRFs, or use its products by hand.",
        )
    chain = json.loads(layout.absolute(config.path).read_text())
    return tuple(
        RegisteredProduction(
            name=plan.context["production"],
            line=line,
            lstchain_version=plan.lstchain_version,
            tailcut=plan.context.get("tailcut") or _tailcut_of(chain),
            nsb_level_ghz=_level_of(plan),
            models_path=models.path,
            models_sha256=models.state.sha256,
            irf_dir=posixpath.commonpath([path.rsplit("/", 1)[0] for path in responses]),
            config=chain,
            facts={
                **models.facts,
                "cuts_sha256": plan.context.get("cuts_sha256", ""),
                "config_path": config.path,
                "settings_sha256": plan.context.get("settings_sha256", {}).get(line, ""),
                "test_nodes": plan.context.get("test_nodes", []),
            },
            plan_id=plan_id,
        )
        for models, line, responses in found
    )


def _tailcut_of(chain: Mapping[str, Any]) -> str:
    cleaning = chain.get("tailcut") or chain["tailcuts_clean_with_pedestal_threshold"]
    return Tailcut(int(cleaning["picture_thresh"]), int(cleaning["boundary_thresh"])).directory


def _level_of(plan: Plan) -> float:
    level = plan.context.get("nsb_level_ghz", plan.context.get("nsb_ghz"))
    if level is None:
        raise ProductInvalid(
            f"{plan.title} does not say which NSB it has.", "write the NSB tuning into its lstchain configuration."
        )
    return float(level)


def manifests_of(site: Site, plan: Plan) -> list[Manifest]:
    """The manifests of a plan whose every step is done."""
    store = ManifestStore(layout_of(site).manifests)
    found = [store.read(step.primary.path) for step in plan.steps()]
    return [manifest for manifest in found if manifest is not None]


def register(site: Site, plan_id: str) -> str:
    """Register the production of a finished plan, with its products and their lineage; returns its name.

    Raises
    ------
    ProductInvalid
        If the production has a hole, or its forests or responses are not what was verified when they were made.
    """
    productions = registrations(site, plan_id)
    manifests = manifests_of(site, load_plan(layout_of(site).plan_file(plan_id)))
    require_unchanged(site, manifests)
    with catalog_session() as session:
        record_manifests(session, manifests)
        for production in productions:
            if register_production(session, production, site.production.register_as) == CURRENT:
                row = session.get_one(ProductionRow, (production.name, production.line))
                close_requests(session, row, site.nightly.nsb_tolerance_ghz)
    return productions[0].name
