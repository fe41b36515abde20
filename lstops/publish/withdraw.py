"""Withdrawal and supersession by a person: a version stays where it is, says so, and `current` leaves it."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

from lstops.errors import ConfigError
from lstops.publish import model
from lstops.publish.model import Supersession, Withdrawal
from lstops.publish.notices import (
    is_usable,
    replaced_by,
    seal,
    supersession_of,
    withdrawal_of,
    write_notice,
)
from lstops.publish.versions import (
    ROOT,
    bundle_of,
    current_version,
    is_beside,
    locked,
    point_current,
    problems,
    remove_leftovers,
    split_version,
    storage_errors,
    take_up,
    version_name,
    version_numbers,
)
from lstops.site.layout import Layout
from lstops.words import checked_words


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
        `current` is the version that readers now get: the newest usable one, None if there is none. What this version
        had replaced in other folders may be used again: where readers got nothing, they get that.

    Raises
    ------
    ConfigError
        If there is no such version, or author or reason are empty or not one line of text.
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
    freed = _replaced_by(f"{folder}/{version}", absolute, layout)
    for other in freed:
        _give_back(other, layout, wait_s)
    return replace(notice, current=current, freed=tuple(map(layout.relative, freed)))


def _replaced_by(version: str, own: Path, layout: Layout) -> list[Path]:
    """The other folders with a version that a person had replaced by this one."""
    notices = layout.absolute(ROOT).glob(f"**/v*/{model.SUPERSEDED}")
    return sorted({n.parent.parent for n in notices if n.parent.parent != own and replaced_by(n.parent) == version})


def _give_back(folder: Path, layout: Layout, wait_s: float) -> None:
    with storage_errors(folder), locked(folder, wait_s):
        remove_leftovers(folder)
        if current_version(folder) is None:
            point_current(folder, _newest_usable(folder, layout))


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
        `current` is the version of this folder that readers now get. If it pointed to the superseded version: `by` if
        that lies here, None if it lies elsewhere. Another version that is current stays so.

    Raises
    ------
    ConfigError
        If one of the versions does not exist, `by` was withdrawn, is superseded itself, damaged or of other runs, the
        version was withdrawn, or is superseded by another one already.
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
        if other_folder != folder:
            if current == version:
                current = None
                point_current(absolute, current)
        elif current in (None, version) or is_beside(absolute / other, absolute / current):
            current = other
            point_current(absolute, current)
        if current == other and other_folder == folder:
            take_up(absolute / other, author, reason)
        notice = supersession_of(absolute / version, layout)
        assert notice is not None
    if other_folder != folder:
        _take_up(layout.absolute(other_folder), other, author, reason, wait_s)
    return replace(notice, current=current)


def _take_up(folder: Path, version: str, author: str, reason: str, wait_s: float) -> None:
    """A version that was only published beside another one, and is now the one to use, becomes current."""
    with storage_errors(folder), locked(folder, wait_s):
        remove_leftovers(folder)
        current = current_version(folder)
        if is_beside(folder / version, folder / current if current else None):
            point_current(folder, version)
        if current_version(folder) == version:
            take_up(folder / version, author, reason)


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
    if damage := problems(new):
        raise ConfigError(
            f"{new} is damaged ({'; '.join(damage)}).", "publish its night again, then name that version."
        )
    runs, others = (set(bundle_of(version).get("runs", ())) for version in (old, new))
    if runs and not runs & others:
        raise ConfigError(f"{new} has not one run of {old}: it cannot replace it.", "name a version of these runs.")


def _leave(folder: Path, version: str, layout: Layout) -> str | None:
    """Move `current` away from a version to the newest usable one; what it points to then."""
    current = current_version(folder)
    if current != version:
        return current
    current = _newest_usable(folder, layout)
    point_current(folder, current)
    return current


def _newest_usable(folder: Path, layout: Layout) -> str | None:
    """What was published to be compared only does not become current by a withdrawal."""
    names = map(version_name, version_numbers(folder))
    return next((n for n in [*names][::-1] if is_usable(folder / n, layout) and not is_beside(folder / n, None)), None)
