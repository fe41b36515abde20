#!/usr/bin/env python3
"""A whole SLURM cluster with sshd on this machine, without systemd: for tests, the demo and the container image.

    slurmlab.py start  --base DIR [--nodes 4] [--user NAME] [--banner TEXT] [--cgroup auto|v1|v2|none]
    slurmlab.py status --base DIR
    slurmlab.py daemon --base DIR start|stop|kill NAME      (munged mariadbd slurmdbd slurmctld slurmd-NODE sshd)
    slurmlab.py stop   --base DIR [--purge]
    slurmlab.py run    --base DIR ...                       (start, stay until SIGTERM, stop: for a container)

Everything is below DIR; lab.json and lab.env in it say how to log in. Two laboratories do not meet.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import sys
import time
from pathlib import Path

import labproc
from labconfig import (
    Lab,
    check_machine,
    detect_cgroup,
    make_folders,
    make_keys,
    make_user,
    new_lab,
    publish_keys,
    write_config,
)
from labdaemons import idle_nodes, start_cluster, start_daemon, stop_daemon, stop_lab
from labproc import LabError


def start(arguments: argparse.Namespace) -> Lab:
    """Start what does not run of a new or a known laboratory, and wait until every node is idle."""
    base = Path(arguments.base).resolve()
    if arguments.make_user and arguments.user:
        make_user(arguments.user, arguments.uid)
    check_machine(base, arguments.user)
    if (base / "lab.json").exists():
        lab = Lab.load(base)
    else:
        make_folders(base)
        cgroup = detect_cgroup() if arguments.cgroup == "auto" else arguments.cgroup
        lab = new_lab(base, arguments.nodes, arguments.user or _me(), cgroup, arguments.ssh_port)
        lab.cpus, lab.memory_mb = arguments.cpus, arguments.memory_mb
        lab.host, lab.ssh_listen = arguments.ssh_name, arguments.ssh_listen
        lab.banner = arguments.banner is not None
        authorized = Path(arguments.authorized_keys).read_text() if arguments.authorized_keys else None
        make_keys(lab, authorized)
        write_config(lab, arguments.banner)
        lab.save()
    if not any(labproc.running(lab.path, name) for name in lab.daemons()):
        # what a killed laboratory left behind would answer for the new one
        stop_lab(lab)
    try:
        start_cluster(lab)
    except LabError as error:
        if lab.cgroup == "none" or arguments.cgroup != "auto":
            raise
        print(f"slurmd cannot use cgroup {lab.cgroup} here, going on without: {error}", file=sys.stderr)
        stop_lab(lab)
        lab.cgroup = "none"
        banner = (lab.path / "etc/banner").read_text() if lab.banner else None
        write_config(lab, banner)
        start_cluster(lab)
    lab.save()
    if arguments.publish:
        publish_keys(lab, Path(arguments.publish), arguments.uid)
    return lab


def run(arguments: argparse.Namespace) -> int:
    """Start, stay until a signal comes or a daemon ends, stop."""
    lab = start(arguments)
    print(json.dumps(status(lab)), flush=True)
    asked = {"stop": False}
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: asked.update(stop=True))
    dead: list[str] = []
    while not asked["stop"] and not dead:
        dead = [name for name in lab.daemons() if labproc.running(lab.path, name) is None]
        _reap()
        time.sleep(1)
    stop_lab(lab)
    if dead:
        print(f"ended on their own: {', '.join(dead)}; see {lab.base}/log", file=sys.stderr)
    return 1 if dead else 0


def status(lab: Lab) -> dict[str, object]:
    """Return the daemons' pids and the nodes that can take jobs."""
    pids = {name: labproc.running(lab.path, name) for name in lab.daemons()}
    return {
        "base": lab.base,
        "ssh": f"ssh -F {lab.access()['ssh_config']} lab",
        "cgroup": lab.cgroup,
        "daemons": pids,
        "idle_nodes": sorted(idle_nodes(lab)) if pids["slurmctld"] else [],
    }


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    top = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    commands = top.add_subparsers(dest="command", required=True)
    for name in ("start", "run"):
        sub = commands.add_parser(name)
        sub.add_argument("--base", required=True, help="folder of the laboratory")
        sub.add_argument("--nodes", type=int, default=4)
        sub.add_argument("--cpus", type=int, default=4, help="CPUs a node says to have")
        sub.add_argument("--memory-mb", type=int, default=4000, help="memory a node says to have")
        sub.add_argument("--user", help="who may log in (default: the caller)")
        sub.add_argument("--make-user", action="store_true", help="make that user if it does not exist")
        sub.add_argument("--banner", help="text that every login prints before anything else")
        sub.add_argument("--cgroup", choices=["auto", "v1", "v2", "none"], default="auto")
        sub.add_argument("--ssh-port", type=int, help="port of sshd (default: a free one)")
        sub.add_argument("--ssh-listen", default="127.0.0.1", help="127.0.0.1, or * for all addresses")
        sub.add_argument("--ssh-name", default="127.0.0.1", help="host name that clients use")
        sub.add_argument("--authorized-keys", help="file with further public keys that may log in")
        sub.add_argument("--uid", type=int, help="uid of the user that is made, and owner of what is published")
        sub.add_argument("--publish", help="folder that gets a copy of private key and known_hosts, for clients")
    for name in ("status", "stop", "daemon"):
        sub = commands.add_parser(name)
        sub.add_argument("--base", required=True)
        if name == "stop":
            sub.add_argument("--purge", action="store_true", help="remove the folder too")
        if name == "daemon":
            sub.add_argument("action", choices=["start", "stop", "kill"])
            sub.add_argument("name")
    return top


def main(argv: list[str]) -> int:
    """Do what the command line asks."""
    arguments = parser().parse_args(argv)
    # the daemons' users must be able to read their configuration, whatever the caller's habit
    os.umask(0o022)
    # Debian keeps the daemons where a normal user's PATH does not look
    os.environ["PATH"] = os.environ.get("PATH", "") + ":/usr/local/sbin:/usr/sbin:/sbin"
    base = Path(arguments.base).resolve()
    try:
        if arguments.command == "run":
            return run(arguments)
        if arguments.command == "start":
            print(json.dumps(status(start(arguments)), indent=1))
        elif arguments.command == "status":
            state = status(Lab.load(base))
            print(json.dumps(state, indent=1))
            return 0 if all(state["daemons"].values()) else 1  # type: ignore[attr-defined]
        elif arguments.command == "stop":
            stop_lab(Lab.load(base))
            if arguments.purge:
                shutil.rmtree(base)
        else:
            lab = Lab.load(base)
            if arguments.name not in lab.daemons():
                raise LabError(f"There is no daemon {arguments.name}; there are {', '.join(lab.daemons())}.")
            if arguments.action == "start":
                start_daemon(lab, arguments.name)
            else:
                stop_daemon(lab, arguments.name, by_force=arguments.action == "kill")
    except LabError as error:
        print(f"slurmlab: {error}", file=sys.stderr)
        return 1
    return 0


def _me() -> str:
    import pwd

    return pwd.getpwuid(os.getuid()).pw_name


def _reap() -> None:
    """Collect ended children: as the first process of a container nobody else does."""
    while True:
        try:
            pid, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
