"""Every night: judge the runs, reduce the good ones to DL3, verify, publish, report."""

from __future__ import annotations

import os
from datetime import datetime, timedelta, timezone
from typing import Any

from airflow.sdk import Param, dag, task

from lstops.airflow.context import night_work
from lstops.airflow.declaring import dag_arguments, optional_text
from lstops.airflow.notifier import NightNotifier
from lstops.airflow.operator import PlanStageOperator
from lstops.airflow.report import NightReportOperator

#: After the end of the longest astronomical night on La Palma (about 07:00 UTC) and the telescope's shutdown. A site
#: may choose another cron expression; empty, as in the demo: only by hand.
SCHEDULE = os.environ.get("LSTOPS_NIGHTLY_SCHEDULE", "30 9 * * *")

DOC = """
### One night from DL1 to published DL3

Starts every morning for the night before, or by hand with another `night` (the date before midnight, YYYYMMDD).

1. **wait_closed** until lstosa has set its flag `NightFinished.txt`; a night without observations is skipped.
2. **ingest** the datacheck, **judge** every run with the site's profile, measure the **nsb** of the good ones where
   lstosa has not, and **match** the models that fit their sky.
3. **dl2**, **dl3**: one array of jobs each. A run that fails is quarantined, the others go on.
4. **index**: the index of the DL3 files, and a look at the source with gammapy.
5. **publish** a new version of the night's bundle (or none, if nothing changed), and write the **report**. If something
   needs a person, the people named in the site file are told; if all is well, nobody is.

Started again, it computes only what is not up to date. The DAG `reprocessing` starts it with the parameter
`reprocessing`: then the new versions are published beside the current ones, and the night's report stays as it is.
"""


@dag(
    **dag_arguments(
        "nightly",
        DOC,
        "data",
        schedule=SCHEDULE or None,
        start_date=datetime(2024, 1, 1, tzinfo=timezone.utc),
        max_active_runs=2,
    ),
    params={
        "night": optional_text(
            "Night",
            "The date before midnight as YYYYMMDD; empty: the night before the scheduled morning.",
            pattern=r"^\d{8}$",
        ),
        "profile": optional_text("Selection profile", "Name of a file in config/profiles; empty: the site's profile."),
        "reprocessing": Param(
            None,
            type=["null", "object"],
            title="Reprocessing",
            description="Filled in by the DAG `reprocessing`: what is other than usual; empty: the usual reduction.",
        ),
    },
)
def nightly() -> None:
    """Wire the tasks."""

    @task.sensor(poke_interval=300, timeout=timedelta(hours=12).total_seconds(), mode="reschedule")
    def wait_closed(**context: Any) -> bool:
        from airflow.sdk.exceptions import AirflowSkipException

        from lstops.operations.nightly import NightState, night_state

        work = night_work(context)
        state = night_state(work.site, work.night)
        if state is NightState.EMPTY:
            raise AirflowSkipException(f"nothing was observed in the night {work.night.iso}")
        return state is NightState.CLOSED

    @task
    def ingest(**context: Any) -> str:
        from lstops.operations.nightly import ingest

        work = night_work(context)
        return ingest(work.site, work.night).text()

    @task
    def judge(**context: Any) -> str:
        from lstops.operations.nightly import judge

        work = night_work(context)
        return judge(work.site, work.night, work.profile).text()

    @task
    def measure(**context: Any) -> str:
        from lstops.operations.nightly import plan_nsb_measurement

        work = night_work(context)
        return plan_nsb_measurement(work.site, work.night, work.profile)

    @task
    def match(**context: Any) -> str:
        from lstops.operations.reduction import plan_reduction

        work = night_work(context)
        return plan_reduction(work.site, work.night, work.profile, work.again)

    @task
    def collect(plan_id: str, results: list[dict[str, Any]], **context: Any) -> str:
        from lstops.operations.reduction import plan_collection

        work = night_work(context)
        return plan_collection(work.site, work.night, plan_id, results, work.again)

    @task
    def publish(reduction: str, collection: str, results: list[dict[str, Any]], **context: Any) -> list[str]:
        from lstops.operations.reduction import publish

        work = night_work(context)
        reason = f"reprocessing {work.again.name}" if work.again else ""
        return publish(
            work.site, work.night, reduction, collection, results, reason=reason, again=work.again, tell=print
        )

    measurement = measure()
    nsb = PlanStageOperator(task_id="nsb", plan_id=measurement, stage="nsb")
    reduction = match()
    dl2 = PlanStageOperator(task_id="dl2", plan_id=reduction, stage="dl2")
    dl3 = PlanStageOperator(task_id="dl3", plan_id=reduction, stage="dl3")
    collection = collect(reduction, [dl2.output, dl3.output])
    index = PlanStageOperator(task_id="index", plan_id=collection, stage="index")
    check = PlanStageOperator(task_id="check", plan_id=collection, stage="check")
    published = publish(reduction, collection, [index.output, check.output])
    report = NightReportOperator(task_id="report", on_success_callback=NightNotifier())
    wait_closed() >> ingest() >> judge() >> measurement >> nsb >> reduction >> dl2 >> dl3
    index >> check >> published >> report


nightly()
