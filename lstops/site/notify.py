"""The section `notify` of the site file: who is told, by which way, and of what."""

from __future__ import annotations

import re
from enum import Enum

from pydantic import Field, field_validator

from lstops.step.model import Frozen

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_ADDRESS = re.compile(r"[^@\s<>,;\"]+@[^@\s<>,;\"]+")


class NotifyEvent(str, Enum):
    """What a message can be about."""

    #: a night is through, and something in it needs a person
    ATTENTION = "attention"
    #: a task failed for good, and its DAG run stops
    FAILURE = "failure"
    #: a production waits for a person's word
    APPROVAL = "approval"


class Webhook(Frozen):
    """A web address that takes {"text": ...}, as those of Mattermost and Slack do.

    Attributes
    ----------
    address_variable : str
        Name of the environment variable that holds the address. The address itself is a secret and has no place here.
    """

    address_variable: str

    @field_validator("address_variable")
    @classmethod
    def _a_name(cls, value: str) -> str:
        # the value is not repeated: it may be the secret
        if not _VARIABLE.fullmatch(value):
            raise ValueError("give the NAME of an environment variable that holds the address, not the address")
        return value


class Email(Frozen):
    """Mail through a connection of Airflow, which holds server, login and password.

    Attributes
    ----------
    connection : str
        Id of an Airflow connection of type smtp.
    attach_report : bool
        Attach the night's report (below 5 MB).
    """

    to: tuple[str, ...] = Field(min_length=1)
    sender: str
    connection: str = "smtp_default"
    attach_report: bool = True

    @field_validator("sender", "to")
    @classmethod
    def _addresses(cls, value: str | tuple[str, ...]) -> str | tuple[str, ...]:
        for address in (value,) if isinstance(value, str) else value:
            if not _ADDRESS.fullmatch(address):
                raise ValueError(f"{address!r} is no mail address")
        return value


class Notify(Frozen):
    """Who is told; nobody by default. What happens is in the logs in any case."""

    events: tuple[NotifyEvent, ...] = tuple(NotifyEvent)
    webhook: Webhook | None = None
    email: Email | None = None
