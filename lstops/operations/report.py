"""The report of a night, filled from catalogue, manifests and what is published."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np

import lstops
from lstops.catalog.database import catalog_session
from lstops.catalog.history import load_subruns
from lstops.catalog.nights import find_night, night_runs, quarantine_of, run_table
from lstops.catalog.overlay import active_decisions
from lstops.catalog.productions import current_productions
from lstops.catalog.tables import NightRow, ProductionRow, QuarantineRow, RunRow, VerdictRow
from lstops.catalog.verdicts import verdicts
from lstops.night import Night, Run
from lstops.operations.nightly import layout_of, runs_of
from lstops.operations.reduction import bundle_folder, versions_of
from lstops.publish.model import VersionInfo, VersionState
from lstops.publish.versions import bundle_of, list_versions
from lstops.quality.overlay import Overlay, decision_words, dropped_time, holds
from lstops.quality.profiles import load_profile
from lstops.quality.quantities import believable_r422
from lstops.quality.tables import SubrunTable
from lstops.quality.targets import Position
from lstops.reduction.pointing import wobble
from lstops.report.model import (
    EndedBundle,
    FailedCut,
    NightReport,
    Problem,
    ProductState,
    Quarantine,
    ReportBundle,
    ReportRun,
    SubrunRates,
    UsedProduction,
)
from lstops.report.night import night_report
from lstops.report.odd import odd_run_of, oddest
from lstops.report.points import limits_of
from lstops.report.source import SourceCheck, read_source_check
from lstops.site.layout import Layout, parse_run_file
from lstops.site.model import Site
from lstops.step.assess import Standing, assess
from lstops.step.manifest import ManifestStore, write_atomically
from lstops.step.model import ArtifactKind, Plan
from lstops.step.plans import load_plan

#: columns of the subruns that the page draws and counts
_DRAWN = ("run_number", "subrun", "time_s", "elapsed_time_s", "r422")
#: fewer extrapolated events are not worth a word
_NOTED_SHARE = 0.01
#: a subrun has about ten seconds
_LOST_S = 5.0


def write_report(site: Site, night: Night) -> Path:
    """Write the night's report and return its path."""
    path = report_file(site, night)
    write_atomically(path, night_report(make_report(site, night)))
    return path


def report_file(site: Site, night: Night) -> Path:
    """Where the report of a night lies."""
    layout = layout_of(site)
    return layout.absolute(layout.night_report(night))


def make_report(site: Site, night: Night) -> NightReport:
    """What became of a night.

    Raises
    ------
    DataError
        If the catalogue does not know the night.
    """
    layout = layout_of(site)
    with catalog_session() as session:
        row = find_night(session, night)
    reduction = load_plan(layout.plan_file(row.reduction_plan)) if row.reduction_plan else None
    collection = load_plan(layout.plan_file(row.collection_plan)) if row.collection_plan else None
    profile = load_profile(site.nightly.profile)
    if reduction and reduction.context["profile"] != profile.name:
        profile = load_profile(reduction.context.get("profile_file", reduction.context["profile"]))
    with catalog_session() as session:
        rows = night_runs(session, night)
        judged = verdicts(session, night, profile.name)
        blocked = quarantine_of(session, night)
        productions = current_productions(session)
        decisions = active_decisions(session, [r.run_id for r in rows])
        subruns = load_subruns(session, nights=[night], columns=_DRAWN) if rows else SubrunTable.empty()
    bundles = _bundles(site, night, reduction, collection)
    odd = oddest_of(rows)
    published = {run for bundle in bundles for run in bundle.runs}
    runs = _runs(site, layout, runs_of(site, night), rows, judged, decisions, blocked, reduction, published)
    lost_s = dropped_time(subruns, decisions)
    return NightReport(
        night=str(night),
        site=site.name,
        profile=profile.name,
        runs=tuple(_without(run, lost_s.get(run.run_id, 0.0)) for run in runs),
        generated_at=datetime.now(timezone.utc),
        cuts=tuple(cut.name for cut in profile.cuts),
        limits=limits_of(profile),
        sources=_sources(rows),
        subruns=SubrunRates(subruns.time_s, np.where(believable_r422(subruns), subruns.r422, np.nan)),
        odd=None if odd is None else odd_run_of(subruns, odd),
        productions=used_productions(reduction, productions),
        published=bundles,
        ended=_ended(site, night, reduction, collection),
        checks=_checks(site, layout, collection),
        problems=_problems(row, blocked),
        plan_id=row.reduction_plan or "",
        lstops_version=lstops.__version__,
        synthetic=layout.absolute("truth.json").exists(),
    )


