"""Wall time from DL1 to DL3 of many short runs: a shell loop over lstchain's tools against lstops' batches.

`python -m lstops.science.night_bench [--base SITE] [--runs 15]`

Runs in a science environment; prints a table for docs/benchmarks.md. Models and responses are those of a synthetic site
(`make demo`). A few runs are thrown anew and copied under other numbers, or taken from a folder (--dl1). Half of the
loop runs before lstops' leg and half after it, so that what else the machine does falls on both. At the end the
products of both legs are compared.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import platform
import resource
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from lstops.cluster.batching import batch_size, make_tasks
from lstops.errors import DataError, JobFailure
from lstops.night import Night
from lstops.reduction.cuts import CutSet, load_cuts
from lstops.reduction.geometry import IrfNode
from lstops.reduction.jobs import ModelSet, RunJob
from lstops.reduction.plan import NightRequest, plan_night
from lstops.science.environment import science_environ
from lstops.site.layout import Layout
from lstops.site.model import Site
from lstops.step.manifest import ArtifactRecord, Manifest, ManifestStore
from lstops.step.model import ArtifactKind, Plan
from lstops.step.plans import save_plan

NIGHT, VERSION, TAILCUT = Night.parse("20240115"), "v0.12", "tailcut84"
_CRAB = (83.6324, 22.0174)
_FIRST_RUN, _MINUTES_APART, _RUN_S = 2101, 2, 3.0
#: so many different runs are thrown, the others are copies
_DIFFERENT = 4


@dataclass(frozen=True)
class Inputs:
    """What both legs start from, relative to the base of the bench."""

    runs: tuple[str, ...]
    models: str
    irfs: tuple[str, ...]


def main(argv: Sequence[str] | None = None) -> None:
    """Make the inputs, run both legs, compare, print the table."""
    home = os.environ.get("LSTOPS_HOME", ".lstops-demo")
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--base", type=Path, default=Path(home, "site"), help="synthetic site with models")
    parser.add_argument("--runs", type=int, default=15)
    parser.add_argument("--dl1", type=Path, help="folder of run-wise DL1 files; default: thrown here")
    parser.add_argument("--cores", type=int, default=2)
    options = parser.parse_args(argv)
    cuts = load_cuts("small")
    with tempfile.TemporaryDirectory(prefix="lstops-bench-") as folder:
        base = Path(folder)
        # before lstchain is imported, here and in the steps
        os.environ.update(science_environ(base))
        os.environ["TMPDIR"] = folder
        inputs = make_inputs(options.base.resolve(), base, options.runs, options.cores, options.dl1)
        site = _site(base, options.cores)
        plan = _plan(site, inputs, cuts)
        first, cpu = len(inputs.runs) // 2, [_children_cpu_s()]
        loop_s = shell_loop(base, inputs, inputs.runs[:first], cuts)
        cpu.append(_children_cpu_s())
        ours_s = {stage.name: run_stage(plan, site, stage.name, options.cores) for stage in plan.stages}
        cpu.append(_children_cpu_s())
        loop_s += shell_loop(base, inputs, inputs.runs[first:], cuts)
        cpu.append(_children_cpu_s())
        agreement = compare(base, plan)
    total, loop_cpu_s, ours_cpu_s = sum(ours_s.values()), cpu[1] - cpu[0] + cpu[3] - cpu[2], cpu[2] - cpu[1]
    print(f"{datetime.now(timezone.utc):%Y-%m-%d}, {os.cpu_count()} cores ({platform.machine()}), ", end="")
    print(f"Python {platform.python_version()}, lstchain {importlib.metadata.version('lstchain')}, ", end="")
    print(f"load {os.getloadavg()[0]:.0f}\n")
    stages = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in ours_s.items())
    print(f"| {options.runs} runs from DL1 to DL3 | CPU (s) | wall (s) |\n|---|---|---|")
    print(f"| shell loop over lstchain's tools | {loop_cpu_s:.0f} | {loop_s:.0f} |")
    print(f"| lstops, {options.cores} tasks at a time ({stages}) | {ours_cpu_s:.0f} | {total:.0f} |")
    print(f"| ratio | {ours_cpu_s / loop_cpu_s:.2f} | {total / loop_s:.2f} |\n\n{agreement}")


def make_inputs(source: Path, base: Path, number: int, cores: int, dl1: Path | None) -> Inputs:
    """Models and responses of a synthetic site, and runs: those of the folder `dl1`, or thrown for the bench.

    Raises
    ------
    DataError
        If the site has no models, or the folder no runs.
    """
    layout = Layout(source, "lstops")
    manifests = list(ManifestStore(layout.manifests).all()) if layout.manifests.is_dir() else []
    trained = [(m, o) for m in manifests for o in m.outputs if o.kind is ArtifactKind.MODELS]
    if not trained:
        raise DataError(f"{source} has no models.", "run `make demo` first, or name another site with --base.")
    manifest, models = max(trained, key=lambda item: item[0].ended)
    irfs = _responses(manifests, manifest, models)
    for path in (models.path, *irfs):
        (base / path).parent.mkdir(parents=True, exist_ok=True)
        copy = shutil.copytree if (source / path).is_dir() else shutil.copyfile
        copy(source / path, base / path)
    if dl1 is None:
        dl1 = base / "thrown"
        dl1.mkdir()
        # new processes: what simulates a run is not what reduces it
        with get_context("spawn").Pool(cores) as pool:
            pool.starmap(_throw, [(dl1, k) for k in range(min(number, _DIFFERENT))])
    files = sorted(dl1.glob("dl1_LST-1.Run?????.h5"))
    if not files:
        raise DataError(f"{dl1} holds no run-wise DL1.", "name the folder of a night, or leave --dl1 out.")
    runs = []
    for k in range(number):
        runs.append(f"DL1/{NIGHT}/{VERSION}/{TAILCUT}/dl1_LST-1.Run{_FIRST_RUN + k:05d}.h5")
        (base / runs[k]).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(files[k % len(files)], base / runs[k])
    return Inputs(tuple(runs), models.path, tuple(irfs))


def _responses(manifests: Sequence[Manifest], trained: Manifest, models: ArtifactRecord) -> list[str]:
    made = {o.path for m in manifests if m.kind == "mc-dl2" for o in m.outputs
            if models.path in {i.path for i in m.inputs}}  # fmt: skip
    found = [o.path for m in manifests if m.kind == "irf" for o in m.outputs if made & {i.path for i in m.inputs}]
    if len(found) < 3:
        raise DataError(f"{models.path} has {len(found)} responses.", f"finish the production of {trained.label}.")
    return sorted(found)


def _throw(target: Path, number: int) -> None:
    """Throw a run of one subrun and merge it into a folder."""
    from lstops.simulate.lstchain_tools import run_tool
    from lstops.simulate.night import make_subrun
    from lstops.simulate.plan import RunSpec, make_plan

    plan = make_plan(1, "demo", importlib.metadata.version("lstchain"))
    start = f"2024-01-15T21:{10 + _MINUTES_APART * number}:00"
    run = RunSpec(_FIRST_RUN + number, start, wobble_pa_deg=180.0 * (number % 2), n_subruns=1, subrun_s=_RUN_S)
    folder, name = target / str(run.run_id), f"dl1_LST-1.Run{run.run_id:05d}"
    folder.mkdir()
    make_subrun(replace(plan, runs=(run,)), run, 0, folder / f"{name}.0000.h5", folder / "muons.fits")
    words = [
        "-d",
        str(folder),
        "-p",
        f"{name}.????.h5",
        "-o",
        str(target / f"{name}.h5"),
        "--no-image",
        "--no-progress",
    ]
    run_tool("lstchain_merge_hdf5_files", words)


def _site(base: Path, cores: int) -> Site:
    version = importlib.metadata.version("lstchain")
    return Site.model_validate(
        {
            "name": "bench",
            "base": str(base),
            "observatory": {"name": "LST-1", "latitude_deg": 28.76, "longitude_deg": -17.89, "height_m": 2184},
            "cluster": {"name": "bench", "scheduler": "local", "slots": cores},
            "environments": {version: {"lstchain_version": version, "activate": "/bin/true"}},
            "nightly": {"pipeline_version": VERSION, "lstchain_version": version},
            "production": {"base_production": "bench"},
        }
    )


def _plan(site: Site, inputs: Inputs, cuts: CutSet) -> Plan:
    from lstops.step.manifest import full_state
    from lstops.step.verify import inspect

    layout = Layout(site.base, site.work)
    nodes = []
    for path in inputs.irfs:
        facts = inspect(ArtifactKind.IRF, layout.absolute(path))
        nodes.append(IrfNode(path, facts["zd_deg"], facts["az_deg"], facts["b_delta_deg"]))
    models = ModelSet("bench", "dec_2276", 0.07, inputs.models, full_state(layout.absolute(inputs.models)).sha256)
    jobs = []
    for path in inputs.runs:
        data = inspect(ArtifactKind.DL1_MERGED, layout.absolute(path))
        number = int(path[-8:-3])
        jobs.append(RunJob(number, path, "Crab", *_CRAB, data["zd_deg"], data["az_deg"], data["t_start"], models,
                           tuple(nodes)))  # fmt: skip
    version = site.nightly.lstchain_version
    return plan_night(NightRequest(NIGHT, VERSION, TAILCUT, version, cuts, tuple(jobs)), site)


def shell_loop(base: Path, inputs: Inputs, runs: Sequence[str], cuts: CutSet) -> float:
    """Call lstchain's tools run by run; wall time in s."""
    out = base / "loop"
    out.mkdir(exist_ok=True)
    (out / "cuts.json").write_text(cuts.text)
    models, irfs = base / inputs.models, (base / inputs.irfs[0]).parent
    lines = [f"cd {out}", "set -e"]
    for path in runs:
        name = Path(path).name
        lines += [
            f"lstchain_dl1_to_dl2 -f {base / path} -p {models} -o . -c {models}/lstchain_config.json",
            f"lstchain_create_dl3_file -d {name.replace('dl1', 'dl2')} -o . -i {irfs} -p 'irf*.fits.gz' "
            f"--source-name Crab --source-ra {_CRAB[0]}deg --source-dec {_CRAB[1]}deg --config cuts.json",
        ]
    return _timed(["bash", "-c", "\n".join(lines)])


