"""New random forests from the training DL1 of a production that is there, with the same gates."""

from __future__ import annotations

from typing import Any

from airflow.sdk import dag, task

from lstops.airflow.context import site_of_environment
from lstops.airflow.declaring import dag_arguments, optional_text, production_tasks

#: as in lstops.operations.planning; what a retraining needs of them
STAGES = ("tune", "train", "dl2", "irf", "report")

DOC = """
### Retrain the forests of a production

The merged DL1 of a registered production (training and test nodes) is taken as it is; its forests are trained anew with
the settings of the site file (`production.forests`), the test nodes go through them, IRFs and the report card are made,
and the result is registered under its own name if it passes the gates. The report card compares it with the production
before. Above the limit of the site (`production.approval_cpu_h`) a person has to approve the price.
"""


@dag(
    **dag_arguments(
        "rf_training",
        DOC,
        "monte carlo",
        params={
            "production": optional_text(
                "Production",
                "Whose DL1 is used; `lstops production list` shows them.",
                pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$",
            ),
            "line": optional_text(
                "Declination line",
                "Such as dec_2276; needed if the production has several.",
                pattern=r"^dec_(min_)?\d{3,4}(_[a-z_]+)?$",
            ),
            "name": optional_text(
                "New name", "Name of the production with the new forests.", pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$"
            ),
        },
    )
)
def rf_training() -> None:
    """Wire the tasks."""

    @task
    def plan(**context: Any) -> str:
        from lstops.operations.retraining import plan_run

        return plan_run(site_of_environment(), context["params"])

    production_tasks(plan(), STAGES)


rf_training()
