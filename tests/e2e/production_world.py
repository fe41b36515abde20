"""A real Airflow with the DAGs of this repository, a real SLURM, real lstchain, and a tiny Monte Carlo of two lines."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import yaml

from lstops.catalog.database import upgrade
from lstops.cluster.records import JobRecord, all_records
from lstops.embedded.airflow_env import AirflowFolders
from lstops.embedded.errors import ServiceError
from lstops.embedded.rest import AirflowClient, DagRun, TaskInstance
from lstops.embedded.services import Services
from lstops.embedded.slurm_lab import SlurmLab
from lstops.production.config import ProductionConfig, validate_pipe, write_config
from lstops.production.inventory import scan_inventory
from lstops.production.lstchain_config import LstchainConfig
from lstops.production.plan import TunedProductionRequest, forest_update
from lstops.production.pull_request import tuned_lstmcpipe_config
from lstops.reduction.cuts import SECTIONS, load_cuts
from lstops.site.layout import Layout
from lstops.site.model import Site, load_site

from .conftest import REPOSITORY
from .two_lines import CONFIG, LINES, PRODUCTION, VERSION

DAG = "mc_production"
SCIENCE = REPOSITORY / ".venv-lstchain"
_ROOT = "/fefs/aswg/data"
#: of a production whose name ends so; what dl1ab puts into images is no rate
LEVELS_GHZ = {"low": 0.2, "high": 0.6}


@dataclass
class Killer:
    """Kills -9 the worker of one step in each of the stages named, as soon as it is seen.

    A stage is (its name, its branch or None for any).
    """

    layout: Layout
    left: set[tuple[str, str]]
    killed: list[tuple[str, str, int]] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Killer:
        self._thread = threading.Thread(target=self._hunt, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(timeout=60)

    def _hunt(self) -> None:
        while self.left and not self._stop.wait(0.3):
            for process, name in _workers(self.layout):
                record = next((r for r in all_records(self.layout) if r.name == name), None)
                branch = _branch_of(self.layout, record) if record else ""
                if record is not None and (record.stage, branch) in self.left:
                    try:
                        process.kill()
                    except psutil.NoSuchProcess:
                        continue  # it ended by itself meanwhile: the next one
                    self.left.discard((record.stage, branch))
                    self.killed.append((record.stage, branch, record.indices[0]))


def _workers(layout: Layout) -> Iterator[tuple[psutil.Process, str]]:
    """Processes that run steps of a site, each with the name of its job."""
    for process in psutil.process_iter():
        try:
            words = process.cmdline()
            is_worker = {"step", "run"} <= set(words) and any(str(layout.base) in word for word in words)
            parent = process.parent()
            # the forked children of a worker have its command line
            if is_worker and (parent is None or "step" not in parent.cmdline()):
                yield process, process.environ().get("SLURM_JOB_NAME", "")
        except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            continue


def _branch_of(layout: Layout, record: JobRecord) -> str:
    plan = json.loads(layout.plan_file(record.plan_id).read_text())
    steps = [step for stage in plan["stages"] for step in stage["steps"]]
    return str(steps[record.indices[0]]["branch"])


@dataclass
class World:
    """What the tests work with."""

    folder: Path
    lab: SlurmLab
    site: Site
    site_file: Path
    services: Services
    airflow: AirflowClient
    environ: dict[str, str]

    @property
    def layout(self) -> Layout:
        return Layout(self.site.base, self.site.work)

    def write_production(self, name: str, noise: float) -> Path:
        """The configuration of lstmcpipe for both lines at a level of NSB; `noise` as lstchain's image_modifier."""
        cuts = load_cuts(self.site.cuts)
        request = TunedProductionRequest(production=name, lstchain_version=VERSION, subruns=(), cuts=cuts)
        documents = []
        for line in LINES:
            inventory = scan_inventory(self.layout, PRODUCTION, line)
            documents.append(tuned_lstmcpipe_config(request, self.site, inventory).to_document())
        both = documents[0]
        for stage, steps in documents[1]["stages"].items():
            both["stages"][stage] += [step for step in steps if step not in both["stages"][stage]]
        text = json.dumps(both).replace(str(self.site.base), _ROOT)
        chain = json.loads((self.site.base / CONFIG).read_text())
        chain |= forest_update(self.site.production.forests) | {
            key: value for key, value in json.loads(cuts.text).items() if key in SECTIONS
        }
        chain["image_modifier"] = {
            "increase_nsb": True,
            "increase_psf": False,
            "extra_noise_in_dim_pixels": noise,
            "extra_bias_in_dim_pixels": noise / 3,
            "transition_charge": 8,
            "extra_noise_in_bright_pixels": 2 * noise,
            "smeared_light_fraction": 0,
        }
        folder = self.folder / name
        folder.mkdir()
        path = folder / f"lstmcpipe_config_{name}.yml"
        pipe = validate_pipe(json.loads(text), "the test")
        write_config(
            ProductionConfig(pipe=pipe, chain=LstchainConfig(content=chain)), path, folder / f"lstchain_{name}.json"
        )
        return path

    def start(self, run: str, config: Path, name: str) -> None:
        # three nodes a line are not all that the grid has of it, which is an error of the lint
        level = LEVELS_GHZ[name.rpartition("_")[2]]
        given = {"config": str(config), "name": name, "nsb_ghz": level, "despite_errors": True}
        self.airflow.trigger(DAG, run, given)

    def ended(self, run: str, timeout_s: float = 2400.0) -> DagRun:
        return self.airflow.wait_for_run(DAG, run, timeout_s)

    def states(self, run: str) -> dict[str, str | None]:
        """State by task; those of a line with its number."""
        return {
            task.task_id + (f" {task.map_index}" if task.map_index >= 0 else ""): task.state for task in self.tasks(run)
        }

    def tasks(self, run: str) -> list[TaskInstance]:
        return self.airflow.task_instances(DAG, run)

    def log(self, run: str, name: str) -> str:
        return self.airflow.log(next(t for t in self.tasks(run) if t.task_id == name))

    def kill_tasks(self, run: str, stages: Sequence[str], number: int) -> None:
        """Kill -9 the process of Airflow that executes the task of each of these stages of a line."""
        for stage in stages:
            self._kill_task(run, f"line.{stage}", number)

    def _kill_task(self, run: str, task: str, number: int) -> None:
        path = f"/dags/{DAG}/dagRuns/{run}/taskInstances/{task}/{number}"

        def pid() -> Any:
            try:
                found = self.airflow.request("GET", path)
            except ServiceError:
                return None  # the group is not expanded yet
            return found["pid"] if found["state"] == "running" else None

        os.kill(until(pid), signal.SIGKILL)

    def records(self, run: str | None = None) -> list[JobRecord]:
        """Submissions of production stages, of a run or of all."""
        found = [record for record in all_records(self.layout) if record.owner and record.owner.dag_id == DAG]
        return [record for record in found if record.owner and (run is None or record.owner.run_id == run)]

    def accounted(self, records: Sequence[JobRecord]) -> dict[str, list[str]]:
        """By name of a submission: the numbers of its jobs, as sacct has them."""
        names = ",".join(record.name for record in records)
        found: dict[str, list[str]] = {record.name: [] for record in records}
        for line in self.lab.ssh(f"sacct -X -n -P -S now-1day --name={names} -o JobName,JobID").splitlines():
            name, job = line.split("|")
            if (number := job.partition("_")[0]) not in found[name]:
                found[name].append(number)
        return found

    def lstops(self, *words: str, status: int = 0) -> str:
        """Run the command line."""
        command = [str(REPOSITORY / ".venv/bin/lstops"), *words]
        environ = {**os.environ, **self.environ, "COLUMNS": "200"}
        done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
        assert done.returncode == status, done.stdout + done.stderr
        return done.stdout