def run_stage(plan: Plan, site: Site, stage: str, cores: int) -> float:
    """Run a stage as the tasks of its array run, so many at a time; wall time in s."""
    path, indices = save_plan(plan, site), plan.indices(stage)
    steps = [plan.steps()[index] for index in indices]
    tasks = make_tasks(indices, {}, batch_size(site.cluster, steps, steps[0].resources), len(indices))
    lstops = str(Path(sysconfig.get_path("scripts"), "lstops"))
    commands = [[lstops, "step", "run", str(path), *(w for i in task for w in ("--index", str(i)))] for task in tasks]
    began = time.monotonic()
    with ThreadPoolExecutor(cores) as pool:
        list(pool.map(_timed, commands))
    return time.monotonic() - began


def _children_cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _timed(command: Sequence[str]) -> float:
    began = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise JobFailure(f"a leg of the bench failed: {(done.stdout + done.stderr)[-3000:]}", "run it by hand.")
    if "warm" in done.stdout:
        print(done.stdout, end="", file=sys.stderr)
    return time.monotonic() - began


def compare(base: Path, plan: Plan) -> str:
    """How far the products of the two legs agree.

    Raises
    ------
    DataError
        If DL2 differs at all, or DL3 by more events than the drift of the geomagnetic field can move over a cut.
    """
    import numpy as np
    import tables
    from astropy.io import fits

    worst, moved, events = 0.0, 0, 0
    for ours in (step.primary.path for step in plan.stage("dl2").steps):
        found: list[Any] = []
        for path in (base / ours, base / "loop" / Path(ours).name):
            with tables.open_file(str(path)) as file:
                found.append(file.root.dl2.event.telescope.parameters.LST_LSTCam.read())
        if found[0].tobytes() != found[1].tobytes():
            raise DataError(f"DL2 of the two legs differs: {ours}.", "do not believe the times.")
    for ours in (step.primary.path for step in plan.stage("dl3").steps):
        with fits.open(base / ours) as one, fits.open(base / "loop" / Path(ours).name) as other:
            areas = [np.asarray(h["EFFECTIVE AREA"].data["EFFAREA"], dtype=float) for h in (one, other)]
            filled = areas[1] > 1
            worst = max(worst, float(np.abs(areas[0][filled] / areas[1][filled] - 1).max()))
            ids = [set(h["EVENTS"].data["EVENT_ID"].tolist()) for h in (one, other)]
            moved, events = moved + len(ids[0] ^ ids[1]), events + len(ids[1])
    if moved > 0.01 * events:
        raise DataError(f"DL3 of the two legs differs: {moved} of {events} events.", "find out why.")
    return (
        f"DL2 equal in every bit. DL3 (lstops takes the geomagnetic field of the run, the tool that of today): "
        f"effective areas within {worst:.1%} in the bin that differs most, "
        f"{moved} of {events} events are in one of the two only."
    )


if __name__ == "__main__":
    main()
