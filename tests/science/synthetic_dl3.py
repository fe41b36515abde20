"""A DL3 folder with a source of known spectrum, thrown by hand: events, point-like IRFs, lstchain's own index."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import astropy.units as u
import numpy as np
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.table import QTable
from astropy.time import Time

CRAB = (83.6324, 22.0174)
EPOCH = Time("2018-10-01T00:00:00", scale="utc")
#: containment of the theta cut
CONTAINMENT = 0.7
_ENERGY_SPREAD = 0.15


@dataclass(frozen=True)
class Observation:
    """One run: 0.4 deg beside the source, at position angle `wobble_deg`."""

    run: int
    wobble_deg: float = 0.0
    live_s: float = 600.0
    boost: float = 1.0
    background_hz: float = 2.0
    offset_deg: float = 0.4
    seed: int = 1
    object_name: str = "Crab"


def crab(energy_tev: np.ndarray, boost: float) -> np.ndarray:
    """1 / (cm2 s TeV), MAGIC 2015."""
    return boost * 3.23e-11 * energy_tev ** (-2.47 - 0.24 * np.log10(energy_tev))


def area_m2(energy_tev: np.ndarray) -> np.ndarray:
    """Like LST-1's after cuts: rises to some 1e5 m2."""
    return 1.2e5 / (1 + (energy_tev / 0.08) ** -2.2)


def theta_cut_deg(energy_tev: np.ndarray) -> np.ndarray:
    return np.clip(0.2 * (energy_tev / 0.1) ** -0.25, 0.1, 0.25)


def _throw(o: Observation) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(o.seed * 100_000 + o.run)
    source = SkyCoord(*CRAB, unit="deg")
    pointing = source.directional_offset_by(o.wobble_deg * u.deg, o.offset_deg * u.deg)
    grid = np.geomspace(0.012, 45, 4000)
    rate = crab(grid, o.boost) * area_m2(grid) * 1e4 / CONTAINMENT  # per second and TeV, before the theta cut
    total = np.trapezoid(rate, grid) * o.live_s
    cumulative = np.concatenate([[0], np.cumsum((rate[1:] + rate[:-1]) / 2 * np.diff(grid))])
    n = rng.poisson(total)
    true = np.interp(rng.random(n) * cumulative[-1], cumulative, grid)
    reco = true * rng.normal(1, _ENERGY_SPREAD, n).clip(0.3, 2)
    sigma = theta_cut_deg(reco) / math.sqrt(-2 * math.log(1 - CONTAINMENT))
    gammas = source.directional_offset_by(rng.random(n) * 360 * u.deg, rng.rayleigh(sigma) * u.deg)
    m = rng.poisson(o.background_hz * o.live_s)
    field = pointing.directional_offset_by(rng.random(m) * 360 * u.deg, 2.0 * np.sqrt(rng.random(m)) * u.deg)
    noise = 0.04 * (1 - rng.random(m)) ** (-1 / 1.7)
    n_all = n + m
    time = np.sort(rng.random(n_all)) * o.live_s
    order = rng.permutation(n_all)
    return {
        "RA": np.concatenate([gammas.ra.deg, field.ra.deg])[order],
        "DEC": np.concatenate([gammas.dec.deg, field.dec.deg])[order],
        "ENERGY": np.concatenate([reco, noise])[order],
        "TIME": time,
        "PNT": np.array([pointing.ra.deg, pointing.dec.deg]),
    }


def _irfs() -> list[Any]:
    from gammapy.irf import EffectiveAreaTable2D, EnergyDispersion2D, RadMax2D
    from gammapy.maps import MapAxis

    true = MapAxis.from_energy_bounds(0.01, 50, nbin=40, unit="TeV", name="energy_true")
    reco = MapAxis.from_energy_bounds(0.01, 50, nbin=20, unit="TeV", name="energy")
    offset = MapAxis.from_edges([0.3, 0.5] * u.deg, name="offset")
    migra = MapAxis.from_bounds(0.2, 2.2, nbin=60, name="migra")
    aeff = EffectiveAreaTable2D(
        axes=[true, offset], data=area_m2(true.center.value)[:, None] * u.m**2, is_pointlike=True
    )
    centre, width = migra.center.value, migra.bin_width.value[0]
    density = np.exp(-0.5 * ((centre - 1) / _ENERGY_SPREAD) ** 2)
    density /= density.sum() * width
    edisp = EnergyDispersion2D(
        axes=[true, migra, offset], data=np.tile(density[None, :, None], (true.nbin, 1, 1)), is_pointlike=True
    )
    rad_max = RadMax2D(axes=[reco, offset], data=theta_cut_deg(reco.center.value)[:, None] * u.deg)
    hdus = [aeff.to_table_hdu(format="gadf-dl3"), edisp.to_table_hdu(format="gadf-dl3"), rad_max.to_table_hdu()]
    for hdu, name in zip(hdus, ("EFFECTIVE AREA", "ENERGY DISPERSION", "RAD_MAX"), strict=True):
        hdu.name = name
    hdus[2].header["HDUCLAS4"] = "RAD_MAX_2D"
    return hdus


