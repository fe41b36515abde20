"""A real SLURM cluster with sshd on this machine, for the demo and the cluster tests.

This is a thin hand on ``docker/slurm/slurmlab.py``, the script that the container image starts with, too.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from lstops.embedded.errors import ServiceError
from lstops.errors import TransportError

SCRIPT = Path(__file__).resolve().parents[2] / "docker" / "slurm" / "slurmlab.py"
#: all nodes are idle after about 10 s; a machine under load may need much longer
START_TIMEOUT_S = 180.0


@dataclass(frozen=True)
class LabAccess:
    """How to reach a laboratory.

    Parameters
    ----------
    host, port, user : str, int, str
        Where sshd listens and who may log in.
    key, known_hosts, ssh_config : pathlib.Path
        Private key, the verified host key, and an OpenSSH configuration with the host alias ``lab``.
    slurm_conf : pathlib.Path
        For SLURM commands without ssh.
    partitions, nodes : tuple of str
        Names; the first partition is the default.
    cgroup : str
        ``v1`` or ``v2`` if jobs end as OUT_OF_MEMORY, ``none`` if such jobs end as ``FAILED 0:9``.
    """

    host: str
    port: int
    user: str
    key: Path
    known_hosts: Path
    ssh_config: Path
    slurm_conf: Path
    partitions: tuple[str, ...]
    nodes: tuple[str, ...]
    cgroup: str


class SlurmLab:
    """A laboratory in one folder.

    Parameters
    ----------
    base : pathlib.Path
        Its folder. All users must be able to pass the folders above it, and its path has at most 80 bytes.
    """

    def __init__(self, base: Path) -> None:
        self.base = base.resolve()

    @classmethod
    def temporary(cls) -> SlurmLab:
        """Return a laboratory in a new folder below /tmp; `stop` with ``purge=True`` removes it."""
        folder = Path(tempfile.mkdtemp(prefix="lstops-lab-", dir="/tmp"))  # a new private folder
        folder.chmod(0o755)
        return cls(folder)

    def __enter__(self) -> SlurmLab:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop(purge=True)

    def start(
        self,
        nodes: int = 4,
        cpus: int = 4,
        memory_mb: int = 4000,
        user: str | None = None,
        make_user: bool = False,
        banner: str | None = None,
        cgroup: str = "auto",
    ) -> LabAccess:
        """Start what does not run; returns when all nodes are idle.

        Parameters
        ----------
        nodes, cpus, memory_mb : int
            Size of the cluster; it may say to have more than the machine has. Memory in MB.
        user : str, optional
            Who may log in; the caller by default.
        make_user : bool
            Whether to make that user.
        banner : str, optional
            Text that every login prints first, as some sites do.
        cgroup : str
            ``auto``, ``v1``, ``v2`` or ``none``.

        Raises
        ------
        ServiceError
            With the end of the log of the daemon that would not start.
        """
        options = ["--nodes", str(nodes), "--cpus", str(cpus), "--memory-mb", str(memory_mb), "--cgroup", cgroup]
        if user is not None:
            options += ["--user", user]
        if make_user:
            options.append("--make-user")
        if banner is not None:
            options += ["--banner", banner]
        self._call("start", *options)
        return self.access()

    def stop(self, purge: bool = False) -> None:
        """End all daemons, logins and jobs; with `purge` remove the folder too. Does nothing where none is."""
        if (self.base / "lab.json").exists():
            self._call("stop", *(["--purge"] if purge else []))
        elif purge:
            shutil.rmtree(self.base, ignore_errors=True)

    def access(self) -> LabAccess:
        """Return how to reach the laboratory."""
        try:
            data = json.loads((self.base / "lab.json").read_text())
        except FileNotFoundError as error:
            raise ServiceError(f"No SLURM laboratory was started in {self.base}.", "Call start() first.") from error
        return LabAccess(
            host=data["host"],
            port=int(data["port"]),
            user=data["user"],
            key=Path(data["key"]),
            known_hosts=Path(data["known_hosts"]),
            ssh_config=Path(data["ssh_config"]),
            slurm_conf=Path(data["slurm_conf"]),
            partitions=tuple(data["partitions"]),
            nodes=tuple(data["nodes"]),
            cgroup=data["cgroup"],
        )

    def daemons(self) -> dict[str, int | None]:
        """Return the pids of the daemons by name (None where one does not run)."""
        done = self._run("status")
        return dict(json.loads(done.stdout)["daemons"]) if done.stdout else {}

    def stop_daemon(self, name: str) -> None:
        """Stop a daemon: munged, mariadbd, slurmdbd, slurmctld, slurmd-NODE or sshd (with its connections)."""
        self._call("daemon", "stop", name)

    def kill_daemon(self, name: str) -> None:
        """Kill a daemon with SIGKILL."""
        self._call("daemon", "kill", name)

    def start_daemon(self, name: str) -> None:
        """Start a daemon again and wait until it is ready."""
        self._call("daemon", "start", name)

    def ssh(self, command: str, timeout_s: float = 60.0) -> str:
        """Run a command on the login node by the OpenSSH client, host key verified, and return what it printed.

        Raises
        ------
        TransportError
            If ssh cannot connect or the command fails.
        """
        argv = ["ssh", "-F", str(self.access().ssh_config), "lab", command]
        try:
            done = subprocess.run(
                argv, capture_output=True, text=True, timeout=timeout_s, check=False, stdin=subprocess.DEVNULL
            )
        except subprocess.TimeoutExpired as error:
            raise TransportError(f"`{command}` on the laboratory took more than {timeout_s:.0f} s.") from error
        if done.returncode != 0:
            raise TransportError(f"`{command}` on the laboratory ended with {done.returncode}: {done.stderr.strip()}")
        return done.stdout

    def _run(self, command: str, *options: str) -> subprocess.CompletedProcess[str]:
        if not SCRIPT.is_file():
            raise ServiceError(f"{SCRIPT} is missing.", "The SLURM laboratory runs from a checkout of lstops.")
        argv: Sequence[str] = [sys.executable, str(SCRIPT), command, "--base", str(self.base), *options]
        try:
            return subprocess.run(argv, capture_output=True, text=True, timeout=START_TIMEOUT_S, check=False)
        except subprocess.TimeoutExpired as error:
            raise ServiceError(
                f"slurmlab.py {command} took more than {START_TIMEOUT_S:.0f} s.", f"See the logs in {self.base}/log."
            ) from error

    def _call(self, command: str, *options: str) -> None:
        done = self._run(command, *options)
        if done.returncode != 0:
            raise ServiceError(done.stderr.strip() or f"slurmlab.py {command} failed.", f"See {self.base}/log.")


def why_not() -> str | None:
    """Return why no laboratory can be started on this machine, or None if one can."""
    import os

    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    if os.geteuid() != 0:
        return "a SLURM laboratory needs root (its daemons run as users of their own)"
    missing = [name for name in ("slurmctld", "slurmd", "slurmdbd", "munged", "mariadbd", "sshd")
               if shutil.which(name, path=path) is None]  # fmt: skip
    return f"not installed: {', '.join(missing)} (run scripts/install-system-deps)" if missing else None
