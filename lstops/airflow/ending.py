"""What the task of a stage notes and says when a job, or the whole stage, has come to an end."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from airflow.sdk.exceptions import AirflowFailException

from lstops.airflow.rounds import RoundState
from lstops.cluster.client import ClusterClient
from lstops.cluster.poller import Ending
from lstops.cluster.records import JobRecord, write_record
from lstops.cluster.rows import AccountingRow
from lstops.cluster.stage import StageContext, log_path
from lstops.cluster.verdict import Judgement, StepTrouble, blocked_steps, settled
from lstops.errors import JobFailure, TransportError
from lstops.step.assess import Assessment, Standing

# accounting may lag behind the queue by some seconds
_ACCOUNTING_WAIT_S, _ACCOUNTING_EVERY_S = 60.0, 2.0


class EarlierHolesError(AirflowFailException):  # type: ignore[misc]
    """A stage is not whole because of what is missing from stages before it; their tasks have said why."""


def complete_accounting(client: ClusterClient, record: JobRecord) -> Sequence[AccountingRow]:
    """Accounting of an ended job, once it is complete (or as it is after a while).

    Raises
    ------
    TransportError
        If it cannot be asked.
    """
    until = time.monotonic() + _ACCOUNTING_WAIT_S
    rows = client.account(record.job)
    while not settled(record, rows) and time.monotonic() < until:
        time.sleep(_ACCOUNTING_EVERY_S)
        rows = client.account(record.job)
    return rows


def note_verdict(
    stage: StageContext, client: ClusterClient, record: JobRecord, verdict: Judgement, log: logging.Logger
) -> None:
    """Keep what became of each step beside the plan, and say it in the task's log."""
    outcomes = dict.fromkeys(verdict.done, "done")
    outcomes |= {retry.index: f"again: {retry.why.cause.value}" for retry in verdict.retries}
    outcomes |= {trouble.index: trouble.cause for trouble in verdict.beyond_help}
    summary = f"{len(verdict.done)} of {len(record.indices)} done"
    write_record(stage.layout, record.model_copy(update={"outcomes": outcomes, "ending": summary}))
    log.info("job %s: %s", record.job, summary)
    for retry in verdict.retries:
        log.warning("  step %d, %s: %s", retry.index, stage.step(retry.index).label, retry.why.what)
    for trouble in verdict.beyond_help:
        tail = trouble.log_tail or _tail(stage, client, record, trouble.index)
        log.error("  %s: %s Remedy: %s\n%s", trouble.label, trouble.what, trouble.remedy, tail)


def _tail(stage: StageContext, client: ClusterClient, record: JobRecord, index: int) -> str:
    try:
        return client.tail(log_path(stage.layout, record, index))
    except TransportError as error:
        return f"(its log cannot be read now: {error})"


def give_up(stage: StageContext, client: ClusterClient, record: JobRecord, how: Ending, why: str) -> JobFailure:
    """Cancel a job that will not end well; returns what to fail with.

    Raises
    ------
    TransportError
        If it cannot be cancelled now.
    """
    client.cancel(record.job)
    write_record(stage.layout, record.model_copy(update={"ending": f"cancelled by lstops: {why}"}))
    if how is Ending.HOPELESS:
        return JobFailure(f"job {record.job} can never start and was cancelled.", f"{why}.")
    return JobFailure(
        f"job {record.job} was not finished {stage.site.cluster.deadline_h:g} h after its submission and was "
        f"cancelled (last seen: {why}).",
        "raise cluster.deadline_h in the site file, or look why the cluster is so slow; then clear the task.",
    )


def result_of(
    stage: StageContext, state: RoundState, assessments: Sequence[Assessment], log: logging.Logger
) -> dict[str, Any]:
    """Nothing is left to run: what the task returns.

    Raises
    ------
    AirflowFailException
        With the list of steps beyond help, where the production may not be without them.
    EarlierHolesError
        If the only steps that are missing wait for steps of other stages.
    """
    known = {trouble.index for trouble in state.troubles}
    blocked = tuple(t for t in blocked_steps(assessments) if t.index not in known)
    waiting = {found.index for found in assessments if found.state is Standing.WAITING}
    troubles = (*state.troubles, *blocked)
    done = [found.index for found in assessments if found.state is Standing.DONE]
    own = [trouble for trouble in troubles if trouble.index not in waiting]
    if own and not stage.quarantine:
        raise AirflowFailException(
            f"{len(own)} of {len(assessments)} steps of stage {stage.name} are beyond help:\n"
            + "\n".join(_line(trouble) for trouble in own)
        )
    if troubles and not stage.quarantine:
        raise EarlierHolesError(
            f"{len(troubles)} of {len(assessments)} steps of stage {stage.name} wait for steps of earlier stages that "
            f"are missing; {len(done)} are up to date:\n" + "\n".join(_line(trouble) for trouble in troubles)
        )
    for trouble in troubles:
        log.warning("quarantined: %s", _line(trouble))
    if not troubles:
        log.info("stage %s: all %d steps are up to date", stage.name, len(done))
    return {
        "plan_id": stage.plan_id,
        "stage": stage.stage,
        "branch": stage.branch,
        "done": done,
        "computed": len(set(state.ran) & set(done)),
        "quarantined": [{k: v for k, v in asdict(t).items() if k != "log_tail"} for t in troubles],
        "jobs": list(state.jobs),
    }


def _line(trouble: StepTrouble) -> str:
    log = f" Log: {trouble.log}" if trouble.log else ""
    return f"{trouble.label} ({trouble.subject}): {trouble.what} Remedy: {trouble.remedy}{log}"
