"""Small data check files and tables with known content, without pandas."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import h5py
import numpy as np

from lstops.quality.tables import FlatfieldTable, RunSummaryTable, SubrunTable

START_S = 1705356000.0  # 2024-01-15 22:00 UTC
NIGHT = 20240115


def subruns(n_subruns=20, run=2001, night=NIGHT, seed=0, **columns):
    """A good run of the given number of subruns; columns replace those of the good run."""
    rng = np.random.default_rng([seed, run])
    good = {
        "night": np.full(n_subruns, night),
        "run_number": np.full(n_subruns, run),
        "subrun": np.arange(n_subruns),
        "picture_threshold_pe": np.full(n_subruns, 8.0),
        "time_s": START_S + (run - 2001) * 2000 + 10.0 * np.arange(n_subruns) + 5,
        "elapsed_time_s": np.full(n_subruns, 10.0),
        "ra_deg": 83.63 + rng.normal(0, 1e-3, n_subruns),
        "dec_deg": 22.41 + rng.normal(0, 1e-3, n_subruns),
        "cos_zenith": np.full(n_subruns, 0.95),
        "cosmics_rate_hz": np.full(n_subruns, 6000.0),
        "r422": rng.normal(1.74, 0.02, n_subruns),
        "delta_r422": np.full(n_subruns, 0.02),
        "index": rng.normal(-2.23, 0.04, n_subruns),
        "delta_index": np.full(n_subruns, 0.06),
        "fit_p_value": rng.uniform(0.2, 0.8, n_subruns),
        "intensity_at_reference_rate_pe": np.full(n_subruns, 422.0),
        "light_yield": np.full(n_subruns, 1.0),
        "intensity_at_half_peak_rate_pe": np.full(n_subruns, 45.0),
        "intensity_at_peak_rate_pe": np.full(n_subruns, 60.0),
        "diffuse_nsb_std_pe": np.full(n_subruns, 1.7),
    }
    unknown = set(columns) - set(good)
    assert not unknown, unknown
    return SubrunTable(**{name: np.asarray(columns.get(name, value)) for name, value in good.items()})


def summary(*runs, elapsed_s=200.0, pedestals=20000.0, flatfield=20000.0):
    """The run summary of runs that took interleaved events."""
    n = len(runs)
    return RunSummaryTable(
        np.array(runs, dtype=np.int64), np.full(n, elapsed_s), np.full(n, pedestals), np.full(n, flatfield)
    )


def flatfield_of(table):
    """Interleaved flatfield charges of all subruns."""
    return FlatfieldTable(table.run_number, table.subrun, np.full(len(table), 75.0))


def as_rows(table, **dtypes):
    """A table as it lies in the file; dtypes replace the usual ones."""
    names = {item.metadata["source"]: item for item in fields(table)}
    usual = {name: np.int64 if item.type == "IntArray" else np.float64 for name, item in names.items()}
    usual["picture_thresh"] = np.int64
    layout = [("index", np.int64), *((name, dtypes.get(name, usual[name])) for name in names)]
    rows = np.zeros(len(table), dtype=layout)
    for name, item in names.items():
        rows[name] = getattr(table, item.name).reshape((-1,) + (1,) * (rows[name].ndim - 1))
    return rows


def write_rows(path, tables):
    """Write structured arrays as pandas' table format lays them out."""
    with h5py.File(path, "w") as file:
        for name, rows in tables.items():
            file.create_group(name).create_dataset("table", data=rows, chunks=True, maxshape=(None,))
    return path


def write_datacheck(folder: Path, table=None, runs=None, flatfield=True, night=NIGHT, **dtypes):
    """Write a night-wise data check file."""
    table = subruns(night=night) if table is None else table
    runs = summary(*np.unique(table.run_number).tolist()) if runs is None else runs
    tables = {"cosmics_intensity_spectrum": as_rows(table, **dtypes), "runsummary": as_rows(runs)}
    if flatfield:
        tables["flatfield"] = as_rows(flatfield_of(table))
    return write_rows(folder / f"DL1_datacheck_{night}.h5", tables)
