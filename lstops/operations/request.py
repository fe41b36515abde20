"""The tasks of an analysis request up to the plan of its reduction: nights and runs come from the catalogue."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from sqlalchemy import select
from sqlalchemy.orm import Session

from lstops.catalog.database import catalog_session
from lstops.catalog.nights import night_runs, save_quarantine
from lstops.catalog.runlist import RunList, list_runs, with_good_time
from lstops.catalog.tables import RunRow
from lstops.errors import ConfigError, DataError
from lstops.night import Night, Run, RunSource, RunType
from lstops.nsb.plan import STAGE as NSB_STAGE
from lstops.nsb.plan import plan_nsb
from lstops.operations.bundling import circumstances
from lstops.operations.matching import Causes, Matching, match_runs, subruns_to_drop
from lstops.operations.nightly import layout_of, subruns_of
from lstops.operations.run_match import Available, available_productions
from lstops.publish.model import Source
from lstops.quality.profiles import Profile, load_profile
from lstops.quality.request import SelectionRequest
from lstops.quality.targets import load_targets
from lstops.reduction.cuts import each_run, load_cuts
from lstops.reduction.plan import NightRequest, plan_night
from lstops.reduction.request import ReductionRequest
from lstops.site.model import Site
from lstops.step.model import Plan, Stage, Step
from lstops.step.plans import save_plan

MATCH_STAGE = "match"


@dataclass(frozen=True, eq=False)
class Answer:
    """The runs of a request.

    Attributes
    ----------
    source : Source
        What the bundle is about.
    runs : RunList
        Judged, with the good time within each run.
    taken : tuple of int
        Numbers of the runs to reduce, ascending.
    """

    source: Source
    runs: RunList
    taken: tuple[int, ...]

    @property
    def nights(self) -> dict[Night, tuple[int, ...]]:
        """The runs to reduce, by night."""
        table = self.runs.history.table
        found: dict[Night, list[int]] = defaultdict(list)
        for run, night in zip(table.run_number.tolist(), table.night.tolist(), strict=True):
            if run in self.taken:
                found[Night.parse(night)].append(run)
        return {night: tuple(found[night]) for night in sorted(found)}


@dataclass(frozen=True)
class RequestPlan:
    """What would be computed for a request.

    Attributes
    ----------
    causes : dict
        What cannot be reduced: "run N" -> (reason, what helps).
    nights : dict
        The runs to reduce by night, those of `causes` among them.
    rejected : str
        How many runs in question are not taken, and by which cuts; empty: none.
    unmeasured : tuple of int
        Runs whose NSB nobody has measured; the DAG does that before it plans.
    """

    plan: Plan
    causes: Causes
    nights: Mapping[Night, tuple[int, ...]]
    rejected: str = ""
    unmeasured: tuple[int, ...] = ()


def profile_of(site: Site, request: ReductionRequest) -> Profile:
    """The selection profile of a request.

    Raises
    ------
    ConfigError
        If there is none of that name.
    """
    return load_profile(request.profile or site.nightly.profile)


def answer(session: Session, profile: Profile, request: ReductionRequest) -> Answer:
    """Find the runs of a request in the catalogue.

    Raises
    ------
    ConfigError
        If the target is unknown, or the runs are of several sources.
    DataError
        If the source of the runs has no coordinates.
    """
    place = load_targets().find(request.target) if request.target.strip() else None
    position = {"source_ra_deg": place.ra_deg, "source_dec_deg": place.dec_deg} if place else {}
    dates = {"dates": found_dates} if (found_dates := request.dates or _dates_of(session, request.runs)) else {}
    zenith = (request.zd_min_deg, request.zd_max_deg)
    question = SelectionRequest.model_validate({**position, **dates, "zenith_deg": zenith})
    found = list_runs(session, profile, question)
    if profile.subruns is not None:
        found = with_good_time(session, found)
    wanted = set(request.runs)
    taken = tuple(sorted(run for run in found.runs if not wanted or run in wanted))
    source = Source(place.name, place.ra_deg, place.dec_deg) if place else _source_of(found, request.runs)
    return Answer(source, found, taken)


def _dates_of(session: Session, runs: Sequence[int]) -> tuple[int, int] | None:
    """The nights of runs, so that not the whole history is judged; None if the catalogue knows none of them."""
    nights = [int(Night(night)) for night in session.scalars(select(RunRow.night).where(RunRow.run_id.in_(runs)))]
    return (min(nights), max(nights)) if nights else None


def _source_of(found: RunList, runs: Sequence[int]) -> Source:
    history = found.history
    rows = np.flatnonzero(np.isin(history.table.run_number, np.array(runs)))
    sources = {
        (history.source_name[i], float(history.source_ra_deg[i]), float(history.source_dec_deg[i]))
        for i in rows.tolist()
    }
    if len(sources) != 1:
        named = ", ".join(sorted(name or "unknown" for name, _, _ in sources)) or "none that the catalogue knows"
        raise ConfigError(
            f"the runs {', '.join(map(str, runs))} are of {len(sources)} sources ({named}).",
            "one bundle is about one source: name the target, or runs of one source.",
        )
    name, ra_deg, dec_deg = sources.pop()
    if not name or not math.isfinite(ra_deg + dec_deg):
        raise DataError(
            f"the source {name!r} of the runs has no coordinates in the catalogue.", "name the target in the request."
        )
    return Source(name, ra_deg, dec_deg)


def not_taken(found: Answer, request: ReductionRequest) -> Causes:
    """Why runs that the request names are not reduced."""
    numbers = found.runs.history.table.run_number.tolist()
    causes: Causes = {}
    for run in request.runs:
        if run in found.taken:
            continue
        if run not in numbers:
            causes[f"run {run}"] = ("the catalogue has no such run in these nights.", "ingest its night first.")
            continue
        reasons = found.runs.verdict(numbers.index(run)).reasons or ("outside the zenith range or the field",)
        remedy = f"include it (`lstops overlay add {run} --include --reason ...`), or leave it out."
        causes[f"run {run}"] = (f"rejected: {'; '.join(reasons)}.", remedy)
    return causes


def plan_measurement(site: Site, request: ReductionRequest) -> str:
    """Plan the NSB of the runs that nobody has measured, and store the plan; returns its id.

    Raises
    ------
    ConfigError
        Also if the cut set or the production of the request do not exist: nothing is measured for it then.
    """
    layout, version = layout_of(site), site.nightly.lstchain_version
    load_cuts(request.cuts or site.cuts)
    with catalog_session() as session:
        if request.production:
            usable_productions(session, request)
        nights = answer(session, profile_of(site, request), request).nights
    steps: list[Step] = []
    for night, runs in nights.items():
        unmeasured = [run for run in runs if not all(layout.absolute(p).exists() for p in layout.tailcuts(run))]
        subruns = [subruns_of(site, night, run) for run in unmeasured]
        steps += plan_nsb(site, night, [s for s in subruns if s.paths], version).steps()
    plan = Plan(
        kind="nsb",
        title=f"NSB of {len(steps)} runs of {request.title}",
        site=site.name,
        lstchain_version=version,
        stages=(Stage(name=NSB_STAGE, steps=tuple(steps), quarantine=True),),
        context={"request": request.name},
    )
    save_plan(plan, site)
    return plan.plan_id


def build_plan(site: Site, request: ReductionRequest) -> RequestPlan:
    """Plan DL2 and DL3 of a request's runs; nothing is stored.

    DL2 is that of the nights: what the nightly reduction has made with the same models is not made again.
    """
    profile, cuts = profile_of(site, request), load_cuts(request.cuts or site.cuts)
    if request.intensity_per_run:
        cuts = each_run(cuts)
    nightly, layout = site.nightly, layout_of(site)
    with catalog_session() as session:
        found = answer(session, profile, request)
        known = usable_productions(session, request)
        dropped = subruns_to_drop(site, session, found.runs)
        rows = {night: {row.run_id: row for row in night_runs(session, night)} for night in found.nights}
    matching = Matching(known, _tolerance_ghz(site, request), cuts, dropped)
    causes, plans = not_taken(found, request), []
    for night, numbers in found.nights.items():
        runs = [_run(night, rows[night][number], found.source) for number in numbers]
        jobs, refused = match_runs(site, night, runs, rows[night], matching)
        causes |= refused
        plans.append(
            plan_night(
                NightRequest(
                    night,
                    nightly.pipeline_version,
                    nightly.tailcut,
                    nightly.lstchain_version,
                    cuts,
                    jobs,
                    folder=layout.request_candidates(request.name),
                ),
                site,
            )
        )
    plan = Plan(
        kind="request",
        title=f"{request.title}: {sum(len(p.stage('dl3').steps) for p in plans)} run(s)",
        site=site.name,
        lstchain_version=nightly.lstchain_version,
        stages=tuple(
            Stage(name=name, steps=tuple(step for p in plans for step in p.stage(name).steps), quarantine=True)
            for name in ("dl2", "dl3")
        ),
        context={
            "request": request.model_dump(mode="json"),
            **circumstances(site, profile.name, request.profile or nightly.profile),
            "cuts": cuts.name,
            "cuts_sha256": cuts.digest,
            "runs": {
                run: {**about, "night": p.context["night"]} for p in plans for run, about in p.context["runs"].items()
            },
        },
    )
    unmeasured = tuple(
        run
        for night, numbers in found.nights.items()
        for run in numbers
        if not any(layout.absolute(p).exists() for p in (*layout.tailcuts(run), *layout.own_tailcuts(night, run)))
    )
    # of runs that are named, each has its cause
    return RequestPlan(plan, causes, found.nights, "" if request.runs else _rejected(found.runs), unmeasured)


def _rejected(runs: RunList) -> str:
    """The rejected runs in a line; which ones they are `lstops runs` tells."""
    n = len(runs.rejected)
    cuts = ", ".join(f"{cut} {failing}" for cut, failing, _ in runs.lost_by_cut())
    return f"{n} of {n + len(runs.runs)} runs by profile {runs.profile.name}{f' ({cuts})' if cuts else ''}" if n else ""


def nothing_to_reduce(request: ReductionRequest, made: RequestPlan) -> DataError:
    """What is said of a request of which nothing can be reduced."""
    told = [f"{subject}: {reason}" for subject, (reason, _) in list(made.causes.items())[:5]]
    told += [f"rejected: {made.rejected}"] if made.rejected else []
    return DataError(
        f"nothing of {request.title} can be reduced: {'; '.join(told) or 'the catalogue has no such run'}.",
        "look at `lstops reduce --dry-run` and `lstops runs` with the same options.",
    )


def usable_productions(session: Session, request: ReductionRequest) -> Available:
    """The productions that a request may use: those that may be used for data, or the one that it names.

    Raises
    ------
    ConfigError
        If the production that it names may not be used.
    """
    current = available_productions(session)
    chosen = tuple(row for row in current.productions if request.production in (None, row.name))
    if request.production and not chosen:
        known = ", ".join(dict.fromkeys(row.name for row in current.productions)) or "none is"
        raise ConfigError(f"production {request.production!r} is not registered as current.", f"registered: {known}.")
    return replace(current, productions=chosen)


def _tolerance_ghz(site: Site, request: ReductionRequest) -> float:
    if request.nsb_tolerance_ghz is not None:
        return request.nsb_tolerance_ghz
    # a person who names the production has compared the levels
    return math.inf if request.production else site.nightly.nsb_tolerance_ghz


def _run(night: Night, row: RunRow, source: Source) -> Run:
    return Run(
        row.run_id, night, RunType.DATA, row.n_subruns, row.run_start,
        RunSource(source.name, source.ra_deg, source.dec_deg),
    )  # fmt: skip


def store_plan(site: Site, request: ReductionRequest) -> str:
    """Plan a request, store the plan and what cannot be reduced; returns the plan's id.

    Raises
    ------
    DataError
        If no run can be reduced, with the reasons.
    """
    made = build_plan(site, request)
    if not made.plan.steps():
        raise nothing_to_reduce(request, made)
    save_plan(made.plan, site)
    with catalog_session() as session:
        save_quarantine(session, None, made.plan.plan_id, MATCH_STAGE, made.causes)
    return made.plan.plan_id
