"""Table of the demo's times, for docs/benchmarks.md."""

from __future__ import annotations

import json
from collections import defaultdict

from rich.console import Console
from rich.table import Table

from lstops.demo.setting import Setting
from lstops.errors import DataError
from lstops.site.layout import Layout
from lstops.step.manifest import ManifestStore


def show(setting: Setting) -> None:
    """Print wall times of the last demo and what its steps used.

    Raises
    ------
    DataError
        If no demo ran to its end here.
    """
    timings = setting.home / "timings.json"
    if not timings.exists():
        raise DataError(f"{timings} does not exist.", "run `make demo` to its end first.")
    console = Console()
    table = Table("part", "wall (s)", title="demo, wall time of each part")
    for name, seconds in json.loads(timings.read_text()).items():
        table.add_row(name, f"{seconds:.1f}")
    console.print(table)
    steps = Table(
        "kind of step", "steps", "wall (s)", "CPU (s)", "peak memory (MB)", title="steps, from their manifests"
    )
    kinds = defaultdict(list)
    for manifest in ManifestStore(Layout(setting.base).manifests).all():
        kinds[manifest.kind].append(manifest)
    for kind, found in sorted(kinds.items()):
        steps.add_row(
            kind,
            str(len(found)),
            f"{sum(m.wall_s for m in found):.1f}",
            f"{sum(m.cpu_s for m in found):.1f}",
            f"{max(m.max_rss_mb for m in found):.0f}",
        )
    console.print(steps)