def oddest_of(rows: Sequence[RunRow]) -> int | None:
    """The run of a night whose rate oscillates most."""
    return oddest(run_table(rows), np.ones(len(rows), dtype=bool)) if rows else None


def _sources(rows: Sequence[RunRow]) -> tuple[Position, ...]:
    known = {
        row.source_name or "source": Position(row.source_name or "source", row.source_ra_deg, row.source_dec_deg)
        for row in rows
        if row.source_ra_deg is not None and row.source_dec_deg is not None
    }
    return tuple(known[name] for name in sorted(known))


def _runs(
    site: Site,
    layout: Layout,
    summary: Sequence[Run],
    rows: Sequence[RunRow],
    judged: Mapping[int, VerdictRow],
    decisions: Overlay,
    blocked: Sequence[QuarantineRow],
    reduction: Plan | None,
    published: set[int],
) -> tuple[ReportRun, ...]:
    by_run = {row.run_id: row for row in rows}
    causes = {q.subject: Quarantine(q.stage, q.cause, q.remedy) for q in blocked}
    states = _product_states(site, layout, reduction)
    used = reduction.context["runs"] if reduction else {}
    elapsed_s = {row.run_id: float(row.quantities.get("elapsed_time_s") or 0.0) for row in rows}
    noted = notes_of_dl2(layout, reduction, elapsed_s)
    models = {int(run): _models(about, noted.get(int(run), "")) for run, about in used.items()}
    found = []
    for run in summary:
        row = by_run.get(run.number)
        verdict = judged.get(run.number)
        dl2, dl3 = states.get(run.number, (ProductState.NONE, ProductState.NONE))
        quantities = row.quantities if row else {}
        found.append(
            ReportRun(
                run_id=run.number,
                source=run.source.name if run.source else run.run_type.value,
                start=run.start,
                elapsed_s=quantities.get("elapsed_time_s"),
                wobble=_wobble(row) if row else "",
                zenith_deg=float(run_table([row]).zenith_deg[0]) if row else None,
                quantities={k: v for k, v in quantities.items() if isinstance(v, float | int) or v is None},
                selected=holds(verdict.selected, decisions.get(run.number, ())) if verdict else None,
                decision=decision_words(decisions.get(run.number, ())),
                failed=_failed(verdict),
                models=models.get(run.number, ""),
                dl2=dl2,
                dl3=ProductState.PUBLISHED if run.number in published and dl3 is ProductState.DONE else dl3,
                quarantine=causes.get(f"run {run.number}"),
            )
        )
    return tuple(found)


def _models(about: Mapping[str, Any], noted: str) -> str:
    """The production of a run, and what is unusual about its responses and its DL2."""
    return "; ".join(filter(None, (str(about["production"]), about.get("responses"), noted)))


def notes_of_dl2(layout: Layout, reduction: Plan | None, elapsed_s: Mapping[int, float]) -> dict[int, str]:
    """What a person has to know of the DL2 of a plan's runs, by run.

    Extrapolation in zenith, interruptions, and less time than the data check has (`elapsed_s`): a merge lost subruns.
    """
    store, found = ManifestStore(layout.manifests), {}
    for step in reduction.steps() if reduction else ():
        manifest = store.read(step.primary.path) if step.primary.kind is ArtifactKind.DL2 else None
        record = manifest.output(step.primary.path) if manifest else None
        if record is None:
            continue
        run = int(step.subject.removeprefix("run "))
        if words := _unusual(record.facts, elapsed_s.get(run, 0.0)):
            found[run] = words
    return found


def _unusual(facts: Mapping[str, Any], elapsed_s: float) -> str:
    from lstops.step.verify.dl3_times import recorded_s

    words, share = [], facts.get("extrapolated", 0) / max(1, facts.get("events", 0))
    if share >= _NOTED_SHARE:
        words.append(f"{share:.0%} of the events beyond the training nodes on their side of culmination: extrapolated")
    if lost := facts.get("breaks_unix_s"):
        words.append(f"interrupted for {sum(stop - start for start, stop in lost):.0f} s")
    if {"t_start", "t_stop"} <= set(facts) and (there_s := recorded_s(facts)) < elapsed_s - _LOST_S:
        words.append(f"its DL1 holds {there_s:.0f} s, the data check {elapsed_s:.0f} s: were all subruns merged?")
    return "; ".join(words)


def _without(run: ReportRun, lost_s: float) -> ReportRun:
    """The run without the time of subruns that people dropped."""
    return run if run.elapsed_s is None else replace(run, elapsed_s=run.elapsed_s - lost_s)


