"""Write sim_telarray files of one LST-1, from the first byte to the last, without a template.

The waveforms come from the same noise model as the night's images, so that lstchain's NSB tuning compares like with
like. What ctapipe's SimTelEventSource needs is written, nothing else.
"""

from __future__ import annotations

import gzip
import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lstops.simulate.camera import N_GAINS, Array32, lst1_camera
from lstops.simulate.eventio import (
    floats,
    ints,
    pack_object,
    shorts,
    string,
    unsigned_varint,
    var_string,
    varint,
    varint_array,
)
from lstops.simulate.mc import (
    B_DECLINATION_RAD,
    B_INCLINATION_RAD,
    B_TOTAL_UT,
    PARTICLES,
    SITE_ALTITUDE_M,
    Sample,
    simulate,
    thrown_histogram,
)
from lstops.simulate.noise import N_SAMPLES, PixelNoise
from lstops.simulate.plan import NodeSpec, SitePlan

TEL = 1
#: Photoelectrons per ADC count of the two gains, pedestal and range of the ADC (LSTProd2)
PE_PER_COUNT = (0.0105, 0.18)
PEDESTAL_COUNTS, MAX_COUNTS = 400, 4095
#: Position of LST-1 in LSTProd2 (m)
POSITION_M = (-70.93, -52.07, 43.0)
#: Camera rotation (deg) from which ctapipe restores LST-1's pixel rotation, with pixels of shape 1 (hexagon, 0 deg)
_HEXAGON_DEG = 60.0
_HEXAGON_SHAPE = 1
_UNIX_START = 1_600_000_000


@dataclass(frozen=True)
class SimtelRun:
    """What the headers say: the node, and what was thrown."""

    node: NodeSpec
    sample: Sample

    @property
    def alt_rad(self) -> float:
        """Altitude of the pointing."""
        return float(np.pi / 2 - np.deg2rad(self.node.zenith_deg))

    @property
    def az_rad(self) -> float:
        """Azimuth of the pointing."""
        return float(np.deg2rad(self.node.azimuth_deg))


def write_simtel(path: Path, run: SimtelRun, noise: PixelNoise, n_events: int) -> None:
    """Write a gzip-compressed simtel file with the first ``n_events`` showers of the run."""
    with (
        open(path, "wb") as raw,
        gzip.GzipFile("", "wb", compresslevel=4, fileobj=raw, mtime=0) as stream,
    ):
        for block in _blocks(run, noise, n_events):
            stream.write(block)


def make_simtel(plan: SitePlan, node: NodeSpec, path: Path, nsb_ghz: float | None = None) -> None:
    """Simulate a node and write it as a simtel file (as many events as the plan's size says)."""
    rng = np.random.default_rng([plan.seed, node.run_id, 1])
    noise = PixelNoise(plan.mc_nsb_ghz if nsb_ghz is None else nsb_ghz, seed=int(rng.integers(2**31)), pool=5000)
    sample = simulate(rng, replace(node, n_events=plan.size.simtel_events))
    write_simtel(path, SimtelRun(node, sample), noise, plan.size.simtel_events)


def _blocks(run: SimtelRun, noise: PixelNoise, n_events: int) -> Iterator[bytes]:
    yield _history()
    yield from _meta()
    yield _run_header(run)
    yield _mc_run_header(run)
    yield from _telescope(run)
    for i in range(n_events):
        yield from _shower(run, i)
        if i == 0:
            yield _camera_monitoring()
            yield _laser_calibration()
        yield _photoelectron_sum(run, i)
        yield _array_event(run, noise, i)
    yield _histograms(run)


def _history() -> bytes:
    lines = ["store_photoelectrons 1", "# Telescope-specific configuration follows", "store_photoelectrons 1"]
    parts = [pack_object(71, 1, 0, ints(_UNIX_START) + string("sim_telarray (synthetic)"))]
    parts += [pack_object(72, 1, i, ints(_UNIX_START) + string(line)) for i, line in enumerate(lines)]
    return pack_object(70, 1, 0, b"".join(parts), top=True, only_subobjects=True)


def _meta() -> Iterator[bytes]:
    # no ARRAY_CONFIG_NAME "MonteCarloArray": lstchain's merging check fails with it under ctapipe 0.25
    array = {
        "ARRAY_CONFIG_NAME": "LST-1 Monte Carlo",
        "*LATITUDE": "28.76152611",
        "*LONGITUDE": "-17.89148496",
        "ALTITUDE": f"{SITE_ALTITUDE_M}",
    }
    telescope = {
        "OPTICS_CONFIG_NAME": "LST",
        "CAMERA_CONFIG_NAME": "LSTCam",
        "MIRROR_CLASS": "0",
        "PARABOLIC_DISH": "1",
    }
    for ident, items in ((-1, array), (TEL, telescope)):
        payload = unsigned_varint(len(items)) + b"".join(var_string(k) + var_string(v) for k, v in items.items())
        yield pack_object(75, 0, ident, payload, top=True)


