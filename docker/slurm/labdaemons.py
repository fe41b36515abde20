"""How each daemon is started, how one knows that it is ready, and how it is ended."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import labproc
from labconfig import Lab
from labproc import LabError

READY_TIMEOUT_S = 60.0
#: a slurmd that cannot work (cgroups) says so at once
NODES_TIMEOUT_S = 25.0


def start_cluster(lab: Lab) -> None:
    """Start every daemon that does not run, in order, and wait until all nodes are idle."""
    _make_munge_key(lab)
    new_database = _init_database(lab)
    for name in lab.daemons():
        start_daemon(lab, name)
        if name == "mariadbd" and new_database:
            _grant(lab)
        if name == "slurmdbd":
            _register(lab)
    deadline = time.monotonic() + NODES_TIMEOUT_S
    while idle_nodes(lab) != set(lab.nodes):
        for node in lab.nodes:
            _check_alive(lab, f"slurmd-{node}")
        if time.monotonic() > deadline:
            raise LabError(f"Only {sorted(idle_nodes(lab))} of {lab.nodes} are idle; see {lab.base}/log.")
        time.sleep(0.2)


def start_daemon(lab: Lab, name: str) -> None:
    """Start one daemon unless it runs, and wait until it is ready."""
    if labproc.running(lab.path, name):
        return
    kind = name.partition("-")[0]
    base = lab.base
    if kind == "sshd":
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    if kind == "slurmd":
        (lab.path / "spool" / name.partition("-")[2]).mkdir(exist_ok=True)
    argv = {
        "munged": [*_as("munge"), "munged", "--foreground", "--num-threads=4", f"--socket={base}/munge/munge.sock",
                   f"--key-file={base}/munge/munge.key", f"--pid-file={base}/munge/munged.pid",
                   f"--log-file={base}/munge/munged.log", f"--seed-file={base}/munge/munged.seed"],
        "mariadbd": ["mariadbd", f"--defaults-file={base}/etc/mariadb.cnf", "--user=mysql"],
        "slurmdbd": [*_as("slurm"), "env", f"SLURM_CONF={base}/etc/slurm.conf", "slurmdbd", "-D"],
        "slurmctld": [*_as("slurm"), "slurmctld", "-D", "-f", f"{base}/etc/slurm.conf"],
        "slurmd": ["slurmd", "-D", "-f", f"{base}/etc/slurm.conf", "-N", name.partition("-")[2]],
        "sshd": ["/usr/sbin/sshd", "-D", "-e", "-f", f"{base}/etc/sshd_config"],
    }[kind]  # fmt: skip
    labproc.spawn(name, argv, lab.path)
    ready: Callable[[], bool]
    if kind == "munged":
        socket_path = lab.path / "munge" / "munge.sock"
        ready = lambda: _munge_answers(socket_path)  # noqa: E731
    else:
        ready = lambda: _listens("127.0.0.1", lab.ports[name])  # noqa: E731
    deadline = time.monotonic() + READY_TIMEOUT_S
    while not ready():
        _check_alive(lab, name)
        if time.monotonic() > deadline:
            raise LabError(f"{name} is not ready after {READY_TIMEOUT_S:.0f} s:\n{_log(lab, name)}")
        time.sleep(0.05)
    _check_alive(lab, name)


def stop_daemon(lab: Lab, name: str, by_force: bool = False) -> None:
    """End one daemon; with sshd its connections end too, with slurmd its jobs go on."""
    pid = labproc.running(lab.path, name)
    if pid is None:
        return
    first = signal.SIGKILL if by_force else signal.SIGTERM
    below = labproc.descendants(pid, "sshd") if name == "sshd" else set()
    labproc.end({pid}, first=first)
    labproc.end(below, first=signal.SIGKILL)
    labproc.pid_path(lab.path, name).unlink(missing_ok=True)


def stop_lab(lab: Lab) -> None:
    """End everything of the laboratory: daemons in reverse order, logins, job steps and jobs."""
    for name in ["sshd", "slurmctld"]:
        stop_daemon(lab, name)
    pids = {pid for node in lab.nodes if (pid := labproc.running(lab.path, f"slurmd-{node}"))}
    # no database or munge yet: they are needed until the last step is gone
    steps = labproc.marked(lab.path) - pids - {labproc.running(lab.path, n) for n in ("munged", "mariadbd", "slurmdbd")}
    labproc.end(pids | steps, grace_s=1.0)
    for name in ["slurmdbd", "mariadbd", "munged"]:
        stop_daemon(lab, name)
    labproc.end(labproc.marked(lab.path), grace_s=1.0, first=signal.SIGKILL)
    for name in lab.daemons():
        labproc.pid_path(lab.path, name).unlink(missing_ok=True)
    (lab.path / "munge" / "munge.sock").unlink(missing_ok=True)
    _remove_cgroups(lab)


def idle_nodes(lab: Lab) -> set[str]:
    """Return the nodes that can take a job now."""
    try:
        done = _slurm(lab, ["sinfo", "-h", "-N", "-o", "%N %T"], timeout_s=5)
    except LabError:
        return set()
    lines = [line.split() for line in done.splitlines()]
    return {line[0] for line in lines if len(line) == 2 and line[1] in ("idle", "mixed", "allocated")}


def _as(user: str) -> list[str]:
    return ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups"]


def _slurm(lab: Lab, argv: list[str], timeout_s: float = 30.0) -> str:
    env = {**os.environ, "SLURM_CONF": str(lab.path / "etc/slurm.conf")}
    try:
        done = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=timeout_s)
    except subprocess.TimeoutExpired as error:
        raise LabError(f"{argv[0]} does not answer within {timeout_s:.0f} s.") from error
    if done.returncode != 0:
        raise LabError(f"{' '.join(argv)} failed: {(done.stderr or done.stdout).strip()}")
    return done.stdout


def _make_munge_key(lab: Lab) -> None:
    key = lab.path / "munge" / "munge.key"
    if not key.exists():
        subprocess.run([*_as("munge"), "mungekey", "--create", f"--keyfile={key}"], check=True)


def _init_database(lab: Lab) -> bool:
    """Make MariaDB's system tables; returns True if they are new."""
    if (lab.path / "mysql" / "mysql").exists():
        return False
    argv = ["mariadb-install-db", f"--defaults-file={lab.base}/etc/mariadb.cnf", "--user=mysql", "--skip-test-db",
            "--auth-root-authentication-method=socket", "--auth-root-socket-user=root"]  # fmt: skip
    env = {**os.environ, "TMPDIR": f"{lab.base}/mysql-tmp"}
    done = subprocess.run(argv, capture_output=True, text=True, env=env)
    if done.returncode != 0:
        raise LabError(f"mariadb-install-db failed: {done.stderr.strip() or done.stdout.strip()}")
    return True


