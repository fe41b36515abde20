"""Reads a DL3 folder as a stranger would, with gammapy, and measures its source.

Run inside a step, in the science environment::

    python -m lstops.science.source_check --dl3 DIR --source-name NAME --ra-deg X --dec-deg Y --out check.json
        [--truth truth.json] [--plots PREFIX]
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lstops.errors import ConfigError, DataError, LstOpsError
from lstops.report.check import check_page
from lstops.report.source import (
    INTEGRAL_RANGE_TEV,
    FluxPoint,
    LogParabola,
    RunCheck,
    SourceCheck,
)
from lstops.report.source_plots import dnde, write_plots
from lstops.science.run_looks import look_at, theta2
from lstops.science.source_fit import fit_spectrum, flux_points, light_curve
from lstops.science.source_reference import KNOWN, compare, is_near, known_source
from lstops.science.source_runs import ENERGY_RANGE_TEV, Usable, open_observations, sort_out
from lstops.step.manifest import write_atomically

#: Crab Nebula: MAGIC, JHEAp 5-6 (2015) 30: 3.23e-11 (E/TeV)^(-2.47 - 0.24 log10(E/TeV)) / (cm2 s TeV)
CRAB = LogParabola(amplitude=3.23e-11, alpha=2.47, beta=0.24 / math.log(10))
_BINS = 11
#: flux points below this significance are given as upper limits
_POINT_SIGNIFICANCE = 2.0


@dataclass(frozen=True)
class Target:
    """What to look for and what to expect there.

    Attributes
    ----------
    published : str or None
        Which published points to compare with (a key of `KNOWN`).
    expected : bool
        Whether the reference is the spectrum of this source, not only the unit of its flux.
    """

    name: str
    ra_deg: float
    dec_deg: float
    reference: LogParabola = CRAB
    reference_name: str = "Crab Nebula (MAGIC 2015)"
    published: str | None = None
    expected: bool = True


def reference_from_truth(path: Path, ra_deg: float, dec_deg: float) -> LogParabola | None:
    """Spectrum of the source that was simulated at a place, from a synthetic site's truth.json; None: nothing was.

    Its name there may be another one than that by which somebody asked for it.

    Raises
    ------
    DataError
        If the file does not tell the spectrum.
    """
    try:
        truth = json.loads(path.read_text())
        known = truth.get("sources") or [truth["source"]]
        source = next((s for s in known if is_near(ra_deg, dec_deg, float(s["ra_deg"]), float(s["dec_deg"]))), None)
        if source is None:
            return None
        return simulated_spectrum(source)
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}.", "correct --truth or leave it out.") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"{path} does not tell the source's spectrum ({error!r}).",
            "it needs source: {ra_deg, dec_deg, norm_per_tev_cm2_s, index, curvature}; make it with `lstops simulate`.",
        ) from error


def simulated_spectrum(source: Mapping[str, Any]) -> LogParabola:
    """Spectrum of a source of a truth.json."""
    return LogParabola(
        amplitude=float(source["norm_per_tev_cm2_s"]),
        alpha=-float(source["index"]),
        beta=-float(source["curvature"]) / math.log(10),
    )


def check_source(folder: Path, target: Target) -> SourceCheck:
    """Analyse the DL3 files of a folder.

    Raises
    ------
    DataError
        If there is no index, no events, or the source is in no run's field.
    """
    observations, skipped = open_observations(folder)
    position = _sky(target)
    usable, unusable = sort_out(observations, position)
    skipped |= unusable
    if not usable:
        said = "; ".join(f"run {run}: {why}" for run, why in sorted(skipped.items()))
        raise DataError(
            f"no run in {folder} can be used for {target.name} (RA {target.ra_deg:.4f}, Dec {target.dec_deg:.4f} deg): "
            f"{said}.",
            "compare the source's coordinates with the pointing, and look at the runs' DL3 steps.",
        )
    datasets = reduce_observations(usable, position, np.geomspace(*ENERGY_RANGE_TEV, _BINS + 1).tolist())
    runs = tuple(_run_check(dataset, use) for dataset, use in zip(datasets, usable, strict=True))
    n_on, n_off = sum(r.counts_on for r in runs), sum(r.counts_off for r in runs)
    total = float(datasets.info_table(cumulative=True)[-1]["sqrt_ts"])
    if not n_off:
        total = _significance(n_on, n_off, float(np.mean([r.alpha for r in runs])))
    fitted = fit_spectrum(datasets, target.reference)
    reference_flux = _integral(target.reference)
    ratio = None if fitted is None else fitted.flux / reference_flux
    points = flux_points(datasets, _POINT_SIGNIFICANCE) if fitted else ()
    import gammapy

    return SourceCheck(
        source_name=target.name,
        ra_deg=target.ra_deg,
        dec_deg=target.dec_deg,
        gammapy_version=gammapy.__version__,
        energy_range_tev=ENERGY_RANGE_TEV,
        live_time_s=sum(r.live_time_s for r in runs),
        counts_on=n_on,
        counts_off=n_off,
        excess=sum(r.excess for r in runs),
        background=sum(r.alpha * r.counts_off for r in runs),
        significance=total,
        spectrum=fitted.spectrum if fitted else None,
        free=fitted.free if fitted else (),
        flux=fitted.flux if fitted else None,
        flux_error=fitted.flux_error if fitted else None,
        reference=target.reference,
        reference_name=target.reference_name,
        reference_flux=reference_flux,
        expected=target.expected,
        ratio=ratio,
        ratio_error=fitted.flux_error / reference_flux if fitted else None,
        runs=runs,
        skipped=skipped,
        points=points,
        theta2=theta2(usable, position),
        light_curve=light_curve(datasets, fitted.spectrum) if fitted else (),
        looks=look_at(usable, position),
        region_deg=usable[0].region_deg,
        **_against_points(target, points),
        note="" if fitted else "no spectrum: the excess is too small for a fit",
    )


def _against_points(target: Target, points: Sequence[FluxPoint]) -> dict[str, Any]:
    if target.published is None:
        return {}
    name, published = KNOWN[target.published].load()
    ratio, error = compare(points, published)
    return {"reference_points": published, "reference_points_name": name, "points_ratio": ratio,
            "points_ratio_error": error}  # fmt: skip


def _sky(target: Target) -> Any:
    from astropy.coordinates import SkyCoord

    return SkyCoord(target.ra_deg, target.dec_deg, unit="deg", frame="icrs")


def reduce_observations(usable: Sequence[Usable], position: Any, edges_tev: Sequence[float]) -> Any:
    """gammapy's spectrum datasets of observations, with reflected regions; `edges_tev` of the reconstructed energy."""
    from gammapy.datasets import Datasets, SpectrumDataset
    from gammapy.makers import ReflectedRegionsBackgroundMaker, SpectrumDatasetMaker, WobbleRegionsFinder
    from gammapy.maps import MapAxis, RegionGeom
    from regions import CircleSkyRegion, PointSkyRegion

    radius_deg = usable[0].region_deg
    region = CircleSkyRegion(position, radius_deg * _degree()) if radius_deg else PointSkyRegion(position)
    energy = MapAxis.from_energy_edges(list(edges_tev), unit="TeV", name="energy")
    true = MapAxis.from_energy_bounds(0.01, 50, nbin=30, unit="TeV", name="energy_true")
    empty = SpectrumDataset.create(geom=RegionGeom.create(region, axes=[energy]), energy_axis_true=true)
    # the area of point-like responses is that within the theta cut already
    maker = SpectrumDatasetMaker(
        containment_correction=radius_deg is not None,
        selection=["counts", "exposure", "edisp"],
        use_region_center=True,
    )
    datasets = Datasets()
    for use in usable:
        background = ReflectedRegionsBackgroundMaker(region_finder=WobbleRegionsFinder(n_off_regions=use.n_off))
        dataset = maker.run(empty.copy(name=str(use.observation.obs_id)), use.observation)
        datasets.append(background.run(dataset, use.observation))
    return datasets


