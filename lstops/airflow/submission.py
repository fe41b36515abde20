"""Hands rounds of a stage in to the scheduler, as far as the limits of the queue let them in."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, NoReturn

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowException

from lstops.airflow.rounds import NextRound, RoundState, RoundStore
from lstops.airflow.trigger import QueueRoomTrigger
from lstops.cluster import stage as stages
from lstops.cluster.client import ArrayTooLargeError, ClusterClient, QueueFullError, Submission
from lstops.cluster.commands import job_name
from lstops.cluster.limits import Admission, admit, after_refusal
from lstops.cluster.orphans import comment_tag
from lstops.cluster.records import JobRecord, Owner, submission_lock, write_record
from lstops.cluster.stage import StageContext
from lstops.errors import LstOpsError, SubmitError

#: until a round that the scheduler refused for a limit of the user is tried again
_REFUSED_WAIT_S = 120.0


class SubmittingOperator(BaseOperator):  # type: ignore[misc]
    """An operator that submits; it comes back with `admitted` when it had to wait for room in the queue."""

    site: str | None
    ssh_conn_id: str | None
    settle_s: float
    #: of the job that is submitted or waited for; without a number until sbatch has answered
    _record: JobRecord | None = None
    #: a person has failed or cleared the task, or its worker is being ended
    _killed: bool = False

    def _submit(
        self,
        context: Any,
        stage: StageContext,
        client: ClusterClient,
        store: RoundStore,
        state: RoundState,
        wanted: NextRound,
    ) -> tuple[RoundState, JobRecord]:
        """Submit a round, or the part of it that there is room for, or wait for room."""
        partition = wanted.resources.partition
        with submission_lock(stage.site, partition):
            while True:
                views = client.queue().values()
                tasks = stages.array_size(stage, wanted.indices, wanted.resources, wanted.tries)
                tasks = min(tasks, wanted.most or tasks)
                found = admit(
                    stage.site.cluster, partition, tasks, views, datetime.now(timezone.utc), bool(wanted.tries)
                )
                if not found.tasks:
                    self._hold(stage, client, store, state.holding(wanted), tasks, found.why)
                state, record = self._prepare(context, stage, store, state, wanted, found)
                try:
                    record, submission = self._hand_in(stage, client, record)
                    break
                except (QueueFullError, ArrayTooLargeError) as refusal:
                    self._refused(stage, record, refusal)
                    too_large = isinstance(refusal, ArrayTooLargeError)
                    busy = any(view.active for view in views)
                    smaller = after_refusal(found.tasks, too_large, busy)
                    if not smaller and not busy:
                        raise SubmitError(
                            f"{refusal.what} It is refused for a single task, too, with nothing of ours in the queue.",
                            "ask the administrators which limit the account has met.",
                        ) from refusal
                    if not smaller:
                        later = time.time() + _REFUSED_WAIT_S
                        self._hold(stage, client, store, state.holding(wanted), tasks, refusal.what, later)
                    wanted = replace(wanted, most=smaller)
                    self.log.info("trying %d tasks at once", smaller)
        self.log.info(
            "job %s (%s) %s: %d steps, %d CPU, %d MB, %d min each%s",
            record.job,
            record.name,
            "found again" if submission.adopted else "submitted",
            len(record.indices),
            record.resources.cpus,
            record.resources.mem_mb,
            record.resources.time_min,
            f", not on {', '.join(record.exclude)}" if record.exclude else "",
        )
        return state, record

    def _prepare(
        self,
        context: Any,
        stage: StageContext,
        store: RoundStore,
        state: RoundState,
        wanted: NextRound,
        found: Admission,
    ) -> tuple[RoundState, JobRecord]:
        """Write down what is about to be submitted."""
        ti = context["ti"]
        seed = f"{ti.run_id} {getattr(context.get('dag_run'), 'start_date', '')}"
        number = state.number + 1
        name = job_name(ti.dag_id, seed, ti.task_id, ti.map_index, number)
        # The intent is stored first: whoever dies from here on is found again under this name.
        state = state.started(number, name, wanted)
        store.save(state)
        record = stages.prepare(
            stage,
            name,
            wanted.indices,
            wanted.resources,
            wanted.tries,
            wanted.exclude,
            f"{comment_tag(stage.site)} {ti.dag_id} {ti.task_id} {stage.stage}",
            max_tasks=found.tasks,
            nice=found.nice,
            owner=Owner(dag_id=ti.dag_id, run_id=ti.run_id, task_id=ti.task_id, map_index=ti.map_index),
        )
        return state, record

    def _hand_in(self, stage: StageContext, client: ClusterClient, record: JobRecord) -> tuple[JobRecord, Submission]:
        """Submit or adopt; if the task was killed meanwhile the job is cancelled at once."""
        self._record = record
        self._stop_if_killed()
        record, submission = stages.submit(stage, client, record)
        self._record = record
        if self._killed:
            client.cancel(record.job)
        self._stop_if_killed()
        return record, submission

    def _stop_if_killed(self) -> None:
        # `on_kill` runs as a signal's handler and comes back to where the task was: to the middle of a submission
        if self._killed:
            raise AirflowException("the task was failed or cleared while it submitted; nothing of it is left.")

    def _refused(self, stage: StageContext, record: JobRecord, refusal: LstOpsError) -> None:
        """Note that a round was never submitted."""
        self.log.warning("%s", refusal)
        write_record(stage.layout, record.model_copy(update={"ending": f"not submitted: {refusal.what}"}))

    def _hold(
        self,
        stage: StageContext,
        client: ClusterClient,
        store: RoundStore,
        state: RoundState,
        tasks: int,
        why: str,
        not_before: float = 0.0,
    ) -> NoReturn:
        """Wait in the triggerer for room in the queue."""
        assert state.held is not None
        store.save(state)
        client.close()
        self.log.info("%d tasks wait to be submitted: %s", tasks, why)
        self.defer(
            trigger=QueueRoomTrigger(
                site=self._site_file,
                partition=state.held.resources.partition,
                tasks=tasks,
                whole=bool(state.held.tries),
                not_before=not_before,
                ssh_conn_id=self.ssh_conn_id,
                settle_s=self.settle_s,
            ),
            method_name="admitted",
        )
        raise AssertionError("defer does not return")

    @property
    def _site_file(self) -> str:
        return str(Path(self.site or os.environ["LSTOPS_SITE"]).absolute())
