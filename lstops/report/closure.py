"""What a synthetic campaign gave back of the truth that was put in: numbers and verdicts (pure)."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lstops.step.model import Frozen

#: A bin counts with at least this many excess events, and closes within this of the truth
LEAST_EXCESS, TOLERANCE = 100.0, 0.15
#: Share of the gammas that a production's gammaness cut shall keep
ASSUMED_EFFICIENCY = 0.7
#: Standard error of a median over that of a mean, for a Gaussian
_MEDIAN_ERROR = math.sqrt(math.pi / 2)
#: Half the width of the central 68 % of a Gaussian is one standard deviation
_CENTRAL = (15.87, 84.13)


class RatioPoint(Frozen):
    """Measured over true flux in a bin of reconstructed energy (TeV)."""

    energy_min_tev: float
    energy_max_tev: float
    excess: float
    ratio: float
    error: float

    @property
    def counts(self) -> bool:
        """Whether it has enough events to be held to the truth."""
        return self.excess >= LEAST_EXCESS

    @property
    def closes(self) -> bool:
        """Whether it is within the tolerance."""
        return abs(self.ratio - 1) <= TOLERANCE


class Slice(Frozen):
    """Measured over true flux in a part of a run; times in seconds, start since 1970."""

    run_id: int
    start_s: float
    duration_s: float
    ratio: float
    error: float

    @property
    def pull(self) -> float:
        """Distance from the truth in standard errors."""
        return (self.ratio - 1) / self.error


class Pulls(Frozen):
    """Mean and standard deviation of pulls with their errors; width 0 of fewer than two."""

    n: int
    mean: float
    mean_error: float
    width: float
    width_error: float


class SourceClosure(Frozen):
    """A bundle against the truth of its source."""

    source: str
    runs: tuple[int, ...]
    live_time_s: float
    counts_on: float
    counts_off: float
    ratio: float
    error: float
    points: tuple[RatioPoint, ...]
    slices: tuple[Slice, ...]
    pulls: Pulls

    @property
    def open_points(self) -> tuple[RatioPoint, ...]:
        """Points with enough events that are not within the tolerance."""
        return tuple(point for point in self.points if point.counts and not point.closes)


class BiasPoint(Frozen):
    """Energy bias in a bin of true energy (TeV): median of reconstructed over true energy - 1, and resolution."""

    energy_min_tev: float
    energy_max_tev: float
    n: int
    bias: float
    error: float
    resolution: float


class ModelsClosure(Frozen):
    """How models reconstruct gammas under the bright sky, and the bright night's background.

    Attributes
    ----------
    assumed : tuple of BiasPoint
        Energy bias of the production's own gammas, which its responses correct for.
    seen : tuple of BiasPoint
        That of the gammas under the bright sky.
    cut : float
        Gammaness that keeps the assumed share of the production's own gammas.
    efficiency, efficiency_error : float
        The share of the gammas under the bright sky that it keeps.
    background : int
        Events of the bright night away from the source that it keeps, out of `background_of`.
    background_at_equal : int
        The same at the gammaness that keeps the assumed share of the gammas under the bright sky.
    """

    production: str
    assumed: tuple[BiasPoint, ...]
    seen: tuple[BiasPoint, ...]
    cut: float
    efficiency: float
    efficiency_error: float
    background: int
    background_at_equal: int
    background_of: int


class Closure(Frozen):
    """The whole comparison, as the campaign writes it."""

    schema_version: int = 1
    sources: tuple[SourceClosure, ...]
    bright_night: str
    bundles: dict[str, SourceClosure]
    models: dict[str, ModelsClosure]
    assumed_efficiency: float = ASSUMED_EFFICIENCY


def pulls_of(slices: Sequence[Slice]) -> Pulls:
    """Summarise the pulls of a light curve.

    Raises
    ------
    ValueError
        If there are none.
    """
    if not slices:
        raise ValueError("no part of any run was measured")
    pulls = np.array([item.pull for item in slices])
    n = len(pulls)
    width = float(pulls.std(ddof=1)) if n > 1 else 0.0
    return Pulls(
        n=n,
        mean=float(pulls.mean()),
        mean_error=width / math.sqrt(n),
        width=width,
        width_error=width / math.sqrt(2 * (n - 1)) if n > 1 else 0.0,
    )


def energy_bias(
    true_tev: NDArray[np.float64], reco_tev: NDArray[np.float64], edges_tev: Sequence[float], least: int = 20
) -> tuple[BiasPoint, ...]:
    """Energy bias and resolution in bins of true energy; bins with fewer than `least` events are left out."""
    points = []
    for low, high in itertools.pairwise(edges_tev):
        chosen = (true_tev >= low) & (true_tev < high)
        n = int(chosen.sum())
        if n < least:
            continue
        shift = reco_tev[chosen] / true_tev[chosen] - 1
        below, above = np.percentile(shift, _CENTRAL)
        resolution = float(above - below) / 2
        points.append(
            BiasPoint(
                energy_min_tev=low,
                energy_max_tev=high,
                n=n,
                bias=float(np.median(shift)),
                error=_MEDIAN_ERROR * resolution / math.sqrt(n),
                resolution=resolution,
            )
        )
    return tuple(points)


def slices_of(start_s: float, stop_s: float, wanted_s: float) -> list[tuple[float, float]]:
    """Cut an interval into equal parts of about the wanted length; one at least."""
    n = max(1, round((stop_s - start_s) / wanted_s))
    edges = np.linspace(start_s, stop_s, n + 1).tolist()
    return list(itertools.pairwise(edges))


@dataclass(frozen=True)
class Gammas:
    """Reconstructed simulated gammas; arrays of one length, energies in TeV."""

    true_tev: NDArray[np.float64]
    reco_tev: NDArray[np.float64]
    gammaness: NDArray[np.float64]

    def bias(self, edges_tev: Sequence[float]) -> tuple[BiasPoint, ...]:
        """Energy bias in bins of true energy."""
        return energy_bias(self.true_tev, self.reco_tev, edges_tev)


def models_closure(
    production: str, own: Gammas, seen: Gammas, background: NDArray[np.float64], edges_tev: Sequence[float]
) -> ModelsClosure:
    """Judge models by gammas that have the sky they were made for, and gammas that have the sky of the night.

    Parameters
    ----------
    own, seen : Gammas
        The production's own test gammas, and those under the bright sky, reconstructed with the production's models.
    background : array
        Gammaness of the night's events away from the source.
    """
    cut, equal = (float(np.quantile(g.gammaness, 1 - ASSUMED_EFFICIENCY)) for g in (own, seen))
    efficiency = float((seen.gammaness >= cut).mean())
    return ModelsClosure(
        production=production,
        assumed=own.bias(edges_tev),
        seen=seen.bias(edges_tev),
        cut=cut,
        efficiency=efficiency,
        efficiency_error=math.sqrt(efficiency * (1 - efficiency) / len(seen.gammaness)),
        background=int((background >= cut).sum()),
        background_at_equal=int((background >= equal).sum()),
        background_of=len(background),
    )
