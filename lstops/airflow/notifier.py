"""Tells the shift what failed: in the log always, and by a webhook (Mattermost, Slack) where one is configured."""

from __future__ import annotations

import json
import os
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any

from airflow.sdk import BaseNotifier

#: environment variable with the webhook's address, which is a secret
WEBHOOK_VARIABLE = "LSTOPS_WEBHOOK_URL"
_TIMEOUT_S = 10.0
_MAX_CHARACTERS = 3000


def failure_text(context: Mapping[str, Any]) -> str:
    """What failed, why, and where to look, from Airflow's context of a callback."""
    ti = context.get("ti")
    run = f"{ti.dag_id}, {ti.task_id}, run {ti.run_id}" if ti is not None else "a task"
    error = context.get("exception")
    reason = f"{type(error).__name__}: {error}" if isinstance(error, BaseException) else str(error or "no reason given")
    link = getattr(ti, "log_url", None)
    text = f"{run} failed. {reason}"
    return text[:_MAX_CHARACTERS] + (f"\n{link}" if link else "")


class ShiftNotifier(BaseNotifier):  # type: ignore[misc]
    """For `on_failure_callback`; a message that cannot be sent is logged and fails nothing.

    Parameters
    ----------
    webhook : str, optional
        Address; default: the environment variable LSTOPS_WEBHOOK_URL.
    """

    def __init__(self, webhook: str | None = None) -> None:
        super().__init__()
        self.webhook = webhook

    def notify(self, context: Any) -> None:
        """Send the message."""
        text = failure_text(context)
        self.log.error(text)
        address = self.webhook or os.environ.get(WEBHOOK_VARIABLE, "")
        if not address:
            return
        if not address.startswith(("https://", "http://")):
            self.log.error("%s is no web address: nobody was told", WEBHOOK_VARIABLE)
            return
        request = urllib.request.Request(  # noqa: S310 - the scheme was checked above
            address, json.dumps({"text": text}).encode(), {"Content-Type": "application/json"}
        )
        try:
            with urllib.request.urlopen(request, timeout=_TIMEOUT_S):  # noqa: S310 - as above
                return
        except (urllib.error.URLError, OSError) as error:
            # the address may hold a token: it stays out of the log
            self.log.error("the webhook did not take the message: %s", type(error).__name__)
