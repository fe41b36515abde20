"""Wall time, CPU and memory of both trainers on one training set: `python -m lstops.science.trainer_bench`.

Every second shower of a few synthetic nodes is drawn again and again, each time smeared a little, until there are as
many rows as a training has. Both trainers are run as a step runs them, and their forests are loaded and compared on the
other showers. Runs in a science environment with the accelerator; prints a table for docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np

from lstops.errors import JobFailure
from lstops.production.trainer import command_of
from lstops.science.accelerated_forests import ACCELERATOR, accelerator_version
from lstops.science.environment import science_environ
from lstops.site.model import Trainer
from lstops.step.verify.dl1 import PARAMETERS

#: what is smeared, by this part of its standard deviation
_SMEARED = ("log_intensity", "width", "length", "x", "y", "wl", "skewness", "kurtosis", "time_gradient", "disp_norm")
_SMEARING = 0.03
_PARTICLES = {"gamma": "GammaDiffuse", "proton": "Protons"}


@dataclass(frozen=True)
class Cost:
    """Of one training, import and reading included.

    Attributes
    ----------
    largest_mb : float
        Most resident memory of a process.
    together_mb : float
        Most memory of all processes at a time; pages that several share are counted once (PSS). Both were looked at 20
        times a second.
    """

    wall_s: float
    cpu_s: float
    largest_mb: float
    together_mb: float


def main(argv: Sequence[str] | None = None) -> None:
    """Make the training set, train with both, print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=200_000, help="gammas, and as many protons")
    parser.add_argument("--trees", type=int, default=20)
    parser.add_argument("--depth", type=int, default=30)
    parser.add_argument("--jobs", type=int, default=1, help="n_jobs of the forests")
    options = parser.parse_args(argv)
    accelerator = accelerator_version()
    with tempfile.TemporaryDirectory(prefix="lstops-bench-") as folder:
        base = Path(folder)
        os.environ.update(science_environ(base))
        files = {name: _training_file(base, name, options.rows) for name in _PARTICLES}
        config = _config(base, options.trees, options.depth, options.jobs)
        load = os.getloadavg()[0]
        costs = {trainer: _train(trainer, base, files, config) for trainer in Trainer}
        quality = {trainer: _quality(base / trainer.value, files["gamma"], config) for trainer in Trainer}
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("lstchain", "scikit-learn"))
    print(f"{datetime.now(timezone.utc):%Y-%m-%d}, {os.cpu_count()} cores ({platform.machine()}), ", end="")
    print(
        f"Python {platform.python_version()}, {versions}, {ACCELERATOR} {accelerator}, load {load:.0f} at the start\n"
    )
    what = f"{options.rows} gammas + {options.rows} protons, {options.trees} trees, depth {options.depth}"
    one, other = costs[Trainer.LSTCHAIN], costs[Trainer.ACCELERATED]
    print(f"| {what}, n_jobs {options.jobs} | lstchain | accelerated | ratio |\n|---|---|---|---|")
    for name, unit in (("wall_s", "wall (s)"), ("cpu_s", "CPU (s)"), ("largest_mb", "largest process (MB)"),
                       ("together_mb", "all processes (MB)")):  # fmt: skip
        a, b = getattr(one, name), getattr(other, name)
        print(f"| {unit} | {a:.0f} | {b:.0f} | {b / a:.2f} |")
    for name in quality[Trainer.LSTCHAIN]:
        a, b = quality[Trainer.LSTCHAIN][name], quality[Trainer.ACCELERATED][name]
        print(f"| {name} | {a:.4f} | {b:.4f} | {b / a:.3f} |")


def _training_file(base: Path, name: str, rows: int) -> Path:
    """A merged DL1 file of many rows, from all nodes of the small synthetic site."""
    from lstops.simulate.mc import make_node
    from lstops.simulate.plan import make_plan

    plan = make_plan(1, "small", importlib.metadata.version("lstchain"))
    folder = base / f"dl1_{name}"
    folder.mkdir()
    nodes = [node for node in plan.nodes if node.particle == _PARTICLES[name]]
    for node in nodes:
        make_node(plan, replace(node, n_events=800), folder / f"dl1_{node.run_id}.h5")
    merged = base / f"dl1_{name}.h5"
    _run("lstchain_merge_hdf5_files", "-d", folder, "-o", merged, "-p", "dl1_*.h5", "--no-image", "--no-progress",
         "--skip-checks")  # fmt: skip
    _enlarge(merged, rows)
    return merged


