"""Which declination line's models a pointing is reduced with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from lstops.errors import DataError

#: Lines of LSTProd2 are at most 13.5 deg apart; further than this from the nearest one, a line is missing.
LINE_TOLERANCE_DEG = 8.0


@dataclass(frozen=True)
class LineChoice:
    """The nearest line.

    Attributes
    ----------
    distance_deg : float
        In declination.
    left_out : tuple of str
        Nearer lines that the culmination rule left out.
    """

    line: str
    distance_deg: float
    left_out: tuple[str, ...] = ()

    def is_near(self, tolerance_deg: float = LINE_TOLERANCE_DEG) -> bool:
        """Whether its models describe the pointing."""
        return self.distance_deg <= tolerance_deg

    def text(self) -> str:
        """For a person."""
        out = f", leaving out {', '.join(self.left_out)} by the culmination rule" if self.left_out else ""
        return f"{self.line} is {self.distance_deg:.1f} deg away in declination{out}"


def choose_line(
    declination_deg: float, lines: Mapping[str, float], latitude_deg: float, zd_deg: float | None = None
) -> LineChoice:
    """The nearest line to a pointing; of two equally near ones the northern one.

    Parameters
    ----------
    lines : mapping
        Declination (deg) by name.
    zd_deg : float, optional
        Zenith distance of the pointing: with it, lstosa's culmination rule holds (osa/utils/utils.py). Lines that
        culminate lower than the pointing have no nodes there and are left out, except the two nearest the zenith.

    Raises
    ------
    DataError
        If there are no lines.
    """
    if not lines:
        raise DataError("no declination line has a production that is in use.", "register one, or promote a candidate.")

    def culmination(name: str) -> float:
        return abs(lines[name] - latitude_deg)

    def distance(name: str) -> tuple[float, float]:
        return abs(lines[name] - declination_deg), -lines[name]

    high = set(sorted(lines, key=culmination)[:2])
    kept = [name for name in lines if zd_deg is None or name in high or culmination(name) <= zd_deg]
    best = min(kept, key=distance)
    nearer = sorted((name for name in lines if name not in kept and distance(name) < distance(best)), key=distance)
    return LineChoice(best, abs(lines[best] - declination_deg), tuple(nearer))
