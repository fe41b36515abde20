"""The tasks of a night from the plan of its reduction to its publication."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy.orm import Session

from lstops.catalog.bundles import record_versions
from lstops.catalog.database import catalog_session
from lstops.catalog.nights import find_night, night_runs, quarantine_of_plans, save_quarantine
from lstops.catalog.overlay import active_decisions, list_decisions
from lstops.catalog.tables import RunRow
from lstops.catalog.verdicts import verdicts
from lstops.errors import ConfigError, DataError, ProductInvalid
from lstops.night import Night
from lstops.operations.bundling import BUNDLE_QUANTITIES, assemble, circumstances, record_done
from lstops.operations.matching import (
    Matching,
    match_runs,
    mean_declination_deg,
    night_with_good_time,
    subruns_to_drop,
    zenith_deg,
)
from lstops.operations.nightly import layout_of, selected_runs, store_nsb
from lstops.operations.reprocessed import ReprocessedNight, read_night, write_night
from lstops.operations.run_match import available_productions, request_productions
from lstops.publish.bundle import build_bundle
from lstops.publish.model import BundleRequest, RunVerdict, Source, VersionInfo, VersionState
from lstops.publish.publisher import publish as publish_bundle
from lstops.publish.versions import list_versions
from lstops.quality.overlay import OverlayRecord, holds
from lstops.quality.profiles import load_profile
from lstops.reduction.collection import SourceFiles
from lstops.reduction.collection import plan_collection as plan_sources
from lstops.reduction.cuts import load_cuts
from lstops.reduction.plan import NightRequest, plan_night
from lstops.reduction.reprocessing import Reprocessing
from lstops.site.layout import parse_run_file
from lstops.site.model import Site
from lstops.step.assess import Standing, assess
from lstops.step.model import ArtifactKind, Plan, Step
from lstops.step.plans import load_plan, save_plan

MATCH_STAGE, PUBLISH_STAGE = "match", "publish"


def _silent(message: str) -> None:
    """Progress that nobody reads."""


def plan_reduction(site: Site, night: Night, profile: str | None = None, again: Reprocessing | None = None) -> str:
    """Match models to the selected runs and plan their DL2 and DL3; returns the plan's id.

    Runs that cannot be reduced (no models for their NSB, outside the IRF nodes, no source) are quarantined with the
    reason and what helps.

    Parameters
    ----------
    again : Reprocessing, optional
        DL3 is made in its own folder; its plans become the night's only if it makes its versions the current ones.
    """
    nightly = site.nightly
    if again is not None:
        _begin(site, night, again)
    runs = selected_runs(site, night, profile)
    with catalog_session() as session:
        rows = {row.run_id: row for row in night_runs(session, night)}
        known = available_productions(session)
        chosen = load_profile(profile or nightly.profile)
        dropped = subruns_to_drop(site, session, night_with_good_time(session, night, chosen))
    matching = Matching(known, nightly.nsb_tolerance_ghz, load_cuts(site.cuts), dropped)
    jobs, causes = match_runs(site, night, runs, rows, matching)
    request = NightRequest(
        night, nightly.pipeline_version, nightly.tailcut, nightly.lstchain_version, matching.cuts, jobs,
        reprocessing=again.name if again else "",
    )  # fmt: skip
    plan = plan_night(request, site)
    context = {**plan.context, **circumstances(site, chosen.name, profile or nightly.profile)}
    plan = plan.model_copy(update={"context": context | ({"reprocessing": again.name} if again else {})})
    save_plan(plan, site)
    with catalog_session() as session:
        save_quarantine(session, night, plan.plan_id, MATCH_STAGE, causes)
        nsb = store_nsb(session, site, night, [run.number for run in runs])
        request_productions(session, site, nsb, {run: mean_declination_deg(row) for run, row in rows.items()}, known)
        if again is None or again.make_current:
            find_night(session, night).reduction_plan = plan.plan_id
            find_night(session, night).collection_plan = None
    if again is not None:
        _note(site, night, again, reduction=plan.plan_id, collection="", published=False)
    return plan.plan_id


def _begin(site: Site, night: Night, again: Reprocessing) -> None:
    """Remember which versions readers get, when the reprocessing comes to the night for the first time."""
    layout = layout_of(site)
    if read_night(layout, again.name, night) is not None:
        return
    with catalog_session() as session:
        row = find_night(session, night)
        plans = [load_plan(layout.plan_file(i)) for i in (row.reduction_plan, row.collection_plan) if i]
    versions = versions_of(site, night, *plans) if len(plans) == 2 else {}
    before = tuple(sorted(version.path for version in versions.values()))
    write_night(layout, again.name, ReprocessedNight(night=str(night), before=before))


def _note(site: Site, night: Night, again: Reprocessing, **changes: Any) -> None:
    """Remember how far the reprocessing has come with the night."""
    layout = layout_of(site)
    known = read_night(layout, again.name, night) or ReprocessedNight(night=str(night))
    write_night(layout, again.name, known.model_copy(update=changes))


def plan_collection(
    site: Site,
    night: Night,
    plan_id: str,
    stage_results: Iterable[Mapping[str, Any]],
    again: Reprocessing | None = None,
) -> str:
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
        decisions = active_decisions(session)
        rows = {row.run_id: row for row in night_runs(session, night)}
        # a run that was excluded while it was being reduced is not published
        rows = {run: row for run, row in rows.items() if holds(True, decisions.get(run, ()))}
    collection = plan_sources(
        site,
        f"night {night}",
        whole_dl3(site, plan, rows),
        "truth.json" if truth.exists() else None,
        plan.lstchain_version,
        {"night": str(night)} | ({"reprocessing": again.name} if again else {}),
    )
    save_plan(collection, site)
    with catalog_session() as session:
        for result in stage_results:
            causes = {item["subject"]: (item["what"], item["remedy"]) for item in result["quarantined"]}
            save_quarantine(session, night, plan_id, result["stage"], causes)
        if again is None or again.make_current:
            find_night(session, night).collection_plan = collection.plan_id
    if again is not None:
        _note(site, night, again, collection=collection.plan_id)
    return collection.plan_id


def whole_dl3(site: Site, plan: Plan, rows: Mapping[int, RunRow]) -> list[SourceFiles]:
    """The DL3 files of a reduction plan that are done, by source and models; `rows` are the runs that are wanted."""
    sources: dict[tuple[str, float, float, str], list[str]] = defaultdict(list)
    for found in assess(plan, layout_of(site), site, "dl3"):
        row = rows.get(int(found.step.subject.removeprefix("run ")))
        if found.state is Standing.DONE and row is not None:
            target, production = _target(row), str(plan.context["runs"][str(row.run_id)]["production"])
            sources[target.name, target.ra_deg, target.dec_deg, production].append(found.step.primary.path)
    return [SourceFiles(name, ra, dec, tuple(paths), made) for (name, ra, dec, made), paths in sources.items()]


def _target(row: RunRow) -> Source:
    """The source of a run that was reduced: it has a name and coordinates, or it would not have been."""
    if row.source_name is None or row.source_ra_deg is None or row.source_dec_deg is None:
        raise DataError(f"run {row.run_id} has no source with coordinates any more.", "run the DAG `nightly` again.")
    return Source(row.source_name, row.source_ra_deg, row.source_dec_deg)


def publish(
    site: Site,
    night: Night,
    reduction_id: str,
    collection_id: str,
    results: Iterable[Mapping[str, Any]] = (),
    *,
    author: str = "lstops",
    reason: str = "",
    again: Reprocessing | None = None,
    tell: Callable[[str], None] = _silent,
) -> list[str]:
    """Publish the night's DL3, source by source; returns the folders of the versions.

    A source that cannot be published (withdrawn content, a file that was changed) stops only itself: the cause is
    stored, for the night's report.

    Parameters
    ----------
    results : iterable of dict
        What the tasks of the stages index and check returned.
    author, reason : str
        Of a publication by hand.
    again : Reprocessing, optional
        The versions are published beside the current ones, if it does not say otherwise.
    tell : callable
        Told of each source what became of it.
    """
    layout = layout_of(site)
    reduction, collection = (load_plan(layout.plan_file(i)) for i in (reduction_id, collection_id))
    published, beside = [], again is not None and not again.make_current
    refused: dict[str, tuple[str, str]] = {}
    with catalog_session() as session:
        for result in results:
            causes = {item["subject"]: (item["what"], item["remedy"]) for item in result["quarantined"]}
            save_quarantine(session, night, collection_id, result["stage"], causes)
        record_done(session, site, reduction, collection)
    for found in assess(collection, layout, site, "index"):
        if found.state is not Standing.DONE:
            continue
        try:
            request = bundle_request(site, night, reduction, collection, found.step.subject.removeprefix("source "))
            request = replace(request, published_by=author, reason=reason, beside=beside)
            bundle = publish_bundle(build_bundle(request, layout), layout)
        except (ConfigError, DataError, ProductInvalid) as error:
            refused[found.step.subject] = (f"not published: {error.what}", error.remedy)
            tell(f"{found.step.subject} is not published: {error}")
            continue
        published.append(bundle.path)
        tell(f"{bundle.path}: {bundle.note or 'published'}")
        with catalog_session() as session:
            record_versions(session, layout, request.folder)
    with catalog_session() as session:
        save_quarantine(session, night, collection_id, PUBLISH_STAGE, refused)
    if again is not None:
        _note(site, night, again, after=tuple(sorted(published)), published=True)
    return published


def bundle_folder(site: Site, night: Night, reduction: Plan, collection: Plan, title: str) -> str:
    """Folder that holds the published versions of a bundle of the night; relative to the site's base.

    Parameters
    ----------
    title : str
        The source, and its production if there are several (one of the collection's `sources`).
    """
    about = _about_index(reduction, _steps_of(collection, title)["index"])
    version = reduction.context.get("pipeline_version", site.nightly.pipeline_version)
    return layout_of(site).dl3_published(
        night, version, about["production"], reduction.context["cuts"], about["source"]
    )


def versions_of(site: Site, night: Night, reduction: Plan, collection: Plan) -> dict[str, VersionInfo]:
    """The versions of a night's plans that readers get now, by title of the bundle."""
    layout, found = layout_of(site), {}
    for title in collection.context["sources"]:
        for version in list_versions(bundle_folder(site, night, reduction, collection, title), layout):
            if version.state is VersionState.CURRENT:
                found[title] = version
    return found


def _steps_of(collection: Plan, title: str) -> dict[str, Step]:
    return {step.kind: step for step in collection.steps() if step.subject == f"source {title}"}


def _about_index(reduction: Plan, index: Step) -> dict[str, str]:
    """Source and production of the runs of an index."""
    first = next(item.path for item in index.inputs if item.kind is ArtifactKind.DL3)
    run = parse_run_file(first.rsplit("/", 1)[1]).run
    return dict(reduction.context["runs"][str(run)])


def bundle_request(site: Site, night: Night, reduction: Plan, collection: Plan, title: str) -> BundleRequest:
    """What goes into the bundle of one source and one production (see `bundle_folder`)."""
    layout = layout_of(site)
    steps = _steps_of(collection, title)
    about = _about_index(reduction, steps["index"])
    check_done = {a.step.primary.path for a in assess(collection, layout, site, "check") if a.state is Standing.DONE}
    with catalog_session() as session:
        rows = [row for row in night_runs(session, night) if row.source_name == about["source"]]
        judged = verdicts(session, night, reduction.context["profile"])
        decided = list_decisions(session, [row.run_id for row in rows])
        causes = _causes(session, (reduction, collection))
        runs = tuple(
            RunVerdict(
                run_id=row.run_id,
                selected=row.run_id in judged and holds(judged[row.run_id].selected, _about(decided, row.run_id)),
                start=row.run_start.isoformat() if row.run_start else "",
                zenith_deg=zenith_deg(row),
                quantities={name: row.quantities[name] for name in BUNDLE_QUANTITIES},
                reasons=(
                    *(judged[row.run_id].reasons if row.run_id in judged else ()),
                    *(record.words for record in _about(decided, row.run_id)),
                    *causes.get(f"run {row.run_id}", ()),
                    *_elsewhere(reduction, row.run_id, about["production"]),
                ),
            )
            for row in rows
        )
        target = _target(rows[0])
    return assemble(
        site,
        reduction,
        steps["index"],
        [steps["source-check"]] if steps["source-check"].primary.path in check_done else [],
        folder=bundle_folder(site, night, reduction, collection, title),
        night=str(night),
        source=target,
        production=about["production"],
        runs=runs,
        decided=decided,
    )


def _causes(session: Session, plans: Sequence[Plan]) -> dict[str, list[str]]:
    """What stopped the subjects of plans."""
    found: dict[str, list[str]] = defaultdict(list)
    for row in quarantine_of_plans(session, [plan.plan_id for plan in plans]):
        found[row.subject].append(row.cause)
    return found


def _elsewhere(reduction: Plan, run: int, production: str) -> list[str]:
    """A run that other models fit is in another bundle of the night."""
    other = reduction.context["runs"].get(str(run), {}).get("production", production)
    return [] if other == production else [f"in the bundle with {other}"]


def _about(decisions: Sequence[OverlayRecord], run: int) -> list[OverlayRecord]:
    return [record for record in decisions if record.run_number == run]
