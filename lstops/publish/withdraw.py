"""Withdrawal and supersession by a person: a version stays where it is, says so, and `current` leaves it."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

from lstops.errors import ConfigError
from lstops.publish import model
from lstops.publish.model import Supersession, Withdrawal
from lstops.publish.notices import checked_words, is_usable, seal, supersession_of, withdrawal_of, write_notice
from lstops.publish.versions import (
    current_version,
    is_beside,
    locked,
    point_current,
    remove_leftovers,
    split_version,
    storage_errors,
    version_name,
    version_numbers,
)
from lstops.site.layout import Layout


def withdraw(
    folder: str, version: str, author: str, reason: str, layout: Layout, *, wait_s: float = 60.0
) -> Withdrawal:
    """Withdraw a version; doing it twice keeps the first notice.

    Parameters
    ----------
    folder : str
        Destination that holds the versions, relative to the site's base.

    Returns
    -------
    Withdrawal
        `current` is the version that readers now get: the newest usable one, None if there is none.

    Raises
    ------
    ConfigError
        If there is no such version, or author or reason are empty.
    """
    author, reason = checked_words(f"the withdrawal of {version}", author, reason)
    absolute = layout.absolute(folder)
    _known(absolute, version)
    with storage_errors(absolute), locked(absolute, wait_s):
        remove_leftovers(absolute)
        if withdrawal_of(absolute / version) is None:
            fields = {"version": version, "author": author, "reason": reason, "at": _now()}
            write_notice(absolute / version, model.WITHDRAWN, fields)
        seal(absolute / version)
        current = _leave(absolute, version, layout)
        notice = withdrawal_of(absolute / version)
        assert notice is not None
        return replace(notice, current=current)


def supersede(
    folder: str, version: str, by: str, author: str, reason: str, layout: Layout, *, wait_s: float = 60.0
) -> Supersession:
    """Say that a version is replaced by another, in the same folder or elsewhere; doing it twice changes nothing.

    Publishing into a folder supersedes its older versions by itself. This is for what a person decides: the data of
    another production or of other cuts replace these, or an older version is the better one.

    Parameters
    ----------
    folder : str
        Destination that holds the versions, relative to the site's base.
    by : str
        The version to use instead, relative to the site's base (DL3/.../v0002).

    Returns
    -------
    Supersession
        `current` is the version of this folder that readers now get: `by` if it lies here; None if it lies elsewhere
        and `current` pointed to the superseded version.

    Raises
    ------
    ConfigError
        If one of the versions does not exist, `by` was withdrawn or is superseded itself, the version was withdrawn,
        or is superseded by another one already.
    """
    author, reason = checked_words(f"the supersession of {version}", author, reason)
    absolute = layout.absolute(folder)
    _known(absolute, version)
    other_folder, other = split_version(by)
    _known(layout.absolute(other_folder), other)
    _usable_instead(absolute / version, layout.absolute(by), layout)
    with storage_errors(absolute), locked(absolute, wait_s):
        remove_leftovers(absolute)
        notice = supersession_of(absolute / version, layout)
        if notice is not None and notice.by != by:
            raise ConfigError(
                f"{folder}/{version} is superseded by {notice.by} already ({notice.author}: {notice.reason}).",
                f"supersede {notice.by} by the new one.",
            )
        if notice is None:
            fields = {"version": version, "by": by, "author": author, "reason": reason, "at": _now()}
            write_notice(absolute / version, model.SUPERSEDED, fields)
        seal(absolute / version)
        current = current_version(absolute)
        if other_folder == folder:
            current = other
            point_current(absolute, current)
        elif current == version:
            current = None
            point_current(absolute, current)
        notice = supersession_of(absolute / version, layout)
        assert notice is not None
    if other_folder != folder:
        _take_up(layout.absolute(other_folder), other, wait_s)
    return replace(notice, current=current)


def _take_up(folder: Path, version: str, wait_s: float) -> None:
    """A version that was only published beside another one, and is now the one to use, becomes current."""
    with storage_errors(folder), locked(folder, wait_s):
        remove_leftovers(folder)
        current = current_version(folder)
        if is_beside(folder / version, folder / current if current else None):
            point_current(folder, version)


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def _known(folder: Path, version: str) -> None:
    names = [version_name(n) for n in version_numbers(folder)]
    if version not in names:
        raise ConfigError(
            f"{folder} has no version {version!r}.", f"use one of {names}." if names else "publish first."
        )


def _usable_instead(old: Path, new: Path, layout: Layout) -> None:
    if old == new:
        raise ConfigError(f"{old} cannot supersede itself.", "name two versions.")
    if (notice := withdrawal_of(old)) is not None:
        raise ConfigError(f"{old} was withdrawn by {notice.author}: {notice.reason}", "nothing is left to supersede.")
    if not is_usable(new, layout):
        raise ConfigError(f"{new} was withdrawn or superseded itself.", "name a version that may be used.")


def _leave(folder: Path, version: str, layout: Layout) -> str | None:
    """Move `current` away from a version to the newest usable one; what it points to then."""
    current = current_version(folder)
    if current != version:
        return current
    # what was published to be compared only does not become current by a withdrawal
    usable = [
        n
        for n in map(version_name, version_numbers(folder))
        if is_usable(folder / n, layout) and not is_beside(folder / n, None)
    ]
    current = usable[-1] if usable else None
    point_current(folder, current)
    return current
