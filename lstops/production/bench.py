"""Measure `lstops production plan` and `status` on productions of the observatory's size.

`python -m lstops.production.bench [--config CONFIG.yml]`

Without a configuration the whole sky at one level is planned on the known grid, over two empty files a folder. The
status is that of a plan of many levels whose every step is done: small files with manifests in a temporary folder. CPU
times of whole commands, imports included.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sysconfig
import tempfile
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from rich.console import Console
from rich.table import Table

from lstops.errors import JobFailure
from lstops.production.config import ProductionConfig, read_config, write_config
from lstops.production.definition import read_production
from lstops.production.from_lstmcpipe import DEFAULT_ROOTS
from lstops.production.grid import Grid, known_grid
from lstops.production.level import LevelRequest, chain_changes, lstmcpipe_config, plan_level
from lstops.production.lstchain_config import LstchainConfig
from lstops.production.mc_files import relative_to_base
from lstops.production.needs import main_lines
from lstops.production.outline import save_production_plan
from lstops.production.stages import StageName
from lstops.reduction.cuts import load_cuts
from lstops.site.layout import Layout
from lstops.site.model import Site
from lstops.step.manifest import ArtifactRecord, FileState, Manifest
from lstops.step.model import Output, Plan, Stage, Step

#: steps of the standard grid of lstmcpipe: ten levels of NSB
STEPS = 33_429
_VERSION = "0.12.3"
_NAME = "bench"
_SITE = """
name: bench
base: {base}
observatory: {{name: LST-1, latitude_deg: 28.76, longitude_deg: -17.89, height_m: 2184}}
cluster: {{name: bench, scheduler: local}}
environments: {{"{version}": {{lstchain_version: {version}, activate: /nonexistent/activate}}}}
nightly: {{pipeline_version: v0.12, lstchain_version: "{version}"}}
production: {{base_production: base}}
"""


def raw_events(folder: str, pattern: str) -> list[str]:
    """Two simulated files in every folder that is asked for."""
    ending = pattern.removeprefix("*")
    node = PurePosixPath(folder).parent.name
    return [f"{folder}/{node}run{i}{ending}" for i in (1, 2)] if ending.endswith("gz") else []


def level(site: Site, grid: Grid, level_ghz: float) -> Plan:
    """The whole sky at one level."""
    name = f"{_NAME}_nsb_tuning_{level_ghz:.2f}"
    lines = tuple(main_lines(grid))
    return plan_level(
        LevelRequest(name, _VERSION, level_ghz, lines, grid.test_nodes, load_cuts()), site, grid, raw_events
    )


def many_levels(site: Site, grid: Grid, steps: int) -> Plan:
    """So many steps of as many levels as it takes, as one plan."""
    stages: dict[str, list[Step]] = {}
    count = i = 0
    while count < steps:
        plan = level(site, grid, round(0.01 * i, 2))
        for stage in plan.stages:
            taken = stage.steps[: steps - count]
            stages.setdefault(stage.name, []).extend(taken)
            count += len(taken)
        i += 1
    context = {**plan.context, "production": _NAME}
    made = tuple(Stage(name=name, steps=tuple(found)) for name, found in stages.items())
    return plan.model_copy(update={"stages": made, "context": context})


def finish(site: Site, plan: Plan) -> None:
    """Make every step of a stored plan look done: small products, each with its manifest."""
    layout, digest, states = Layout(site.base, site.work), "0" * 64, dict[str, FileState]()
    plan_id, folders = plan.plan_id, set[Path]()

    def state(output: Output) -> FileState:
        path = layout.absolute(output.path)
        if path.parent not in folders:
            path.parent.mkdir(parents=True, exist_ok=True)
            folders.add(path.parent)
        path.write_bytes(b"x")
        states[output.path] = FileState(size=1, mtime_ns=path.stat().st_mtime_ns, sha256=digest)
        return states[output.path]

    source = FileState(size=1, mtime_ns=1, sha256=digest)
    for index, step in enumerate(plan.steps()):
        facts: dict[str, Any] = {"events": 1000, "images": False, "simulation": True, "lstchain_version": _VERSION}
        outputs = tuple(
            ArtifactRecord(name=o.name, kind=o.kind, path=o.path, state=state(o), facts=facts) for o in step.outputs
        )
        inputs = tuple(
            ArtifactRecord(name=i.name, kind=i.kind, path=i.path, state=states.get(i.path, source), facts=facts)
            for i in step.inputs
        )
        manifest = Manifest(
            key="sha256:" + digest, kind=step.kind, label=step.label, subject=step.subject, commands=step.commands,
            files=step.files, environment=step.environment, versions={"lstchain": _VERSION}, inputs=inputs,
            outputs=outputs, plan_id=plan_id, plan_context=plan.context, index=index, host="bench", job="1",
            started="2026-01-01T00:00:00+00:00", ended="2026-01-01T00:01:00+00:00", wall_s=60.0, cpu_s=50.0,
            max_rss_mb=500.0, log="",
        )  # fmt: skip
        path = layout.manifests / f"{step.primary.path}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(manifest.model_dump_json(indent=1))


def write_all_sky(site: Site, grid: Grid, folder: Path) -> Path:
    """The configuration of the whole sky at one level, as lstmcpipe reads it."""
    lines = tuple(main_lines(grid))
    request = LevelRequest(_NAME, _VERSION, 0.14, lines, grid.test_nodes, load_cuts())
    config = ProductionConfig(
        pipe=lstmcpipe_config(request, site, grid), chain=LstchainConfig(content=chain_changes(request, site))
    )
    write_config(config, folder / "all_sky.yml", folder / "lstchain_config.json")
    return folder / "all_sky.yml"


def make_raw(site: Site, config: Path, root: str) -> int:
    """Empty files in the folders that the configuration begins with; returns how many steps it runs."""
    definition = read_production(read_config(config))
    steps = tuple(definition.steps(running_only=True))
    for step in steps:
        source = step.path("input")
        if step.stage is StageName.R0_TO_DL1 and source is not None:
            for name in raw_events(relative_to_base(source, ((root, ""),)), "*.simtel.gz"):
                path = site.base / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.touch()
    return len(steps)


def cpu_s(command: Sequence[str], environ: dict[str, str]) -> float:
    """CPU seconds of a command of lstops.

    Raises
    ------
    JobFailure
        If it fails.
    """
    program = Path(sysconfig.get_path("scripts"), "lstops")
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([program, *command], env=environ, capture_output=True, text=True, check=False)
    if done.returncode:
        raise JobFailure(f"lstops {' '.join(command)} failed: {done.stderr[-500:]}", "read its message.")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Command line."""
    from lstops.site.model import load_site

    parser = argparse.ArgumentParser(prog="python -m lstops.production.bench", description=__doc__.split("\n")[0])
    parser.add_argument("--config", type=Path, help="configuration of lstmcpipe, its lstchain JSON beside it")
    parser.add_argument("--steps", type=int, default=STEPS, help="steps of the plan whose status is asked")
    options = parser.parse_args()
    table = Table("command", "steps", "CPU (s)", title="productions of the observatory's size")
    with tempfile.TemporaryDirectory() as folder:
        site_file = Path(folder) / "site.yaml"
        site_file.write_text(_SITE.format(base=f"{folder}/site", version=_VERSION))
        site, grid = load_site(site_file), known_grid()
        environ = {**os.environ, "LSTOPS_SITE": str(site_file)}
        config, root = options.config or write_all_sky(site, grid, Path(folder)), f"{site.base}/"
        steps = make_raw(site, config, root if options.config is None else DEFAULT_ROOTS[0][0])
        words = ["--lstchain", _VERSION, "--despite-errors"] if options.config else ["--root", f"{root}="]
        seconds = cpu_s(["production", "plan", str(config), "--dry-run", *words], environ)
        table.add_row(f"production plan {config.name}", str(steps), f"{seconds:.2f}")
        plan = many_levels(site, grid, options.steps)
        save_production_plan(plan, site)
        finish(site, plan)
        for what in ("status, the first time", "status, from then on"):
            seconds = cpu_s(["production", "status", _NAME], environ)
            table.add_row(f"production {what}", str(len(plan.steps())), f"{seconds:.2f}")
    Console().print(table)


if __name__ == "__main__":
    main()
