"""The night's small files: run summary, run catalogue, the closure flag, and the truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from lstops.simulate.plan import RunSpec, SitePlan, SourceSpec, tailcut_of

#: Data model of files written by the first event builder, which have the reference counters (ctapipe_io_lst)
DATA_FORMAT = "R1.CameraEvent"


def _unix_tai_ns(run: RunSpec) -> int:
    from astropy.time import Time

    return round(float(Time(run.start, scale="utc").unix_tai)) * 1_000_000_000


def write_run_summary(plan: SitePlan, path: Path) -> None:
    """Write ``RunSummary_D.ecsv`` with the columns of lstchain_create_run_summary."""
    from astropy.table import Table

    starts = np.array([_unix_tai_ns(run) for run in plan.runs], dtype=np.int64)
    n = len(starts)
    table = Table(
        {
            "run_id": np.array([run.run_id for run in plan.runs]),
            "n_subruns": np.array([run.n_subruns for run in plan.runs]),
            "run_type": [run.run_type for run in plan.runs],
            "data_format": [DATA_FORMAT] * n,
            "evb_preprocessing": np.zeros(n, dtype=np.int64),
            "ucts_timestamp": starts,
            "run_start": starts,
            "dragon_reference_time": starts,
            "dragon_reference_module_id": np.full(n, 90, dtype=np.int16),
            "dragon_reference_module_index": np.zeros(n, dtype=np.int16),
            "dragon_reference_counter": np.zeros(n, dtype=np.uint64),
            "dragon_reference_source": ["ucts"] * n,
        }
    )
    night = plan.night
    table.meta["date"] = f"{night[:4]}-{night[4:6]}-{night[6:]}"
    table.meta["lstchain_version"] = plan.lstchain_version
    table.write(path, format="ascii.ecsv", delimiter=",", overwrite=True)


def write_run_catalog(plan: SitePlan, path: Path) -> None:
    """Write ``RunCatalog_D.ecsv``: source name and coordinates (deg) of the data runs."""
    from astropy.table import Table

    data = [run for run in plan.runs if run.run_type == "DATA"]
    table = Table(
        {
            "run_id": [run.run_id for run in data],
            "source_name": [plan.source.name] * len(data),
            "source_ra": [plan.source.ra_deg] * len(data),
            "source_dec": [plan.source.dec_deg] * len(data),
        }
    )
    table.write(path, format="ascii.ecsv", delimiter=",", overwrite=True)


def _source_of(source: SourceSpec) -> dict[str, Any]:
    spectrum = source.spectrum
    return {
        "name": source.name,
        "ra_deg": source.ra_deg,
        "dec_deg": source.dec_deg,
        "model": "dN/dE = norm * E^(index + curvature*log10(E)), E in TeV",
        "norm_per_tev_cm2_s": spectrum.norm,
        "index": spectrum.index,
        "curvature": spectrum.curvature,
        "flux_above_100gev_per_cm2_s": spectrum.integral(0.1, 20.0),
    }


def truth_of_nights(plans: Sequence[SitePlan]) -> dict[str, Any]:
    """The truth of a site with several nights: that of the first, all sources, and the truth of each night."""
    first = truth_of(plans[0])
    if len(plans) == 1:
        return first
    sources = {plan.source.name: _source_of(plan.source) for plan in plans}
    nights = [{key: value for key, value in truth_of(plan).items() if key != "monte_carlo"} for plan in plans]
    return {**first, "sources": list(sources.values()), "nights": nights}


def truth_of(plan: SitePlan) -> dict[str, Any]:
    """The truth of a site, JSON-able: spectrum, runs with their expected verdicts, Monte Carlo, versions.

    Needs lstchain: the expected pedestal moments come from the noise model itself.
    """
    from lstops.simulate.night import track_of
    from lstops.simulate.noise import PixelNoise

    moments = {rate: PixelNoise(rate, seed=1).moments() for rate in {run.nsb_ghz for run in plan.runs}}
    runs: list[dict[str, Any]] = []
    for run in plan.runs:
        entry: dict[str, Any] = asdict(run)
        if run.run_type == "DATA":
            tracks = [track_of(plan, run, subrun) for subrun in range(run.n_subruns)]
            pedestal = moments[run.nsb_ghz]
            entry |= {
                "expected_verdict": "good" if run.good else "bad",
                "diffuse_nsb_std_pe": pedestal.std if run.pedestal_hz else None,
                "pedestal_q95_pe": pedestal.q95,
                "extra_nsb_ghz_over_mc": run.nsb_ghz - plan.mc_nsb_ghz,
                "picture_threshold_pe": tailcut_of(pedestal.q95)[0],
                "zenith_deg": float(np.rad2deg(np.mean([track.zenith_rad for track in tracks]))),
                "azimuth_deg": float(np.rad2deg(np.mean([track.az_rad.mean() for track in tracks])) % 360),
                "elapsed_s": run.n_subruns * run.subrun_s,
                "wobble_offset_deg": plan.wobble_offset_deg,
                "bad_pixels": list(plan.bad_pixels),
            }
        runs.append(entry)
    return {
        "synthetic": True,
        "night": plan.night,
        "version_dir": plan.version_dir,
        "seed": plan.seed,
        "size": plan.size.name,
        "plan_sha256": plan.digest(),
        "model_version": plan.model_version,
        "lstchain_version": plan.lstchain_version,
        "source": _source_of(plan.source),
        "runs": runs,
        "monte_carlo": {
            "production": plan.production,
            "dec_line": plan.dec_line,
            "nsb_ghz": plan.mc_nsb_ghz,
            "nodes": [{**asdict(node), "directory": node.name} for node in plan.nodes],
        },
    }
