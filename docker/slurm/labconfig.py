"""What a laboratory looks like: its description, its ports and its configuration files."""

from __future__ import annotations

import json
import os
import pwd
import random
import re
import secrets
import shutil
import socket
import subprocess
from dataclasses import asdict, dataclass, field
from pathlib import Path
from string import Template

from labproc import LabError

TEMPLATES = Path(__file__).parent / "templates"
#: below Linux' range for outgoing connections (32768 and up), so that a stopped daemon finds its port again
PORT_RANGE = range(20000, 32000)
#: a UNIX socket's path is limited to 107 bytes; "/munge/munge.sock.lock" comes after the folder's name
MAX_BASE_LENGTH = 80
SERVICE_USERS = ("munge", "slurm", "mysql", "sshd")
PROGRAMS = ("munged", "mungekey", "mariadbd", "mariadb-install-db", "mariadb", "slurmdbd", "slurmctld", "slurmd",
            "sacctmgr", "sinfo", "sshd", "ssh-keygen", "setpriv")  # fmt: skip


@dataclass
class Lab:
    """A laboratory; kept as lab.json in its folder."""

    base: str
    hostname: str
    cluster: str
    nodes: list[str]
    ports: dict[str, int]
    user: str
    cgroup: str
    cpus: int = 4
    memory_mb: int = 4000
    host: str = "127.0.0.1"
    ssh_listen: str = "127.0.0.1"
    banner: bool = False
    partitions: list[str] = field(default_factory=lambda: ["short", "long"])

    @property
    def path(self) -> Path:
        return Path(self.base)

    def save(self) -> None:
        """Write lab.json and lab.env for those who use the laboratory."""
        data = asdict(self) | self.access() | {"pid_files": self.pid_files()}
        staged = self.path / ".lab.json"
        staged.write_text(json.dumps(data, indent=1) + "\n")
        staged.replace(self.path / "lab.json")
        lines = [f"LAB_{name.upper()}={value}" for name, value in self.access().items()]
        lines += [f"LAB_HOST={self.host}", f"LAB_USER={self.user}", f"SLURM_CONF={self.access()['slurm_conf']}"]
        (self.path / "lab.env").write_text("\n".join(lines) + "\n")

    @classmethod
    def load(cls, base: Path) -> Lab:
        try:
            data = json.loads((base / "lab.json").read_text())
        except FileNotFoundError as error:
            raise LabError(f"{base} holds no laboratory (lab.json is missing); start one there first.") from error
        return cls(**{name: data[name] for name in cls.__dataclass_fields__})

    def access(self) -> dict[str, str | int]:
        """Return what a client needs to log in."""
        ssh = self.path / "ssh"
        return {
            "port": self.ports["sshd"],
            "key": str(ssh / "id_ed25519"),
            "known_hosts": str(ssh / "known_hosts"),
            "ssh_config": str(ssh / "config"),
            "slurm_conf": str(self.path / "etc/slurm.conf"),
        }

    def daemons(self) -> list[str]:
        """Return the names of all daemons in the order of their start."""
        return ["munged", "mariadbd", "slurmdbd", "slurmctld", *(f"slurmd-{node}" for node in self.nodes), "sshd"]

    def pid_files(self) -> dict[str, str]:
        return {name: str(self.path / "run" / f"{name}.pid") for name in self.daemons()}


def check_machine(base: Path, user: str | None) -> None:
    """Say at once what is missing, instead of failing half way."""
    if os.geteuid() != 0:
        raise LabError("slurmd and the other daemons' users need root: run as root, or in the container of docker/.")
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    missing = [name for name in PROGRAMS if shutil.which(name, path=path) is None]
    if missing:
        raise LabError(f"Not installed: {', '.join(missing)}. Run scripts/install-system-deps.")
    for name in SERVICE_USERS:
        _entry(name)
    if user:
        _entry(user)
    if re.search(r"[^\w./-]", str(base)):
        raise LabError(f"{base!s:.200} has characters that slurm.conf cannot hold: use letters, digits, '.', '_', '-'.")
    if len(str(base)) > MAX_BASE_LENGTH:
        raise LabError(f"{base} is longer than {MAX_BASE_LENGTH} bytes, too long for munge's socket: take another one.")
    for parent in [base, *base.parents]:
        if parent.exists() and not parent.stat().st_mode & 0o001:
            raise LabError(f"{parent} is closed to the users munge, slurm and mysql: take a folder below /tmp or /var.")


