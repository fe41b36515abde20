"""What the DAG files declare alike."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import Param

from lstops.airflow.approval import CostApproval
from lstops.airflow.context import site_of_environment
from lstops.airflow.notifier import FailureNotifier
from lstops.airflow.operator import PlanStageOperator
from lstops.airflow.policy import stage_retry_policy


def dag_arguments(dag_id: str, doc: str, *tags: str, **changes: Any) -> dict[str, Any]:
    """Arguments of `@dag`: by hand and one run at a time unless `changes` says otherwise; what fails is told.

    The tasks form one line, so that a run fails at one task and says so once, after its last try.
    """
    return {
        "dag_id": dag_id,
        "schedule": None,
        "catchup": False,
        "max_active_runs": 1,
        "default_args": {
            "retries": 2,
            "retry_delay": timedelta(seconds=30),
            "retry_policy": stage_retry_policy(),
            "on_failure_callback": FailureNotifier(),
        },
        "tags": ["lstops", *tags],
        "doc_md": doc,
        **changes,
    }


def optional_text(title: str, description: str, **schema: Any) -> Param:
    """A text in the form of a DAG that may stay empty; `schema` as JSON schema has it, such as `pattern`."""
    return Param(None, type=["null", "string"], title=title, description=description, **schema)


def production_tasks(planned: Any, stages: tuple[str, ...]) -> None:
    """Wire what follows the plan of a production: price, approval, its stages, registration.

    Parameters
    ----------
    planned
        Output of the task that gives the plan's id.
    stages : tuple of str
        Those that a plan may have; what it lacks ends at once.
    """
    from airflow.sdk import task

    @task
    def preview(plan_id: str) -> dict[str, Any]:
        from lstops.operations.production_run import preview as work

        price = work(site_of_environment(), plan_id)
        print(price["text"])
        return price

    @task
    def register(plan_id: str) -> str:
        from lstops.operations.registration import register as work

        return work(site_of_environment(), plan_id)

    price = preview(planned)
    approve = CostApproval(
        task_id="approve", subject=_of_preview("title"), body=_of_preview("text"), needed=_of_preview("needed")
    )
    previous: Any = price >> approve
    for stage in stages:
        previous = previous >> PlanStageOperator(task_id=stage, plan_id=planned, stage=stage)
    previous >> register(planned)


def _of_preview(name: str) -> str:
    """Template of one value of the price."""
    return f"{{{{ ti.xcom_pull(task_ids='preview')['{name}'] }}}}"
