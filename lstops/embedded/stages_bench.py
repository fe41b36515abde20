"""Measures from a job's end to the next stage's sbatch: `python -m lstops.embedded.stages_bench` (as root).

A real Airflow (scheduler, triggerer, API server, PostgreSQL) runs DAGs of two stages, one after the other, on a SLURM
laboratory. Both moments are SLURM's own (sacct: End, Submit), in whole seconds.
"""

from __future__ import annotations

import statistics
import sys
import textwrap
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import yaml

from lstops.cluster.records import all_records
from lstops.embedded.airflow_env import AirflowFolders
from lstops.embedded.cluster_bench import laboratory, machine
from lstops.embedded.rest import AirflowClient
from lstops.embedded.services import Services
from lstops.embedded.slurm_lab import SlurmLab
from lstops.errors import LstOpsError
from lstops.site.layout import Layout
from lstops.site.model import Site, load_site
from lstops.step.model import ArtifactKind, Input, Output, Plan, Resources, Stage, Step
from lstops.step.plans import save_plan

RUNS, POLL_S, JOB_S = 7, 3.0, 30
STAGES = ("first", "second")
DAG = textwrap.dedent(
    """
    from airflow.sdk import DAG

    from lstops.airflow.operator import PlanStageOperator

    with DAG("stages", schedule=None):
        first, second = (
            PlanStageOperator(task_id=name, plan_id="{{ dag_run.conf['plan_id'] }}", stage=name, site="SITE")
            for name in ("first", "second")
        )
        first >> second
    """
)


@dataclass(frozen=True)
class World:
    """A site whose cluster is the laboratory, and an Airflow that works for it."""

    lab: SlurmLab
    site: Site
    airflow: AirflowClient


def site_file(lab: SlurmLab, folder: Path) -> Path:
    """Write a site whose cluster is the laboratory."""
    access, repository = lab.access(), Path(__file__).resolve().parents[2]
    ssh = {"host": access.host, "port": access.port, "user": access.user}
    ssh |= {"key_file": str(access.key), "known_hosts": str(access.known_hosts)}
    base = folder / "base"
    base.mkdir(parents=True)
    (base / "in.txt").write_text("hello\n")
    document = {
        "name": "bench",
        "base": str(base),
        "observatory": {"name": "LST-1", "latitude_deg": 28.76, "longitude_deg": -17.89, "height_m": 2184},
        "cluster": {"name": "lab", "scheduler": "slurm", "ssh": ssh, "poll_s": POLL_S},
        "environments": {"0.12.3": {"lstchain_version": "0.12.3", "activate": str(repository / ".venv/bin/activate")}},
        "nightly": {"pipeline_version": "v0.12", "lstchain_version": "0.12.3"},
        "production": {"base_production": "bench"},
    }
    path = folder / "site.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


def two_stages(site: Site, number: int) -> Plan:
    """A plan whose second stage reads what the first makes."""

    def stage(name: str, reads: str, length_s: int) -> Stage:
        made = f"{name}{number}.txt"
        step = Step(
            kind="copy",
            label=name,
            subject=f"run {number}",
            commands=(("/bin/sh", "-c", f'sleep {length_s}; cp "$0" "$1"', "{in:a}", "{out:b}"),),
            inputs=(Input(name="a", kind=ArtifactKind.FILE, path=reads),),
            outputs=(Output(name="b", kind=ArtifactKind.FILE, path=made),),
            environment="core",
            resources=Resources(mem_mb=300, time_min=5),
        )
        return Stage(name=name, steps=(step,))

    stages = (stage("first", "in.txt", JOB_S), stage("second", f"first{number}.txt", 0))
    plan = Plan(kind="bench", title="Bench", site=site.name, lstchain_version="0.12.3", stages=stages)
    save_plan(plan, site)
    return plan


@contextmanager
def world() -> Iterator[World]:
    """Laboratory and Airflow for the time of the measurement.

    Raises
    ------
    LstOpsError
        If they cannot be started here.
    """
    with ExitStack() as stack:
        bench = stack.enter_context(laboratory())
        path = site_file(bench.lab, bench.folder)
        home = bench.folder / "home"
        for name in ("dags", "plugins"):
            (home / name).mkdir(parents=True)
        (home / "dags" / "stages.py").write_text(DAG.replace("SITE", str(path)))
        config = Path(__file__).resolve().parents[2] / "airflow.cfg"
        services = Services(home, AirflowFolders(home, config, home / "dags", home / "plugins"))
        stack.callback(services.stop)
        services.start()
        airflow = stack.enter_context(services.client("admin"))
        airflow.wait_for_dag("stages")
        airflow.unpause("stages")
        yield World(bench.lab, load_site(path), airflow)


def one_gap(found: World, number: int) -> float:
    """Run a DAG; time (s) from the end of its first job to the submission of its second."""
    plan = two_stages(found.site, number)
    found.airflow.trigger("stages", f"run-{number}", {"plan_id": plan.plan_id})
    ended = found.airflow.wait_for_run("stages", f"run-{number}", timeout_s=900)
    if ended.state != "success":
        raise LstOpsError(f"run {number} ended with {ended.state}.", "look at its tasks' logs.")
    records = all_records(Layout(found.site.base, found.site.work))
    jobs = [next(r.job for r in records if (r.plan_id, r.stage) == (plan.plan_id, name)) for name in STAGES]
    return (_moment(found.lab, jobs[1], "Submit") - _moment(found.lab, jobs[0], "End")).total_seconds()


def _moment(lab: SlurmLab, job: str, field: str) -> datetime:
    return datetime.fromisoformat(lab.ssh(f"sacct -X -n -P -j {job} -S now-1hour -o {field}").split()[0])


def main() -> int:
    """Measure and print."""
    try:
        with world() as found:
            gaps = [one_gap(found, number) for number in range(RUNS)]
            slurm = found.lab.ssh("sinfo --version").strip()
    except LstOpsError as error:
        print(f"lstops: {error}", file=sys.stderr)
        return error.exit_code
    print(f"{machine()}, {slurm}")
    print(f"\nend of a stage's job to the next stage's sbatch, looks every {POLL_S:g} s, {len(gaps)} DAG runs")
    print("\n| median (s) | least (s) | most (s) |\n|---|---|---|")
    print(f"| {statistics.median(gaps):.0f} | {min(gaps):.0f} | {max(gaps):.0f} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
