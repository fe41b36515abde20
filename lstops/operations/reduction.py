"""The tasks of a night from the plan of its reduction to its publication."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

from lstops.catalog.database import catalog_session
from lstops.catalog.nights import find_night, night_runs, quarantine_of, run_table, save_quarantine
from lstops.catalog.products import current_productions, mark_published, record_manifests
from lstops.catalog.tables import ProductionRow, RunRow
from lstops.catalog.verdicts import verdicts
from lstops.errors import DataError, LstOpsError
from lstops.night import Night, Run
from lstops.nsb.finder import RunNsb
from lstops.nsb.match import LevelMatch, NsbLevel, match_level
from lstops.nsb.tailcuts import Tailcut
from lstops.operations.nightly import layout_of, read_nsb, selected_runs
from lstops.publish.bundle import build_bundle
from lstops.publish.model import BundleRequest, RunVerdict, Source
from lstops.publish.publisher import publish as publish_bundle
from lstops.quality.profiles import load_profile
from lstops.reduction.collection import SourceFiles
from lstops.reduction.collection import plan_collection as plan_sources
from lstops.reduction.cuts import load_cuts
from lstops.reduction.geometry import Field, IrfNode
from lstops.reduction.plan import ModelSet, NightRequest, RunJob, plan_night, split_runs
from lstops.reduction.pointing import mean_azimuth_deg
from lstops.site.layout import Layout, parse_run_file
from lstops.site.model import Site
from lstops.step.assess import Standing, assess
from lstops.step.manifest import ManifestStore
from lstops.step.model import ArtifactKind, Plan, Step
from lstops.step.plans import load_plan, save_plan

Causes = dict[str, tuple[str, str]]
MATCH_STAGE = "match"


def plan_reduction(site: Site, night: Night, profile: str | None = None) -> str:
    """Match models to the selected runs and plan their DL2 and DL3; returns the plan's id.

    Runs that cannot be reduced (no models for their NSB, outside the IRF nodes, no source) are quarantined with the
    reason and what helps.
    """
    nightly = site.nightly
    runs = selected_runs(site, night, profile)
    with catalog_session() as session:
        rows = {row.run_id: row for row in night_runs(session, night)}
        productions = current_productions(session, nightly.declination_line)
    jobs, causes = match_runs(site, night, runs, rows, productions)
    accepted, refused = split_runs(jobs, Field.at(datetime.now(timezone.utc)))
    causes |= {f"run {refusal.run}": (refusal.reason, refusal.remedy) for refusal in refused}
    request = NightRequest(
        night, nightly.pipeline_version, nightly.tailcut, nightly.lstchain_version, load_cuts(site.cuts), accepted
    )
    plan = plan_night(request, site)
    plan = plan.model_copy(
        update={"context": {**plan.context, "profile": load_profile(profile or nightly.profile).name}}
    )
    save_plan(plan, site)
    with catalog_session() as session:
        save_quarantine(session, night, plan.plan_id, MATCH_STAGE, causes)
        find_night(session, night).reduction_plan = plan.plan_id
        find_night(session, night).collection_plan = None
    return plan.plan_id


def match_runs(
    site: Site, night: Night, runs: Sequence[Run], rows: Mapping[int, RunRow], productions: Sequence[ProductionRow]
) -> tuple[list[RunJob], Causes]:
    """Find the models of each run; runs without are returned with cause and remedy."""
    nsb, unmeasured = read_nsb(site, night, (run.number for run in runs))
    by_name = {row.name: row for row in productions}
    levels = [level_of(row) for row in productions]
    jobs: list[RunJob] = []
    causes: Causes = {
        f"run {run}": (error.what, "look at the log of the stage `nsb`, or exclude the run with a reason.")
        for run, error in unmeasured.items()
    }
    for run in runs:
        if run.number in unmeasured:
            continue
        match = match_level(nsb[run.number], levels, site.nightly.nsb_tolerance_ghz, site.nightly.lstchain_version)
        if not match.usable or match.level is None:
            causes[f"run {run.number}"] = (match.explanation, _request_of(match, nsb[run.number]))
            continue
        try:
            jobs.append(_job(site, night, run, rows[run.number], by_name[match.level.name]))
        except LstOpsError as error:
            causes[f"run {run.number}"] = (error.what, error.remedy)
    return jobs, causes


def level_of(row: ProductionRow) -> NsbLevel:
    """A registered production as the matching wants it."""
    return NsbLevel(row.nsb_level_ghz, Tailcut.parse(row.tailcut), row.lstchain_version, row.name)


def _request_of(match: LevelMatch, nsb: RunNsb) -> str:
    return (
        f"request a production at {nsb.extra_ghz:.2f} GHz with {nsb.tailcut.directory} (DAG mc_production), "
        f"or exclude run {match.run_number} with a reason."
    )


def _job(site: Site, night: Night, run: Run, row: RunRow, production: ProductionRow) -> RunJob:
    layout, nightly = layout_of(site), site.nightly
    source = run.source
    if source is None or source.ra_deg is None or source.dec_deg is None:
        raise DataError(
            f"run {run.number} has no source with coordinates in the run catalogue.",
            "add the source to the site's target list or the run to the run catalogue.",
        )
    quantities = row.quantities
    middle_s = quantities["start_s"] + (quantities["elapsed_time_s"] or 0.0) / 2
    return RunJob(
        run=run.number,
        dl1=layout.dl1_run(night, nightly.pipeline_version, nightly.tailcut, run.number),
        source=source.name,
        ra_deg=source.ra_deg,
        dec_deg=source.dec_deg,
        zd_deg=zenith_deg(row),
        az_deg=mean_azimuth_deg(quantities["mean_ra_deg"], quantities["mean_dec_deg"], middle_s, site.observatory),
        models=ModelSet(
            production=production.name,
            line=production.line,
            level_ghz=production.nsb_level_ghz,
            path=production.models_path,
            sha256=production.models_sha256,
            config=str(production.facts["config_path"]),
        ),
        irfs=irf_nodes(layout, production),
    )


def zenith_deg(row: RunRow) -> float:
    """Mean zenith distance of a run (degrees)."""
    return float(run_table([row]).zenith_deg[0])


def irf_nodes(layout: Layout, production: ProductionRow) -> tuple[IrfNode, ...]:
    """The IRFs of a production, as their manifests describe them."""
    store = ManifestStore(layout.manifests)
    nodes = []
    for path in sorted(layout.absolute(production.irf_dir).glob("irf*.fits.gz")):
        manifest = store.producer(layout.relative(path))
        record = manifest.output(layout.relative(path)) if manifest else None
        if record is not None:
            facts = record.facts
            nodes.append(
                IrfNode(record.path, facts["zd_deg"], facts["az_deg"], facts["b_delta_deg"], record.state.sha256)
            )
    return tuple(nodes)


def plan_collection(site: Site, night: Night, plan_id: str, stage_results: Iterable[Mapping[str, Any]]) -> str:
    """Plan the index and the source check from the runs that are whole; returns the plan's id.

    Parameters
    ----------
    stage_results : iterable of dict
        What the tasks of the stages dl2 and dl3 returned: their quarantined steps are stored with cause and remedy.
    """
    layout = layout_of(site)
    plan = load_plan(layout.plan_file(plan_id))
    truth = layout.absolute("truth.json")
    with catalog_session() as session:
        rows = {row.run_id: row for row in night_runs(session, night)}
    collection = plan_sources(
        site, night, whole_dl3(site, plan, rows), "truth.json" if truth.exists() else None, plan.lstchain_version
    )
    save_plan(collection, site)
    with catalog_session() as session:
        for result in stage_results:
            causes = {item["subject"]: (item["what"], item["remedy"]) for item in result["quarantined"]}
            save_quarantine(session, night, plan_id, result["stage"], causes)
        find_night(session, night).collection_plan = collection.plan_id
    return collection.plan_id


def whole_dl3(site: Site, plan: Plan, rows: Mapping[int, RunRow]) -> list[SourceFiles]:
    """The DL3 files of a reduction plan that are done, by source."""
    sources: dict[tuple[str, float, float], list[str]] = defaultdict(list)
    for found in assess(plan, layout_of(site), site, "dl3"):
        if found.state is Standing.DONE:
            row = rows[int(found.step.subject.removeprefix("run "))]
            target = _target(row)
            sources[target.name, target.ra_deg, target.dec_deg].append(found.step.primary.path)
    return [SourceFiles(name, ra, dec, tuple(paths)) for (name, ra, dec), paths in sources.items()]


def _target(row: RunRow) -> Source:
    """The source of a run that was reduced: it has a name and coordinates, or it would not have been."""
    if row.source_name is None or row.source_ra_deg is None or row.source_dec_deg is None:
        raise DataError(f"run {row.run_id} has no source with coordinates any more.", "run the DAG `nightly` again.")
    return Source(row.source_name, row.source_ra_deg, row.source_dec_deg)


def publish(
    site: Site, night: Night, reduction_id: str, collection_id: str, results: Iterable[Mapping[str, Any]]
) -> list[str]:
    """Publish the night's DL3, source by source; returns the folders of the versions that are current now."""
    layout = layout_of(site)
    reduction, collection = (load_plan(layout.plan_file(i)) for i in (reduction_id, collection_id))
    store = ManifestStore(layout.manifests)
    published = []
    with catalog_session() as session:
        for result in results:
            causes = {item["subject"]: (item["what"], item["remedy"]) for item in result["quarantined"]}
            save_quarantine(session, night, collection_id, result["stage"], causes)
        for step_plan in (reduction, collection):
            done = [a.step.primary.path for a in assess(step_plan, layout, site) if a.state is Standing.DONE]
            record_manifests(session, [m for m in map(store.read, done) if m is not None])
    for found in assess(collection, layout, site, "index"):
        if found.state is not Standing.DONE:
            continue
        request = bundle_request(site, night, reduction, collection, found.step.subject.removeprefix("source "))
        bundle = publish_bundle(build_bundle(request, layout), layout)
        published.append(bundle.path)
        with catalog_session() as session:
            mark_published(session, request.products)
    return published


