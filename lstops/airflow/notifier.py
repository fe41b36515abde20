"""Tells people: Airflow's notifiers over the section `notify` of the site file (webhook, e-mail).

What happens is in the log always. A message that cannot be sent is logged and fails nothing.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

from airflow.sdk import BaseNotifier
from airflow.sdk.configuration import conf

from lstops.airflow.context import night_of
from lstops.airflow.ending import EarlierHolesError
from lstops.errors import LstOpsError
from lstops.report.message import Message, compose, failure_message, night_message
from lstops.site.model import Site, load_site
from lstops.site.notify import NotifyEvent

#: where the plugin shows the reports (see `lstops.airflow.web`)
REPORTS_PATH = "/lstops/reports"


class ShiftNotifier(BaseNotifier):  # type: ignore[misc]
    """Decides with `message` and sends by the ways of the site file.

    Parameters
    ----------
    site : str, optional
        Site file; default: the environment variable LSTOPS_SITE.
    """

    event: NotifyEvent

    def __init__(self, site: str | None = None) -> None:
        super().__init__()
        self.site = site

    @abstractmethod
    def message(self, site: Site, context: Mapping[str, Any]) -> Message | None:
        """What to say; None: nothing."""

    def notify(self, context: Any) -> None:
        """Send the message, if there is one and the site wants it."""
        from lstops.airflow.sending import send

        try:
            site = load_site(self.site)
            message = self.message(site, context)
        except LstOpsError as error:
            self.log.error("nobody was told, because there is no message: %s", error)
            return
        if message is None:
            self.log.info("nothing needs a person: no message")
            return
        self.log.warning("%s\n%s", message.subject, message.text)
        if self.event in site.notify.events:
            send(message, site.notify, self.log)


class FailureNotifier(ShiftNotifier):
    """For `on_failure_callback` of tasks: Airflow calls it after the last try, and not for tasks further down.

    A stage that is not whole because of what is missing from stages before it is no news.
    """

    event = NotifyEvent.FAILURE

    def message(self, site: Site, context: Mapping[str, Any]) -> Message | None:
        """What failed, why, what helps, and the log."""
        ti, error = context.get("ti"), context.get("exception")
        if isinstance(error, EarlierHolesError):
            return None
        where = f"{ti.dag_id}, {ti.task_id}" if ti is not None else "a task"
        if isinstance(error, LstOpsError):
            what, remedy = error.what, error.remedy
        else:
            what = f"{type(error).__name__}: {error}" if isinstance(error, BaseException) else str(error or "")
            remedy = ""
        run = getattr(ti, "run_id", "")
        text = f"{what}\nDAG run: {run}" if run and what else what
        return failure_message(where, _night(context), text, remedy, getattr(ti, "log_url", "") or "")


class NightNotifier(ShiftNotifier):
    """For `on_success_callback` of the task that wrote the night's report: one message, or none if all is well."""

    event = NotifyEvent.ATTENTION

    def message(self, site: Site, context: Mapping[str, Any]) -> Message | None:
        """What of the night needs a person."""
        from lstops.operations.report import make_report, report_file

        night = night_of(context)
        path = report_file(site, night)
        return night_message(make_report(site, night), report_link(str(night)), path if path.is_file() else None)


class ApprovalNotifier(ShiftNotifier):
    """For the `notifiers` of a task that waits for a person's word."""

    event = NotifyEvent.APPROVAL

    def message(self, site: Site, context: Mapping[str, Any]) -> Message:
        """What is asked, and where to answer."""
        ti, task = context.get("ti"), context.get("task")
        where = f"{ti.dag_id}, {ti.task_id}" if ti is not None else "a task"
        asked = [str(getattr(task, name, "") or "") for name in ("subject", "body")]
        link = getattr(ti, "log_url", "") or ""
        text = "\n".join([*(part for part in asked if part), *([f"Answer: {link}"] if link else [])])
        return compose(f"LST-1: {where} waits for a person's word", text)


def _night(context: Mapping[str, Any]) -> str:
    try:
        return str(night_of(context))
    except (LstOpsError, KeyError):
        return ""  # a run without a night


def report_link(night: str) -> str:
    """Address of a night's report on Airflow's web page."""
    return f"{conf.get('api', 'base_url', fallback='').rstrip('/')}{REPORTS_PATH}/{night}"
