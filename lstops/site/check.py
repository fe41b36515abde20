"""`lstops site check`: is everything there that the site file names?"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lstops.errors import LstOpsError
from lstops.site.model import ScienceEnvironment, Site


@dataclass(frozen=True)
class Finding:
    """Result of one check; `remedy` is empty where all is well."""

    subject: str
    result: str
    ok: bool
    remedy: str = ""


def check_site(site: Site) -> tuple[Finding, ...]:
    """Check paths, science environments and the scheduler of a site."""
    findings = [_check_base(site)]
    findings += [_check_environment(name, env) for name, env in site.environments.items()]
    findings += [_check_scheduler(site), check_notify(site)]
    return tuple(findings)


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


def _check_environment(name: str, environment: ScienceEnvironment) -> Finding:
    subject = f"lstchain {name}"
    if not Path(environment.activate).is_file():
        return Finding(subject, f"{environment.activate} does not exist", False, "correct `activate` in the site file.")
    conda = 'conda activate "$2";' if environment.conda_env else ""
    script = f'source "$1"; {conda} python -c "import importlib.metadata as m; print(m.version(\'lstchain\'))"'
    words = ["bash", "-c", script, "bash", str(environment.activate), environment.conda_env or ""]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=False)
    found = done.stdout.strip().splitlines()[-1] if done.stdout.strip() else ""
    if done.returncode or not found:
        return Finding(subject, (done.stderr.strip() or "no answer").splitlines()[-1], False, "install lstchain there.")
    ok = found == environment.lstchain_version
    return Finding(subject, f"{found} in {environment.activate}", ok, "" if ok else "correct `lstchain_version`.")


def _check_scheduler(site: Site) -> Finding:
    from lstops.cluster.client import open_client

    where = "on this machine" if site.cluster.ssh is None else f"at {site.cluster.ssh.host}"
    name = f"{site.cluster.scheduler.value} scheduler {where}"
    client = None
    try:
        client = open_client(site)
        jobs = len(client.queue_rows())
    except LstOpsError as error:
        return Finding(name, error.what, False, error.remedy)
    finally:
        if client is not None:
            client.close()
    return Finding(name, f"answers; {jobs} jobs of lstops in the queue", True)


def show_findings(findings: Sequence[Finding]) -> bool:
    """Print a table; True if all is well."""
    from rich.console import Console
    from rich.table import Table

    table = Table("check", "result", "remedy", title="site check")
    for finding in findings:
        mark = "[green]ok[/green]" if finding.ok else "[red]wrong[/red]"
        table.add_row(f"{mark} {finding.subject}", finding.result, finding.remedy)
    Console().print(table)
    return all(f.ok for f in findings)
