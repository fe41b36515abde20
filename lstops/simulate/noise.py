"""Night-sky background and Cherenkov signal in a pixel, through lstchain's own charge extraction.

A pool of waveforms with Poisson photoelectrons (single-p.e. response of lstchain, LST-1's reference pulse, white
electronic noise, zero-mean baseline) is extracted once with ctapipe's ``extract_around_peak``, as LocalPeakWindowSum
does with lstchain's standard window. Pixels without signal are drawn from it; pixels with Cherenkov light get their
pulses added to a pool waveform and are extracted again, so that the bias of small charges is exact.

Charges in p.e., times in ns, rates in GHz (p.e./ns).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from lstops.simulate.camera import Array32, lst1_camera

#: Readout of the simulation (samples). Real R1 data have 36; lstchain's NSB tuning only closes if both have 40.
N_SAMPLES = 40
#: Electronic noise, rms of a sample (p.e.), white; from the pedestals of LSTProd2 (std 1.41 p.e. at 0.25 GHz)
ELECTRONIC_NOISE_PE = 0.072
#: lstchain_standard_config.json, LocalPeakWindowSum
WINDOW_WIDTH, WINDOW_SHIFT = 8, 4
#: Window of the calibration pedestals (FixedWindowSum), whose spread the monitoring table holds
PEDESTAL_WIDTH, PEDESTAL_SHIFT, PEDESTAL_PEAK = 12, 6, 18
#: Spread of the arrival times of Cherenkov p.e. within a pixel (ns)
ARRIVAL_SPREAD_NS = 0.8
#: Above this number of p.e. one pulse of the summed amplitude is used instead of single ones
MAX_SINGLE_PE = 12
_LEAD_NS, _TRAIL_NS, _FINE = 40, 10, 8


@cache
def single_pe_table(n: int = 20000) -> Array32:
    """``n`` equally probable single-p.e. amplitudes (p.e., mean about 1, variance 0.222) of lstchain's response."""
    from lstchain.io.io import get_resource_path

    charge, probability = np.loadtxt(get_resource_path("data/SinglePhE_ResponseInPhE_expo2Gaus.dat")).T
    cumulative = np.cumsum(probability)
    quantiles = (np.arange(n) + 0.5) / n * cumulative[-1]
    return np.asarray(np.interp(quantiles, cumulative, charge), dtype=np.float32)


@dataclass(frozen=True)
class PedestalMoments:
    """Mean, spread and 95 % quantile of the pedestal charge, and spread in the 12-sample window (p.e.)."""

    mean: float
    std: float
    q95: float
    std12: float


