"""Make a synthetic site: the on-site tree with its nights, their data check, and a Monte Carlo production."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from lstops.simulate.campaign import NIGHTS as CAMPAIGN_NIGHTS
from lstops.simulate.campaign import SIZE as CAMPAIGN
from lstops.simulate.campaign import campaign_plans
from lstops.simulate.lstchain_tools import look_up_stars, run_tool, warm_up
from lstops.simulate.plan import NIGHT_VERSION, NodeSpec, RunSpec, SitePlan, digest_of, make_plan
from lstops.simulate.tables import truth_of_nights, write_run_catalog, write_run_summary
from lstops.simulate.tasks import SCRATCH_PREFIX, Task, TaskRunner

#: Written last by lstosa when a night is closed
NIGHT_FLAG = "NightFinished.txt"


@contextmanager
def scratch_beside(folder: Path) -> Iterator[Path]:
    """A temporary folder on the file system of ``folder``, from which finished files are renamed."""
    folder.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=SCRATCH_PREFIX, dir=folder))
    try:
        yield scratch
    finally:
        shutil.rmtree(scratch)


def write_text(path: Path, text: str) -> None:
    """Write a small file by renaming a whole one into place."""
    partial = path.with_name(f".{path.name}.tmp")
    partial.write_text(text)
    partial.replace(path)


class SitePaths:
    """Where the files of a synthetic site are (the on-site tree below ``base``)."""

    def __init__(self, base: Path, plan: SitePlan) -> None:
        self.base, self._plan = base, plan
        self.dl1 = base / "DL1" / plan.night / plan.version_dir
        self.muons = self.dl1 / "muons"
        self.datacheck_night = base / "DL1/datacheck_files/night_wise" / plan.version_dir / plan.night
        self.night_datacheck = self.datacheck_night / f"DL1_datacheck_{plan.night}.h5"
        self.run_summary = base / f"monitoring/RunSummary/RunSummary_{plan.night}.ecsv"
        self.run_catalog = base / f"monitoring/RunCatalog/RunCatalog_{plan.night}.ecsv"
        self.flag = base / "OSA/Closer" / plan.night / plan.version_dir / NIGHT_FLAG
        self.truth = base / "truth.json"

    def events(self, run: RunSpec) -> Path:
        """Folder of a run's DL1 files."""
        return self.dl1 / "tailcut84"

    def run_dl1(self, run: RunSpec) -> Path:
        """Run-wise DL1, without images."""
        return self.events(run) / f"dl1_LST-1.Run{run.run_id:05d}.h5"

    def subrun_dl1(self, run: RunSpec, subrun: int) -> Path:
        """Subrun-wise DL1, with images."""
        return self.events(run) / f"dl1_LST-1.Run{run.run_id:05d}.{subrun:04d}.h5"

    def subrun_muons(self, run: RunSpec, subrun: int) -> Path:
        """Muon rings of a subrun."""
        return self.muons / f"muons_LST-1.Run{run.run_id:05d}.{subrun:04d}.fits"

    def subrun_datacheck(self, run: RunSpec, subrun: int) -> Path:
        """Data check of a subrun."""
        return self.events(run) / "datacheck" / f"datacheck_dl1_LST-1.Run{run.run_id:05d}.{subrun:04d}.h5"

    def run_datacheck(self, run: RunSpec) -> Path:
        """Data check of a run."""
        return self.events(run) / "datacheck" / f"datacheck_dl1_LST-1.Run{run.run_id:05d}.h5"

    def node_dl1(self, node: NodeSpec) -> Path:
        """DL1 of a Monte Carlo node."""
        top = self.base / "mc/DL1/AllSky" / self._plan.production / node.dataset
        if node.dataset == "TrainingDataset":
            top = top / self._plan.dec_line
        stem = {"GammaDiffuse": "gamma-diffuse", "Protons": "proton", "Gamma": "gamma"}[node.particle]
        zenith, azimuth = f"{node.zenith_deg:.3f}", f"{node.azimuth_deg:.3f}"
        name = f"dl1_simtel_corsika_theta_{zenith}_az_{azimuth}_run{node.run_id}_{stem}.h5"
        return top / node.particle / node.name / name

    def node_simtel(self, node: NodeSpec) -> Path:
        """sim_telarray file of a training node of diffuse gammas, for the NSB tuning tools."""
        name = f"simtel_corsika_theta_{node.zenith_deg:.3f}_az_{node.azimuth_deg:.3f}_run{node.run_id}.simtel.gz"
        top = self.base / "mc/DL0/LSTProd2/TrainingDataset" / node.particle / self._plan.dec_line
        return top / "sim_telarray" / node.name / "output_v1.4" / name