def until(condition: Callable[[], Any], timeout_s: float = 600.0) -> Any:
    end = time.monotonic() + timeout_s
    while not (found := condition()):
        assert time.monotonic() < end, "it does not happen"
        time.sleep(0.2)
    return found


def _site_document(base: Path, lab: SlurmLab) -> dict[str, Any]:
    access = lab.access()
    ssh = {"host": access.host, "port": access.port, "user": access.user}
    ssh |= {"key_file": str(access.key), "known_hosts": str(access.known_hosts)}
    return {
        "name": "two-lines",
        "base": str(base),
        "observatory": {"name": "LST-1", "latitude_deg": 28.76, "longitude_deg": -17.89, "height_m": 2184},
        "cluster": {
            "name": "lab",
            "scheduler": "slurm",
            "ssh": ssh,
            "poll_s": 1.0,
            "submit_attempts": 5,
            # the steps of a stage of a line in one task, which imports lstchain once
            "array_limit": 1,
            "batch": {"default": 10},
        },
        "environments": {VERSION: {"lstchain_version": VERSION, "activate": str(SCIENCE / "bin/activate")}},
        "cuts": "small",
        "nightly": {"pipeline_version": "v0.12", "lstchain_version": VERSION},
        "production": {
            "base_production": PRODUCTION,
            "gates": "tiny",
            "forests": {"n_estimators": 10, "max_depth": 10, "min_samples_leaf": 5},
        },
        # ten steps of a task within what the partition allows
        "resources": {"default": {"mem_mb": 1200, "time_min": 5}},
    }


