"""How a production may be called: its name is a folder among models and Monte Carlo, and part of file names."""

from __future__ import annotations

import re

from lstops.errors import ConfigError

#: the same as in the forms of the DAGs
NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_.-]*$"
_NAME = re.compile(NAME_PATTERN)
_LONGEST = 120


def is_name(text: str) -> bool:
    """Whether a production can be called so: one folder, below where productions are, without blanks."""
    return bool(_NAME.fullmatch(text)) and len(text) <= _LONGEST


def checked_name(text: str) -> str:
    """The name, if a production can be called so.

    Raises
    ------
    ConfigError
        If it could lead elsewhere (`..`, `/`), or is not one word.
    """
    if not is_name(text):
        raise ConfigError(
            f"{text!r} cannot name a production: its name is a folder.",
            f"use at most {_LONGEST} letters, digits, _ . and -, beginning with a letter or digit.",
        )
    return text