def bundle_folder(site: Site, night: Night, reduction: Plan, collection: Plan, source: str) -> str:
    """Folder that holds the published versions of a source's bundle; relative to the site's base."""
    production = _production_of(reduction, _steps_of(collection, source)["index"])
    return layout_of(site).dl3_published(
        night, site.nightly.pipeline_version, production, reduction.context["cuts"], source
    )


def _steps_of(collection: Plan, source: str) -> dict[str, Step]:
    return {step.kind: step for step in collection.steps() if step.subject == f"source {source}"}


def _production_of(reduction: Plan, index: Step) -> str:
    first = next(item.path for item in index.inputs if item.kind is ArtifactKind.DL3)
    run = parse_run_file(first.rsplit("/", 1)[1]).run
    return str(reduction.context["runs"][str(run)]["production"])


def bundle_request(site: Site, night: Night, reduction: Plan, collection: Plan, source: str) -> BundleRequest:
    """What goes into the bundle of one source."""
    layout = layout_of(site)
    steps = _steps_of(collection, source)
    index = steps["index"]
    products = tuple(i.path for i in index.inputs if i.kind is ArtifactKind.DL3)
    cuts = load_cuts(site.cuts)
    check_done = {a.step.primary.path for a in assess(collection, layout, site, "check") if a.state is Standing.DONE}
    extras = (
        tuple(o.path for o in steps["source-check"].outputs) if steps["source-check"].primary.path in check_done else ()
    )
    with catalog_session() as session:
        rows = [row for row in night_runs(session, night) if row.source_name == source]
        judged = verdicts(session, night, reduction.context["profile"])
        causes = {row.run_id: [q.cause for q in quarantine_of(session, night, row.run_id)] for row in rows}
        runs = tuple(
            RunVerdict(
                run_id=row.run_id,
                selected=row.run_id in judged and judged[row.run_id].selected,
                start=row.run_start.isoformat() if row.run_start else "",
                zenith_deg=zenith_deg(row),
                quantities={name: row.quantities[name] for name in _BUNDLE_QUANTITIES},
                reasons=(*(judged[row.run_id].reasons if row.run_id in judged else ()), *causes.get(row.run_id, ())),
            )
            for row in rows
        )
        target = _target(rows[0])
    return BundleRequest(
        folder=bundle_folder(site, night, reduction, collection, source),
        night=str(night),
        source=target,
        production=_production_of(reduction, index),
        cuts_name=cuts.name,
        cuts=json.loads(cuts.text),
        products=products,
        index=tuple(o.path for o in index.outputs),
        runs=runs,
        profile=reduction.context["profile"],
        extras=extras,
        site=site.name,
        synthetic=layout.absolute("truth.json").exists(),
    )


_BUNDLE_QUANTITIES = ("mean_r422", "mean_index", "mean_light_yield", "mean_diffuse_nsb_std_pe", "elapsed_time_s")
