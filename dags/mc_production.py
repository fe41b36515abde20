"""An NSB-tuned Monte Carlo production: tuned DL1, random forests, test DL2, IRFs, registered for use."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import Param, dag, task

from lstops.airflow.context import night_of, site_of_environment
from lstops.airflow.operator import PlanStageOperator
from lstops.airflow.policy import stage_retry_policy

DOC = """
### Monte Carlo whose night-sky background is that of the data

Give a `night`: its selected runs say which NSB is typical. The dark Monte Carlo gets the difference at image level
(`lstchain_tune_nsb`, `lstchain_dl1ab`), random forests are trained on it, the test nodes go through them, and IRFs are
made with the one cut set that DL3 uses too. At the end the production is registered; `nightly` then finds it.

A stage fails if one of its steps does: a production with a hole is not registered. Started again, it computes only what
is missing.
"""


@dag(
    dag_id="mc_production",
    schedule=None,
    catchup=False,
    max_active_runs=1,
    default_args={"retries": 2, "retry_delay": timedelta(seconds=30), "retry_policy": stage_retry_policy()},
    params={
        "night": Param(
            None,
            type=["null", "string"],
            pattern=r"^\d{8}$",
            title="Night",
            description="Night (YYYYMMDD) whose selected runs give the typical NSB.",
        ),
        "profile": Param(
            None,
            type=["null", "string"],
            title="Selection profile",
            description="Name of a file in config/profiles; empty: the site's profile.",
        ),
    },
    tags=["lstops", "monte carlo"],
    doc_md=DOC,
)
def mc_production() -> None:
    """Wire the tasks."""

    @task
    def prepare(**context: Any) -> str:
        from lstops.operations.nightly import ingest, judge, plan_nsb_measurement

        site, night, profile = site_of_environment(), night_of(context), context["params"]["profile"]
        print(ingest(site, night).text())
        print(judge(site, night, profile).text())
        return plan_nsb_measurement(site, night, profile)

    @task
    def plan(**context: Any) -> str:
        from lstops.operations.production import plan_for_night

        return plan_for_night(site_of_environment(), night_of(context), context["params"]["profile"])

    @task
    def register(plan_id: str) -> str:
        from lstops.operations.production import register as work

        return work(site_of_environment(), plan_id)

    measurement = prepare()
    planned = plan()
    previous: Any = measurement >> PlanStageOperator(task_id="nsb", plan_id=measurement, stage="nsb") >> planned
    for stage in ("tune", "dl1ab", "merge", "train", "dl2", "irf"):
        previous = previous >> PlanStageOperator(task_id=stage, plan_id=planned, stage=stage)
    previous >> register(planned)


mc_production()