def _subrun(plan: SitePlan, paths: SitePaths, run: RunSpec, subrun: int) -> None:
    from lstops.simulate.night import make_subrun

    target, muons = paths.subrun_dl1(run, subrun), paths.subrun_muons(run, subrun)
    check = paths.subrun_datacheck(run, subrun)
    with scratch_beside(target.parent) as scratch:
        n = make_subrun(plan, run, subrun, scratch / target.name, scratch / muons.name)
        print(f"{target.name}: {n} events")
        run_tool(
            "lstchain_check_dl1",
            [
                "--input-file",
                str(scratch / target.name),
                "--output-dir",
                str(scratch),
                "--omit-pdf",
                "--batch",
                "--max-cores",
                "1",
            ],
        )
        (scratch / muons.name).replace(muons)
        (scratch / check.name).replace(check)
        (scratch / target.name).replace(target)


def _run(paths: SitePaths, run: RunSpec) -> None:
    target, check = paths.run_dl1(run), paths.run_datacheck(run)
    subruns = range(run.n_subruns)
    with scratch_beside(target.parent) as scratch:
        links, out = scratch / "links", scratch / "out"
        links.mkdir()
        out.mkdir()
        for path in [paths.subrun_dl1(run, i) for i in subruns] + [paths.subrun_datacheck(run, i) for i in subruns]:
            (links / path.name).symlink_to(path)
        name = f"Run{run.run_id:05d}"
        run_tool(
            "lstchain_check_dl1",
            [
                "--input-file",
                str(links / f"datacheck_dl1_LST-1.{name}.????.h5"),
                "--output-dir",
                str(out),
                "--muons-dir",
                str(paths.muons),
                "--omit-pdf",
                "--batch",
            ],
        )
        run_tool(
            "lstchain_merge_hdf5_files",
            [
                "-d",
                str(links),
                "-p",
                f"dl1_LST-1.{name}.????.h5",
                "-o",
                str(out / target.name),
                "--no-image",
                "--no-progress",
            ],
        )
        # lstchain_check_dl1 writes the merged file beside its first input, whatever --output-dir says
        (links / check.name).replace(check)
        (out / target.name).replace(target)


def _night(plan: SitePlan, paths: SitePaths) -> None:
    target = paths.night_datacheck
    with scratch_beside(target.parent) as scratch:
        links, out = scratch / "links", scratch / "out"
        links.mkdir()
        out.mkdir()
        for run in plan.runs:
            if run.run_type == "DATA":
                path = paths.run_datacheck(run)
                (links / path.name).symlink_to(path)
        made = out / target.name
        run_tool(
            "lstchain_longterm_dl1_check",
            ["-d", str(links), "--muons-dir", str(paths.muons), "-o", str(made), "--batch"],
        )
        run_tool("lstchain_cherenkov_transparency", ["-u", str(made), "-d", str(links)])
        made.with_suffix(".html").replace(target.with_suffix(".html"))
        made.replace(target)
    for suffix in (".h5", ".html"):
        link = paths.base / "DL1/datacheck_files/night_wise" / target.with_suffix(suffix).name
        link.unlink(missing_ok=True)
        link.symlink_to(Path(plan.version_dir) / plan.night / target.with_suffix(suffix).name)


def _node(plan: SitePlan, paths: SitePaths, node: NodeSpec) -> None:
    from lstops.simulate.mc import make_node

    target = paths.node_dl1(node)
    with scratch_beside(target.parent) as scratch:
        n = make_node(plan, node, scratch / target.name)
        print(f"{target.name}: {n} events")
        (scratch / target.name).replace(target)


def _simtel(plan: SitePlan, paths: SitePaths, node: NodeSpec) -> None:
    from lstops.simulate.simtel import make_simtel

    target = paths.node_simtel(node)
    with scratch_beside(target.parent) as scratch:
        make_simtel(plan, node, scratch / target.name)
        (scratch / target.name).replace(target)


def _tables(plan: SitePlan, paths: SitePaths) -> None:
    with scratch_beside(paths.base) as scratch:
        write_run_summary(plan, scratch / "summary.ecsv")
        write_run_catalog(plan, scratch / "catalog.ecsv")
        (scratch / "summary.ecsv").replace(paths.run_summary)
        (scratch / "catalog.ecsv").replace(paths.run_catalog)


