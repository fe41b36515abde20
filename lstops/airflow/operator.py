"""Runs one stage of a plan on the cluster: one array over the steps that are not up to date."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from airflow.sdk.exceptions import AirflowFailException

from lstops.airflow import ending
from lstops.airflow.hook import ClusterHook
from lstops.airflow.policy import MIN_RETRIES, RETRIES, RETRY_DELAY, stage_retry_policy, submission_pool
from lstops.airflow.rounds import NextRound, RoundState, RoundStore
from lstops.airflow.submission import SubmittingOperator
from lstops.airflow.trigger import SETTLE_S, ClusterJobTrigger
from lstops.cluster import stage as stages
from lstops.cluster.client import ArrayTooLargeError, ClusterClient, QueueFullError, open_client
from lstops.cluster.failure import Cause
from lstops.cluster.poller import Ending
from lstops.cluster.records import JobRecord, kill_mark, read_record
from lstops.cluster.resources import load_escalation
from lstops.cluster.stage import StageContext
from lstops.cluster.verdict import judge, next_round
from lstops.errors import LstOpsError, TransportError
from lstops.site.cluster import SchedulerKind
from lstops.site.layout import Layout
from lstops.step.assess import Standing, pending

# longer than SLURM's KillWait of 30 s
_KILL_WAIT_S, _KILL_LOOK_S = 90.0, 2.0
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
    branch : str, optional
        Only the steps of this branch of the plan (templated); default: the whole stage.
    site : str, optional
        Site file; default: the environment variable LSTOPS_SITE.
    ssh_conn_id : str, optional
        Airflow connection instead of the site's SSH access.
    wait_s : float, optional
        Wait this long in the worker before deferring; default 20 s for the local scheduler, 0 for SLURM.

    Returns
    -------
    dict
        `plan_id`, `stage`, `branch`, `done` (indices), `computed` (number of steps that ran), `quarantined` (list of
        dicts with index, label, subject, cause, what, remedy, log) and `jobs` (numbers).
    """

    template_fields: Sequence[str] = ("plan_id", "stage", "branch", "site")
    ui_color = "#d5e8f3"

    def __init__(
        self,
        *,
        plan_id: str,
        stage: str,
        branch: str | None = None,
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
        self.plan_id, self.stage, self.branch, self.site = plan_id, stage, branch, site
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
        if (how := Ending(event["ending"])) in (Ending.DEADLINE, Ending.HOPELESS):
            failure = ending.give_up(stage, client, record, how, str(event["why"]))
            store.save(state.consumed(()))
            raise failure
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
        stage = StageContext.load(self._hook.site, self.plan_id, self.stage, self.branch)
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
            time.sleep(_KILL_LOOK_S)

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
            stage.name,
            ready,
            len(assessments),
            len(todo),
        )
        if not todo:
            result = ending.result_of(stage, state, assessments, self.log)
            store.save(state.closed())
            return result
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
        rows = ending.complete_accounting(client, record)
        verdict = judge(stage, record, rows, stage.assess(), load_escalation())
        ending.note_verdict(stage, client, record, verdict, self.log)
        state = state.consumed(verdict.beyond_help)
        store.save(state)
        self._record = None
        if verdict.cancelled and kill_mark(stage.layout, record).exists():
            self.log.info("job %s was cancelled because the task was cleared; starting anew", record.job)
            return self._advance(context, stage, client, store, state.fresh())
        if verdict.cancelled:
            who = next(t.what for t in verdict.beyond_help if t.cause == Cause.CANCELLED.value)
            raise AirflowFailException(f"job {record.job} of stage {stage.name}: {who} Clear the task to run it again.")
        wanted = state.left
        if verdict.retries:
            resources, tries, exclude = next_round(record, verdict.retries)
            indices = tuple(retry.index for retry in verdict.retries)
            wanted = NextRound(indices, resources, tries, exclude).joined(state.left)
        if wanted is not None:
            return self._go_on(context, stage, client, store, state, wanted)
        return self._advance(context, stage, client, store, state)
