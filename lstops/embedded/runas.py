"""Under which user a server runs that refuses to be root."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lstops.embedded.errors import ServiceError

#: owner of the data when lstops itself runs as root
SERVICE_USER = "lstops-postgres"
#: bits of the capability set in /proc/self/status (linux/capability.h)
CAP_DAC_OVERRIDE = 1
CAP_DAC_READ_SEARCH = 2


@dataclass(frozen=True)
class RunAs:
    """How a command is started: as it is, or as another user, perhaps with one capability.

    Parameters
    ----------
    uid, gid : int or None
        The user to become; None to stay the caller.
    capability : str or None
        A capability to keep, so that folders above the data need not be opened to everybody.
    """

    uid: int | None = None
    gid: int | None = None
    capability: str | None = None

    def wrap(self, argv: Sequence[str]) -> list[str]:
        """Return the command that starts `argv` this way; the process keeps its pid."""
        if self.uid is None:
            return list(argv)
        prefix = ["setpriv", f"--reuid={self.uid}", f"--regid={self.gid}", "--clear-groups"]
        kept = f"-all,+{self.capability}" if self.capability else "-all"
        prefix += [f"--inh-caps={kept}", f"--ambient-caps={kept}", f"--bounding-set={kept}"]
        return [*prefix, "--no-new-privs", "--", *argv]

    def own(self, path: Path) -> None:
        """Give a file or folder to the user."""
        if self.uid is not None and self.gid is not None:
            os.chown(path, self.uid, self.gid)


def run_as_for(*paths: Path) -> RunAs:
    """Return how to run a server that refuses root and must reach `paths`.

    Raises
    ------
    ServiceError
        If the caller is root and the service user can neither be made nor reach a path.
    """
    if os.geteuid() != 0:
        return RunAs()
    entry = _service_user()
    if all(reachable_by_others(path) for path in paths):
        return RunAs(entry.pw_uid, entry.pw_gid)
    capability = spare_capability(_bounding_set())
    if capability is None:
        closed = next(path for path in paths if not reachable_by_others(path))
        raise ServiceError(
            f"User {SERVICE_USER} cannot reach {closed}: a folder above it is closed to others.",
            "Choose a home folder elsewhere (/var/lib/lstops), or run lstops as a normal user.",
        )
    return RunAs(entry.pw_uid, entry.pw_gid, capability)


def reachable_by_others(path: Path) -> bool:
    """Return True if everybody may pass through all folders above a path."""
    return all(parent.stat().st_mode & 0o001 for parent in path.resolve().parents)


def spare_capability(bounding_set: int) -> str | None:
    """Return the smallest capability at hand that lets a process pass closed folders, or None.

    Parameters
    ----------
    bounding_set : int
        The capabilities that may be had, as a bit mask.
    """
    if bounding_set & (1 << CAP_DAC_READ_SEARCH):
        return "dac_read_search"
    if bounding_set & (1 << CAP_DAC_OVERRIDE):
        # containers usually have this one only
        return "dac_override"
    return None


def _bounding_set() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapBnd:"):
            return int(line.split()[1], 16)
    return 0


def _service_user() -> pwd.struct_passwd:
    try:
        return pwd.getpwnam(SERVICE_USER)
    except KeyError:
        pass
    if shutil.which("useradd") is None:
        raise ServiceError(
            f"PostgreSQL does not run as root, and useradd to make {SERVICE_USER} is missing.",
            "Run lstops as a normal user, or install the package passwd.",
        )
    command = [
        "useradd",
        "--system",
        "--no-create-home",
        "--home-dir",
        "/nonexistent",
        "--shell",
        "/usr/sbin/nologin",
        SERVICE_USER,
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    # status 9: another start made the user at the same moment
    if done.returncode not in (0, 9):
        raise ServiceError(f"useradd {SERVICE_USER} failed: {done.stderr.strip()}", "Run lstops as a normal user.")
    return pwd.getpwnam(SERVICE_USER)
