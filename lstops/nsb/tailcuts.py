"""The ladder of image cleaning levels, and the NSB that a pedestal charge means.

The numbers are those of lstchain (lstchain/image/cleaning.py, `pic_th` and `get_nsb`): a run's noise is described by
the 95 % quantile of the pixel charge in its interleaved pedestal events, the median over the camera.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from lstops.errors import DataError

_EDGES_PE = (5.85, 7.25, 8.75, 10.3, 11.67)
_PICTURE_PE = (8, 10, 12, 14, 16, 18)
# quantile of the dark Monte Carlo (p.e.), and the coefficients of the parabola (GHz/p.e., GHz/p.e.^2)
_DARK_QUANTILE_PE, _LINEAR, _QUADRATIC = 3.95147396, 0.12642504, 0.01718627
_DIRECTORY = re.compile(r"tailcut(?:([0-9])([0-9])|([0-9]{2})([0-9]{1,2})|([0-9])([0-9]{2}))")


@dataclass(frozen=True, order=True)
class Tailcut:
    """Thresholds of the image cleaning.

    Parameters
    ----------
    picture_pe, boundary_pe : int
        Picture and boundary threshold in p.e.
    """

    picture_pe: int
    boundary_pe: int

    @property
    def directory(self) -> str:
        """The name of the directory: the boundary has two digits when it is not 4 (lstosa, osa/paths.py)."""
        boundary = "4" if self.boundary_pe == 4 else f"{self.boundary_pe:02d}"
        return f"tailcut{self.picture_pe}{boundary}"

    @classmethod
    def parse(cls, directory: str) -> Tailcut:
        """Read the name of a directory, such as `tailcut84` or `tailcut1005`.

        Raises
        ------
        DataError
            If it is no such name.
        """
        match = _DIRECTORY.fullmatch(directory)
        if match is not None:
            picture, boundary = (int(part) for part in match.groups() if part is not None)
            tailcut = cls(picture, boundary)
            if tailcut.directory == directory:
                return tailcut
        raise DataError(
            f"{directory!r} is not the name of a tailcut directory.",
            "Expected a name such as tailcut84 or tailcut1005.",
        )

    def __str__(self) -> str:
        return f"{self.picture_pe}/{self.boundary_pe}"


#: The ladder, from the darkest sky to the brightest.
TAILCUTS = tuple(Tailcut(picture, picture // 2) for picture in _PICTURE_PE)


def tailcut_for(quantile_pe: float) -> Tailcut:
    """Return the cleaning level for a run.

    Parameters
    ----------
    quantile_pe : float
        95 % quantile of the pedestal charge, in p.e.

    Raises
    ------
    DataError
        If the quantile is not a number.
    """
    _require_number(quantile_pe)
    return TAILCUTS[sum(quantile_pe >= edge for edge in _EDGES_PE)]


def extra_nsb_ghz(quantile_pe: float) -> float:
    """Return the NSB to add to the dark Monte Carlo, in GHz of photoelectrons; negative for a sky darker than that.

    Parameters
    ----------
    quantile_pe : float
        95 % quantile of the pedestal charge, in p.e.

    Raises
    ------
    DataError
        If the quantile is not a number.
    """
    _require_number(quantile_pe)
    excess = quantile_pe - _DARK_QUANTILE_PE
    return _LINEAR * excess + _QUADRATIC * excess**2


def cleaning_ladder() -> tuple[tuple[Tailcut, float, float], ...]:
    """Return each cleaning level with where it ends: pedestal charge (p.e.) and extra NSB (GHz); infinite for the last.

    A run at the end of a rung stands on the next one.
    """
    ends = (*_EDGES_PE, math.inf)
    return tuple(
        (tailcut, end, math.inf if math.isinf(end) else extra_nsb_ghz(end))
        for tailcut, end in zip(TAILCUTS, ends, strict=True)
    )


def pedestal_quantile_pe(extra_ghz: float) -> float:
    """Return the 95 % quantile of the pedestal charge (p.e.) that belongs to an extra NSB, the inverse of the above.

    Raises
    ------
    DataError
        If the level is not a number, or below what the parabola reaches (about -0.23 GHz).
    """
    _require_number(extra_ghz)
    discriminant = _LINEAR**2 + 4 * _QUADRATIC * extra_ghz
    if discriminant < 0:
        raise DataError(f"No pedestal charge belongs to {extra_ghz} GHz of extra NSB.", "Check the NSB of the run.")
    return _DARK_QUANTILE_PE + (math.sqrt(discriminant) - _LINEAR) / (2 * _QUADRATIC)


def noise_mismatch_percent(wanted_ghz: float, other_ghz: float) -> float:
    """Return how much more noise another NSB puts into a pixel, in per cent.

    Noise is the 95 % quantile of the pedestal charge, by which the cleaning is chosen too. The levels themselves are no
    measure: they count from the dark Monte Carlo, which has NSB as well.
    """
    return 100 * (pedestal_quantile_pe(other_ghz) / pedestal_quantile_pe(wanted_ghz) - 1)


def _require_number(value: float) -> None:
    if not math.isfinite(value):
        raise DataError(f"The noise of the run is {value}, not a number.", "Run lstchain_find_tailcuts for it again.")
