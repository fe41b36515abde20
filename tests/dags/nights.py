"""A site with nights of real shape: what the tests of several DAGs' tasks begin with."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from pathlib import Path

import pytest

from lstops.catalog.database import upgrade
from lstops.embedded.postgres import EmbeddedPostgres
from lstops.night import Night
from lstops.operations.nightly import layout_of
from lstops.site.model import Site, load_site

NIGHT = Night.parse("20191121")


def night_site(
    server: EmbeddedPostgres,
    shared: Path,
    site_file: Path,
    home: Path,
    nights: Iterable[Night],
    patch: pytest.MonkeyPatch,
) -> Site:
    """A site below `home` with a database of its own and the data checks of some nights, nothing else."""
    name = f"nights{abs(hash(home))}"
    server.create_database(name)
    patch.setenv("LSTOPS_DATABASE_URL", server.url(name))
    patch.setenv("LSTOPS_HOME", str(home))
    patch.setenv("LSTOPS_VENV_SCIENCE", "/nonexistent")
    upgrade()
    site = load_site(site_file)
    layout = layout_of(site)
    for night in nights:
        target = layout.absolute(layout.datacheck(night, "v0.12"))
        target.parent.mkdir(parents=True)
        shutil.copyfile(shared / f"data/quality/nights/DL1_datacheck_{night}.h5", target)
    return site


def write(site: Site, relative: str, text: str) -> None:
    path = layout_of(site).absolute(relative)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def write_tailcuts(site: Site, config: str, log: str, level_ghz: float) -> None:
    """What the tailcut finder leaves of a run: cleaning 8/4 and the extra NSB."""
    levels = {"picture_thresh": 8, "boundary_thresh": 4}
    write(site, config, json.dumps({"tailcuts_clean_with_pedestal_threshold": levels}))
    write(site, log, f"Additional NSB rate (over dark MC): {level_ghz} p.e./ns\n")


def run_summary(site: Site, runs: dict[int, str]) -> None:
    lines = ["# %ECSV 1.0", "# ---", "# datatype:", "# - {name: run_id, datatype: int64}",
             "# - {name: n_subruns, datatype: int64}", "# - {name: run_type, datatype: string}",
             "# schema: astropy-2.0", "run_id n_subruns run_type"]  # fmt: skip
    lines += [f"{run} 2 {kind}" for run, kind in runs.items()]
    write(site, layout_of(site).run_summary(NIGHT), "\n".join(lines) + "\n")


def run_catalog(site: Site, source: str, runs: list[int]) -> None:
    lines = ["# %ECSV 1.0", "# ---", "# datatype:", "# - {name: run_id, datatype: int64}",
             "# - {name: source_name, datatype: string}", "# - {name: source_ra, datatype: float64}",
             "# - {name: source_dec, datatype: float64}", "# schema: astropy-2.0",
             "run_id source_name source_ra source_dec"]  # fmt: skip
    quoted = '"' + source.replace('"', '""') + '"'
    lines += [f"{run} {quoted} 83.6324 22.0174" for run in runs]
    write(site, layout_of(site).run_catalog(NIGHT), "\n".join(lines) + "\n")