def _degree() -> Any:
    import astropy.units as u

    return u.deg


def _run_check(dataset: Any, use: Usable) -> RunCheck:
    info = dataset.info_dict()
    on, off = float(info["counts"]), float(info["counts_off"])
    # without a single background event gammapy knows no alpha; the regions are alike, so it follows from their number
    alpha = float(info["alpha"]) if off else 1 / use.n_off
    return RunCheck(
        run_id=int(use.observation.obs_id),
        live_time_s=float(info["livetime"].to_value("s")),
        offset_deg=use.offset_deg,
        n_off_regions=use.n_off,
        counts_on=on,
        counts_off=off,
        alpha=alpha,
        excess=on - alpha * off,
        significance=float(info["sqrt_ts"]) if off else _significance(on, off, alpha),
    )


def _significance(on: float, off: float, alpha: float) -> float:
    """Li & Ma; 0 where nothing was counted."""
    from gammapy.stats import WStatCountsStatistic

    value = float(WStatCountsStatistic(on, off, alpha).sqrt_ts)
    return value if math.isfinite(value) else 0.0


def _integral(spectrum: LogParabola) -> float:
    energy = np.geomspace(*INTEGRAL_RANGE_TEV, 2000)
    flux = dnde(spectrum, energy)
    # by hand: numpy's function has another name in version 1, which older science environments have
    return float(np.sum((flux[1:] + flux[:-1]) / 2 * np.diff(energy)))


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m lstops.science.source_check", description=__doc__.split("\n")[0])
    parser.add_argument("--dl3", type=Path, required=True, help="folder with DL3 files and index")
    parser.add_argument("--source-name", required=True)
    parser.add_argument("--ra-deg", type=float, required=True)
    parser.add_argument("--dec-deg", type=float, required=True)
    parser.add_argument("--truth", type=Path, help="truth.json of a synthetic site: the reference spectrum")
    parser.add_argument("--boost", type=float, help="without --truth: its flux is expected to be this many Crabs")
    parser.add_argument("--out", type=Path, required=True, help="result (JSON)")
    parser.add_argument("--plots", help="existing folder or NAME/, else beginning of the plots' names")
    parser.add_argument("--page", type=Path, help="page for people (HTML)")
    return parser.parse_args(argv)


