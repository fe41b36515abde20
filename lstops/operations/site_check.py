"""`lstops site check`: does everything answer that the site file names, and is it what it should be?

What jobs will use is looked at where they will be: on the scheduler's host, the way a job does it.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from shlex import quote

import lstops
from lstops.cluster.client import ClusterClient, open_client
from lstops.cluster.resources import load_escalation
from lstops.cluster.script import activation
from lstops.errors import LstOpsError
from lstops.production.gates import load_gates
from lstops.production.inventory import scan_inventory
from lstops.quality.profiles import load_profile
from lstops.quality.targets import load_targets
from lstops.reduction.cuts import load_cuts
from lstops.science.accelerated_forests import ACCELERATOR
from lstops.site.layout import Layout
from lstops.site.model import ScienceEnvironment, Site

_VERSIONS = f"""
import importlib.metadata as m, json
found = {{}}
for name in ("lstchain", "lstops", {ACCELERATOR!r}):
    try:
        found[name] = m.version(name)
    except m.PackageNotFoundError:
        pass
print(json.dumps(found))
"""


@dataclass(frozen=True)
class Finding:
    """Result of one check; `remedy` is empty where all is well."""

    subject: str
    result: str
    ok: bool
    remedy: str = ""


def check_site(site: Site) -> tuple[Finding, ...]:
    """Check a site: its folders, environments, scheduler, settings and inputs of productions."""
    findings = [_check_base(site)]
    where = "on this machine" if site.cluster.ssh is None else f"at {site.cluster.ssh.host}"
    name = f"{site.cluster.scheduler.value} scheduler {where}"
    try:
        with _client(site) as client:
            jobs = len(client.queue_rows())
            findings.append(Finding(name, f"answers; {jobs} jobs of lstops in the queue", True))
            findings.append(_check_base_there(site, client, where))
            findings += [_check_environment(key, found, client, where) for key, found in site.environments.items()]
    except LstOpsError as error:
        findings.append(Finding(name, error.what, False, error.remedy))
        remedy = "mend the way to the scheduler's host first."
        findings += [Finding(f"lstchain {key}", "not looked at", False, remedy) for key in site.environments]
    findings += [_check_settings(site), check_resources(site), _check_production(site), _check_tuning(site)]
    return (*findings, check_notify(site))


@contextmanager
def _client(site: Site) -> Iterator[ClusterClient]:
    client = open_client(site)
    try:
        yield client
    finally:
        client.close()


def check_notify(site: Site) -> Finding:
    """Whether somebody is told; mail is Airflow's, and is not tried here."""
    ways = []
    if site.notify.webhook:
        name = site.notify.webhook.address_variable
        if not os.environ.get(name, "").startswith(("https://", "http://")):
            remedy = f"set {name} to the webhook's address, here and for the Airflow services."
            return Finding("notify", f"{name} holds no web address: nobody is told by webhook", False, remedy)
        ways.append(f"webhook of {name}")
    if site.notify.email:
        ways.append(
            f"e-mail to {', '.join(site.notify.email.to)} by Airflow's connection {site.notify.email.connection}"
        )
    return Finding("notify", "; ".join(ways) or "nobody is told: there is no webhook and no e-mail", True)


def _check_base(site: Site) -> Finding:
    if not site.base.is_dir():
        return Finding("base", f"{site.base} is not a folder", False, "create it or mount the file system.")
    work = site.base / site.work
    nearest = next(p for p in (work, *work.parents) if p.exists())
    if not os.access(nearest, os.W_OK):
        return Finding("base", f"{nearest} is not writable", False, "correct the permissions.")
    free_gb = shutil.disk_usage(site.base).free / 1e9
    return Finding("base", f"{site.base}, {free_gb:.0f} GB free", free_gb > 1, "" if free_gb > 1 else "free space.")


def _check_base_there(site: Site, client: ClusterClient, where: str) -> Finding:
    base = quote(str(site.base))
    done = client.transport.run(f"test -d {base} && test -w {base} && stat -c %i {base}")
    if done.status:
        remedy = "mount the same file system there, writable for lstops' account (docs/adr/0001)."
        return Finding(f"base {where}", f"{site.base} is no folder that can be written to", False, remedy)
    if site.base.is_dir() and done.stdout.strip() != str(site.base.stat().st_ino):
        remedy = "mount the same file system on both (docs/adr/0001)."
        return Finding(f"base {where}", f"{site.base} is another folder than on this machine", False, remedy)
    return Finding(f"base {where}", "the same folder, writable", True)