def _run_header(run: SimtelRun) -> bytes:
    payload = ints(run.node.run_id, _UNIX_START, 0, 0, 0)
    payload += floats([run.az_rad, run.alt_rad, 0.0, 0.0, 0.0, 0.0, 0.0]) + ints(1)
    payload += shorts([TEL]) + floats(POSITION_M) + ints(1, 0)
    payload += string("synthetic") + string("lstops")
    return pack_object(2000, 2, run.node.run_id, payload, top=True)


def _mc_run_header(run: SimtelRun) -> bytes:
    volume = run.node.volume
    payload = ints(1, 7741, 0, 1, 1593356843, 0) + floats([SITE_ALTITUDE_M])
    payload += ints(len(run.sample.thrown_energy_tev), 1, 1)
    payload += floats([0.0, volume.radius_m, run.alt_rad, run.alt_rad, run.az_rad, run.az_rad])
    payload += ints(int(volume.cone_max_deg > 0))
    payload += floats([volume.cone_min_deg, volume.cone_max_deg, volume.e_min_tev, volume.e_max_tev, volume.index])
    payload += floats([B_TOTAL_UT, B_INCLINATION_RAD, B_DECLINATION_RAD, 0.0])
    payload += ints(36, 187, 2, 4) + floats([5.0, 240.0, 1000.0]) + ints(0, 303)
    return pack_object(2001, 4, run.node.run_id, payload, top=True)


def _telescope(run: SimtelRun) -> Iterator[bytes]:
    n = lst1_camera().n_pixels
    yield pack_object(2002, 5, TEL, _camera_settings(), top=True)
    sectors = bytes(2 * n)
    yield pack_object(2003, 1, TEL, ints(n, 1, N_GAINS, 0) + bytes(2 * n * (1 + 3 * N_GAINS)) + sectors, top=True)
    yield pack_object(2004, 2, TEL, _pixel_settings(run), top=True)
    yield pack_object(2005, 0, TEL, ints(0, 0), top=True)
    yield pack_object(2006, 0, TEL, ints(*[0] * 16), top=True)
    yield pack_object(2007, 0, TEL, ints(0, 0), top=True)
    yield pack_object(2008, 0, TEL, shorts([0, 0]) + floats([0.0] * 12), top=True)


def _camera_settings() -> bytes:
    camera = lst1_camera()
    optics = camera.subarray.tel[TEL].optics
    n = camera.n_pixels
    turn = -np.deg2rad(camera.geometry.pix_rotation.deg % _HEXAGON_DEG)
    x, y = camera.geometry.pix_x.to_value("m"), camera.geometry.pix_y.to_value("m")
    cos, sin = np.cos(turn), np.sin(turn)
    area = camera.pixel_area_m2
    payload = ints(n) + floats(
        [optics.equivalent_focal_length.to_value("m"), optics.effective_focal_length.to_value("m")]
    )
    payload += floats(cos * x - sin * y) + floats(sin * x + cos * y)
    # flat camera, parallel pixels, all of one shape
    payload += varint(0) + varint(1) + varint(1) + varint(_HEXAGON_SHAPE)
    payload += floats([area, np.sqrt(2 * area / np.sqrt(3))])
    payload += ints(int(optics.n_mirror_tiles)) + floats([optics.mirror_area.to_value("m2"), -turn])
    return payload


def _pixel_settings(run: SimtelRun) -> bytes:
    camera = lst1_camera()
    n = camera.n_pixels
    payload = ints(0, 0, 0, n) + bytes(4 * n) + ints(1)
    payload += ints(0, 1) + shorts([0, N_SAMPLES]) + floats([camera.sample_ns]) + ints(N_SAMPLES)
    pulses = camera.pulses.astype("<f2")
    payload += varint(pulses.shape[0]) + varint(pulses.shape[1])
    return payload + floats([camera.pulse_step_ns]) + pulses.tobytes()


