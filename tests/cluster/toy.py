"""A site and plans whose steps are ordinary commands, for tests of everything between a plan and its products."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import yaml

from lstops.cluster.client import ClusterClient
from lstops.cluster.records import JobRecord
from lstops.cluster.resources import Escalation, Rise
from lstops.cluster.rows import AccountingRow
from lstops.cluster.stage import StageContext, prepare, submit, wanted_resources
from lstops.cluster.verdict import Judgement, judge, settled
from lstops.embedded.slurm_lab import LabAccess, SlurmLab
from lstops.site.model import Site, load_site
from lstops.step.assess import pending
from lstops.step.model import ArtifactKind, Input, Output, Plan, Resources, Stage, Step
from lstops.step.plans import save_plan

REPOSITORY = Path(__file__).resolve().parents[2]
ESCALATION = Escalation(default=Rise(memory_factor=4.0, memory_ceiling_mb=2000, time_factor=3.0, time_ceiling_min=10))


def local_cluster(**changes: Any) -> dict[str, Any]:
    return {"name": "toy", "scheduler": "local", "slots": 2, "poll_s": 0.3, "submit_attempts": 2, **changes}


def slurm_cluster(lab: LabAccess, **changes: Any) -> dict[str, Any]:
    ssh = {"host": lab.host, "port": lab.port, "user": lab.user}
    ssh |= {"key_file": str(lab.key), "known_hosts": str(lab.known_hosts)}
    return {"name": "lab", "scheduler": "slurm", "ssh": ssh, "poll_s": 1.0, "submit_attempts": 3, **changes}


def make_site(folder: Path, cluster: dict[str, Any]) -> Path:
    """Write a site file; the base has a blank, a quote and a percent sign in its name."""
    base = folder / "the site's 100% base"
    base.mkdir(parents=True)
    (base / "in.txt").write_text("hello\n")
    document = {
        "name": "toy",
        "base": str(base),
        "observatory": {"name": "LST-1", "latitude_deg": 28.76, "longitude_deg": -17.89, "height_m": 2184},
        "cluster": cluster,
        "environments": {"0.12.3": {"lstchain_version": "0.12.3", "activate": str(REPOSITORY / ".venv/bin/activate")}},
        "nightly": {"pipeline_version": "v0.12", "lstchain_version": "0.12.3"},
        "production": {"base_production": "toy"},
    }
    path = folder / "site.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


def shell(script: str) -> tuple[str, ...]:
    """A step's command; `$COPY` in it copies input to output (whose paths have blanks and quotes)."""
    return ("/bin/sh", "-c", script.replace("$COPY", 'cp "$0" "$1"'), "{in:a}", "{out:b}")


COPY = ("/bin/cp", "{in:a}", "{out:b}")


def toy_step(
    number: int,
    command: tuple[str, ...] = COPY,
    reads: str = "in.txt",
    mem_mb: int = 300,
    time_min: int = 5,
    cpus: int = 1,
    partition: str | None = None,
) -> Step:
    return Step(
        kind="copy",
        label=f"copy {number}",
        subject=f"run {number}",
        commands=(command,),
        inputs=(Input(name="a", kind=ArtifactKind.FILE, path=reads),),
        outputs=(Output(name="b", kind=ArtifactKind.FILE, path=f"out/{number}.txt"),),
        environment="core",
        resources=Resources(mem_mb=mem_mb, time_min=time_min, cpus=cpus, partition=partition),
    )


def toy_plan(site: Site, *stages: Stage) -> Plan:
    plan = Plan(kind="toy", title="Toy", site=site.name, lstchain_version="0.12.3", stages=stages)
    save_plan(plan, site)
    return plan


def one_stage(site_file: Path, steps: Sequence[Step], quarantine: bool = False) -> StageContext:
    site = load_site(site_file)
    plan = toy_plan(site, Stage(name="one", steps=tuple(steps), quarantine=quarantine))
    return StageContext.load(site, plan.plan_id, "one")


def send(context: StageContext, client: ClusterClient, name: str, record: JobRecord | None = None) -> JobRecord:
    if record is None:
        indices = pending(context.assess())
        record = prepare(context, name, indices, wanted_resources(context, indices), {}, (), "lstops toy")
    return submit(context, client, record)[0]


def eventually(look: Callable[[], Any], timeout_s: float = 300.0) -> Any:
    """Look again and again until something true is found, and return that."""
    end = time.monotonic() + timeout_s
    while not (found := look()):
        assert time.monotonic() < end, "it does not happen"
        time.sleep(0.3)
    return found


def running_node(lab: SlurmLab, job: str) -> str:
    """Wait until a job of one task runs, and return its node."""
    found: list[str] = eventually(lambda: lab.ssh(f"squeue -h -j {job} -t running -o %N").split())
    return found[0]


def wait_end(client: ClusterClient, job: str, timeout_s: float = 600.0) -> None:
    until = time.monotonic() + timeout_s
    while True:
        view = client.poll((job,)).get(job)
        if view is not None and not view.active:
            return
        if time.monotonic() > until:
            raise AssertionError(f"still {view}")
        time.sleep(0.3)


def settled_rows(client: ClusterClient, record: JobRecord, timeout_s: float = 300.0) -> tuple[AccountingRow, ...]:
    until = time.monotonic() + timeout_s
    while not settled(record, rows := client.account(record.job)):
        if time.monotonic() > until:
            raise AssertionError(f"accounting is not complete: {rows}")
        time.sleep(0.5)
    return rows


def finish(context: StageContext, client: ClusterClient, record: JobRecord, timeout_s: float = 600.0) -> Judgement:
    wait_end(client, record.job, timeout_s)
    return judge(context, record, settled_rows(client, record), context.assess(), ESCALATION)