def _target(options: argparse.Namespace) -> Target:
    name, ra, dec = options.source_name, options.ra_deg, options.dec_deg
    if not (0 <= ra < 360 and -90 <= dec <= 90):
        raise ConfigError(
            f"RA {ra} deg, Dec {dec} deg are no coordinates of {name}.", "give degrees, ICRS: 0 <= RA < 360."
        )
    if options.truth:
        if (simulated := reference_from_truth(options.truth, ra, dec)) is not None:
            return Target(name, ra, dec, simulated, "simulated spectrum")
        return Target(name, ra, dec, expected=False)
    if options.boost is None:
        known = known_source(ra, dec)
        return Target(name, ra, dec, published=known, expected=known is not None)
    if not options.boost > 0:
        raise ConfigError(f"--boost {options.boost} is not positive.", "leave it out for one Crab.")
    reference = CRAB.model_copy(update={"amplitude": CRAB.amplitude * options.boost})
    boosted = "Crab Nebula" + (f" x {options.boost:g}" if options.boost != 1 else "")
    return Target(name, ra, dec, reference, boosted, known_source(ra, dec) if options.boost == 1 else None)


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; returns the exit status of the error's class."""
    options = _arguments(argv)
    # gammapy and astropy warn about every FITS unit and the age of the Earth rotation table
    warnings.simplefilter("ignore")
    try:
        result = check_source(options.dl3, _target(options)).model_copy(update={"synthetic": bool(options.truth)})
        if options.plots:
            result = result.model_copy(update={"plots": tuple(p.name for p in write_plots(result, options.plots))})
    except LstOpsError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    if options.page:
        write_atomically(options.page, check_page(result))
    write_atomically(options.out, result.model_dump_json(indent=1) + "\n")
    flux = f", flux {result.ratio:.2f} +- {result.ratio_error:.2f} of {result.reference_name}" if result.ratio else ""
    print(
        f"{result.source_name}: {result.significance:.1f} sigma, excess {result.excess:.0f} "
        f"in {result.live_time_s / 60:.1f} min{flux}"
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