def _grant(lab: Lab) -> None:
    conf = (lab.path / "etc" / "slurmdbd.conf").read_text()
    password = next(line.partition("=")[2] for line in conf.splitlines() if line.startswith("StoragePass="))
    statements = (
        f"CREATE USER 'slurm'@'127.0.0.1' IDENTIFIED BY '{password}'; "
        "GRANT ALL ON slurm_acct.* TO 'slurm'@'127.0.0.1'; FLUSH PRIVILEGES;"
    )
    argv = ["mariadb", "--no-defaults", f"--socket={lab.base}/mysql-run/mysqld.sock", "--user=root"]
    # by standard input: arguments can be read by everybody on the machine
    done = subprocess.run(argv, input=statements, capture_output=True, text=True)
    if done.returncode != 0:
        raise LabError(f"MariaDB refused to make slurmdbd's user: {done.stderr.strip()}")


def _register(lab: Lab) -> None:
    """Tell slurmdbd of the cluster; without it slurmctld does not start."""
    if not _slurm(lab, ["sacctmgr", "-n", "-P", "list", "cluster", "format=cluster"]).split():
        _slurm(lab, ["sacctmgr", "-i", "add", "cluster", lab.cluster])


def _munge_answers(path: Path) -> bool:
    if not path.exists():
        return False
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(str(path)) == 0


def _listens(address: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((address, port)) == 0


def _check_alive(lab: Lab, name: str) -> None:
    if labproc.running(lab.path, name) is None:
        raise LabError(f"{name} ended on its own:\n{_log(lab, name)}")


def _log(lab: Lab, name: str) -> str:
    logs = [lab.path / "log" / f"{name}.log", lab.path / "log" / f"{name}.out", lab.path / "munge" / f"{name}.log"]
    lines = [line for log in logs if log.exists() for line in log.read_text(errors="replace").splitlines()[-8:]]
    return "\n".join(lines)


def _remove_cgroups(lab: Lab) -> None:
    """Remove the (empty) control groups that slurmd made for this laboratory's nodes."""
    for node in lab.nodes:
        for top in Path("/sys/fs/cgroup").glob(f"*/slurm_{node}"):
            for folder, _, _ in os.walk(top, topdown=False):
                try:
                    os.rmdir(folder)
                except OSError:
                    # a process is still leaving it; an empty group costs nothing
                    continue