class PixelNoise:
    """Pixels of LST-1 at one NSB rate.

    Parameters
    ----------
    rate_ghz : float
        Rate of NSB photoelectrons a pixel.
    seed : int
        Seed of the random numbers.
    pool : int
        Number of waveforms in the pool.
    """

    def __init__(self, rate_ghz: float, seed: int, pool: int = 40000) -> None:
        from ctapipe.image.extractor import integration_correction

        camera = lst1_camera()
        self.rate_ghz = rate_ghz
        self.rng = np.random.default_rng(seed)
        self._dt = camera.sample_ns
        self._span_ns = _LEAD_NS + N_SAMPLES * self._dt + _TRAIL_NS
        self._n_fine = int(self._span_ns * _FINE)
        args = (camera.pulses, camera.pulse_step_ns, self._dt)
        self._correction = float(integration_correction(*args, WINDOW_WIDTH, WINDOW_SHIFT)[0])
        self._correction12 = float(integration_correction(*args, PEDESTAL_WIDTH, PEDESTAL_SHIFT)[0])
        self._sharp, self._broad = self._pulse_matrices(camera.pulses[0], camera.pulse_step_ns)
        self._pool = np.concatenate([self._waves(min(5000, pool - i)) for i in range(0, pool, 5000)])
        self._charge, self._time = self._extract(self._pool)

    def _pulse_matrices(self, pulse: npt.NDArray[Any], step_ns: float) -> tuple[Array32, Array32]:
        """Rows: p.e. per sample for a p.e. at each fine time; sharp, and smeared by the arrival spread."""
        times = np.arange(len(pulse)) * step_ns
        peak = times[pulse.argmax()]
        per_sample = pulse / (pulse.sum() * step_ns) * self._dt
        fine = (np.arange(self._n_fine) + 0.5) / _FINE - _LEAD_NS
        samples = np.arange(N_SAMPLES) * self._dt
        sharp = np.array([np.interp(samples - t + peak, times, per_sample, left=0, right=0) for t in fine])
        kernel = np.exp(-0.5 * (np.arange(-32, 33) / _FINE / ARRIVAL_SPREAD_NS) ** 2)
        kernel /= kernel.sum()
        broad = np.apply_along_axis(lambda column: np.convolve(column, kernel, "same"), 0, sharp)
        return sharp.astype(np.float32), broad.astype(np.float32)

    def _waves(self, n: int) -> Array32:
        """``n`` waveforms of noise only, (n, N_SAMPLES), p.e. per sample."""
        spe = single_pe_table()
        counts = self.rng.poisson(self.rate_ghz * self._span_ns, n)
        total = int(counts.sum())
        cell = np.repeat(np.arange(n), counts) * self._n_fine + self.rng.integers(0, self._n_fine, total)
        weights = spe[self.rng.integers(0, len(spe), total)]
        hits = np.bincount(cell, weights=weights, minlength=n * self._n_fine).reshape(n, -1).astype(np.float32)
        waves = hits @ self._sharp
        waves -= np.float32(self.rate_ghz * self._dt * spe.mean())  # pedestal subtraction: the mean is exactly zero
        waves += self.rng.standard_normal(waves.shape, dtype=np.float32) * np.float32(ELECTRONIC_NOISE_PE)
        return np.asarray(waves, dtype=np.float32)

    def _extract(self, waves: Array32) -> tuple[Array32, Array32]:
        from ctapipe.image.extractor import extract_around_peak

        peak = waves.argmax(axis=1).astype(np.int64)
        charge, time = extract_around_peak(waves, peak, WINDOW_WIDTH, WINDOW_SHIFT, 1.0 / self._dt)
        return np.asarray(charge * np.float32(self._correction)), np.asarray(time)

    def moments(self) -> PedestalMoments:
        """Moments of the pool: what a pedestal event of this rate shows."""
        from ctapipe.image.extractor import extract_around_peak

        fixed, _ = extract_around_peak(self._pool, PEDESTAL_PEAK, PEDESTAL_WIDTH, PEDESTAL_SHIFT, 1.0 / self._dt)
        return PedestalMoments(
            mean=float(self._charge.mean()),
            std=float(self._charge.std()),
            q95=float(np.quantile(self._charge, 0.95)),
            std12=float(fixed.std() * self._correction12),
        )

    def pedestals(self, n: int) -> tuple[Array32, Array32]:
        """``n`` events without light: charges and peak times, (n, n_pixels)."""
        index = self.rng.integers(0, len(self._charge), (n, lst1_camera().n_pixels))
        return self._charge[index], self._time[index]

    def observe(self, pe: Array32, time_ns: Array32) -> tuple[Array32, Array32]:
        """Add noise to Cherenkov photoelectrons and extract.

        Parameters
        ----------
        pe : ndarray (n, n_pixels)
            Number of photoelectrons.
        time_ns : ndarray (n, n_pixels)
            Their mean arrival time after the first sample.

        Returns
        -------
        charge, peak_time : ndarray (n, n_pixels)
        """
        charge, peak = self.pedestals(len(pe))
        event, pixel = np.nonzero(pe > 0)
        if len(event):
            order = np.argsort(-pe[event, pixel], kind="stable")
            event, pixel = event[order], pixel[order]
            waves = self._pool[self.rng.integers(0, len(self._pool), len(event))]
            self._add_light(waves, pe[event, pixel].astype(int), time_ns[event, pixel])
            charge[event, pixel], peak[event, pixel] = self._extract(waves)
        return charge, peak

    def waveforms(self, pe: Array32, time_ns: Array32) -> Array32:
        """Fresh waveforms of one event, (n_pixels, N_SAMPLES), p.e. per sample; ``pe`` and ``time_ns`` (n_pixels,)."""
        waves = self._waves(len(pe))
        lit = np.flatnonzero(pe > 0)
        lit = lit[np.argsort(-pe[lit], kind="stable")]
        light = waves[lit]
        self._add_light(light, pe[lit].astype(int), time_ns[lit])
        waves[lit] = light
        return waves

    def _rows(self, time_ns: npt.NDArray[Any]) -> npt.NDArray[np.intp]:
        return np.asarray(np.clip(((time_ns + _LEAD_NS) * _FINE).astype(np.intp), 0, self._n_fine - 1))

    def _add_light(self, waves: Array32, counts: npt.NDArray[Any], time_ns: npt.NDArray[Any]) -> None:
        """Add pulses in place; ``counts`` (p.e.) must be sorted in descending order."""
        rng, spe = self.rng, single_pe_table()
        n_bright = int(np.searchsorted(-counts, -MAX_SINGLE_PE, "left"))
        if n_bright:
            many = counts[:n_bright]
            amplitude = np.maximum(many + rng.normal(0, 1, n_bright) * np.sqrt(spe.var() * many), 0)
            arrival = time_ns[:n_bright] + rng.normal(0, 1, n_bright) * ARRIVAL_SPREAD_NS / np.sqrt(many)
            waves[:n_bright] += amplitude.astype(np.float32)[:, None] * self._broad[self._rows(arrival)]
        for k in range(1, MAX_SINGLE_PE + 1):
            last = int(np.searchsorted(-counts, -k, "right"))
            if last <= n_bright:
                break
            n = last - n_bright
            arrival = time_ns[n_bright:last] + rng.normal(0, 1, n) * ARRIVAL_SPREAD_NS
            amplitude = spe[rng.integers(0, len(spe), n)]
            waves[n_bright:last] += amplitude[:, None] * self._sharp[self._rows(arrival)]