def _truth(plans: Sequence[SitePlan], path: Path) -> None:
    write_text(path, json.dumps(truth_of_nights(plans), indent=1) + "\n")


def plan_tasks(plans: Sequence[SitePlan], base: Path) -> list[Task]:
    """All tasks of a site: the truth and the Monte Carlo, then night by night, long ones first in a night."""
    paths = [SitePaths(base, plan) for plan in plans]
    digests = [plan.digest() for plan in plans]
    truth = digests[0] if len(digests) == 1 else digest_of(digests)
    tasks = [Task("truth", truth, (paths[0].truth,), _call(_truth, plans, paths[0].truth))]
    tasks += [task for plan, place in zip(plans, paths, strict=True) for task in _monte_carlo_tasks(plan, place)]
    tasks += [task for plan, place in zip(plans, paths, strict=True) for task in _night_tasks(plan, place)]
    return tasks


def _night_tasks(plan: SitePlan, paths: SitePaths) -> list[Task]:
    common = plan.common()
    tasks: list[Task] = []
    runs = [run for run in plan.runs if run.run_type == "DATA"]
    run_tasks: list[Task] = []
    for run in runs:
        names = []
        for i in range(run.n_subruns):
            name = f"run{run.run_id:05d}.{i:04d}"
            outputs: tuple[Path, ...] = (
                paths.subrun_dl1(run, i),
                paths.subrun_muons(run, i),
                paths.subrun_datacheck(run, i),
            )
            tasks.append(
                Task(name, [common, NIGHT_VERSION, asdict(run), i], outputs, _call(_subrun, plan, paths, run, i))
            )
            names.append(name)
        outputs = (paths.run_dl1(run), paths.run_datacheck(run))
        run_tasks.append(Task(f"run{run.run_id:05d}", None, outputs, _call(_run, paths, run), tuple(names)))
    tasks += run_tasks
    night, tables = f"night{plan.night}", f"tables{plan.night}"
    check = (paths.night_datacheck,)
    tasks.append(Task(night, plan.night, check, _call(_night, plan, paths), tuple(t.name for t in run_tasks)))
    small = (paths.run_summary, paths.run_catalog)
    tasks.append(Task(tables, plan.digest(), small, _call(_tables, plan, paths)))
    flag_text = f"{plan.night} {plan.version_dir} synthetic night closed\n"
    closing = _call(write_text, paths.flag, flag_text)
    tasks.append(Task(f"flag{plan.night}", plan.night, (paths.flag,), closing, (night, tables)))
    return tasks


def _monte_carlo_tasks(plan: SitePlan, paths: SitePaths) -> list[Task]:
    common = plan.common()
    tasks = [
        Task(f"node{node.run_id}", [common, asdict(node)], (paths.node_dl1(node),), _call(_node, plan, paths, node))
        for node in plan.nodes
    ]
    for first in plan.nodes[:1]:
        spec = [common, asdict(first), plan.size.simtel_events]
        tasks.append(Task("simtel", spec, (paths.node_simtel(first),), _call(_simtel, plan, paths, first)))
    return tasks


def _call(function: Callable[..., None], *args: Any) -> Callable[[], None]:
    return lambda: function(*args)


def _warm_up_for(plans: Sequence[SitePlan]) -> None:
    from astropy.time import Time

    from lstops.simulate.night import pointing_of

    warm_up()
    for plan in plans:
        data = {run.wobble_pa_deg: run for run in plan.runs if run.run_type == "DATA"}
        look_up_stars([pointing_of(plan, run) for run in data.values()], Time(plan.runs[0].start))


def make_site(
    base: Path, seed: int, size: str, nproc: int, echo: Callable[[str], None] = print, nights: int = CAMPAIGN_NIGHTS
) -> int:
    """Make, or bring up to date, a synthetic site below ``base``.

    Parameters
    ----------
    nights : int
        Of the campaign, from its first night on; other sizes have one.

    Returns
    -------
    int
        Number of tasks that had to be run.
    """
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    os.environ.setdefault("MPLBACKEND", "agg")
    installed = version("lstchain")
    plans = campaign_plans(seed, installed, nights) if size == CAMPAIGN else (make_plan(seed, size, installed),)
    base.mkdir(parents=True, exist_ok=True)
    tasks = plan_tasks(plans, base.resolve())
    return TaskRunner(base.resolve(), nproc, lambda: _warm_up_for(plans), echo).run(tasks)