def _failed(verdict: VerdictRow | None) -> tuple[FailedCut, ...]:
    return tuple(
        FailedCut(c["cut"], c["quantity"], _number(c["value"]), _number(c["limit"]), c["unit"], c["reason"])
        for c in (verdict.cuts if verdict else [])
        if not c["passed"]
    )


def _number(value: float | str | None) -> float | None:
    return None if value is None else float(value)


def _wobble(row: RunRow) -> str:
    q = row.quantities
    if row.source_ra_deg is None or row.source_dec_deg is None or q["mean_ra_deg"] is None or q["mean_dec_deg"] is None:
        return ""
    offset, angle = wobble((q["mean_ra_deg"], q["mean_dec_deg"]), (row.source_ra_deg, row.source_dec_deg))
    return f"{offset:.2f} deg at {round(angle) % 360} deg"


def _product_states(site: Site, layout: Layout, reduction: Plan | None) -> dict[int, tuple[ProductState, ProductState]]:
    if reduction is None:
        return {}
    states: dict[int, dict[str, ProductState]] = {}
    for found in assess(reduction, layout, site):
        run = int(found.step.subject.removeprefix("run "))
        state = ProductState.DONE if found.state is Standing.DONE else ProductState.PENDING
        states.setdefault(run, {})[found.step.kind] = state
    return {run: (s.get("dl2", ProductState.NONE), s.get("dl3", ProductState.NONE)) for run, s in states.items()}


def used_productions(reduction: Plan | None, registered: Sequence[ProductionRow]) -> tuple[UsedProduction, ...]:
    """What the runs of a plan are reduced with, a line at a time."""
    used: dict[tuple[str, str], list[int]] = {}
    for run, item in (reduction.context["runs"] if reduction else {}).items():
        used.setdefault((item["production"], item.get("line", "")), []).append(int(run))
    found = []
    for (name, line), runs in sorted(used.items()):
        row = next((row for row in registered if row.name == name and line in ("", row.line)), None)
        level, version = (row.nsb_level_ghz, row.lstchain_version) if row else (None, "")
        found.append(UsedProduction(name, line or (row.line if row else ""), level, version, tuple(sorted(runs))))
    return tuple(found)


def _bundles(site: Site, night: Night, reduction: Plan | None, collection: Plan | None) -> tuple[ReportBundle, ...]:
    layout = layout_of(site)
    bundles = []
    current = versions_of(site, night, reduction, collection) if reduction and collection else {}
    for source, version in current.items():
        path = layout.absolute(version.path)
        runs = sorted(parse_run_file(p.name).run for p in path.glob("dl3_*.fits*"))
        size = sum(p.stat().st_size for p in path.iterdir())
        about = (version.version, version.path, version.published_at)
        bundles.append(ReportBundle(source, *about, tuple(runs), size, version.digest))
    return tuple(bundles)


def _ended(site: Site, night: Night, reduction: Plan | None, collection: Plan | None) -> tuple[EndedBundle, ...]:
    """Of each source the newest version that readers do not get because a person wanted that."""
    if reduction is None or collection is None:
        return ()
    folders = {t: bundle_folder(site, night, reduction, collection, t) for t in collection.context["sources"]}
    found = (ended_in(folder, title, layout_of(site)) for title, folder in folders.items())
    return tuple(bundle for bundle in found if bundle)


def ended_in(folder: str, source: str, layout: Layout) -> EndedBundle | None:
    """The newest version of a folder that a person withdrew or replaced, if nothing newer is current."""
    for version in reversed(list_versions(folder, layout)):
        if version.state is VersionState.CURRENT:
            break
        if words := _end_of(version):
            runs = bundle_of(layout.absolute(version.path)).get("runs", ())
            return EndedBundle(source, version.path, words, tuple(runs))
    return None


def _end_of(version: VersionInfo) -> str:
    if notice := version.withdrawal:
        return f"withdrawn by {notice.author}: {notice.reason}"
    if replaced := version.supersession:
        return f"replaced by {replaced.by} ({replaced.author}: {replaced.reason})"
    return ""


def _checks(site: Site, layout: Layout, collection: Plan | None) -> tuple[SourceCheck, ...]:
    if collection is None:
        return ()
    done = [a for a in assess(collection, layout, site, "check") if a.state is Standing.DONE]
    return tuple(read_source_check(layout.absolute(a.step.primary.path)) for a in done)


def _problems(row: NightRow, blocked: Sequence[QuarantineRow]) -> tuple[Problem, ...]:
    found = [Problem(row.problem, "correct the datacheck, then start the DAG `nightly` again.")] if row.problem else []
    found += [Problem(f"{q.subject}: {q.cause}", q.remedy) for q in blocked if not q.subject.startswith("run ")]
    return tuple(found)