def free_ports(names: list[str]) -> dict[str, int]:
    """Choose a free port for each name."""
    ports: dict[str, int] = {}
    for port in random.sample(PORT_RANGE, len(PORT_RANGE)):
        if len(ports) == len(names):
            return ports
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("", port))
            except OSError:
                continue
        ports[names[len(ports)]] = port
    raise LabError(f"No free ports between {PORT_RANGE.start} and {PORT_RANGE.stop}.")


def detect_cgroup(root: Path = Path("/sys/fs/cgroup")) -> str:
    """Return ``v1``, ``v2`` or ``none``: in which hierarchy slurmd can limit a job's memory on this machine."""
    if (root / "cgroup.controllers").exists():
        usable = "memory" in (root / "cgroup.controllers").read_text().split() and _writable(root)
        return "v2" if usable else "none"
    controllers = [root / name for name in ("memory", "freezer")]
    return "v1" if all((path / "tasks").exists() and _writable(path) for path in controllers) else "none"


def new_lab(base: Path, nodes: int, user: str, cgroup: str, ssh_port: int | None = None) -> Lab:
    """Describe a new laboratory: a name of its own, nodes that no other one here has, free ports."""
    # job cgroups are named after the node, so two laboratories must not share node names
    tag = secrets.choice("abcdefghijklmnopqrstuvwxyz") + secrets.token_hex(2)
    names = [f"{tag}n{number}" for number in range(1, nodes + 1)]
    ports = free_ports(["mariadbd", "slurmdbd", "slurmctld", "sshd", *(f"slurmd-{name}" for name in names)])
    if ssh_port is not None:
        ports["sshd"] = ssh_port
    return Lab(str(base), socket.gethostname().split(".")[0], "lab", names, ports, user, cgroup)


