"""The tasks of a night up to the plan of its reduction."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from sqlalchemy.orm import Session

from lstops.catalog.database import catalog_session
from lstops.catalog.ingest import find_files, ingest_files
from lstops.catalog.nsb import save_nsb
from lstops.catalog.products import record_manifests
from lstops.catalog.runlist import list_night, with_good_time
from lstops.catalog.settle import FileOutcome, describe_runs
from lstops.catalog.verdicts import save_verdicts
from lstops.errors import DataError
from lstops.night import Night, Run, is_night_closed, read_runs
from lstops.nsb.finder import RunNsb, read_tailcut_finder
from lstops.nsb.plan import RunSubruns, plan_nsb
from lstops.quality.profiles import Profile, load_profile
from lstops.site.layout import Layout, parse_run_file
from lstops.site.model import Site
from lstops.step.manifest import ManifestStore
from lstops.step.plans import save_plan


class NightState(str, Enum):
    """Whether a night can be worked on."""

    OPEN = "open"
    CLOSED = "closed"
    EMPTY = "empty"


def layout_of(site: Site) -> Layout:
    """Paths of a site."""
    return Layout(site.base, site.work)


def night_state(site: Site, night: Night) -> NightState:
    """Whether lstosa has closed the night, and whether anything was observed."""
    layout = layout_of(site)
    if not is_night_closed(layout.absolute(layout.night_finished(night, site.nightly.pipeline_version))):
        return NightState.OPEN
    return NightState.CLOSED if any(run.is_sky for run in runs_of(site, night)) else NightState.EMPTY


def runs_of(site: Site, night: Night) -> tuple[Run, ...]:
    """The night's runs with their sources; none if there is no run summary (nothing was observed)."""
    layout = layout_of(site)
    summary = layout.absolute(layout.run_summary(night))
    if not summary.exists():
        return ()
    catalog = layout.absolute(layout.run_catalog(night))
    return read_runs(summary, catalog if catalog.exists() else None, night)


@dataclass(frozen=True)
class IngestResult:
    """What `ingest` did."""

    ingested: FileOutcome

    def text(self) -> str:
        """For the log and the web page."""
        done = self.ingested
        what = f"version {done.version} stored" if done.is_new else "already known, unchanged"
        return f"night {done.night.iso if done.night else 'unknown'}: {done.n_runs} runs, {what}"


def ingest(site: Site, night: Night) -> IngestResult:
    """Read the night's datacheck and store its runs, their quantities and the subruns.

    The file at the site's own place is right: if the catalogue has another file's word, this is a correction.

    Raises
    ------
    DataError
        If the datacheck is missing or damaged; the night is then listed as a problem.
    """
    layout = layout_of(site)
    path = layout.absolute(layout.datacheck(night, site.nightly.pipeline_version))
    runs = runs_of(site, night)
    (outcome,) = ingest_files(find_files([path]), runs_of=lambda _: runs, replace=True).outcomes
    if outcome.is_bad:
        raise DataError(outcome.what, outcome.remedy)
    if not outcome.is_new:
        with catalog_session() as session:
            describe_runs(session, night, runs)
    return IngestResult(outcome)


@dataclass(frozen=True)
class JudgeResult:
    """What `judge` found, with people's decisions."""

    profile: str
    selected: tuple[int, ...]
    rejected: tuple[int, ...]
    decisions: tuple[str, ...] = ()

    def text(self) -> str:
        """For the log and the web page."""
        chosen = ", ".join(map(str, self.selected)) or "none"
        said = f"profile {self.profile}: {len(self.selected)} runs selected ({chosen}), {len(self.rejected)} rejected"
        return "; ".join((said, *self.decisions))


