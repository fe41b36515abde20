"""A reprocessing: its nights, what became of each, and the comparison with what was there.

A night is reduced by the operations of the nightly chain; here is only what frames them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from itertools import zip_longest
from pathlib import Path

from lstops.catalog.database import catalog_session
from lstops.catalog.nights import quarantine_of_plans
from lstops.catalog.runlist import list_night
from lstops.errors import DataError, JobFailure
from lstops.night import Night
from lstops.operations.nightly import NightState, layout_of, night_state, runs_of
from lstops.operations.reprocessed import ReprocessedNight, read_night, write_night
from lstops.publish import model
from lstops.publish.versions import bundle_of
from lstops.quality.profiles import Profile, load_profile
from lstops.reduction.cuts import load_cuts
from lstops.reduction.reprocessing import Reprocessing
from lstops.report.comparison import comparison_page
from lstops.report.comparison_model import Comparison, Pair, Side, Stopped
from lstops.report.source import read_source_check
from lstops.site.layout import Layout
from lstops.site.model import Site
from lstops.step.manifest import write_atomically


@dataclass(frozen=True)
class NightChoice:
    """A night of the range in which something was observed.

    Attributes
    ----------
    good, good_now : int or None
        Good runs by the profile of the reprocessing and by the site's; None: the catalogue does not know the night.
    """

    night: Night
    closed: bool
    good: int | None
    good_now: int | None


def choose(site: Site, again: Reprocessing) -> tuple[NightChoice, ...]:
    """The nights of a reprocessing, in order.

    Raises
    ------
    ConfigError
        If profile, cut set or environment do not exist, or what they would be used for cannot be.
    """
    changed = again.site(site)
    profile, before = load_profile(changed.nightly.profile), load_profile(site.nightly.profile)
    load_cuts(changed.cuts)
    found = []
    night, last = Night.parse(again.since), Night.parse(again.until)
    while night <= last:
        if any(run.is_sky for run in runs_of(site, night)):
            closed = night_state(changed, night) is NightState.CLOSED
            found.append(NightChoice(night, closed, _good(night, profile), _good(night, before)))
        night = Night(night.date + timedelta(days=1))
    return tuple(found)


def _good(night: Night, profile: Profile) -> int | None:
    with catalog_session() as session:
        found = list_night(session, night, profile)
        return len(found.runs) if len(found.history) else None


@dataclass(frozen=True)
class Preparation:
    """What a reprocessing is about to do.

    Attributes
    ----------
    needs_approval : bool
        More nights than the site lets anybody start without a second pair of eyes.
    """

    title: str
    text: str
    nights: tuple[Night, ...]
    needs_approval: bool


def prepare(site: Site, again: Reprocessing) -> Preparation:
    """Say which nights will be reduced, and that none of them is finished yet.

    Raises
    ------
    DataError
        If there is no night that is closed.
    """
    made = preview(site, again)
    layout = layout_of(site)
    for night in made.nights:
        if (known := read_night(layout, again.name, night)) is not None:
            write_night(layout, again.name, known.model_copy(update={"published": False}))
    return made


def preview(site: Site, again: Reprocessing) -> Preparation:
    """The same, without touching anything."""
    chosen = choose(site, again)
    nights = tuple(choice.night for choice in chosen if choice.closed)
    if not nights:
        left = ", ".join(choice.night.iso for choice in chosen)
        raise DataError(
            f"nothing to reprocess from {again.since} to {again.until}: "
            + (f"lstosa has not closed {left}." if left else "there is no night with observations."),
            "correct the nights, or wait until lstosa has set its flag.",
        )
    changes = ", ".join(f"{name} {value}" for name, value in again.changes.items()) or "what the site file says"
    title = f"Reprocessing of {len(nights)} night(s) with {changes}"
    lines = [f"- {choice.night.iso}: {_words(choice)}" for choice in chosen]
    then = "the new versions become current" if again.make_current else "the old versions stay current"
    limit = site.nightly.approval_nights
    text = "\n".join([f"{title}; {then}.", "", *lines])
    return Preparation(title, text, nights, limit is not None and len(nights) > limit)


def _words(choice: NightChoice) -> str:
    if not choice.closed:
        return "left out, lstosa has not closed it"
    if choice.good is None:
        return "not in the catalogue yet"
    return f"{choice.good} good run(s), with the site's profile {choice.good_now}"


def compare(site: Site, again: Reprocessing) -> Comparison:
    """Compare what a reprocessing has made by now with what was there when it began."""
    layout = layout_of(site)
    records: list[ReprocessedNight] = []
    unfinished = []
    for choice in choose(site, again):
        record = read_night(layout, again.name, choice.night)
        if record is not None:
            records.append(record)
        if record is None or not record.published:
            unfinished.append(choice.night.iso)
    stopped = []
    with catalog_session() as session:
        for record in records:
            rows = quarantine_of_plans(session, [plan for plan in (record.reduction, record.collection) if plan])
            stopped += [Stopped(night=record.night, subject=q.subject, cause=q.cause, remedy=q.remedy) for q in rows]
    return Comparison(
        name=again.name,
        site=site.name,
        since=again.since,
        until=again.until,
        changes=again.changes,
        is_current=again.make_current,
        made_at=datetime.now(timezone.utc),
        pairs=tuple(pair for record in records for pair in pairs_of(layout, record)),
        stopped=tuple(stopped),
        unfinished=tuple(unfinished),
        synthetic=layout.absolute("truth.json").exists(),
    )


def write_comparison(site: Site, again: Reprocessing) -> Path:
    """Write the page and the JSON file beside it; returns the page's path.

    Raises
    ------
    JobFailure
        If a night is not finished; the page is written all the same, and says which.
    """
    found = compare(site, again)
    path = layout_of(site).absolute(layout_of(site).comparison_report(again.name))
    write_atomically(path.with_suffix(".json"), found.model_dump_json(indent=1) + "\n")
    write_atomically(path, comparison_page(found))
    if found.unfinished:
        raise JobFailure(
            f"reprocessing {again.name}: {len(found.unfinished)} night(s) are not finished "
            f"({', '.join(found.unfinished[:10])}).",
            "look at their runs of the DAG `nightly`, then start `reprocessing` again: what is done stays done.",
        )
    return path


def pairs_of(layout: Layout, record: ReprocessedNight) -> list[Pair]:
    """The sources of a night, old and new; of several productions each with the one of the same place in the order."""
    sides: dict[str, tuple[list[Side], list[Side]]] = defaultdict(lambda: ([], []))
    for place, versions in enumerate((record.before, record.after)):
        for version in versions:
            source, side = side_of(layout, version)
            sides[source][place].append(side)
    pairs = []
    for source in sorted(sides):
        old, new = (sorted(of_source, key=lambda side: side.production) for of_source in sides[source])
        for one, other in zip_longest(old, new):
            pairs.append(Pair(night=record.night, source=source, old=one, new=other, lost=_lost(layout, one, other)))
    return pairs


def side_of(layout: Layout, version: str) -> tuple[str, Side]:
    """Source and numbers of a published version, from its own files.

    Raises
    ------
    DataError
        If it is not there, or damaged.
    """
    folder = layout.absolute(version)
    about = bundle_of(folder)
    if not about:
        raise DataError(f"{folder} has no readable {model.BUNDLE}.", "see `lstops published check`.")
    path = folder / "check.json"
    check = read_source_check(path) if path.exists() else None
    return str(about["source"]["name"]), Side(
        version=version,
        production=str(about["production"]),
        profile=str(about["profile"]),
        cuts=str(about["cuts"]),
        runs=tuple(about["runs"]),
        live_time_s=check.live_time_s if check else None,
        significance=check.significance if check else None,
        flux=check.flux if check else None,
        flux_error=check.flux_error if check else None,
    )


def _lost(layout: Layout, old: Side | None, new: Side | None) -> dict[int, str]:
    """Runs that the old version has alone, and what the new run list says of them."""
    gone: Sequence[int] = sorted(set(old.runs if old else ()) - set(new.runs if new else ()))
    if not gone or new is None:
        return dict.fromkeys(gone, "")
    from astropy.table import Table

    table = Table.read(layout.absolute(new.version) / model.RUNS, format="ascii.ecsv")
    said = dict(zip(table["run_id"].tolist(), table["reasons"].tolist(), strict=True))
    return {run: str(said.get(run) or "") for run in gone}