def write_run(folder: Path, o: Observation, with_events: bool = True) -> Path:
    """Write one run's DL3."""
    thrown = _throw(o)
    ra_pnt, dec_pnt = thrown.pop("PNT")
    n = len(thrown["RA"]) if with_events else 0
    start = (Time("2024-01-15T22:00:00", scale="utc") - EPOCH).to_value("s") + 1200 * (o.run % 100)
    table = QTable(
        {
            "EVENT_ID": np.arange(n),
            "TIME": (start + thrown["TIME"][:n]) * u.s,
            "RA": thrown["RA"][:n] * u.deg,
            "DEC": thrown["DEC"][:n] * u.deg,
            "ENERGY": thrown["ENERGY"][:n] * u.TeV,
        }
    )
    events = fits.BinTableHDU(table, name="EVENTS")
    begin, end = EPOCH + start * u.s, EPOCH + (start + o.live_s) * u.s
    reference = {"MJDREFI": int(EPOCH.mjd), "MJDREFF": 0.0, "TIMEUNIT": "s", "TIMESYS": "UTC", "TIMEREF": "TOPOCENTER"}
    events.header.update(
        {
            "HDUCLASS": "GADF", "HDUCLAS1": "EVENTS", "OBS_ID": o.run, **reference,
            "DATE-OBS": begin.isot[:10], "TIME-OBS": begin.isot[11:], "DATE-END": end.isot[:10],
            "TIME-END": end.isot[11:], "TSTART": start, "TSTOP": start + o.live_s, "ONTIME": o.live_s,
            "LIVETIME": o.live_s, "TELAPSE": o.live_s, "DEADC": 1.0, "OBJECT": o.object_name, "OBS_MODE": "POINTING",
            "N_TELS": 1, "TELLIST": "LST-1", "INSTRUME": "LST-1", "RA_PNT": ra_pnt, "DEC_PNT": dec_pnt,
            "ALT_PNT": 70.0, "AZ_PNT": 180.0, "RA_OBJ": CRAB[0], "DEC_OBJ": CRAB[1], "FOVALIGN": "RADEC",
            "GEOLON": -17.89, "GEOLAT": 28.76, "ALTITUDE": 2184.0,
        }
    )  # fmt: skip
    gti = fits.BinTableHDU(QTable({"START": [start] * u.s, "STOP": [start + o.live_s] * u.s}), name="GTI")
    pointing = fits.BinTableHDU(
        QTable({"TIME": [start] * u.s, "RA_PNT": [ra_pnt] * u.deg, "DEC_PNT": [dec_pnt] * u.deg,
                "ALT_PNT": [70.0] * u.deg, "AZ_PNT": [180.0] * u.deg}),
        name="POINTING",
    )  # fmt: skip
    for hdu in (gti, pointing):
        hdu.header.update({"HDUCLASS": "GADF", "HDUCLAS1": hdu.name, "OBS_ID": o.run, **reference})
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"dl3_LST-1.Run{o.run:05d}.fits"
    fits.HDUList([fits.PrimaryHDU(), events, gti, pointing, *_irfs()]).writeto(path, overwrite=True)
    return path


def write_folder(folder: Path, observations: list[Observation]) -> Path:
    """Write runs and their index, the latter with lstchain."""
    from lstchain.high_level import create_hdu_index_hdu, create_obs_index_hdu

    paths = [write_run(folder, o) for o in observations]
    create_hdu_index_hdu(paths, folder / "hdu-index.fits.gz", overwrite=True)
    create_obs_index_hdu(paths, folder / "obs-index.fits.gz", overwrite=True)
    return folder


def wobbled(**changes: Any) -> list[Observation]:
    """Four runs, one a wobble position."""
    return [replace(Observation(2001 + k, 90.0 * k), **changes) for k in range(4)]
