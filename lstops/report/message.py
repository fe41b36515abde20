"""Messages to people who are not looking at the page: what needs them, why, what to do, and where to look."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from lstops.report.attention import actions
from lstops.report.model import NightReport
from lstops.report.page import plural
from lstops.report.summary import headline

#: chat programs cut longer messages somewhere
_MAX_CHARACTERS = 3500
_MAX_SUBJECT = 150
_HIDDEN = "***"
_IN_ADDRESS = re.compile(r"(?<=://)[^/\s@]+@")
_NAMED = re.compile(r"(?i)\b([\w-]*(?:password|passwd|secret|token|api[_-]?key|authorization)[\w-]*)(\s*[=:]\s*)(\S+)")


@dataclass(frozen=True)
class Message:
    """What is sent.

    Attributes
    ----------
    subject : str
        One line.
    text : str
        Plain text, the subject not repeated.
    attachment : Path or None
        For ways that can carry one.
    """

    subject: str
    text: str
    attachment: Path | None = None


def compose(subject: str, text: str, attachment: Path | None = None, secrets: tuple[str, ...] = ()) -> Message:
    """A message that is short enough and holds no secrets."""
    clean = without_secrets(text, secrets)
    if len(clean) > _MAX_CHARACTERS:
        clean = clean[:_MAX_CHARACTERS].rstrip() + " …"
    first_line = " ".join(without_secrets(subject, secrets).split())
    return Message(first_line[:_MAX_SUBJECT], clean, attachment)


def night_message(report: NightReport, link: str = "", attachment: Path | None = None) -> Message | None:
    """What a person has to look at after a night; None if all is well.

    Parameters
    ----------
    link : str
        Where the report can be seen.
    attachment : Path, optional
        The report itself.
    """
    todo = actions(report)
    if not todo:
        return None
    needs = "thing needs" if len(todo) == 1 else "things need"
    subject = f"LST-1 night {report.night}: {len(todo)} {needs} a person"
    lines = [f"{'Synthetic data. ' if report.synthetic else ''}{headline(report)} Site {report.site}.", ""]
    room = _MAX_CHARACTERS - 400
    for number, action in enumerate(todo, 1):
        lines += [f"{number}. {action.subject}: {action.cause}.", f"   → {action.remedy}"]
        if sum(map(len, lines)) > room and number < len(todo):
            lines.append(f"And {plural(len(todo) - number, 'thing')} more, see the report.")
            break
    if link:
        # before the list would be cut
        lines.insert(1, f"Report: {link}")
    return compose(subject, "\n".join(lines), attachment)


def failure_message(where: str, night: str, what: str, remedy: str, link: str = "") -> Message:
    """A DAG run that stopped.

    Parameters
    ----------
    where : str
        DAG and task.
    night : str
        YYYYMMDD; empty if the run has none.
    what, remedy : str
        Of the error; the remedy may be unknown.
    """
    about = f" in the night {night}" if night else ""
    lines = [f"Log: {link}"] if link else []
    lines.append(what or "No reason is given; the log has it.")
    if remedy:
        lines.append(f"→ {remedy}")
    return compose(f"LST-1: {where} failed{about}", "\n".join(lines))


def without_secrets(text: str, secrets: tuple[str, ...] = ()) -> str:
    """The text without logins in addresses, values called password, token and the like, and the secrets given."""
    for secret in secrets:
        if secret:
            text = text.replace(secret, _HIDDEN)
    return _NAMED.sub(rf"\1\2{_HIDDEN}", _IN_ADDRESS.sub(f"{_HIDDEN}@", text))
