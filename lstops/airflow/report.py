"""The task that writes a night's report, with a button in Airflow's web page that leads to it."""

from __future__ import annotations

from typing import Any

from airflow.sdk import BaseOperator, BaseOperatorLink

from lstops.airflow.context import night_of, site_of_environment
from lstops.airflow.notifier import report_link


class ReportLink(BaseOperatorLink):  # type: ignore[misc]
    """Button on the task's page."""

    name = "Night report"

    def get_link(self, operator: Any, *, ti_key: Any) -> str:
        """Address of the report; Airflow asks in the process of the task, when it has run."""
        night = getattr(operator, "written_night", None)
        return report_link(night) if night else ""


class NightReportOperator(BaseOperator):  # type: ignore[misc]
    """Write the night's report; returns its path on the Airflow host."""

    operator_extra_links = (ReportLink(),)
    ui_color = "#e8f5ee"
    #: night whose report this attempt wrote
    written_night: str | None = None

    def execute(self, context: Any) -> str:
        """Write it."""
        from lstops.operations.report import write_report

        night = night_of(context)
        path = write_report(site_of_environment(), night)
        self.written_night = str(night)
        self.log.info("%s", report_link(str(night)))
        return str(path)
