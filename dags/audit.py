"""Every day: is every file what it was, is one missing, is one there that should not be."""

from __future__ import annotations

import os
from datetime import datetime, timezone

from airflow.sdk import dag, task

from lstops.airflow.context import site_of_environment
from lstops.airflow.declaring import dag_arguments

#: At noon UTC, when the night's reduction is usually over. A site may choose another cron expression; empty: by hand.
SCHEDULE = os.environ.get("LSTOPS_AUDIT_SCHEDULE", "0 12 * * *")

DOC = """
### Is everything still what it was?

Products against their manifests and the catalogue, published versions against their digests, what is foreign,
unfinished or left behind. A part of the contents is read each day, another one every day. Nothing is changed; with
findings the task fails and its log names each with what helps (`lstops audit` says the same).
"""


@dag(**dag_arguments("audit", DOC, schedule=SCHEDULE or None, start_date=datetime(2024, 1, 1, tzinfo=timezone.utc)))
def audit() -> None:
    """Wire the task."""

    @task
    def files() -> str:
        from lstops.errors import ProductInvalid
        from lstops.operations.audit import audit_site

        report = audit_site(site_of_environment())
        if report.findings:
            raise ProductInvalid(report.text(), "see `lstops audit`; each finding has its remedy.")
        return report.text()

    files()


audit()
