"""CPU of small dl1ab steps, each in its own process against all in one task: `python -m lstops.science.worker_bench`.

Runs in a science environment; prints a table for docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
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
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path

from lstops.errors import JobFailure
from lstops.science.environment import science_environ
from lstops.site.model import Site
from lstops.step.model import ArtifactKind, Input, Output, Plan, Stage, Step
from lstops.step.plans import save_plan

_NOISE = {
    "increase_nsb": True,
    "extra_noise_in_dim_pixels": 1.5,
    "extra_bias_in_dim_pixels": 0.5,
    "transition_charge": 8,
    "extra_noise_in_bright_pixels": 1.5,
}


@dataclass(frozen=True)
class Cost:
    """Of a number of steps, with everything that `lstops step run` does."""

    cpu_s: float
    wall_s: float


def main(argv: Sequence[str] | None = None) -> None:
    """Make the input, run the steps both ways, print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--events", type=int, default=200, help="in each file")
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="lstops-bench-") as folder:
        base = Path(folder)
        # before lstchain is imported, here and in the steps
        os.environ.update(science_environ(base))
        source = _make_file(base, options.events)
        version = importlib.metadata.version("lstchain")
        site, plan = _plan(base, source, options.steps, version)
        path = save_plan(plan, site)
        warm = _run(path, [list(range(options.steps))])
        alone = _run(path, [[index] for index in range(options.steps, 2 * options.steps)])
    what = f"{options.steps} dl1ab steps of {options.events} events"
    print(f"{datetime.now(timezone.utc):%Y-%m-%d}, {os.cpu_count()} cores ({platform.machine()}), ", end="")
    print(f"Python {platform.python_version()}, lstchain {version}, load {os.getloadavg()[0]:.0f}\n")
    print(f"| {what} | CPU (s) | wall (s) |\n|---|---|---|")
    print(f"| one process each | {alone.cpu_s:.1f} | {alone.wall_s:.0f} |")
    print(f"| one task (warm worker) | {warm.cpu_s:.1f} | {warm.wall_s:.0f} |")
    print(f"| ratio | {warm.cpu_s / alone.cpu_s:.2f} | {warm.wall_s / alone.wall_s:.2f} |")


def _make_file(base: Path, events: int) -> str:
    from lstops.simulate.mc import make_node
    from lstops.simulate.plan import make_plan

    plan = make_plan(1, "small", importlib.metadata.version("lstchain"))
    node = next(n for n in plan.nodes if n.particle == "GammaDiffuse")
    path = base / "dl1_node.h5"
    make_node(plan, replace(node, n_events=events), path)
    return path.name


def _plan(base: Path, source: str, number: int, version: str) -> tuple[Site, Plan]:
    from lstchain.io.config import get_mc_config

    site = Site.model_validate(
        {
            "name": "bench",
            "base": str(base),
            "observatory": {"name": "LST-1", "latitude_deg": 28.76, "longitude_deg": -17.89, "height_m": 2184},
            "cluster": {"name": "bench", "scheduler": "local"},
            "environments": {version: {"lstchain_version": version, "activate": "/bin/true"}},
            "nightly": {"pipeline_version": "v0.12", "lstchain_version": version},
            "production": {"base_production": "bench"},
        }
    )
    config = json.dumps({**get_mc_config(), "image_modifier": _NOISE})
    steps = []
    for place in range(2 * number):
        name = f"dl1_node_{place}.h5"
        shutil.copyfile(base / source, base / name)
        command = ("lstchain_dl1ab", "-f", "{in:dl1}", "-o", "{out:tuned}", "-c", "{file:config.json}", "--no-image")
        tuned = Output(name="tuned", kind=ArtifactKind.DL1, path=f"tuned/{name}", counts_from=("dl1",))
        steps.append(
            Step(
                kind="dl1ab", label=f"step {place}", subject=name, commands=(command,), environment=version,
                inputs=(Input(name="dl1", kind=ArtifactKind.DL1, path=name),), outputs=(tuned,),
                files={"config.json": config},
            )
        )  # fmt: skip
    stage = Stage(name="dl1ab", steps=tuple(steps))
    return site, Plan(kind="bench", title="Bench", site=site.name, lstchain_version=version, stages=(stage,))


def _run(plan: Path, tasks: Sequence[Sequence[int]]) -> Cost:
    before, began = _children_cpu_s(), time.monotonic()
    for indices in tasks:
        words = [word for index in indices for word in ("--index", str(index))]
        program = Path(sysconfig.get_path("scripts"), "lstops")
        done = subprocess.run([program, "step", "run", plan, *words], capture_output=True, text=True, check=False)
        if done.returncode:
            raise JobFailure(f"a step of the bench failed: {done.stderr[-2000:]}", "run it by hand.")
        print(done.stdout, end="", file=sys.stderr)
    return Cost(_children_cpu_s() - before, time.monotonic() - began)


def _children_cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    main()
