"""Every hour: jobs of ours that nobody waits for are cancelled."""

from __future__ import annotations

import os
from datetime import datetime, timezone
from typing import Any

from airflow.sdk import dag, task

from lstops.airflow.context import site_of_environment
from lstops.airflow.declaring import dag_arguments
from lstops.airflow.policy import submission_pool

#: Often, because such a job takes a place in the queue. A site may choose another cron expression; empty: by hand.
SCHEDULE = os.environ.get("LSTOPS_ORPHANS_SCHEDULE", "15 * * * *")

DOC = """
### Jobs that nobody waits for

Jobs of ours in the queue that no task waits for any more (its run was deleted, its stage is over, the triggerer was
down when a person failed it) are cancelled. Only jobs with our names *and* a record or a comment of this site are
touched.
"""


@dag(**dag_arguments("orphans", DOC, schedule=SCHEDULE or None, start_date=datetime(2024, 1, 1, tzinfo=timezone.utc)))
def orphans() -> None:
    """Wire the task."""

    @task(pool=submission_pool())
    def cancel(**context: Any) -> list[str]:
        from lstops.airflow.owners import cancel_orphans

        return cancel_orphans(site_of_environment(), context["ti"])

    cancel()


orphans()
