"""Sends a message by the ways of the site file; one that cannot be sent is logged, without the secrets of the way."""

from __future__ import annotations

import json
import os
import smtplib
import urllib.error
import urllib.request
from dataclasses import replace
from html import escape
from typing import Any

from lstops.report.message import Message, without_secrets
from lstops.site.notify import Email, Notify, Webhook

_TIMEOUT_S = 10.0
#: larger reports are not attached: many mail servers refuse them
_MAX_ATTACHMENT_BYTES = 5_000_000


def send(message: Message, notify: Notify, log: Any) -> bool:
    """Send by every way that is configured.

    Returns
    -------
    bool
        Whether all of them took it; what went wrong is in the log.
    """
    done = []
    if notify.webhook:
        done.append(_post(message, notify.webhook, log))
    if notify.email:
        done.append(_mail(message, notify.email, log))
    if not done:
        log.info("the site file has no `notify` section with a webhook or e-mail: nobody was told")
    return all(done)


def _post(message: Message, webhook: Webhook, log: Any) -> bool:
    address = os.environ.get(webhook.address_variable, "")
    if not address.startswith(("https://", "http://")):
        log.error(
            "nobody was told by webhook: the environment variable %s %s", webhook.address_variable,
            "is no web address" if address else "is not set",
        )  # fmt: skip
        return False
    text = without_secrets(f"**{message.subject}**\n{message.text}", (address,))
    request = urllib.request.Request(  # noqa: S310 - the scheme was checked above
        address, json.dumps({"text": text}).encode(), {"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT_S):  # noqa: S310 - as above
            return True
    except (urllib.error.URLError, OSError, ValueError) as error:
        # the address may hold a token, and so may the error's text
        reason = f" {error.code}" if isinstance(error, urllib.error.HTTPError) else ""
        log.error("nobody was told by webhook: it did not take the message (%s%s)", type(error).__name__, reason)
        return False


def _mail(message: Message, email: Email, log: Any) -> bool:
    from airflow.providers.smtp.hooks.smtp import SmtpHook
    from airflow.sdk.exceptions import AirflowException

    attachment = message.attachment if email.attach_report else None
    if attachment is not None and not _attachable(attachment, log):
        attachment = None
    message = replace(message, attachment=attachment)
    try:
        with SmtpHook(smtp_conn_id=email.connection) as hook:
            hook.send_email_smtp(
                to=list(email.to),
                subject=message.subject,
                html_content=f"<pre>{escape(message.text)}</pre>",
                from_email=email.sender,
                files=[str(message.attachment)] if message.attachment else None,
            )
    except (AirflowException, smtplib.SMTPException, OSError, RuntimeError) as error:
        log.error(
            "nobody was told by e-mail: connection %s did not take the message (%s)", email.connection,
            type(error).__name__,
        )  # fmt: skip
        return False
    return True


def _attachable(path: Any, log: Any) -> bool:
    try:
        size = path.stat().st_size
    except OSError as error:
        log.warning("%s is not attached: %s", path, error.strerror)
        return False
    if size > _MAX_ATTACHMENT_BYTES:
        log.warning("%s is not attached: %.1f MB", path, size / 1e6)
    return bool(size <= _MAX_ATTACHMENT_BYTES)
