"""Runs the demo: services, synthetic site, `mc_production`, `nightly`, and what came of it."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import threading
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import Any

from lstops.demo.progress import Progress, follow
from lstops.demo.setting import Setting
from lstops.embedded.rest import AirflowClient
from lstops.embedded.services import Services
from lstops.embedded.slurm_lab import SlurmLab
from lstops.errors import JobFailure
from lstops.night import Night
from lstops.site.layout import Layout
from lstops.site.model import load_site
from lstops.step.assess import Standing, assess
from lstops.step.manifest import write_atomically
from lstops.step.plans import load_plan


def run(setting: Setting, seed: int = 1, size: str = "demo") -> None:
    """Set everything up, run the main job and show the result.

    Raises
    ------
    LstOpsError
        If a part fails; what runs stays up, so that its logs can be read, until `make demo-stop`.
    """
    progress = Progress()
    setting.home.mkdir(parents=True, exist_ok=True)
    os.environ.update(setting.environ())
    if setting.cluster == "slurm":
        progress.say("starting SLURM and sshd on the loopback")
        progress.timed("SLURM lab", lambda: _start_lab(setting))
    write_environment(setting)
    services = Services(setting.home)
    started = in_background(lambda: start_services(services, progress))
    progress.timed("synthetic site", lambda: make_site(setting, seed, progress, size))
    started.wait()
    night = Night.parse(json.loads((setting.base / "truth.json").read_text())["night"])
    with services.client() as client:
        for dag_id in ("mc_production", "nightly"):
            conf = {"night": str(night)}
            progress.timed(dag_id, partial(run_dag, client, dag_id, str(night), conf, setting, progress))
    (setting.home / "timings.json").write_text(json.dumps(progress.timings, indent=1))
    show_result(setting, night, services, progress)


def _lab(setting: Setting) -> SlurmLab | None:
    """The laboratory of this demo, if one was started."""
    try:
        return SlurmLab(Path((setting.home / "slurm-lab.path").read_text()))
    except FileNotFoundError:
        return None


def _start_lab(setting: Setting) -> None:
    # SLURM's own users must be able to pass the folders above the laboratory: it cannot lie below a private home.
    lab = _lab(setting) or SlurmLab.temporary()
    (setting.home / "slurm-lab.path").write_text(str(lab.base))
    access = lab.start(nodes=1, cpus=2, memory_mb=8000)
    os.environ.update(
        LSTOPS_SSH_HOST=access.host,
        LSTOPS_SSH_PORT=str(access.port),
        LSTOPS_SSH_USER=access.user,
        LSTOPS_SSH_KEY_FILE=str(access.key),
        LSTOPS_SSH_KNOWN_HOSTS=str(access.known_hosts),
    )


def write_environment(setting: Setting) -> Path:
    """Write what the command line needs to work with this demo (no secrets), to be sourced by a shell."""
    names = [*setting.environ(), *(name for name in os.environ if name.startswith("LSTOPS_SSH_"))]
    path = setting.home / "demo.env"
    lines = (f"export {name}={shlex.quote(os.environ[name])}\n" for name in names)
    write_atomically(path, "".join(lines))
    return path


def start_services(services: Services, progress: Progress) -> None:
    """Start PostgreSQL, bring the catalogue up to date, and start Airflow."""
    from lstops.catalog.database import upgrade

    progress.say("starting PostgreSQL and Airflow")
    services.postgres.start()
    upgrade()
    progress.timed("services", services.start)
    progress.say("PostgreSQL and Airflow are up")


class Background:
    """Work in a thread; what it raises is raised in the thread that waits for it."""

    def __init__(self, work: Callable[[], None]) -> None:
        self._work, self._errors = work, list[BaseException]()
        self._thread = threading.Thread(target=self._guarded, daemon=True)
        self._thread.start()

    def _guarded(self) -> None:
        try:
            self._work()
        except BaseException as error:  # noqa: BLE001 - raised again in the thread that waits
            self._errors.append(error)

    @property
    def ended(self) -> bool:
        """Whether the work is over, well or badly."""
        return not self._thread.is_alive()

    def wait(self) -> None:
        """Wait for the end, and raise what the work raised."""
        self._thread.join()
        if self._errors:
            raise self._errors[0]


def in_background(work: Callable[[], None]) -> Background:
    """Start `work` in a thread."""
    return Background(work)


def make_site(setting: Setting, seed: int, progress: Progress, size: str, more: tuple[str, ...] = ()) -> None:
    """Make the synthetic night and Monte Carlo; what is there already is kept.

    Raises
    ------
    JobFailure
        If the generator fails; the message has the end of its output.
    """
    progress.say(f"making the synthetic site below {setting.base} (lstchain's own tools write it)")
    command = [str(setting.science_python), "-m", "lstops.simulate.cli", "make-site"]
    command += ["--base", str(setting.base), "--seed", str(seed), "--nproc", "2", "--size", size, *more]
    log = setting.home / "make-site.log"
    with log.open("w") as stream:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=stream, text=True, env={**os.environ, **offline_environ(setting)}
        )
        assert process.stdout is not None
        for line in process.stdout:
            stream.write(line)
            progress.say(f"site: {line.rstrip()}")
    if process.wait() != 0:
        tail = "\n".join(log.read_text().splitlines()[-15:])
        raise JobFailure(f"the synthetic site could not be made:\n{tail}", f"read {log}, then run make demo again.")


def offline_environ(setting: Setting) -> dict[str, str]:
    """Variables for a process of the science environment that asks nobody."""
    from lstops.science.environment import science_environ

    scratch = setting.home / "scratch"
    scratch.mkdir(exist_ok=True)
    path = os.pathsep.join([str(setting.science_python.parent), os.environ.get("PATH", os.defpath)])
    return {**science_environ(scratch), "PATH": path}


def run_dag(
    client: AirflowClient,
    dag_id: str,
    label: str,
    conf: Mapping[str, Any],
    setting: Setting,
    progress: Progress,
    once: bool = False,
) -> None:
    """Run a DAG; a run of this label that an interrupted demo left under way is taken up first.

    Parameters
    ----------
    label : str
        Part of the run's id: the night, say.
    once : bool
        Do nothing if a run of this label has succeeded.
    """
    client.wait_for_dag(dag_id)
    client.unpause(dag_id)
    prefix = f"demo__{label}__"
    mine = [run for run in client.runs(dag_id) if run.run_id.startswith(prefix)]
    if once and any(run.state == "success" for run in mine):
        progress.say(f"{dag_id}: {label} was done before")
        return
    counts = partial(stage_counts, setting)
    for run in (run for run in mine if not run.finished):
        progress.say(f"{dag_id}: goes on with {run.run_id}, which was interrupted")
        try:
            follow(client, dag_id, run.run_id, progress, counts)
            if once:
                return
        except JobFailure as failure:
            # what was killed may have used up its retries; the new run below makes only what is missing
            progress.say(f"{dag_id}: {run.run_id} did not survive: {failure.what.splitlines()[0]}")
    run_id = f"{prefix}{datetime.now(timezone.utc):%Y%m%dT%H%M%S}"
    client.trigger(dag_id, run_id, conf=conf)
    progress.say(f"{dag_id}: triggered for {label}")
    follow(client, dag_id, run_id, progress, counts)


def stage_counts(setting: Setting) -> dict[str, tuple[int, int]]:
    """(done, total) by stage of the plan that was written last; empty before there is one."""
    plans = sorted((setting.base / "lstops" / "plans").glob("*/plan.json"), key=lambda p: p.stat().st_mtime)
    if not plans:
        return {}
    plan, site = load_plan(plans[-1]), load_site(setting.site_file)
    found = assess(plan, Layout(site.base, site.work), site)
    return {
        stage.name: (sum(found[i].state is Standing.DONE for i in plan.indices(stage.name)), len(stage.steps))
        for stage in plan.stages
    }


def show_result(setting: Setting, night: Night, services: Services, progress: Progress) -> None:
    """Print the night's table, the bundle, the report and the address of the web page."""
    from lstops.operations.report import make_report, report_file
    from lstops.report.night import night_table

    site = load_site(setting.site_file)
    report = make_report(site, night)
    progress.console.print(night_table(report))
    for bundle in report.published:
        progress.console.print(f"[bold]DL3 bundle[/bold]  {site.base / bundle.path}")
    progress.console.print(f"[bold]report[/bold]      {report_file(site, night)}")
    progress.console.print(f"            {services.airflow.url}/lstops/reports/{night}  (behind the login)")
    progress.console.print(
        f"[bold]web page[/bold]    {services.airflow.url}  user admin, password in {services.airflow.folders.passwords}"
    )
    progress.console.print("It stays up until [bold]make demo-stop[/bold].")


def stop(homes: list[Path]) -> None:
    """Stop everything that demos below these folders left running."""
    for home in homes:
        if not home.is_dir():
            continue
        progress = Progress()
        progress.say(f"stopping what runs below {home}")
        Services(home).stop()
        if lab := _lab(Setting(home, "slurm")):
            lab.stop(purge=True)
            (home / "slurm-lab.path").unlink()