def _shower(run: SimtelRun, i: int) -> Iterator[bytes]:
    sample, event_id = run.sample, _event_id(i)
    payload = ints(PARTICLES[run.node.particle].value)
    payload += floats([sample.energy_tev[i], sample.az_rad[i], sample.alt_rad[i]])
    # depth and height of the first interaction, depths and heights of the maxima
    payload += floats([0.0, 20000.0, 300.0, 9000.0, 300.0, 300.0]) + shorts([0])
    yield pack_object(2020, 1, i + 1, payload, top=True)
    yield pack_object(2021, 1, event_id, ints(i + 1) + floats([sample.core_x_m[i], sample.core_y_m[i]]), top=True)
    pe = sample.pe[i].astype(int)
    lit = np.flatnonzero(pe)
    counts = ints(int(pe.sum()), len(pe)) + shorts([0]) + ints(len(lit))
    pixels = b"".join(struct.pack("<hi", k, pe[k]) + floats(np.full(pe[k], sample.time_ns[i][k])) for k in lit)
    inner = pack_object(1208, 2, TEL - 1, counts + pixels)
    yield pack_object(1204, 0, event_id, inner, top=True, only_subobjects=True)


def _photoelectron_sum(run: SimtelRun, i: int) -> bytes:
    return pack_object(2026, 0, _event_id(i), ints(i + 1, 1, int(run.sample.pe[i].sum()), 0), top=True)


def _camera_monitoring() -> bytes:
    n = lst1_camera().n_pixels
    pedestal_and_noise = 0x04
    payload = shorts([pedestal_and_noise, pedestal_and_noise]) + ints(0, _UNIX_START, 0)
    payload += shorts([0, n, 1, N_GAINS]) + ints(_UNIX_START, 0) + shorts([N_SAMPLES])
    payload += floats(np.full((N_GAINS, n), PEDESTAL_COUNTS * N_SAMPLES)) + floats(np.full((N_GAINS, n), 4.0))
    return pack_object(2022, 0, pedestal_and_noise << 8 | TEL, payload, top=True)


def _laser_calibration() -> bytes:
    n = lst1_camera().n_pixels
    payload = struct.pack("<Hhi", n, N_GAINS, 1)
    payload += floats(np.repeat(PE_PER_COUNT, n)) + floats(np.ones(2 * N_GAINS)) + floats(np.zeros(N_GAINS * n))
    return pack_object(2023, 2, TEL, payload, top=True)


def _array_event(run: SimtelRun, noise: PixelNoise, i: int) -> bytes:
    event_id = _event_id(i)
    when = ints(_UNIX_START + i, 0)
    trigger = when + when + ints(1, 1) + shorts([1, TEL]) + floats([0.0]) + shorts([1, TEL]) + unsigned_varint(1)
    parts = [pack_object(2009, 2, event_id, trigger)]
    header = ints(i + 1, event_id) + when + when + shorts([0])
    telescope = [pack_object(2011, 1, TEL, header)]
    telescope.append(
        pack_object(2013, 3, TEL << 12, _samples(noise.waveforms(run.sample.pe[i], run.sample.time_ns[i])))
    )
    parts.append(pack_object(2200 + TEL, 0, event_id, b"".join(telescope), only_subobjects=True))
    raw_position = 0x100
    parts.append(pack_object(2100 + TEL, 0, raw_position | TEL, floats([run.az_rad, run.alt_rad])))
    return pack_object(2010, 0, event_id, b"".join(parts), top=True, only_subobjects=True)


def _samples(waveforms: Array32) -> bytes:
    """ADC samples of both gains, as differences; waveforms (n_pixels, n_samples) in p.e. per sample."""
    counts: npt.NDArray[Any] = waveforms[None] / np.array(PE_PER_COUNT)[:, None, None] + PEDESTAL_COUNTS
    adc = np.clip(np.rint(counts), 0, MAX_COUNTS).astype(np.int64)
    _, n_pixels, n_samples = adc.shape
    return ints(n_pixels) + shorts([N_GAINS, n_samples]) + varint_array(np.diff(adc, axis=2, prepend=0))


def _histograms(run: SimtelRun) -> bytes:
    thrown = thrown_histogram(run.sample)
    title = thrown["title"].decode()
    data = np.asarray(thrown["data"])
    payload = shorts([1]) + b"F" + string(title) + (b"\0" if len(title) % 2 == 0 else b"")
    payload += ints(thrown["id"]) + shorts([thrown["n_bins_x"], thrown["n_bins_y"]])
    payload += ints(thrown["entries"], thrown["entries"])
    for axis in "xy":
        payload += ints(0, 0) + floats([thrown[f"lower_{axis}"], thrown[f"upper_{axis}"], 0.0, 0.0])
    payload += floats([data.sum(), data.sum()]) + floats(np.zeros(8)) + floats(data)
    return pack_object(100, 1, 6, payload, top=True)


def _event_id(i: int) -> int:
    return 100 * (i + 1)
