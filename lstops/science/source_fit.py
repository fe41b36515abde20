"""Spectrum of a source: a log parabola with as many free parameters as the data bear, and flux points."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from lstops.report.source import INTEGRAL_RANGE_TEV, FluxPoint, LightPoint, LogParabola

#: attempts, from all parameters free to the flux alone
_FREE = (("amplitude", "alpha", "beta"), ("amplitude", "alpha"), ("amplitude",))
#: an attempt counts if the parameters are measured at least this well (absolute errors of the shape, relative of flux)
_LARGEST_ERROR = {"alpha": 0.7, "beta": 0.35}
#: below this there is nothing to fit (standard deviations)
_LEAST_SIGNIFICANCE = 3.0


@dataclass(frozen=True)
class FittedSpectrum:
    """Fit and its integral over `INTEGRAL_RANGE_TEV`, 1 / (cm2 s)."""

    spectrum: LogParabola
    free: tuple[str, ...]
    flux: float
    flux_error: float


def fit_spectrum(datasets: Any, reference: LogParabola) -> FittedSpectrum | None:
    """Fit the spectrum; the shape stays the reference's where the data do not determine it.

    Parameters
    ----------
    datasets : gammapy.datasets.Datasets
        Get the fitted model as `models`.
    """
    if not datasets.info_table(cumulative=True)["sqrt_ts"][-1] >= _LEAST_SIGNIFICANCE:
        return None
    for free in _FREE:
        if fitted := _attempt(datasets, reference, free):
            return fitted
    return None


def _attempt(datasets: Any, reference: LogParabola, free: tuple[str, ...]) -> FittedSpectrum | None:
    import astropy.units as u
    from gammapy.modeling import Fit
    from gammapy.modeling.models import LogParabolaSpectralModel, SkyModel

    model = LogParabolaSpectralModel(
        amplitude=reference.amplitude * u.Unit("cm-2 s-1 TeV-1"),
        alpha=reference.alpha,
        beta=reference.beta,
        reference=reference.reference_tev * u.TeV,
    )
    for name in ("amplitude", "alpha", "beta"):
        model.parameters[name].frozen = name not in free
    datasets.models = [SkyModel(spectral_model=model, name="source")]
    result = Fit().run(datasets)
    low, high = INTEGRAL_RANGE_TEV
    values = {name: (model.parameters[name].value, model.parameters[name].error) for name in _FREE[0]}
    if not result.success or any(not all(map(math.isfinite, values[name])) for name in free):
        return None
    if any(values[name][1] > _LARGEST_ERROR.get(name, math.inf) for name in free):
        return None
    flux, error = (float(q.to_value("cm-2 s-1")) for q in model.integral_error(low * u.TeV, high * u.TeV))
    if not (math.isfinite(flux) and math.isfinite(error) and flux > 0 and error > 0):
        return None
    return FittedSpectrum(
        LogParabola(
            amplitude=values["amplitude"][0],
            alpha=values["alpha"][0],
            beta=values["beta"][0],
            reference_tev=reference.reference_tev,
            **{f"{name}_error": values[name][1] for name in free},
        ),
        free,
        flux,
        error,
    )


def flux_points(datasets: Any, least_significance: float) -> tuple[FluxPoint, ...]:
    """Flux points in the energy bins of the datasets, which carry the fitted model.

    Parameters
    ----------
    least_significance : float
        Below this a point is given as a 95 % upper limit.
    """
    from gammapy.estimators import FluxPointsEstimator

    edges = datasets[0].counts.geom.axes["energy"].edges
    estimator = FluxPointsEstimator(energy_edges=edges, source="source", selection_optional=["ul"])
    table = estimator.run(datasets).to_table(sed_type="dnde")
    points = []
    for row in table:
        significance = _finite(row["sqrt_ts"])
        seen = significance is not None and significance >= least_significance and row["npred_excess"].sum() > 0
        points.append(
            FluxPoint(
                energy_tev=float(row["e_ref"]),
                energy_min_tev=float(row["e_min"]),
                energy_max_tev=float(row["e_max"]),
                dnde=_finite(row["dnde"]) if seen else None,
                dnde_error=_finite(row["dnde_err"]) if seen else None,
                dnde_upper_limit=None if seen else _finite(row["dnde_ul"]),
                significance=significance,
            )
        )
    return tuple(p for p in points if p.dnde is not None or p.dnde_upper_limit is not None)


def light_curve(datasets: Any, spectrum: LogParabola) -> tuple[LightPoint, ...]:
    """Flux of each run above 0.1 TeV, all with the shape of the common fit.

    Parameters
    ----------
    datasets : gammapy.datasets.Datasets
        One a run, with the fitted model.
    spectrum : LogParabola
        That model.
    """
    import astropy.units as u
    from gammapy.datasets import Datasets
    from gammapy.estimators import FluxPointsEstimator
    from gammapy.modeling.models import LogParabolaSpectralModel

    low, high = INTEGRAL_RANGE_TEV
    model = LogParabolaSpectralModel(
        amplitude=spectrum.amplitude * u.Unit("cm-2 s-1 TeV-1"), alpha=spectrum.alpha, beta=spectrum.beta,
        reference=spectrum.reference_tev * u.TeV,
    )  # fmt: skip
    whole = float(model.integral(low * u.TeV, high * u.TeV).to_value("cm-2 s-1"))
    edges = datasets[0].counts.geom.axes["energy"].edges
    estimator = FluxPointsEstimator(energy_edges=edges[[0, -1]], source="source", selection_optional=["ul"])
    points = []
    for dataset in datasets:
        row = estimator.run(Datasets([dataset])).to_table(sed_type="likelihood")[0]
        norm, error, limit = (_finite(row[name]) for name in ("norm", "norm_err", "norm_ul"))
        if norm is None or error is None:
            continue  # nothing to fit in this run; its counts are in the table of runs
        gti = dataset.gti
        points.append(
            LightPoint(
                run_id=int(dataset.name),
                start_unix_s=float(gti.time_start.unix.min()),
                stop_unix_s=float(gti.time_stop.unix.max()),
                flux=norm * whole,
                flux_error=error * whole,
                flux_upper_limit=None if limit is None else limit * whole,
                significance=_finite(row["sqrt_ts"]),
            )
        )
    return tuple(points)


def _finite(value: Any) -> float | None:
    number = float(value)
    return number if math.isfinite(number) else None
