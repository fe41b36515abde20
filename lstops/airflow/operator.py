"""Runs one stage of a plan on the cluster: one array over the steps that are not up to date."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from airflow.sdk.exceptions import AirflowFailException

from lstops.airflow.hook import ClusterHook
from lstops.airflow.policy import MIN_RETRIES, RETRIES, RETRY_DELAY, stage_retry_policy, submission_pool
from lstops.airflow.rounds import NextRound, RoundState, RoundStore
from lstops.airflow.submission import SubmittingOperator
from lstops.airflow.trigger import SETTLE_S, ClusterJobTrigger
from lstops.cluster import stage as stages
from lstops.cluster.client import ArrayTooLargeError, ClusterClient, QueueFullError, open_client
from lstops.cluster.failure import Cause
from lstops.cluster.parsers import AccountingRow
from lstops.cluster.poller import Ending
from lstops.cluster.records import JobRecord, kill_mark, read_record, write_record
from lstops.cluster.resources import load_escalation
from lstops.cluster.stage import StageContext, StepTrouble
from lstops.errors import JobFailure, LstOpsError, TransportError
from lstops.site.layout import Layout
from lstops.site.model import SchedulerKind
from lstops.step.assess import Standing, pending

# accounting may lag behind the queue by some seconds
_ACCOUNTING_WAIT_S, _ACCOUNTING_EVERY_S = 60.0, 2.0
# longer than SLURM's KillWait of 30 s
_KILL_WAIT_S = 90.0
#: a job on this machine is often over before a deferral would pay
_LOCAL_WAIT_S = 20.0


class PlanStageOperator(SubmittingOperator):
    """Run what is not up to date of one stage of a plan, wait for it, judge every step, retry what may work.

    Parameters
    ----------
    plan_id : str
        Of a plan saved in the site's work area (templated).
    stage : str
        Name of the stage (templated).
    site : str, optional
        Site file; default: the environment variable LSTOPS_SITE.
    ssh_conn_id : str, optional
        Airflow connection instead of the site's SSH access.
    wait_s : float, optional
        Wait this long in the worker before deferring; default 20 s for the local scheduler, 0 for SLURM.

    Returns
    -------
    dict
        `plan_id`, `stage`, `done` (indices), `computed` (number of steps that ran), `quarantined` (list of dicts with
        index, label, subject, cause, what, remedy, log) and `jobs` (numbers).
    """

    template_fields: Sequence[str] = ("plan_id", "stage", "site")
    ui_color = "#d5e8f3"

    def __init__(
        self,
        *,
        plan_id: str,
        stage: str,
        site: str | None = None,
        ssh_conn_id: str | None = None,
        wait_s: float | None = None,
        settle_s: float = SETTLE_S,
        **kwargs: Any,
    ) -> None:
        kwargs.setdefault("retries", RETRIES)
        kwargs.setdefault("retry_delay", RETRY_DELAY)
        kwargs.setdefault("retry_policy", stage_retry_policy())
        kwargs.setdefault("pool", submission_pool())
        kwargs["retries"] = max(kwargs["retries"], MIN_RETRIES)
        super().__init__(**kwargs)
        self.plan_id, self.stage, self.site = plan_id, stage, site
        self.ssh_conn_id, self.wait_s, self.settle_s = ssh_conn_id, wait_s, settle_s
        self._hook: ClusterHook | None = None

    # -- Airflow's entry points ----------------------------------------------------------------------------------
    def execute(self, context: Any) -> dict[str, Any]:
        """Submit or adopt, then wait; everything up to date ends at once."""
        stage, client, store = self._open(context)
        state = store.load()
        if state.open:
            try:
                record = self._reattach(stage, client, state)
            except (QueueFullError, ArrayTooLargeError) as refusal:
                return self._go_on(context, stage, client, store, state, self._once_more(stage, state, refusal))
            if record is not None:
                return self._wait(context, stage, client, store, state, record)
            self.log.info("there is no job of the last attempt to go on with; starting anew")
        return self._advance(context, stage, client, store, state.fresh())

    def resume(self, context: Any, event: dict[str, Any]) -> dict[str, Any]:
        """Judge the ended job; called by Airflow with the trigger's event."""
        stage, client, store = self._open(context)
        state = store.load()
        record = read_record(stage.layout, stage.plan_id, state.name) if state.name else None
        if record is None or record.job != event["job"]:
            # The store lost its content or the task was cleared in between: execute finds out what there is.
            self.log.warning("job %s is not the one this task waits for; looking again", event["job"])
            return self.execute(context)
        self._record = record
        ending, why = Ending(event["ending"]), str(event["why"])
        if ending in (Ending.DEADLINE, Ending.HOPELESS):
            self._give_up(stage, client, store, state, record, ending, why)
        return self._judge(context, stage, client, store, state, record)

    def admitted(self, context: Any, event: dict[str, Any]) -> dict[str, Any]:
        """There was room in the queue a moment ago; called by Airflow with the trigger's event."""
        stage, client, store = self._open(context)
        state = store.load()
        if state.open or state.held is None:
            # cleared in between: execute finds out what there is
            return self.execute(context)
        self.log.info("there is room in the queue for %s tasks", event["tasks"])
        return self._go_on(context, stage, client, store, state, state.held)

    def on_kill(self) -> None:
        """The worker's process is being ended by a person: cancel the job (Airflow gives 5 s)."""
        self._killed = True
        if self._record is None or self._hook is None:
            return
        job, site = self._record.job, self._hook.site
        self.log.warning("cancelling job %s, because its task was failed or cleared", job or self._record.name)
        kill_mark(Layout(site.base, site.work), self._record).touch()
        if not job:
            # the submission under way goes on after this, and cancels what it gets
            return
        # the connection in use may be in the middle of a command
        client = open_client(site)
        try:
            client.cancel(job)
        except LstOpsError as error:
            self.log.error("job %s could not be cancelled: %s", job, error)
        finally:
            client.close()

    # -- rounds --------------------------------------------------------------------------------------------------
    def _open(self, context: Any) -> tuple[StageContext, ClusterClient, RoundStore]:
        self._hook = ClusterHook(self.site, self.ssh_conn_id)
        stage = StageContext.load(self._hook.site, self.plan_id, self.stage)
        return stage, self._hook.client, RoundStore(context)

    def _reattach(self, stage: StageContext, client: ClusterClient, state: RoundState) -> JobRecord | None:
        """The record of the round under way with its job, or None if there is nothing to go on with."""
        record = read_record(stage.layout, stage.plan_id, state.name)
        if record is None or not stages.script_path(stage.layout, record).exists():
            # ended between "about to submit" and the first file: nothing was submitted
            return None
        if kill_mark(stage.layout, record).exists():
            self._end_killed(client, record)
            return None
        record, found = self._hand_in(stage, client, record)
        self.log.info("job %s (%s): %s", record.job, record.name, "found again" if found.adopted else "submitted")
        # one that is cancelled, but has no mark of ours, was a stranger's doing, and is judged as such
        return record

    def _end_killed(self, client: ClusterClient, record: JobRecord) -> None:
        """See the job of a task that was failed or cleared to its end: a new one must not meet the old one's steps."""
        until = time.monotonic() + _KILL_WAIT_S
        while time.monotonic() < until:
            left = {job.job for job in client.named_jobs() if job.name == record.name}
            if not left:
                return
            for job in left:
                # ours may not have landed yet, or have come before sbatch
                client.cancel(job)
            time.sleep(_ACCOUNTING_EVERY_S)

    def _once_more(self, stage: StageContext, state: RoundState, refusal: LstOpsError) -> NextRound:
        """The round that was about to be submitted when the last attempt died, and is now refused as it is."""
        record = read_record(stage.layout, stage.plan_id, state.name)
        assert record is not None
        self._refused(stage, record, refusal)
        return state.left or NextRound.of(record)

    def _advance(
        self, context: Any, stage: StageContext, client: ClusterClient, store: RoundStore, state: RoundState
    ) -> dict[str, Any]:
        """Look what is left to do; submit it or come to the end."""
        assessments = stage.assess()
        beyond = {trouble.index for trouble in state.troubles}
        todo = tuple(index for index in pending(assessments) if index not in beyond)
        ready = sum(found.state is Standing.DONE for found in assessments)
        self.log.info(
            "%s, stage %s: %d of %d steps are up to date, %d to do",
            stage.plan.title,
            self.stage,
            ready,
            len(assessments),
            len(todo),
        )
        if not todo:
            return self._finish(stage, store, state)
        for found in assessments:
            if found.index in todo[:20]:
                self.log.info("  step %d, %s: %s", found.index, found.step.label, found.reason)
        resources = stages.wanted_resources(stage, todo)
        return self._go_on(context, stage, client, store, state, NextRound(todo, resources))

    def _go_on(
        self,
        context: Any,
        stage: StageContext,
        client: ClusterClient,
        store: RoundStore,
        state: RoundState,
        wanted: NextRound,
    ) -> dict[str, Any]:
        """Submit a round and wait for it."""
        state, record = self._submit(context, stage, client, store, state, wanted)
        return self._wait(context, stage, client, store, state, record)

    def _wait(
        self,
        context: Any,
        stage: StageContext,
        client: ClusterClient,
        store: RoundStore,
        state: RoundState,
        record: JobRecord,
    ) -> dict[str, Any]:
        state = state.with_job(record.job, record.indices)
        store.save(state)
        cluster = stage.site.cluster
        default = _LOCAL_WAIT_S if cluster.scheduler is SchedulerKind.LOCAL else 0.0
        until = time.monotonic() + (default if self.wait_s is None else self.wait_s)
        while time.monotonic() < until:
            try:
                view = client.poll((record.job,)).get(record.job)
            except TransportError as error:
                # the triggerer is more patient
                self.log.warning("the scheduler cannot be asked now: %s", error)
                break
            if view is not None and not view.active:
                return self._judge(context, stage, client, store, state, record)
            time.sleep(min(1.0, cluster.poll_s))
        client.close()
        deadline = record.submitted + cluster.deadline_h * 3600
        self.log.info("waiting for job %s in the triggerer", record.job)
        self.defer(
            trigger=ClusterJobTrigger(
                site=self._site_file,
                job=record.job,
                submitted=record.submitted,
                deadline=deadline,
                kill_mark=str(kill_mark(stage.layout, record)),
                ssh_conn_id=self.ssh_conn_id,
                settle_s=self.settle_s,
            ),
            method_name="resume",
        )
        raise AssertionError("defer does not return")

    def _judge(
        self,
        context: Any,
        stage: StageContext,
        client: ClusterClient,
        store: RoundStore,
        state: RoundState,
        record: JobRecord,
    ) -> dict[str, Any]:
        """Decide about every step of an ended job and go on."""
        rows = self._accounting(client, record)
        verdict = stages.judge(stage, record, rows, stage.assess(), load_escalation())
        outcomes = dict.fromkeys(verdict.done, "done")
        outcomes |= {retry.index: f"again: {retry.why.cause.value}" for retry in verdict.retries}
        outcomes |= {trouble.index: trouble.cause for trouble in verdict.beyond_help}
        ending = f"{len(verdict.done)} of {len(record.indices)} done"
        write_record(stage.layout, record.model_copy(update={"outcomes": outcomes, "ending": ending}))
        self.log.info("job %s: %s", record.job, ending)
        for retry in verdict.retries:
            self.log.warning("  step %d, %s: %s", retry.index, stage.step(retry.index).label, retry.why.what)
        for trouble in verdict.beyond_help:
            tail = trouble.log_tail or self._tail(stage, client, record, trouble.index)
            self.log.error("  %s: %s Remedy: %s\n%s", trouble.label, trouble.what, trouble.remedy, tail)
        state = state.consumed(verdict.beyond_help)
        store.save(state)
        self._record = None
        if verdict.cancelled and kill_mark(stage.layout, record).exists():
            self.log.info("job %s was cancelled because the task was cleared; starting anew", record.job)
            return self._advance(context, stage, client, store, state.fresh())
        if verdict.cancelled:
            who = next(t.what for t in verdict.beyond_help if t.cause == Cause.CANCELLED.value)
            raise AirflowFailException(f"job {record.job} of stage {self.stage}: {who} Clear the task to run it again.")
        wanted = state.left
        if verdict.retries:
            resources, tries, exclude = stages.next_round(record, verdict.retries)
            indices = tuple(retry.index for retry in verdict.retries)
            wanted = NextRound(indices, resources, tries, exclude).joined(state.left)
        if wanted is not None:
            return self._go_on(context, stage, client, store, state, wanted)
        return self._advance(context, stage, client, store, state)

    def _tail(self, stage: StageContext, client: ClusterClient, record: JobRecord, index: int) -> str:
        try:
            return client.tail(stages.log_path(stage.layout, record, index))
        except TransportError as error:
            return f"(its log cannot be read now: {error})"

    def _accounting(self, client: ClusterClient, record: JobRecord) -> Sequence[AccountingRow]:
        """Accounting of an ended job, once it is complete (or as it is after a while)."""
        until = time.monotonic() + _ACCOUNTING_WAIT_S
        rows = client.account(record.job)
        while not stages.settled(record, rows) and time.monotonic() < until:
            time.sleep(_ACCOUNTING_EVERY_S)
            rows = client.account(record.job)
        return rows

    def _give_up(
        self,
        stage: StageContext,
        client: ClusterClient,
        store: RoundStore,
        state: RoundState,
        record: JobRecord,
        ending: Ending,
        why: str,
    ) -> None:
        client.cancel(record.job)
        write_record(stage.layout, record.model_copy(update={"ending": f"cancelled by lstops: {why}"}))
        store.save(state.consumed(()))
        if ending is Ending.HOPELESS:
            raise JobFailure(f"job {record.job} can never start and was cancelled.", f"{why}.")
        raise JobFailure(
            f"job {record.job} was not finished {stage.site.cluster.deadline_h:g} h after its submission and was "
            f"cancelled (last seen: {why}).",
            "raise cluster.deadline_h in the site file, or look why the cluster is so slow; then clear the task.",
        )

    def _finish(self, stage: StageContext, store: RoundStore, state: RoundState) -> dict[str, Any]:
        """Nothing is left to run: the result, or a failure that lists what is beyond help."""
        assessments = stage.assess()
        known = {trouble.index for trouble in state.troubles}
        blocked = tuple(t for t in stages.blocked_steps(assessments) if t.index not in known)
        troubles = (*state.troubles, *blocked)
        done = [found.index for found in assessments if found.state is Standing.DONE]
        if troubles and not stage.quarantine:
            raise AirflowFailException(
                f"{len(troubles)} of {len(assessments)} steps of stage {self.stage} are beyond help:\n"
                + "\n".join(_line(trouble) for trouble in troubles)
            )
        for trouble in troubles:
            self.log.warning("quarantined: %s", _line(trouble))
        if not troubles:
            self.log.info("stage %s: all %d steps are up to date", self.stage, len(done))
        store.save(state.closed())
        return {
            "plan_id": stage.plan_id,
            "stage": self.stage,
            "done": done,
            "computed": len(set(state.ran) & set(done)),
            "quarantined": [{k: v for k, v in asdict(t).items() if k != "log_tail"} for t in troubles],
            "jobs": list(state.jobs),
        }


def _line(trouble: StepTrouble) -> str:
    log = f" Log: {trouble.log}" if trouble.log else ""
    return f"{trouble.label} ({trouble.subject}): {trouble.what} Remedy: {trouble.remedy}{log}"
