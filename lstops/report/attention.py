"""What needs a person after a night: the one list behind the page, the terminal's table and the message."""

from __future__ import annotations

import math
from dataclasses import dataclass

from lstops.report.model import FailedCut, NightReport, ProductState, ReportRun
from lstops.report.page import plural, without_stop

#: a limit missed by this factor is no bad weather as usual: something was switched off, broken or mistaken
_BY_FAR = 2.0
#: clouds make any value of these
_WEATHER = ("fraction_",)
#: what to do about a quantity that is far from its limit; by a part of its name
_REMEDIES = (
    ("num_", "check the calibration box and the setting of interleaved events in these runs"),
    ("r422", "look at the weather and the camera in these runs (dust, thick clouds, high voltage, mirrors)"),
    ("std_dec_deg", "look at the drive's log of these runs"),
    ("separation", "check what these runs pointed at, and their source in the run catalogue"),
)
_REMEDY = "look at these runs with `lstops why RUN`; keep or exclude them with `lstops overlay add`"


@dataclass(frozen=True)
class Action:
    """Something that a person has to do."""

    subject: str
    cause: str
    remedy: str


def actions(report: NightReport) -> tuple[Action, ...]:
    """What needs a person, the most important first: the night as a whole, then the source, then single runs.

    Runs with the same cause and remedy are one action. Runs that are rejected by a little, as in any cloudy night, need
    nobody, nor do runs about which somebody has decided.
    """
    found = [Action("Night", p.what, p.remedy) for p in report.problems]
    found += _unpublished(report)
    found += _sources(report)
    found += _quarantined(report)
    found += _surprises(report)
    return tuple(Action(a.subject, without_stop(a.cause), without_stop(a.remedy)) for a in found)


def _unpublished(report: NightReport) -> list[Action]:
    published = {run for bundle in report.published for run in bundle.runs}
    # what a person has withdrawn or replaced needs nobody else
    ended = {run for bundle in report.ended for run in bundle.runs} - published
    good = [run for run in report.runs if run.selected and run.run_id not in ended]
    left = [run for run in good if run.run_id not in published and run.dl3 is not ProductState.PUBLISHED]
    if good and len(left) == len(good):
        causes = "see the causes below" if all(run.quarantine for run in good) else "look at the tasks of its DAG run"
        what = f"nothing is published though {plural(len(good), 'run')} {'is' if len(good) == 1 else 'are'} good"
        return [Action("Night", what, f"{causes}; started again, `nightly` computes only what is missing")]
    waiting = [run.run_id for run in left if not run.quarantine]
    if not waiting:
        return []
    remedy = "look at the tasks of the night's DAG run and start `nightly` again"
    return [Action(_runs_text(waiting), "good, but not published", remedy)]


def _sources(report: NightReport) -> list[Action]:
    found = []
    for check in report.checks:
        if check.agrees is False:
            found.append(
                Action(
                    check.source_name,
                    f"flux is {check.ratio:.2f} ± {check.ratio_error:.2f} of {check.reference_name}",
                    "look at the runs of this source: clouds, wrong models or a wrong pointing; withdraw if in doubt",
                )
            )
        if check.skipped:
            runs = ", ".join(f"{run} ({why})" for run, why in sorted(check.skipped.items()))
            found.append(Action(check.source_name, f"not used in the source check: {runs}", "look at these DL3 files"))
    return found


def _quarantined(report: NightReport) -> list[Action]:
    grouped: dict[tuple[str, str], list[int]] = {}
    for run in report.runs:
        if run.quarantine:
            grouped.setdefault((run.quarantine.cause, run.quarantine.remedy), []).append(run.run_id)
    return [Action(_runs_text(runs), cause, remedy) for (cause, remedy), runs in grouped.items()]


def _surprises(report: NightReport) -> list[Action]:
    """Runs that miss a limit by far, together by limit; a run is named with the first such limit only."""
    grouped: dict[str, list[tuple[ReportRun, FailedCut]]] = {}
    for run in report.runs:
        if run.selected is False and not run.decision and not run.quarantine:
            far = next((cut for cut in run.failed if missed_by_far(cut)), None)
            if far:
                grouped.setdefault(far.quantity, []).append((run, far))
    found = []
    for quantity, members in grouped.items():
        cut = members[0][1]
        what = cut.reason.split(":", 1)[0] if ":" in cut.reason else cut.cut
        values = [c.value for _, c in members if c.value is not None and math.isfinite(c.value)]
        limit = "" if cut.limit is None else f", the limit is {cut.limit:g}"
        seen = f" ({f'{_range(values)} {cut.unit}'.rstrip()}{limit})" if values else ""
        remedy = next(
            (text for part, text in _REMEDIES if quantity.startswith(part) or quantity.endswith(part)), _REMEDY
        )
        subject = _runs_text([run.run_id for run, _ in members])
        found.append(Action(subject, f"rejected by far: {what}{seen}", remedy))
    return found


def missed_by_far(cut: FailedCut) -> bool:
    """Whether a limit is missed by so much that bad weather does not explain it, or its quantity is unknown.

    By a factor of two; a limit of zero (something has to be there) cannot be missed by less. A rate that is not stable
    is weather, however unstable.
    """
    if cut.quantity.startswith(_WEATHER):
        return False
    if cut.value is None or not math.isfinite(cut.value):
        return True
    if cut.limit is None:
        return False
    if cut.limit == 0:
        return True
    ratio = cut.value / cut.limit
    return ratio > _BY_FAR or ratio < 1 / _BY_FAR


def _range(values: list[float]) -> str:
    low, high = min(values), max(values)
    return f"{low:.3g}" if f"{low:.3g}" == f"{high:.3g}" else f"{low:.3g} to {high:.3g}"


def _runs_text(runs: list[int]) -> str:
    return ("Run " if len(runs) == 1 else "Runs ") + ", ".join(map(str, sorted(runs)))
