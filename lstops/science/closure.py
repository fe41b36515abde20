"""Compare the bundles of a synthetic campaign with the truth, and tuned with untuned models under a bright sky.

`python -m lstops.science.closure --base SITE --night D --models tuned=P@LEVEL --models untuned=P@LEVEL
--bundle NAME=DIR ... --out DIR`, in the science environment. The bundles `tuned` and `untuned` are of the bright night,
the others each of one source.
"""

from __future__ import annotations

import argparse
import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lstops.errors import DataError
from lstops.report.closure import (
    Closure,
    RatioPoint,
    Slice,
    SourceClosure,
    pulls_of,
    slices_of,
)
from lstops.report.closure_plots import write_closure_plots
from lstops.report.source import LogParabola
from lstops.science.closure_models import Models, compare_models
from lstops.science.command import exit_with
from lstops.science.source_check import reduce_observations, simulated_spectrum
from lstops.science.source_runs import Usable, open_observations, sort_out
from lstops.step.manifest import write_atomically

#: Bins of reconstructed energy in which the flux is compared, and length of a part of the light curve (s)
EDGES_TEV = np.geomspace(0.1, 3.0, 8)
SLICE_S = 1.0
TUNED, UNTUNED = "tuned", "untuned"


def closure_of(folder: Path, source: str, truth_file: Path, slice_s: float = SLICE_S) -> SourceClosure:
    """Measure a bundle's source in units of its truth.

    Parameters
    ----------
    source : str
        As truth.json calls it.
    slice_s : float
        Length of a part of the light curve (s).

    Raises
    ------
    DataError
        If no run of the bundle can be used.
    """
    from astropy.coordinates import SkyCoord

    truth = json.loads(truth_file.read_text())
    about = next(item for item in truth.get("sources", [truth["source"]]) if item["name"] == source)
    position = SkyCoord(about["ra_deg"], about["dec_deg"], unit="deg", frame="icrs")
    usable, skipped = sort_out(open_observations(folder)[0], position)
    if not usable:
        raise DataError(f"no run in {folder} can be used: {skipped}.", "look at the runs' DL3 steps.")
    reference = simulated_spectrum(about)
    edges = EDGES_TEV.tolist()
    datasets = reduce_observations(usable, position, edges)
    infos = [dataset.info_dict() for dataset in datasets]
    ratio, error = _ratio(datasets, reference)
    slices = [part for use in usable for part in _slices(use, position, reference, slice_s)]
    return SourceClosure(
        source=source,
        runs=tuple(int(use.observation.obs_id) for use in usable),
        live_time_s=sum(float(info["livetime"].to_value("s")) for info in infos),
        counts_on=sum(float(info["counts"]) for info in infos),
        counts_off=sum(float(info["counts_off"]) for info in infos),
        ratio=ratio,
        error=error,
        points=_points(datasets, reference, edges),
        slices=tuple(slices),
        pulls=pulls_of(slices),
    )


def _model(reference: LogParabola) -> Any:
    import astropy.units as u
    from gammapy.modeling.models import LogParabolaSpectralModel, SkyModel

    spectrum = LogParabolaSpectralModel(
        amplitude=reference.amplitude * u.Unit("cm-2 s-1 TeV-1"),
        alpha=reference.alpha,
        beta=reference.beta,
        reference=reference.reference_tev * u.TeV,
    )
    for name in ("alpha", "beta"):
        spectrum.parameters[name].frozen = True
    return SkyModel(spectral_model=spectrum, name="source")


def _ratio(datasets: Any, reference: LogParabola) -> tuple[float, float]:
    """Fitted over true flux with the true shape, and its error."""
    from gammapy.modeling import Fit

    model = _model(reference)
    datasets.models = [model]
    Fit().run(datasets)
    amplitude = model.spectral_model.amplitude
    return float(amplitude.value / reference.amplitude), float(amplitude.error / reference.amplitude)


def _points(datasets: Any, reference: LogParabola, edges: Sequence[float]) -> tuple[RatioPoint, ...]:
    import astropy.units as u
    from gammapy.estimators import FluxPointsEstimator

    datasets.models = [_model(reference)]
    estimator = FluxPointsEstimator(energy_edges=np.array(edges) * u.TeV, source="source", selection_optional=[])
    table = estimator.run(datasets).to_table(sed_type="likelihood")
    excess = np.sum([np.asarray(dataset.excess.data).ravel() for dataset in datasets], axis=0)
    return tuple(
        RatioPoint(
            energy_min_tev=float(row["e_min"]),
            energy_max_tev=float(row["e_max"]),
            excess=float(counted),
            ratio=float(row["norm"]),
            error=float(row["norm_err"]),
        )
        for row, counted in zip(table, excess, strict=True)
        if np.isfinite(row["norm"]) and np.isfinite(row["norm_err"])
    )


def _slices(use: Usable, position: Any, reference: LogParabola, slice_s: float) -> list[Slice]:
    """The flux in parts of a run, each within one good time interval."""
    from astropy.time import Time

    gti, found = use.observation.gti, []
    for start, stop in zip(gti.time_start.unix, gti.time_stop.unix, strict=True):
        for low, high in slices_of(float(start), float(stop), slice_s):
            part = use.observation.select_time(Time([low, high], format="unix"))
            chosen = Usable(part, use.pointing, use.offset_deg, use.n_off)
            ratio, error = _ratio(reduce_observations([chosen], position, EDGES_TEV.tolist()), reference)
            if not (np.isfinite(error) and error > 0):
                continue
            about = Slice(
                run_id=int(use.observation.obs_id), start_s=low, duration_s=high - low, ratio=ratio, error=error
            )
            found.append(about)
    return found


def _models(text: str) -> tuple[str, Models]:
    name, _, what = text.partition("=")
    production, _, level = what.rpartition("@")
    return name, Models(production, float(level))


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Compare a campaign with its truth.")
    parser.add_argument("--base", type=Path, required=True, help="the synthetic site")
    parser.add_argument("--night", required=True, help="the bright night, YYYYMMDD")
    parser.add_argument("--models", action="append", required=True, help="tuned=PRODUCTION@LEVEL and untuned=...")
    parser.add_argument("--bundle", action="append", required=True, help="NAME=DIR")
    parser.add_argument("--out", type=Path, required=True, help="folder of closure.json and the plots")
    args = parser.parse_args()
    # gammapy and astropy warn about every FITS unit and the age of the Earth rotation table
    warnings.simplefilter("ignore")
    truth_file = args.base / "truth.json"
    truth = json.loads(truth_file.read_text())
    bundles = dict(item.split("=", 1) for item in args.bundle)
    source = next(n["source"] for n in truth.get("nights", [truth]) if n["night"] == args.night)
    bright = source["name"]
    found = {
        name: closure_of(Path(folder), name if name not in (TUNED, UNTUNED) else bright, truth_file)
        for name, folder in bundles.items()
    }
    models = dict(_models(item) for item in args.models)
    closure = Closure(
        sources=tuple(found[name] for name in found if name not in (TUNED, UNTUNED)),
        bright_night=args.night,
        bundles={name: found[name] for name in (TUNED, UNTUNED) if name in found},
        models=compare_models(args.base, args.night, (source["ra_deg"], source["dec_deg"]), models, TUNED),
    )
    write_atomically(args.out / "closure.json", closure.model_dump_json(indent=1) + "\n")
    write_closure_plots(closure, args.out)


if __name__ == "__main__":
    exit_with(main)
