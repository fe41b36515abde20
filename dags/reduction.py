"""An analysis request: the good runs of a target from DL1 to a published bundle of DL3."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

from airflow.sdk import Param, dag, task

from lstops.airflow.context import site_of_environment
from lstops.airflow.declaring import dag_arguments, optional_text
from lstops.airflow.operator import PlanStageOperator

DOC = """
### The runs of a target, over any number of nights, as one bundle

Started by hand: the form asks for a target (or runs), dates, zenith range, profile, models and cuts. `lstops reduce`
with the same options and `--dry-run` shows beforehand which runs these are, what cannot be reduced and why, and what
it costs.

1. **measure**, **nsb**: the sky of good runs that nobody has measured yet.
2. **match**: the models of each run; **dl2**, **dl3**: one array of jobs each. What the nights have made with the same
   models is not made again. A run that fails is left out with the cause.
3. **collect**, **index**, **check**: the index of the DL3 files, and a look at the source with gammapy.
4. **publish** a new version of the request's bundle below `DL3/requests` (or none, if nothing changed). If every run
   failed, this task fails and says why.
"""


@dag(
    **dag_arguments("reduction", DOC, "data", start_date=datetime(2024, 1, 1, tzinfo=timezone.utc), max_active_runs=4),
    params={
        "target": optional_text("Target", 'Name, as in config/targets.yaml, or "ra dec" in degrees; empty: see Runs.'),
        "runs": Param([], type="array", items={"type": "integer"}, title="Runs",
                      description="Only these runs; empty: every good run of the target."),
        "since": optional_text("First night", "YYYYMMDD; empty: from the beginning.", pattern=r"^\d{8}$"),
        "until": optional_text("Last night", "YYYYMMDD, included; empty: until now.", pattern=r"^\d{8}$"),
        "zd_min_deg": Param(0.0, type="number", minimum=0, maximum=90, title="Smallest zenith distance (deg)",
                            description="Of the mean pointing of a run."),
        "zd_max_deg": Param(75.0, type="number", minimum=0, maximum=90, title="Largest zenith distance (deg)",
                            description="Of the mean pointing of a run."),
        "profile": optional_text("Selection profile", "Name of a file in config/profiles; empty: the site's profile."),
        "production": optional_text("Production", "Models for all runs; empty: those that fit the NSB of each run."),
        "nsb_tolerance_ghz": Param(None, type=["null", "number"], title="NSB tolerance (GHz)",
                                   description="Largest difference between a run and its models; empty: the site's."),
        "cuts": optional_text("Cut set", "Name of a file in config/cuts; empty: the site's."),
        "intensity_per_run": Param(False, type="boolean", title="Intensity cut of each run",
                                   description="Cut data and responses of each run as lstchain recommends for it."),
    },
)  # fmt: skip
def reduction() -> None:
    """Wire the tasks."""

    @task
    def measure(**context: Any) -> str:
        from lstops.operations.request import plan_measurement
        from lstops.reduction.request import parse_request

        return plan_measurement(site_of_environment(), parse_request(context["params"]))

    @task
    def match(**context: Any) -> str:
        from lstops.operations.request import store_plan
        from lstops.reduction.request import parse_request

        return store_plan(site_of_environment(), parse_request(context["params"]))

    @task
    def collect(plan_id: str, results: list[dict[str, Any]]) -> str:
        from lstops.operations.request_bundle import collect as work

        return work(site_of_environment(), plan_id, results)

    @task
    def publish(plan_id: str, collection_id: str, results: list[dict[str, Any]]) -> list[str]:
        from lstops.operations.request_bundle import publish as work

        return work(site_of_environment(), plan_id, collection_id, results)

    measurement = measure()
    nsb = PlanStageOperator(task_id="nsb", plan_id=measurement, stage="nsb")
    plan = match()
    dl2 = PlanStageOperator(task_id="dl2", plan_id=plan, stage="dl2")
    dl3 = PlanStageOperator(task_id="dl3", plan_id=plan, stage="dl3")
    collection = collect(plan, [dl2.output, dl3.output])
    index = PlanStageOperator(task_id="index", plan_id=collection, stage="index")
    check = PlanStageOperator(task_id="check", plan_id=collection, stage="check")
    measurement >> nsb >> plan >> dl2 >> dl3
    index >> check >> publish(plan, collection, [index.output, check.output])


reduction()