def _check_environment(name: str, environment: ScienceEnvironment, client: ClusterClient, where: str) -> Finding:
    """As a job does it: the same lines activate the environment."""
    subject = f"lstchain {name} {where}"
    script = f"{activation(environment)}\npython -c {quote(_VERSIONS)}"
    done = client.transport.run(f"bash -c {quote(script)}", timeout_s=120)
    try:
        found = json.loads(done.stdout.strip().rpartition("\n")[2])
    except ValueError:
        said = (done.stderr.strip() or "no answer").splitlines()[-1]
        return Finding(subject, said, False, "correct `activate` and `conda_env` in the site file.")
    wanted = {"lstchain": environment.lstchain_version, "lstops": lstops.__version__}
    for package, version in wanted.items():
        if found.get(package) != version:
            remedy = (
                "install lstops' core of this version in it (README, at a real site)."
                if package == "lstops"
                else "correct `lstchain_version` or `activate`."
            )
            return Finding(subject, f"has {package} {found.get(package, '(none)')}, not {version}", False, remedy)
    if environment.accelerator and ACCELERATOR not in found:
        remedy = "install requirements/accelerator.lock in it, or set `accelerator: false`."
        return Finding(subject, f"has no {ACCELERATOR}", False, remedy)
    return Finding(subject, ", ".join(f"{package} {version}" for package, version in sorted(found.items())), True)


def _check_settings(site: Site) -> Finding:
    loads: dict[str, Callable[[], object]] = {
        f"profile {site.nightly.profile}": lambda: load_profile(site.nightly.profile),
        f"cuts {site.cuts}": lambda: load_cuts(site.cuts),
        f"gates {site.production.gates}": lambda: load_gates(site.production.gates),
        "targets": lambda: load_targets(),
        "escalation": lambda: load_escalation(),
    }
    for load in loads.values():
        try:
            load()
        except LstOpsError as error:
            return Finding("settings", error.what, False, error.remedy)
    return Finding("settings", ", ".join(loads), True)


def check_resources(site: Site) -> Finding:
    """A step that asks for as much as its ceiling is never tried again with more."""
    try:
        escalation = load_escalation()
    except LstOpsError as error:
        return Finding("resources", error.what, False, error.remedy)
    at_the_end = []
    for kind, wanted in site.resources.items():
        rise = escalation.rise(kind)
        partition = wanted.partition or site.cluster.default_partition
        limits = site.cluster.partitions.get(partition or "")
        for what, asked, ceiling, most in (
            ("mem_mb", wanted.mem_mb, rise.memory_ceiling_mb, limits.max_mem_mb if limits else None),
            ("time_min", wanted.time_min, rise.time_ceiling_min, limits.max_time_min if limits else None),
        ):
            if asked >= ceiling:
                at_the_end.append(f"{kind} asks for {what} {asked}, config/escalation.yaml ends at {ceiling}")
            elif most is not None and asked >= most:
                at_the_end.append(f"{kind} asks for {what} {asked}, all that partition {partition} has")
    if at_the_end:
        remedy = "a step that needs more is not tried again: raise the ceiling, or choose another partition."
        return Finding("resources", "; ".join(at_the_end), False, remedy)
    return Finding("resources", "a step that runs out of memory or time can be given more", True)


def _check_production(site: Site) -> Finding:
    subject, line = "base production", site.nightly.declination_line
    try:
        files = len(scan_inventory(Layout(site.base, site.work), site.production.base_production, line).files)
    except LstOpsError as error:
        return Finding(subject, error.what, False, error.remedy)
    return Finding(subject, f"{site.production.base_production}: {files} DL1 files for {line}", True)


def _check_tuning(site: Site) -> Finding:
    simtel = site.production.tuning_simtel
    if simtel is None:
        remedy = "set production.tuning_simtel to a simtel file with true photoelectrons, relative to base."
        return Finding("NSB tuning", "no simulation to tune with: no production of a night or of runs", False, remedy)
    if not (site.base / simtel).is_file():
        return Finding("NSB tuning", f"{simtel} is not there", False, "correct production.tuning_simtel.")
    return Finding("NSB tuning", simtel, True)


def show_findings(findings: Sequence[Finding]) -> bool:
    """Print a table; True if all is well."""
    from rich.console import Console
    from rich.table import Column, Table

    table = Table(*(Column(name, overflow="fold") for name in ("check", "result", "remedy")), title="site check")
    for finding in findings:
        mark = "[green]ok[/green]" if finding.ok else "[red]wrong[/red]"
        table.add_row(f"{mark} {finding.subject}", finding.result, finding.remedy)
    Console().print(table)
    return all(f.ok for f in findings)