def _config_folder(folder: Path) -> Path:
    """The configuration of lstops, with gates that forests of some hundred events pass."""
    target = folder / "config"
    shutil.copytree(REPOSITORY / "config", target)
    limits = dict.fromkeys(("energy_bias", "energy_resolution", "angular_resolution_deg"), 1e3)
    limits |= {"effective_area_m2": 1e-3, "auc": 0.5}
    gates = {"energy_tev": [0.1, 1.0], "min_events": 20, "sigmas": 100.0, "limits": limits, "tolerance": 1e6}
    (target / "gates/tiny.yaml").write_text(yaml.safe_dump(gates))
    return target


@contextmanager
def world(folder: Path) -> Iterator[World]:
    """Everything, started side by side; all of it is stopped at the end."""
    base, home = folder / "base", folder / "home"
    base.mkdir()
    environ = {**os.environ, "OMP_NUM_THREADS": "1", "MPLBACKEND": "agg"}
    script = [str(SCIENCE / "bin/python"), str(Path(__file__).with_name("two_lines.py")), str(base)]
    simulation = subprocess.Popen(script, env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    with ExitStack() as stack:
        stack.callback(simulation.kill)
        lab = SlurmLab.temporary()
        stack.callback(lab.stop, purge=True)
        # the machine has two processors
        lab.start(nodes=1, cpus=2, memory_mb=8000)
        site_file = folder / "site.yaml"
        site_file.write_text(yaml.safe_dump(_site_document(base, lab)))
        variables = {
            "LSTOPS_SITE": str(site_file),
            "LSTOPS_CONFIG": str(_config_folder(folder)),
            "LSTOPS_HOME": str(home),
        }
        variables |= {"LSTOPS_NIGHTLY_SCHEDULE": "", "LSTOPS_ORPHANS_SCHEDULE": ""}
        services = Services(home, AirflowFolders.of_repository(home), variables)
        stack.callback(services.stop)
        services.postgres.start()
        upgrade(services.postgres.url("lstops"))
        services.start()
        airflow = stack.enter_context(services.client("admin"))
        airflow.wait_for_dag(DAG)
        airflow.unpause(DAG)
        said, _ = simulation.communicate(timeout=1200)
        assert simulation.returncode == 0, said[-3000:]
        yield World(folder, lab, load_site(site_file), site_file, services, airflow, variables)
