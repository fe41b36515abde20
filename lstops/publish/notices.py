"""Notices in a published version: the only files that come after its publication."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import yaml

from lstops.errors import ConfigError
from lstops.plain_yaml import load_plain
from lstops.publish import model
from lstops.publish.model import Supersession, Withdrawal
from lstops.site.layout import Layout
from lstops.words import printable

#: prefix of hidden files that the next writer removes
TEMPORARY = ".stage-notice-"
_HEADLINE = {
    model.WITHDRAWN: "# THIS VERSION WAS WITHDRAWN. Do not use it.\n",
    model.SUPERSEDED: "# THIS VERSION WAS SUPERSEDED. Use the one named below (`by`) instead.\n",
    model.TAKEN_UP: "# This version was published beside another one, and made current later.\n",
}


def withdrawal_of(version: Path) -> Withdrawal | None:
    """The notice of a withdrawn version."""
    found = _read(version / model.WITHDRAWN)
    return None if found is None else Withdrawal(version.name, found["author"], found["reason"], found["at"])


def supersession_of(version: Path, layout: Layout) -> Supersession | None:
    """The notice of a version that a person replaced, as long as what replaced it was not withdrawn itself."""
    found = _read(version / model.SUPERSEDED)
    if found is None or (found["by"] and _is_withdrawn(found["by"], layout)):
        return None
    return Supersession(version.name, found["by"], found["author"], found["reason"], found["at"])


def _is_withdrawn(path: str, layout: Layout) -> bool:
    try:
        return withdrawal_of(layout.absolute(path)) is not None
    except ConfigError:
        return False  # the notice was altered: it names nothing of this site


def replaced_by(version: Path) -> str:
    """What a person replaced a version by, also if that was withdrawn since; empty: by nothing."""
    found = _read(version / model.SUPERSEDED)
    return found["by"] if found else ""


def damaged_notices(version: Path) -> tuple[str, ...]:
    """Notices of a version that cannot be read: it stays out of use, but nobody knows why."""
    found = {name: _read(version / name) for name in model.NOTICES}
    return tuple(
        name
        for name, fields in found.items()
        if fields is not None and not (fields["author"] and (fields["by"] or name != model.SUPERSEDED))
    )


def is_usable(version: Path, layout: Layout) -> bool:
    """Neither withdrawn nor superseded by a person."""
    return withdrawal_of(version) is None and supersession_of(version, layout) is None


def _read(path: Path) -> dict[str, str] | None:
    try:
        document = load_plain(path.read_text())
    except FileNotFoundError:
        return None
    except (yaml.YAMLError, ValueError, OSError):
        document = None  # damaged, but there: the version stays out of use
    fields: dict[str, Any] = document if isinstance(document, dict) else {}
    # a person may have written it: what it says goes to terminals and into the catalogue
    return {key: printable(str(fields.get(key) or "")) for key in ("version", "by", "author", "reason", "at")}


def write_notice(version: Path, name: str, fields: dict[str, str]) -> None:
    """Put a notice into a sealed version by one rename, and seal it again."""
    text = _HEADLINE[name] + yaml.safe_dump(fields, sort_keys=False, allow_unicode=True)
    # Written beside the version and moved in: a half-written notice would be a foreign file of the version.
    temporary = version.parent / f"{TEMPORARY}{os.getpid()}"
    try:
        with temporary.open("w") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.chmod(0o440)
        version.chmod(0o750)
        os.rename(temporary, version / name)
    finally:
        temporary.unlink(missing_ok=True)
        seal(version)


def seal(version: Path) -> None:
    """Make the folder read-only (also after an attempt that died in between) and its names durable."""
    version.chmod(0o550)
    handle = os.open(version, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
