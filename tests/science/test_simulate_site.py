"""A whole small site, made by the command line: files, data check, resumption. Needs lstchain; about two minutes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("lstchain", reason="needs the science environment")
tables = pytest.importorskip("tables")

from lstops.night.closed import is_night_closed  # noqa: E402
from lstops.night.model import Night  # noqa: E402
from lstops.night.tables import read_runs  # noqa: E402
from lstops.quality.datacheck import read_datacheck  # noqa: E402
from lstops.quality.quantities import run_quantities  # noqa: E402
from lstops.simulate.dl1 import IMAGES, PARAMETERS  # noqa: E402
from lstops.site.layout import Layout  # noqa: E402

NIGHT, VERSION, TAILCUT = Night.parse("20240115"), "v0.12", "tailcut84"
GOOD, MOON = 2001, 2007


def _make(base: Path, *more: str) -> str:
    command = [sys.executable, "-m", "lstops.simulate.cli", "make-site", "--base", str(base), "--size", "small", *more]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, "PYTHONWARNINGS": ""}
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory) -> Layout:
    base = tmp_path_factory.mktemp("site")
    assert "tasks run" in _make(base)
    return Layout(base)


@pytest.fixture(scope="module")
def truth(layout: Layout) -> dict[str, Any]:
    read: dict[str, Any] = json.loads((layout.base / "truth.json").read_text())
    return read


def _rows(path: Path, table: str) -> int:
    with tables.open_file(path) as file:
        return int(file.get_node(table).nrows)


def test_a_second_call_does_nothing_and_nothing_is_left_behind(layout: Layout) -> None:
    before = {path: path.stat().st_mtime_ns for path in layout.base.rglob("*.h5")}
    assert "up to date" in _make(layout.base)
    assert {path: path.stat().st_mtime_ns for path in layout.base.rglob("*.h5")} == before
    assert not list(layout.base.rglob(".making-*"))


def test_night_tables_are_read(layout: Layout, truth: dict[str, Any]) -> None:
    paths = (layout.run_summary(NIGHT), layout.run_catalog(NIGHT))
    runs = read_runs(*map(layout.absolute, paths), night=NIGHT)
    assert [run.number for run in runs] == [run["run_id"] for run in truth["runs"]]
    assert {run.source.name for run in runs if run.source} == {"Crab"}
    assert is_night_closed(layout.absolute(layout.night_finished(NIGHT, VERSION)))


@pytest.mark.parametrize("run", [GOOD, MOON])
def test_merged_run_has_all_events_and_no_images(layout: Layout, run: int) -> None:
    merged = layout.absolute(layout.dl1_run(NIGHT, VERSION, TAILCUT, run))
    subruns = [layout.absolute(layout.dl1_subrun(NIGHT, VERSION, TAILCUT, run, i)) for i in range(2)]
    assert _rows(merged, PARAMETERS) == sum(_rows(path, PARAMETERS) for path in subruns)
    assert all(_rows(path, IMAGES) == _rows(path, PARAMETERS) for path in subruns)
    with tables.open_file(merged) as file:
        assert IMAGES not in file
        times = file.get_node(PARAMETERS).col("dragon_time")
    assert np.all(np.diff(times) > 0)
    # gaps of 10 ms would be lost from the live time of DL3
    assert np.diff(times).max() < 0.01


def test_data_check_finds_what_was_put_in(layout: Layout, truth: dict[str, Any]) -> None:
    table = run_quantities(read_datacheck(layout.absolute(layout.datacheck(NIGHT, VERSION))))
    by_run = {int(number): i for i, number in enumerate(table.run_number)}
    for run in truth["runs"]:
        if run["run_type"] != "DATA":
            continue
        i = by_run[run["run_id"]]
        assert table.mean_diffuse_nsb_std_pe[i] == pytest.approx(run["diffuse_nsb_std_pe"], rel=0.05)
        assert table.elapsed_time_s[i] == pytest.approx(run["elapsed_s"], rel=0.01)
        assert np.rad2deg(np.arccos(table.mean_cos_zenith[i])) == pytest.approx(run["zenith_deg"], abs=0.05)
        assert table.std_dec_deg[i] < 0.01
        assert table.num_pedestals[i] == pytest.approx(run["pedestal_hz"] * run["elapsed_s"], rel=0.03)
    good = by_run[GOOD]
    # 3 s of data: three times the scatter of R, and of the index (0.06), around good LST-1 data
    assert table.mean_r422[good] == pytest.approx(1.75, abs=0.2)
    assert table.mean_index[good] == pytest.approx(-2.2, abs=0.2)
    assert table.mean_diffuse_nsb_std_pe[by_run[MOON]] > 2.3


def test_monte_carlo_is_what_pyirf_expects(layout: Layout, truth: dict[str, Any]) -> None:
    import tables as pytables

    production = layout.base / "mc/DL1/AllSky" / truth["monte_carlo"]["production"]
    nodes = truth["monte_carlo"]["nodes"]
    files = sorted(production.rglob("dl1_*.h5"))
    assert len(files) == len(nodes)
    for path in files:
        node = next(n for n in nodes if n["directory"] == path.parent.name and n["particle"] == path.parents[1].name)
        with pytables.open_file(path) as file:
            config = file.root.simulation.run_config[0]
            thrown = file.root.simulation.thrown_event_distribution[0]["histogram"]
            parameters = file.get_node(PARAMETERS)
            energy, zenith = parameters.col("mc_energy"), 90 - np.rad2deg(parameters.col("mc_alt_tel"))
        assert len(energy) >= node["n_events"]
        assert zenith == pytest.approx(node["zenith_deg"], abs=1e-6)
        assert energy.min() >= node["volume"]["e_min_tev"] * (1 - 1e-6)
        assert thrown.sum() == config["n_showers"] > len(energy)


def test_a_lost_file_is_made_again_alone_and_equal(layout: Layout) -> None:
    path = next((layout.base / "mc/DL1").rglob("Gamma/node_*/dl1_*.h5"))
    with tables.open_file(path) as file:
        before = file.get_node(PARAMETERS)[:]
    path.unlink()
    assert "1 tasks run" in _make(layout.base)
    with tables.open_file(path) as file:
        after = file.get_node(PARAMETERS)[:]
    for name in before.dtype.names:
        np.testing.assert_array_equal(before[name], after[name], err_msg=name)


def test_bad_size_is_refused(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "lstops.simulate.cli",
        "make-site",
        "--base",
        str(tmp_path / "x"),
        "--size",
        "huge",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 78
    assert "huge" in done.stderr
    assert "Remedy" in done.stderr
    assert not (tmp_path / "x").exists()
