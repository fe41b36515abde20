"""New random forests from the training DL1 of a production that is there, with the same gates."""

from __future__ import annotations

from typing import Any

from airflow.sdk import dag, task

from lstops.airflow.context import site_of_environment
from lstops.airflow.declaring import dag_arguments, optional_count, optional_text, production_tasks, trainer_param

#: as in lstops.operations.planned; what a retraining needs of them
STAGES = ("tune", "train", "dl2", "irf", "report")

DOC = """
### Retrain the forests of a production

The merged DL1 of a registered production (training and test nodes) is taken as it is; its forests are trained anew
with the settings given here, else those of the site file (`production.forests`), the test nodes go through them, IRFs
and the report card are made, and the result is registered under its own name, as a candidate, if it passes the gates.
It is used once a person has promoted it (`lstops production promote`), which supersedes the current one of the same
level. Equal forests that are registered already are not trained again.

`accelerated` grows the trees with scikit-learn-intelex, several times faster. Such forests are registered only if a
production with the same settings that lstchain trained is registered, and their report card is no worse.

Above the limit of the site (`production.approval_cpu_h`) a person has to approve the price.
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
            "trainer": trainer_param(),
            "n_estimators": optional_count("Trees", "In each forest; empty: as in the site file."),
            "max_depth": optional_count("Depth", "Of the trees, at most; empty: as in the site file."),
            "min_samples_leaf": optional_count("Events in a leaf", "At least; empty: as in the site file."),
        },
    )
)
def rf_training() -> None:
    """Wire the tasks."""

    @task
    def plan(**context: Any) -> str:
        from airflow.sdk.exceptions import AirflowSkipException

        from lstops.operations.retraining import plan_run

        plan_id, notes = plan_run(site_of_environment(), context["params"])
        print(notes)
        if plan_id is None:
            raise AirflowSkipException(notes)
        return plan_id

    production_tasks(plan(), STAGES)


rf_training()
