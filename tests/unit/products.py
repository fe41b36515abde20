"""Small files as lstchain writes them, for the tests of the verifiers; made with PyTables, h5py and astropy only."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import tables
from astropy.io import fits

DL1 = "/dl1/event/telescope/parameters"
IMAGE = "/dl1/event/telescope/image"
DL2 = "/dl2/event/telescope/parameters"
NAME = "LST_LSTCam"
T0 = 1705352700.0


def _events(n: int, run: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(n)
    return {
        "obs_id": np.full(n, run, "i8"),
        "event_id": np.arange(n, dtype="i8"),
        "intensity": rng.uniform(60, 900, n),
        "log_intensity": rng.uniform(1.8, 3, n),
        "width": rng.uniform(0.05, 0.1, n).astype("f4"),
        "length": rng.uniform(0.1, 0.3, n).astype("f4"),
        "alt_tel": np.full(n, np.deg2rad(80.0)),
        "az_tel": np.full(n, np.deg2rad(120.0)),
        "event_type": np.full(n, 32, "i8"),
        "dragon_time": T0 + np.arange(n) * 0.5,
    }


def _write(path: Path, where: str, columns: dict[str, np.ndarray], mode: str = "w") -> None:
    n = len(next(iter(columns.values())))
    rows = np.zeros(n, dtype=[(k, v.dtype, v.shape[1:]) for k, v in columns.items()])
    for key, values in columns.items():
        rows[key] = values
    filters = tables.Filters(complevel=1, complib="blosc:zstd", fletcher32=True)
    with tables.open_file(str(path), mode, filters=filters) as file:
        file.root._v_attrs["LSTCHAIN_VERSION"] = "0.12.3"
        file.create_table(where, NAME, obj=rows, createparents=True)


def dl1(path: Path, n: int = 200, images: bool = False, run: int = 2001, **columns: Any) -> Path:
    """A DL1 file of data; `columns` replaces or (None) removes columns."""
    events: dict[str, Any] = {**_events(n, run), **columns}
    _write(path, DL1, {k: v for k, v in events.items() if v is not None})
    if images:
        image = np.random.default_rng(1).normal(1.5, 1, (n, 1855)).astype("f4")
        _write(path, IMAGE, {"event_id": np.arange(n), "image": image}, "a")
    return path


def mc_dl1(path: Path, n: int = 200, run_configs: int = 1) -> Path:
    """A simulated DL1 file."""
    dl1(path, n, mc_energy=np.full(n, 0.5), mc_alt_tel=np.full(n, np.deg2rad(80.0)), mc_az_tel=np.full(n, 1.0))
    if run_configs:
        with tables.open_file(str(path), "a") as file:
            rows = np.zeros(run_configs, dtype=[("n_showers", "i8")])
            file.create_table("/simulation", "run_config", obj=rows, createparents=True)
    return path


def dl2(path: Path, n: int = 200, run: int = 2001, **columns: Any) -> Path:
    """A DL2 file of data."""
    rng = np.random.default_rng(3)
    events: dict[str, Any] = {
        **_events(n, run),
        "reco_energy": rng.uniform(0.05, 3, n),
        "reco_alt": rng.uniform(1.39, 1.41, n),
        "reco_az": rng.uniform(2.0, 2.2, n),
        "gammaness": rng.uniform(0, 1, n),
        "w0": rng.uniform(0, 1, n),
        "w1": rng.uniform(0, 1, n),
        **columns,
    }
    _write(path, DL2, {k: v for k, v in events.items() if v is not None})
    return path


def _table(name: str, columns: dict[str, Any], header: dict[str, Any]) -> fits.BinTableHDU:
    hdu = fits.BinTableHDU.from_columns(
        [
            fits.Column(k, f"{np.size(v)}D" if np.ndim(v) > 1 or nested else "D", array=np.array([v]) if nested else v,
                        dim=str(tuple(reversed(np.shape(v)))) if nested else None)
            for k, v in columns.items()
            for nested in [header.get("HDUCLAS1") == "RESPONSE"]
        ],
        name=name,
    )  # fmt: skip
    hdu.header.update(header)
    return hdu


def responses(**changes: Any) -> list[fits.BinTableHDU]:
    """Point-like responses with energy-dependent cuts of a node at (10, 175) deg.

    `area`, `matrix`, `energy`, `header` and `drop` (names of tables) change them.
    """
    energy = np.asarray(changes.get("energy", np.geomspace(0.01, 10, 16)))
    n = len(energy) - 1
    migra = np.linspace(0.2, 5, 31)
    area = np.asarray(changes.get("area", np.geomspace(100, 1e5, n)))
    matrix = np.asarray(changes.get("matrix", np.full((1, 30, n), 1 / 4.8)))
    offset = {"THETA_LO": np.array([0.3]), "THETA_HI": np.array([0.5])}
    common = {
        "HDUCLASS": "GADF", "HDUCLAS1": "RESPONSE", "HDUCLAS3": "POINT-LIKE", "ZEN_PNT": 10.0, "AZ_PNT": 175.0,
        "B_DELTA": 60.0, "GH_EFF": 0.7, "TH_CONT": 0.7, "CREATOR": "lstchain v0.12.3", **changes.get("header", {}),
    }  # fmt: skip
    energies = {"ENERG_LO": energy[:-1], "ENERG_HI": energy[1:]}
    tables_ = [
        _table("EFFECTIVE AREA", {**energies, **offset, "EFFAREA": area[None]},
               {**common, "HDUCLAS2": "EFF_AREA", "HDUCLAS4": "AEFF_2D"}),
        _table("ENERGY DISPERSION", {**energies, "MIGRA_LO": migra[:-1], "MIGRA_HI": migra[1:], **offset,
                                     "MATRIX": matrix}, {**common, "HDUCLAS2": "EDISP", "HDUCLAS4": "EDISP_2D"}),
        _table("GH_CUTS", {"low": energy[:-1], "high": energy[1:], "cut": np.full(n, 0.6)}, {"GH_EFF": 0.7}),
        _table("RAD_MAX", {**energies, **offset, "RAD_MAX": np.full((1, n), 0.2)},
               {**common, "HDUCLAS2": "RAD_MAX", "HDUCLAS4": "RAD_MAX_2D"}),
    ]  # fmt: skip
    return [t for t in tables_ if t.name not in changes.get("drop", ())]


def irf(path: Path, **changes: Any) -> Path:
    """An IRF file."""
    fits.HDUList([fits.PrimaryHDU(), *responses(**changes)]).writeto(path)
    return path


def dl3(path: Path, n: int = 50, run: int = 2001, **changes: Any) -> Path:
    """A DL3 file; `times`, `gti` (start, stop), `events_header`, `pointing` (header), and those of `responses`."""
    times = np.asarray(changes.pop("times", np.linspace(100.0, 190.0, n)))
    start, stop = changes.pop("gti", ([100.0], [190.0]))
    header = {
        "OBS_ID": run, "ONTIME": 99.5, "LIVETIME": 98.0, "DEADC": 98.0 / 99.5, "RA_PNT": 83.2, "DEC_PNT": 22.0,
        "OBJECT": "Crab", "RA_OBJ": 83.63, "DEC_OBJ": 22.01, "MJDREFI": 58392, **changes.pop("events_header", {}),
    }  # fmt: skip
    n = len(times)
    values = {"RA": np.full(n, 83.6), "DEC": np.full(n, 22.0), "ENERGY": np.full(n, 0.5), **changes.pop("events", {})}
    columns = {"EVENT_ID": np.arange(n, dtype=float), "TIME": times, **values}
    events = _table("EVENTS", columns, {"HDUCLASS": "GADF", "HDUCLAS1": "EVENTS", **header})
    gti = _table("GTI", {"START": np.asarray(start, float), "STOP": np.asarray(stop, float)}, {"HDUCLAS1": "GTI"})
    note = _table("POINTING", {"TIME": np.zeros(1)}, {"HDUCLAS1": "POINTING", **changes.pop("pointing", {})})
    extra = [t for t in (events, gti, note) if t.name not in changes.get("drop", ())]
    fits.HDUList([fits.PrimaryHDU(), *extra, *responses(**changes)]).writeto(path)
    return path


def indices(folder: Path, files: list[Path], runs: list[int], file_dir: str = ".") -> tuple[Path, Path]:
    """HDU and observation index."""
    from astropy.table import Table

    names = ["EVENTS", "GTI", "POINTING", "EFFECTIVE AREA", "ENERGY DISPERSION"]
    rows = [(run, file_dir, file.name, name) for run, file in zip(runs, files, strict=True) for name in names]
    hdu = fits.BinTableHDU(Table(rows=rows, names=["OBS_ID", "FILE_DIR", "FILE_NAME", "HDU_NAME"]), name="HDU INDEX")
    obs = fits.BinTableHDU(Table({"OBS_ID": runs}), name="OBS INDEX")
    paths = folder / "hdu-index.fits.gz", folder / "obs-index.fits.gz"
    for path, table in zip(paths, (hdu, obs), strict=True):
        fits.HDUList([fits.PrimaryHDU(), table]).writeto(path, overwrite=True)
    return paths
