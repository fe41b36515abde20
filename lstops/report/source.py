"""Result of a source check, as the step writes it and the reports read it."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, ValidationError

from lstops.errors import DataError
from lstops.step.model import Frozen

#: energies between which integral fluxes are given, in TeV; above 20 TeV there is nothing to add at this precision
INTEGRAL_RANGE_TEV = (0.1, 20.0)
#: beyond this and three standard errors the flux deserves a look: about the systematic uncertainty of one night
#: (arXiv:2306.12960, section 6)
RATIO_TOLERANCE = 0.3


class LogParabola(Frozen):
    """dN/dE = amplitude (E / reference)^(-alpha - beta ln(E / reference)).

    Attributes
    ----------
    amplitude, amplitude_error : float
        1 / (cm2 s TeV).
    beta : float
        For the natural logarithm, as in gammapy; beta = curvature / ln 10 of a log10 parabola.
    """

    amplitude: float
    alpha: float
    beta: float
    reference_tev: float = 1.0
    amplitude_error: float | None = None
    alpha_error: float | None = None
    beta_error: float | None = None


class RunCheck(Frozen):
    """One observation: counts within the theta cut, on and off, and what follows."""

    run_id: int
    live_time_s: float
    offset_deg: float
    n_off_regions: int
    counts_on: float
    counts_off: float
    alpha: float
    excess: float
    significance: float


class FluxPoint(Frozen):
    """A flux point, 1 / (cm2 s TeV) at an energy in TeV; without significant excess, its upper limit."""

    energy_tev: float
    energy_min_tev: float
    energy_max_tev: float
    dnde: float | None
    dnde_error: float | None
    dnde_upper_limit: float | None
    significance: float | None


class Theta2(Frozen):
    """Histograms of the squared distance (deg2) from the source and from the off positions, the latter scaled."""

    edges_deg2: tuple[float, ...]
    on: tuple[float, ...]
    off: tuple[float, ...]
    off_error: tuple[float, ...]


class RateBin(Frozen):
    """Events after cuts per second of live time in a part of a run.

    Attributes
    ----------
    time_unix_s, zenith_deg : float
        Of the middle of this part.
    """

    time_unix_s: float
    zenith_deg: float
    rate_hz: float
    rate_error_hz: float


class RunLook(Frozen):
    """What a person looks at first in the DL3 of a run.

    Attributes
    ----------
    map_edges_deg : tuple of float
        Of the counts map, in both directions, from the pointing.
    counts : tuple of tuple of int
        Rows from south to north, in each the columns from west to east.
    source_deg : (east, north)
        Where the source is in the map.
    outside : int
        Events outside of the map.
    """

    run_id: int
    theta2: Theta2
    map_edges_deg: tuple[float, ...]
    counts: tuple[tuple[int, ...], ...]
    source_deg: tuple[float, float]
    outside: int = 0
    rates: tuple[RateBin, ...] = ()


class LightPoint(Frozen):
    """Flux of one run over `INTEGRAL_RANGE_TEV` with the shape of the fitted spectrum, 1 / (cm2 s); 95 % upper limit.

    Attributes
    ----------
    start_unix_s, stop_unix_s : float
        First and last good time.
    """

    run_id: int
    start_unix_s: float
    stop_unix_s: float
    flux: float
    flux_error: float
    flux_upper_limit: float | None = None
    significance: float | None = None


class SourceCheck(Frozen):
    """What a stranger with gammapy gets out of a DL3 folder.

    Attributes
    ----------
    significance : float
        Li & Ma (1983) formula 17, square root, with the sign of the excess.
    flux, flux_error : float
        Integral of the fitted spectrum over `INTEGRAL_RANGE_TEV`, 1 / (cm2 s).
    ratio, ratio_error : float
        To the reference.
    free : tuple of str
        Parameters of the spectrum that were fitted; the others are the reference's.
    skipped : dict
        Runs that could not be used, with the reason.
    reference_points : tuple of FluxPoint
        Published points of this source, if it is a known one; none for a simulated source.
    expected : bool
        Whether the reference is the spectrum of this very source; else the ratio is only a unit.
    points_ratio, points_ratio_error : float or None
        Weighted mean of our points over the published ones, interpolated in energy.
    region_deg : float or None
        Radius of the regions, where the responses are not point-like and hold no theta cut.
    synthetic : bool
        The page then says so in its first line.
    """

    schema_version: int = 2
    source_name: str
    ra_deg: float
    dec_deg: float
    gammapy_version: str
    energy_range_tev: tuple[float, float]
    live_time_s: float
    counts_on: float
    counts_off: float
    excess: float
    background: float
    significance: float
    spectrum: LogParabola | None
    free: tuple[str, ...] = ()
    flux: float | None
    flux_error: float | None
    reference: LogParabola
    reference_name: str
    reference_flux: float
    expected: bool = True
    ratio: float | None
    ratio_error: float | None
    runs: tuple[RunCheck, ...]
    skipped: dict[int, str] = Field(default_factory=dict)
    points: tuple[FluxPoint, ...] = ()
    theta2: Theta2
    light_curve: tuple[LightPoint, ...] = ()
    looks: tuple[RunLook, ...] = ()
    reference_points: tuple[FluxPoint, ...] = ()
    reference_points_name: str = ""
    points_ratio: float | None = None
    points_ratio_error: float | None = None
    region_deg: float | None = None
    plots: tuple[str, ...] = ()
    note: str = ""
    synthetic: bool = False

    @property
    def agrees(self) -> bool | None:
        """Whether the flux is that of the reference within `RATIO_TOLERANCE` and three errors.

        None if it was not measured, or if nobody knows what it should be.
        """
        if self.ratio is None or self.ratio_error is None or not self.expected:
            return None
        return abs(self.ratio - 1) <= RATIO_TOLERANCE + 3 * self.ratio_error


def read_source_check(path: Path) -> SourceCheck:
    """Read a check.json.

    Raises
    ------
    DataError
        If it is missing or no source check.
    """
    try:
        return SourceCheck.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise DataError(f"{path} does not exist.", "run the source check step again.") from None
    except ValidationError as error:
        raise DataError(f"{path} is no source check: {error}", "run the source check step again.") from error
