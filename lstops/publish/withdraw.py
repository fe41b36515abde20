"""Withdrawal: a version stays where it is, says that it must not be used, and `current` leaves it."""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

import yaml

from lstops.errors import ConfigError
from lstops.publish import model
from lstops.publish.model import Withdrawal
from lstops.publish.versions import (
    current_version,
    locked,
    point_current,
    remove_leftovers,
    storage_errors,
    sync_folder,
    version_name,
    version_numbers,
    withdrawal_of,
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
        `current` is the version that readers now get: the newest one that was not withdrawn, None if there is none.

    Raises
    ------
    ConfigError
        If there is no such version, or author or reason are empty.
    """
    author, reason = author.strip(), reason.strip()
    if not author or not reason:
        raise ConfigError(f"the withdrawal of {version} needs an author and a reason.", "give both.")
    absolute = layout.absolute(folder)
    names = [version_name(n) for n in version_numbers(absolute)]
    if version not in names:
        raise ConfigError(f"{absolute} has no version {version!r}.", f"use one of {names}.")
    with storage_errors(absolute), locked(absolute, wait_s):
        remove_leftovers(absolute)
        notice = withdrawal_of(absolute / version)
        if notice is None:
            now = datetime.now(timezone.utc).isoformat(timespec="seconds")
            notice = Withdrawal(version, author, reason, now)
            _write_notice(absolute / version, notice)
        (absolute / version).chmod(0o550)  # also after an attempt that died in between
        valid = [name for name in names if withdrawal_of(absolute / name) is None]
        current = current_version(absolute)
        if current == version:
            current = valid[-1] if valid else None
            point_current(absolute, current)
        return replace(notice, current=current)


def _write_notice(version: Path, notice: Withdrawal) -> None:
    fields = {"version": notice.version, "author": notice.author, "reason": notice.reason, "at": notice.at}
    text = "# THIS VERSION WAS WITHDRAWN. Do not use it.\n" + yaml.safe_dump(
        fields, sort_keys=False, allow_unicode=True
    )
    # Written beside the version and moved in: a half-written notice would be a foreign file of the version.
    temporary = version.parent / f".stage-notice-{os.getpid()}"
    with temporary.open("w") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    temporary.chmod(0o440)
    version.chmod(0o750)
    os.rename(temporary, version / model.WITHDRAWN)
    sync_folder(version)
