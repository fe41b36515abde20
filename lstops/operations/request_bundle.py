"""The tasks of an analysis request from its reduced runs to its published bundle."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy.orm import Session

from lstops.catalog.bundles import record_versions
from lstops.catalog.database import catalog_session
from lstops.catalog.nights import quarantine_of_plans, save_quarantine
from lstops.catalog.overlay import list_decisions
from lstops.errors import DataError
from lstops.operations.bundling import BUNDLE_QUANTITIES, assemble, products_of, record_done
from lstops.operations.nightly import layout_of
from lstops.operations.request import Answer, answer, profile_of
from lstops.publish.bundle import build_bundle
from lstops.publish.model import BundleRequest, RunVerdict
from lstops.publish.publisher import publish as publish_bundle
from lstops.reduction.collection import CHECK, INDEX, SourceFiles, plan_collection
from lstops.reduction.request import ReductionRequest
from lstops.site.layout import parse_run_file
from lstops.site.model import Site
from lstops.step.assess import Standing, assess
from lstops.step.model import Plan
from lstops.step.plans import load_plan, save_plan

#: causes that a message names
_TOLD = 5


def request_of(plan: Plan) -> ReductionRequest:
    """The request that a plan was made for."""
    return ReductionRequest.model_validate(plan.context["request"])


def collect(site: Site, plan_id: str, stage_results: Iterable[Mapping[str, Any]]) -> str:
    """Plan the index and the source check from the runs that are whole, and store the plan; returns its id.

    Parameters
    ----------
    stage_results : iterable of dict
        What the tasks of the stages dl2 and dl3 returned: their quarantined steps are stored with cause and remedy.
    """
    layout = layout_of(site)
    plan = load_plan(layout.plan_file(plan_id))
    request = request_of(plan)
    _save_causes(plan_id, stage_results)
    with catalog_session() as session:
        found = answer(session, profile_of(site, request), request)
    # a run that was excluded while it was being reduced is not published
    whole = [
        item.step.primary.path
        for item in assess(plan, layout, site, "dl3")
        if item.state is Standing.DONE and int(item.step.subject.removeprefix("run ")) in found.taken
    ]
    source = found.source
    sources = [SourceFiles(source.name, source.ra_deg, source.dec_deg, tuple(whole))] if whole else []
    truth = "truth.json" if layout.absolute("truth.json").exists() else None
    about = f"request {request.name}"
    collection = plan_collection(site, about, sources, truth, plan.lstchain_version, {"request": request.name})
    save_plan(collection, site)
    return collection.plan_id


def publish(site: Site, plan_id: str, collection_id: str, stage_results: Iterable[Mapping[str, Any]]) -> list[str]:
    """Publish the bundle of a request; returns the folder of the version that is current now.

    Raises
    ------
    DataError
        If not one run could be reduced, with the causes: a request has no report that would tell them.
    """
    layout = layout_of(site)
    reduction, collection = (load_plan(layout.plan_file(i)) for i in (plan_id, collection_id))
    _save_causes(collection_id, stage_results)
    with catalog_session() as session:
        record_done(session, site, reduction, collection)
        stopped = quarantine_of_plans(session, [plan_id, collection_id])
    if not any(item.state is Standing.DONE for item in assess(collection, layout, site, INDEX)):
        told = "; ".join(f"{row.subject}: {row.cause.rstrip('.')}" for row in stopped[:_TOLD])
        more = f"; and {len(stopped) - _TOLD} more" if len(stopped) > _TOLD else ""
        raise DataError(
            f"nothing of {request_of(reduction).title} could be published: {told or 'every run was excluded'}{more}.",
            stopped[0].remedy if stopped else "see `lstops why RUN` for the decisions about its runs.",
        )
    request = bundle_request(site, reduction, collection)
    bundle = publish_bundle(build_bundle(request, layout), layout)
    with catalog_session() as session:
        record_versions(session, layout, request.folder)
    return [bundle.path]


def _save_causes(plan_id: str, stage_results: Iterable[Mapping[str, Any]]) -> None:
    with catalog_session() as session:
        for result in stage_results:
            causes = {item["subject"]: (item["what"], item["remedy"]) for item in result["quarantined"]}
            save_quarantine(session, None, plan_id, result["stage"], causes)


def bundle_request(site: Site, reduction: Plan, collection: Plan) -> BundleRequest:
    """What goes into the bundle of a request."""
    layout, request = layout_of(site), request_of(reduction)
    (index,) = collection.stage(INDEX).steps
    published = {str(parse_run_file(path.rpartition("/")[2]).run) for path in products_of(index)}
    productions = {reduction.context["runs"][run]["production"] for run in published}
    with catalog_session() as session:
        found = answer(session, profile_of(site, request), request)
        numbers = found.runs.history.table.run_number[found.runs.in_question].tolist()
        runs = _run_list(session, found, reduction, collection)
        decided = list_decisions(session, numbers)
    nights = [str(night) for night, of_night in found.nights.items() if published & set(map(str, of_night))]
    return assemble(
        site,
        reduction,
        index,
        [a.step for a in assess(collection, layout, site, CHECK) if a.state is Standing.DONE],
        folder=layout.request_published(request.name),
        night=nights[0] if len(nights) == 1 else f"{nights[0]}-{nights[-1]}",
        source=found.source,
        production=", ".join(sorted(productions)),
        runs=runs,
        decided=decided,
        asked=request,
    )


def _run_list(session: Session, found: Answer, reduction: Plan, collection: Plan) -> tuple[RunVerdict, ...]:
    """Every run in question, good or bad, with the reasons; a run that could not be reduced with the cause."""
    rows = quarantine_of_plans(session, [reduction.plan_id, collection.plan_id])
    causes = {row.subject: row.cause for row in rows}
    runs, history = found.runs, found.runs.history
    wanted = set(request_of(reduction).runs)
    columns, zenith = history.table.arrays(), history.table.zenith_deg
    listed = []
    for row in range(len(history)):
        number = int(history.table.run_number[row])
        if not runs.in_question[row] or (wanted and number not in wanted):
            continue
        verdict = runs.verdict(row)
        good = (runs.good_time or {}).get(number)
        start = history.run_start[row]
        said = [*verdict.reasons, *([verdict.decision] if verdict.decision else [])]
        said += [f"good time {good.words}"] if good and good.time.good_s < good.time.total_s else []
        said += [causes[f"run {number}"]] if f"run {number}" in causes else []
        listed.append(
            RunVerdict(
                run_id=number,
                selected=number in found.taken,
                start=start.isoformat() if start else "",
                zenith_deg=float(zenith[row]),
                quantities={name: _known(columns[name][row]) for name in BUNDLE_QUANTITIES},
                reasons=tuple(said),
            )
        )
    return tuple(listed)


def _known(value: Any) -> float | None:
    return float(value) if math.isfinite(value) else None
