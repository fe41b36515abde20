"""Secrets generated once and kept in one file that only its owner can read."""

from __future__ import annotations

import base64
import os
import secrets
from collections.abc import Callable, Mapping
from pathlib import Path

from lstops.embedded.errors import ServiceError

#: readable and writable by the owner, nobody else
PRIVATE = 0o600


def new_password() -> str:
    """Return a random password of 192 bit made of letters, digits, ``-`` and ``_`` (safe in a URL)."""
    return secrets.token_urlsafe(24)


def new_fernet_key() -> str:
    """Return a key for Airflow's ``[core] fernet_key``: 32 random bytes in URL-safe base64."""
    return base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()


def write_private(path: Path, text: str) -> None:
    """Write a file with mode 0600 so that no other user sees its content at any moment, and atomically.

    Parameters
    ----------
    path : pathlib.Path
        The file; what was there is replaced.
    text : str
        The content.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    staged = path.with_name(f".{path.name}.{os.getpid()}")
    staged.unlink(missing_ok=True)
    descriptor = os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE)
    with os.fdopen(descriptor, "w") as stream:
        stream.write(text)
    staged.replace(path)


class SecretFile:
    """A file of ``KEY=value`` lines with mode 0600.

    Parameters
    ----------
    path : pathlib.Path
        The file; it need not exist yet.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> dict[str, str]:
        """Return all secrets.

        Raises
        ------
        ServiceError
            If others can read the file, or a line is not ``KEY=value``.
        """
        if not self.path.exists():
            return {}
        mode = self.path.stat().st_mode & 0o777
        if mode & 0o077:
            raise ServiceError(
                f"{self.path} has mode {mode:o}: others can read the secrets in it.",
                f"chmod 600 {self.path}, and delete the file if somebody else may have read it (new secrets are made).",
            )
        values: dict[str, str] = {}
        for number, line in enumerate(self.path.read_text().splitlines(), start=1):
            if not line or line.startswith("#"):
                continue
            key, separator, value = line.partition("=")
            if not separator or not key.isidentifier():
                raise ServiceError(f"{self.path}, line {number} is not KEY=value.", "Correct or remove that line.")
            values[key] = value
        return values

    def ensure(self, generators: Mapping[str, Callable[[], str]]) -> dict[str, str]:
        """Generate what is missing, keep what is there, and return all secrets.

        Parameters
        ----------
        generators : mapping of str to callable
            For each key, what makes a new value.
        """
        values = self.read()
        missing = {key: make() for key, make in generators.items() if key not in values}
        return self.update(missing) if missing else values

    def update(self, changes: Mapping[str, str]) -> dict[str, str]:
        """Set some values and return all of them; the file is only written when something changes."""
        before = self.read()
        after = {**before, **changes}
        if after != before:
            lines = ["# Secrets of the embedded services, made by lstops. Keep this file to yourself."]
            lines += [f"{key}={value}" for key, value in sorted(after.items())]
            write_private(self.path, "\n".join(lines) + "\n")
        return after