def write_config(lab: Lab, banner: str | None) -> None:
    """Render all configuration files."""
    tag = lab.nodes[0][:-1]
    count = len(lab.nodes)
    # Slurm wants a list of ports as long as the list of nodes
    slurmd_ports = [lab.ports[f"slurmd-{name}"] for name in lab.nodes]
    values = {
        "base": lab.base,
        "hostname": lab.hostname,
        "cluster": lab.cluster,
        "user": lab.user,
        "nodes": f"{tag}[1-{count}]",
        "long_nodes": f"{tag}[{max(1, count - 1)}-{count}]",
        "cpus": str(lab.cpus),
        "memory_mb": str(lab.memory_mb),
        "def_mem_per_cpu": str(min(500, lab.memory_mb // lab.cpus)),
        "slurmd_ports": f"[{','.join(map(str, slurmd_ports))}]",
        "slurmd_first_port": str(slurmd_ports[0]),
        "proctrack": "proctrack/linuxproc" if lab.cgroup == "none" else "proctrack/cgroup",
        "task_plugin": "task/none" if lab.cgroup == "none" else "task/cgroup",
        "acct_gather_params": "JobAcctGatherParams=OverMemoryKill" if lab.cgroup == "none" else "",
        "database_password": _database_password(lab.path),
        "listen_address": "" if lab.ssh_listen == "*" else f"ListenAddress {lab.ssh_listen}",
        "force_command": f"ForceCommand {lab.base}/etc/login-banner.sh" if banner is not None else "",
    }
    values |= {f"{name}_port": str(port) for name, port in lab.ports.items() if "-" not in name}
    etc = lab.path / "etc"
    for template, target, mode, owner in (
        ("slurm.conf", "slurm.conf", 0o644, "root"),
        ("slurmdbd.conf", "slurmdbd.conf", 0o600, "slurm"),
        (f"cgroup-{lab.cgroup}.conf", "cgroup.conf", 0o644, "root"),
        ("mariadb.cnf", "mariadb.cnf", 0o644, "root"),
        ("sshd_config", "sshd_config", 0o644, "root"),
        ("login-banner.sh", "login-banner.sh", 0o755, "root"),
    ):
        path = etc / target
        path.unlink(missing_ok=True)
        path.touch(mode=mode)
        path.write_text(Template((TEMPLATES / template).read_text()).substitute(values))
        path.chmod(mode)
        own(path, owner)
    (etc / "banner").write_text(banner.rstrip("\n") + "\n" if banner else "")


def make_folders(base: Path) -> None:
    """Make the folders, each for the daemon that writes in it."""
    base.mkdir(parents=True, exist_ok=True)
    base.chmod(0o755)
    owners = {"etc": "root", "ssh": "root", "run": "slurm", "log": "slurm", "state": "slurm", "spool": "root",
              "munge": "munge", "mysql": "mysql", "mysql-run": "mysql", "mysql-tmp": "mysql"}  # fmt: skip
    for name, owner in owners.items():
        (base / name).mkdir(exist_ok=True)
        (base / name).chmod(0o755)
        own(base / name, owner)


def make_keys(lab: Lab, authorized: str | None) -> None:
    """Make host key, user key, known_hosts and an ssh configuration; existing keys are kept.

    known_hosts is made from the host key itself: it was never learnt over the network.
    """
    ssh = lab.path / "ssh"
    for name in ("host_ed25519", "id_ed25519"):
        if not (ssh / name).exists():
            argv = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", f"lstops-lab-{name}", "-f", str(ssh / name)]
            subprocess.run(argv, check=True)
    public = [(ssh / "id_ed25519.pub").read_text().strip(), (authorized or "").strip()]
    (ssh / "authorized_keys").write_text("\n".join(key for key in public if key) + "\n")
    host_key = " ".join((ssh / "host_ed25519.pub").read_text().split()[:2])
    port = lab.ports["sshd"]
    # port 22 is written without brackets (sshd(8), SSH_KNOWN_HOSTS FILE FORMAT)
    (ssh / "known_hosts").write_text(f"{lab.host if port == 22 else f'[{lab.host}]:{port}'} {host_key}\n")
    (ssh / "config").write_text(
        f"Host lab\n  HostName {lab.host}\n  Port {port}\n  User {lab.user}\n  IdentityFile {ssh}/id_ed25519\n"
        f"  IdentitiesOnly yes\n  UserKnownHostsFile {ssh}/known_hosts\n  StrictHostKeyChecking yes\n  BatchMode yes\n"
    )


def publish_keys(lab: Lab, folder: Path, uid: int | None) -> None:
    """Copy what a client needs, and nothing else, into a folder that clients can see."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, mode in (("id_ed25519", 0o600), ("known_hosts", 0o644)):
        staged = folder / f".{name}"
        staged.unlink(missing_ok=True)
        staged.touch(mode=mode)
        staged.write_bytes((lab.path / "ssh" / name).read_bytes())
        if uid is not None:
            os.chown(staged, uid, uid)
        staged.replace(folder / name)


def make_user(name: str, uid: int | None = None) -> None:
    """Make an unprivileged user for logins unless it exists."""
    try:
        pwd.getpwnam(name)
    except KeyError:
        # "*" is no password; the default "!" would lock the account for sshd without PAM
        argv = ["useradd", "--create-home", "--shell", "/bin/bash", "--password", "*"]
        # the uid may be that of another account here: what counts is whose files are on the shared volume
        argv += ["--non-unique", "--uid", str(uid)] if uid is not None else []
        argv.append(name)
        done = subprocess.run(argv, capture_output=True, text=True)
        if done.returncode != 0:
            raise LabError(f"useradd {name} failed: {done.stderr.strip()}") from None


def own(path: Path, user: str) -> None:
    entry = _entry(user)
    os.chown(path, entry.pw_uid, entry.pw_gid)


def _entry(user: str) -> pwd.struct_passwd:
    try:
        return pwd.getpwnam(user)
    except KeyError as error:
        raise LabError(f"User {user} does not exist. Run scripts/install-system-deps, or give --make-user.") from error


def _database_password(base: Path) -> str:
    """Return the password of slurmdbd's database user: the one there, or a new one."""
    conf = base / "etc" / "slurmdbd.conf"
    known = re.search(r"^StoragePass=(\S+)$", conf.read_text(), re.M) if conf.exists() else None
    return known.group(1) if known else secrets.token_hex(16)


def _writable(folder: Path) -> bool:
    probe = folder / f"lstops-probe-{os.getpid()}"
    try:
        probe.mkdir()
        probe.rmdir()
    except OSError:
        return False
    return True
