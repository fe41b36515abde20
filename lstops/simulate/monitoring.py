"""Calibration monitoring and muon rings of the synthetic night (science environment)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import astropy.units as u
import numpy as np

from lstops.simulate.camera import N_GAINS, lst1_camera

#: p.e. per DC count of the two gains
DC_TO_PE = (0.0105, 0.18)
FLATFIELD_PE, FLATFIELD_SPREAD_PE = 72.0, 9.0
#: Pedestal charge of the calibration run, which interleaved pedestals have subtracted (DC counts)
PEDESTAL_DC = 4800.0


def monitoring_container(
    rng: np.random.Generator, unix_s: float, std12_pe: float, bad_pixels: tuple[int, ...], interleaved: bool
) -> Any:
    """MonitoringCameraContainer of the calibration run or of interleaved events.

    Parameters
    ----------
    unix_s : float
        Time of the calibration.
    std12_pe : float
        Pedestal spread in the calibration's 12-sample window (p.e.), from which lstchain's NSB tuning starts.
    """
    from ctapipe.containers import MonitoringCameraContainer

    shape = (N_GAINS, lst1_camera().n_pixels)
    dc_to_pe = np.array(DC_TO_PE)[:, None] * rng.normal(1.0, 0.02, shape)
    container = MonitoringCameraContainer()
    pedestal, flatfield, calibration = container.pedestal, container.flatfield, container.calibration
    for part in (pedestal, flatfield):
        part.n_events = 1000
        part.sample_time = part.sample_time_min = unix_s * u.s
        part.sample_time_max = (unix_s + 10.0) * u.s
        part.charge_median_outliers = np.zeros(shape, bool)
        part.charge_std_outliers = np.zeros(shape, bool)
    pedestal.charge_mean = rng.normal(0.0, 5.0, shape) if interleaved else np.full(shape, PEDESTAL_DC)
    pedestal.charge_median = pedestal.charge_mean.copy()
    pedestal.charge_std = std12_pe / dc_to_pe * rng.normal(1.0, 0.02, shape)
    flatfield.charge_mean = FLATFIELD_PE / dc_to_pe
    flatfield.charge_median = flatfield.charge_mean.copy()
    flatfield.charge_std = FLATFIELD_SPREAD_PE / dc_to_pe
    flatfield.time_mean = np.full(shape, 18.0) * u.ns
    flatfield.time_median = np.full(shape, 18.0) * u.ns
    flatfield.time_std = np.full(shape, 0.5) * u.ns
    flatfield.relative_gain_mean = np.ones(shape)
    flatfield.relative_gain_median = np.ones(shape)
    flatfield.relative_gain_std = np.full(shape, 0.1)
    flatfield.relative_time_median = np.zeros(shape) * u.ns
    flatfield.time_median_outliers = np.zeros(shape, bool)
    calibration.time = calibration.time_min = unix_s * u.s
    calibration.time_max = (unix_s + 10.0) * u.s
    calibration.dc_to_pe = dc_to_pe
    calibration.pedestal_per_sample = np.full(shape, 400.0)
    calibration.time_correction = np.zeros(shape)
    calibration.n_pe = np.full(shape, FLATFIELD_PE)
    unusable = np.zeros(shape, bool)
    unusable[:, list(bad_pixels)] = True
    calibration.unusable_pixels = unusable
    return container


def write_muons(
    path: Path, rng: np.random.Generator, start_s: float, duration_s: float, zenith_rad: float, light: float
) -> None:
    """Write the muon rings of a subrun, with the rate (1.02 + 2.18 cos ZD per second) of good LST-1 data."""
    from astropy.table import Table
    from lstchain.image.muon import create_muon_table

    n = int(rng.poisson((1.02 + 2.18 * np.cos(zenith_rad)) * duration_s))
    values: dict[str, Any] = {
        "event_id": np.arange(1, n + 1) * 10,
        "event_time": np.sort(start_s + duration_s * rng.random(n)),
        "mc_energy": np.full(n, -1.0),
        "ring_size": rng.normal(2100.0 * light, 120.0, n),
        "size_outside": 0.5 * rng.random(n),
        "ring_center_x": rng.normal(0, 0.4, n),
        "ring_center_y": rng.normal(0, 0.4, n),
        "ring_radius": rng.normal(1.15, 0.06, n),
        "ring_width": rng.normal(0.06, 0.006, n),
        "good_ring": np.ones(n, bool),
        "muon_efficiency": rng.normal(0.19 * light, 0.01, n),
        "ring_containment": np.ones(n),
        "ring_completeness": np.full(n, 0.95),
        "impact_parameter": rng.uniform(0, 10, n),
        "impact_x_array": np.zeros(n),
        "impact_y_array": np.zeros(n),
        "radial_stdev": np.full(n, 0.06),
        "radial_skewness": np.zeros(n),
        "radial_excess_kurtosis": np.zeros(n),
        "num_pixels_in_ring": np.full(n, 250),
        "mean_pixel_charge_around_ring": np.full(n, 1.5),
        "hg_peak_sample": rng.integers(11, 14, n),
        "lg_peak_sample": np.full(n, 12),
    }
    Table({name: values[name] for name in create_muon_table()}).write(path, format="fits", overwrite=True)