def judge(site: Site, night: Night, profile: str | None = None) -> JudgeResult:
    """Judge the night's runs, each at its own source.

    Stored are the verdicts, people's decisions, the good time within the runs, and what is known of their NSB by now.
    """
    chosen = load_profile(profile or site.nightly.profile)
    with catalog_session() as session:
        answer = list_night(session, night, chosen)
        cut = answer if chosen.subruns is None else with_good_time(session, answer)
        verdicts = [answer.verdict(row) for row in range(len(answer.history))]
        save_verdicts(session, night, profile_digest(chosen), verdicts, cut.good_time)
        store_nsb(session, site, night, [v.run_number for v in verdicts])
    return JudgeResult(
        chosen.name,
        tuple(v.run_number for v in verdicts if v.selected),
        tuple(v.run_number for v in verdicts if not v.selected),
        tuple(f"run {v.run_number} {v.decision}" for v in verdicts if v.records),
    )


def profile_digest(profile: Profile) -> str:
    """Identity of a profile's content."""
    return hashlib.sha256(profile.model_dump_json().encode()).hexdigest()


def selected_runs(site: Site, night: Night, profile: str | None = None) -> tuple[Run, ...]:
    """The runs to work on: judged anew from the catalogue, with the decisions that people have made by now."""
    with catalog_session() as session:
        wanted = set(list_night(session, night, load_profile(profile or site.nightly.profile)).runs)
    return tuple(run for run in runs_of(site, night) if run.number in wanted)


def subruns_of(site: Site, night: Night, run: int) -> RunSubruns:
    """The subrun-wise DL1 files of a run, in order."""
    layout = layout_of(site)
    folder = layout.absolute(layout.dl1_dir(night, site.nightly.pipeline_version, site.nightly.tailcut))
    files = sorted(folder.glob(f"dl1_LST-1.Run{run:05d}.*.h5"))
    return RunSubruns(run, tuple(layout.relative(f) for f in files if parse_run_file(f.name).subrun is not None))


def plan_nsb_measurement(site: Site, night: Night, profile: str | None = None) -> str:
    """Plan the tailcut finder for selected runs that lstosa has not measured; returns the plan's id."""
    layout = layout_of(site)
    missing = [
        subruns_of(site, night, run.number)
        for run in selected_runs(site, night, profile)
        if not all(layout.absolute(path).exists() for path in layout.tailcuts(run.number))
    ]
    plan = plan_nsb(site, night, [m for m in missing if m.paths], site.nightly.lstchain_version)
    save_plan(plan, site)
    return plan.plan_id


def store_nsb(session: Session, site: Site, night: Night, runs: Iterable[int]) -> tuple[RunNsb, ...]:
    """Store what is known of the runs' NSB, and where lstops measured it itself how that came about."""
    layout = layout_of(site)
    found = tuple(read_nsb(site, night, runs)[0].values())
    save_nsb(session, found)
    store = ManifestStore(layout.manifests)
    own = (store.read(layout.own_tailcuts(night, nsb.run_number)[0]) for nsb in found)
    record_manifests(session, [manifest for manifest in own if manifest is not None])
    return found


def read_nsb(site: Site, night: Night, runs: Iterable[int]) -> tuple[dict[int, RunNsb], dict[int, DataError]]:
    """The NSB of runs: lstosa's measurement, else lstops' own; and why there is none."""
    layout = layout_of(site)
    found: dict[int, RunNsb] = {}
    missing: dict[int, DataError] = {}
    for run in runs:
        official = tuple(map(layout.absolute, layout.tailcuts(run)))
        own = tuple(map(layout.absolute, layout.own_tailcuts(night, run)))
        if not any(map(Path.exists, (*official, *own))):
            missing[run] = DataError(
                f"the NSB of run {run} was not measured.",
                f"start the DAG `nightly` for {night.iso}; it measures the runs that it takes (`lstops why {run}`).",
            )
            continue
        config, log = official if all(map(Path.exists, official)) else own
        try:
            found[run] = read_tailcut_finder(run, config, log)
        except DataError as error:
            missing[run] = error
    return found, missing
