"""Why a run is taken or not, and what became of it, from the catalogue alone."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import numpy as np
from sqlalchemy import select
from sqlalchemy.orm import Session

from lstops.catalog.nights import find_run, quarantine_of
from lstops.catalog.overlay import list_decisions
from lstops.catalog.runlist import list_night, with_good_time
from lstops.catalog.tables import ProductRow, VerdictRow
from lstops.catalog.trace import Content, touched
from lstops.night import Night
from lstops.nsb.finder import RunNsb
from lstops.nsb.sample import Recommendation, recommend
from lstops.quality.intervals import CutVerdict
from lstops.quality.overlay import EffectiveVerdict, OverlayRecord
from lstops.quality.profiles import Profile


@dataclass(frozen=True)
class Blocked:
    """What stopped the run in the night's last reduction, and what helps."""

    stage: str
    cause: str
    remedy: str


@dataclass(frozen=True)
class Use:
    """A product that was made from the run.

    Parameters
    ----------
    kind, status, path : str
    made_at : datetime
    published_at : datetime or None
        None if it was never published.
    """

    kind: str
    status: str
    path: str
    made_at: datetime
    published_at: datetime | None


@dataclass(frozen=True)
class Judged:
    """What the nightly chain last held of the run."""

    profile: str
    selected: bool
    at: datetime


@dataclass(frozen=True)
class RunAnswer:
    """All that is known about why a run is taken or not.

    Parameters
    ----------
    verdict : EffectiveVerdict
        Each cut with value, limit and margin (`verdict.verdict.results`), and the decisions that hold.
    source : str
        What the observers entered; empty if unknown.
    start : datetime or None
    zenith_deg, elapsed_s : float
        NaN if unknown.
    good_time : CutVerdict or None
        None if the profile has no rules for subruns.
    nsb_std_pe : float
        Mean spread of the pedestal charge; NaN without interleaved pedestals.
    recommendation : Recommendation
        Which Monte Carlo fits that.
    measured_nsb : RunNsb or None
        Cleaning level and extra NSB of the tailcut finder, once it has run.
    decisions : tuple of OverlayRecord
        All that people ever decided about the run, revoked decisions too.
    blocked : tuple of Blocked
    judged : tuple of Judged
        What the nightly chain held, by each profile it was run with.
    uses : tuple of Use
        Products made from the run and what was made from those, published bundles among them; the newest first.
    """

    verdict: EffectiveVerdict
    source: str
    start: datetime | None
    zenith_deg: float
    elapsed_s: float
    good_time: CutVerdict | None
    nsb_std_pe: float
    recommendation: Recommendation
    measured_nsb: RunNsb | None
    decisions: tuple[OverlayRecord, ...]
    blocked: tuple[Blocked, ...]
    judged: tuple[Judged, ...]
    uses: tuple[Use, ...]


def explain_run(session: Session, run: int, profile: Profile) -> RunAnswer:
    """Explain a run: judged now, at its own source, from the stored quantities.

    Raises
    ------
    DataError
        If the catalogue does not know the run.
    """
    night = Night(find_run(session, run).night)
    answer = list_night(session, night, profile)
    if profile.subruns is not None:
        answer = with_good_time(session, answer, [run])
    table, row = answer.history.table, int(np.flatnonzero(answer.history.table.run_number == run)[0])
    nsb_std_pe = float(table.mean_diffuse_nsb_std_pe[row])
    return RunAnswer(
        verdict=answer.verdict(row),
        source=answer.history.source_name[row],
        start=answer.history.run_start[row],
        zenith_deg=float(table.zenith_deg[row]),
        elapsed_s=float(table.elapsed_time_s[row]),
        good_time=answer.good_time[run] if answer.good_time else None,
        nsb_std_pe=nsb_std_pe,
        recommendation=recommend(nsb_std_pe),
        measured_nsb=answer.measured_nsb.get(run),
        decisions=list_decisions(session, [run], revoked=True),
        blocked=tuple(Blocked(q.stage, q.cause, q.remedy) for q in quarantine_of(session, night, run)),
        judged=_judged(session, night, run),
        uses=_uses(session, run),
    )


def _judged(session: Session, night: Night, run: int) -> tuple[Judged, ...]:
    rows = session.execute(
        select(VerdictRow.profile, VerdictRow.effective, VerdictRow.judged_at)
        .where(VerdictRow.night == night.date, VerdictRow.run_id == run)
        .order_by(VerdictRow.profile)
    )
    return tuple(Judged(profile, effective, at) for profile, effective, at in rows)


def _uses(session: Session, run: int) -> tuple[Use, ...]:
    row = ProductRow
    own = session.execute(select(row.id, row.path, row.sha256).where(row.run_id == run)).all()
    if not own:
        return ()
    ids = {*(product for product, *_ in own), *touched(session, (Content(*content) for _, *content in own))}
    query = select(row.kind, row.status, row.path, row.made_at, row.published_at).where(row.id.in_(ids))
    return tuple(Use(*used) for used in session.execute(query.order_by(row.made_at.desc(), row.path)))
