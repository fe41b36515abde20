"""The task that writes a night's report, with a button in Airflow's web page that leads to it."""

from __future__ import annotations

from typing import Any

from airflow.sdk import BaseOperator, BaseOperatorLink

from lstops.airflow.context import night_work
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
        from airflow.sdk.exceptions import AirflowSkipException

        from lstops.operations.report import write_report

        work = night_work(context)
        if work.again is not None and not work.again.make_current:
            raise AirflowSkipException("the report of the night is that of what is current; see the comparison")
        path = write_report(work.site, work.night)
        self.written_night = str(work.night)
        self.log.info("%s", report_link(str(work.night)))
        return str(path)