def _enlarge(path: Path, rows: int) -> None:
    import tables

    with tables.open_file(path, "r+") as file:
        node = file.get_node(PARAMETERS)
        events = node.read()
        np.save(path.with_suffix(".npy"), events[1::2])
        made = _drawn(events[::2], rows)
        attributes = {key: node.attrs[key] for key in node.attrs._f_list("user")}
        parent, name, filters = node._v_parent, node._v_name, node.filters
        file.remove_node(node)
        new = file.create_table(parent, name, obj=made, filters=filters)
        for key, value in attributes.items():
            new.attrs[key] = value


def _drawn(events: Any, rows: int) -> Any:
    random = np.random.default_rng(1)
    made = events[random.integers(0, len(events), rows)]
    for column in (c for c in _SMEARED if c in made.dtype.names):
        width = np.std(events[column][np.isfinite(events[column])])
        made[column] += random.normal(0, _SMEARING * width, rows)
    return made


def _config(base: Path, trees: int, depth: int, jobs: int) -> Path:
    from lstchain.io.config import get_mc_config

    config = get_mc_config()
    for key, section in config.items():
        if key.startswith("random_forest_") and key.endswith("_args"):
            section.update(n_estimators=trees, max_depth=depth, n_jobs=jobs)
    path = base / "config.json"
    path.write_text(json.dumps(config))
    return path


def _train(trainer: Trainer, base: Path, files: dict[str, Path], config: Path) -> Cost:
    given = {"--fg": files["gamma"], "--fp": files["proton"], "-o": base / trainer.value, "-c": config}
    return _run(*command_of(trainer), *(str(word) for pair in given.items() for word in pair))


def _run(*words: str | Path) -> Cost:
    argv = [str(Path(sysconfig.get_path("scripts"), str(words[0]))), *map(str, words[1:])]
    began = time.monotonic()
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(argv, stdout=log, stderr=subprocess.STDOUT)
        peak, watcher = [0.0, 0.0], threading.Event()
        looking = threading.Thread(target=_watch, args=(process.pid, peak, watcher))
        looking.start()
        _, status, usage = os.wait4(process.pid, 0)
        watcher.set()
        looking.join()
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            log.seek(0)
            raise JobFailure(f"{argv[0]} failed: {log.read()[-2000:]}", "run it by hand.")
    print(f"{argv[0]}: {time.monotonic() - began:.0f} s", file=sys.stderr)
    wall_s, cpu_s = time.monotonic() - began, usage.ru_utime + usage.ru_stime
    return Cost(wall_s, cpu_s, *peak)


def _watch(pid: int, peak: list[float], ended: threading.Event) -> None:
    while not ended.wait(0.05):
        family = _family(pid)
        # not the ru_maxrss of the end: Linux keeps there what the process had before its exec
        peak[0] = max(peak[0], *(_mb(one, "status", "VmHWM:") for one in family))
        peak[1] = max(peak[1], sum(_mb(one, "smaps_rollup", "Pss:") for one in family))


def _family(pid: int) -> list[int]:
    found = [pid]
    try:
        for children in Path(f"/proc/{pid}/task").glob("*/children"):
            for child in children.read_text().split():
                found += _family(int(child))
    except OSError:
        pass  # it ended while it was looked at
    return found


def _mb(pid: int, file: str, name: str) -> float:
    try:
        lines = Path(f"/proc/{pid}/{file}").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith(name)), 0.0)


def _quality(models: Path, gammas: Path, config: Path) -> dict[str, float]:
    """How well energy and direction of the gammas that nobody has seen are known."""
    import joblib
    import pandas as pd

    events = np.load(gammas.with_suffix(".npy"))
    table, settings = pd.DataFrame({name: events[name] for name in events.dtype.names}), json.loads(config.read_text())
    table = table[np.isfinite(table.select_dtypes("number")).all(axis=1)]
    found = {}
    for stem, features, truth in (
        ("reg_energy", "energy_regression_features", "log_mc_energy"),
        ("reg_disp_norm", "disp_regression_features", "disp_norm"),
    ):
        predicted = joblib.load(models / f"{stem}.sav").predict(table[settings[features]])
        found[f"RMS of {stem}, {len(table)} gammas"] = float(np.std(predicted - table[truth]))
    return found


if __name__ == "__main__":
    main()
