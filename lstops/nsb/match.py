"""Which of the available productions fits the NSB of a run. Every way of not fitting has a name."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum

from lstops.errors import DataError
from lstops.nsb.finder import RunNsb
from lstops.nsb.tailcuts import Tailcut, noise_mismatch_percent

# Levels are named with two decimals, so a smaller difference cannot be told.
_EXACT_GHZ = 0.005


class MatchKind(str, Enum):
    """How a run's NSB and the available productions go together."""

    EXACT = "exact"
    WITHIN_TOLERANCE = "within tolerance"
    BETWEEN_LEVELS = "between levels"
    OUTSIDE_GRID = "outside the grid"
    OTHER_TAILCUT = "other tailcut"
    OTHER_VERSION = "other version"
    LINE_TOO_FAR = "line too far"
    NO_PRODUCTION = "no production"
    UNKNOWN_NSB = "unknown NSB"

    @property
    def usable(self) -> bool:
        """Whether the run can be reduced with the level without a person's word."""
        return self in (MatchKind.EXACT, MatchKind.WITHIN_TOLERANCE)

    @property
    def can_be_requested(self) -> bool:
        """Whether a production could be made that fits."""
        return not self.usable and self is not MatchKind.UNKNOWN_NSB


@dataclass(frozen=True)
class NsbLevel:
    """A production of models for one NSB level.

    Parameters
    ----------
    level_ghz : float
        Extra NSB that was added to the dark Monte Carlo, from the configuration's value (not from a directory's label).
    tailcut : Tailcut
    version : str
        Version of lstchain, as far as data and models must agree in it (`v0.10`).
    name : str
        Name of the production.
    is_standard : bool
        Whether it is the standard of its line: of two that fit equally it is taken.
    """

    level_ghz: float
    tailcut: Tailcut
    version: str
    name: str
    is_standard: bool = False


@dataclass(frozen=True)
class LevelMatch:
    """The answer to which production fits a run.

    Parameters
    ----------
    run_number : int
    kind : MatchKind
    level : NsbLevel or None
        The nearest one, also where it does not fit; None if there is none at all.
    distance_ghz : float
        Run minus level; NaN without a level.
    explanation : str
        The answer in plain words.
    neighbours : tuple of NsbLevel
        Between levels: the next lower and the next higher one.
    """

    run_number: int
    kind: MatchKind
    level: NsbLevel | None
    distance_ghz: float
    explanation: str
    neighbours: tuple[NsbLevel, ...] = ()

    @property
    def usable(self) -> bool:
        """Whether the run can be reduced with the level without a person's word."""
        return self.kind.usable


def match_level(
    run: RunNsb, available: Sequence[NsbLevel], tolerance_ghz: float, version: str | None = None
) -> LevelMatch:
    """Find the production for a run.

    Version comes before cleaning, and cleaning before level: models of another version or cleaning describe other
    images, however near the level is.

    Parameters
    ----------
    run : RunNsb
    available : sequence of NsbLevel
    tolerance_ghz : float
        Largest difference of the levels that is accepted.
    version : str, optional
        The version that the run's data have; any if not given.
    """
    if not math.isfinite(run.extra_ghz):
        return LevelMatch(
            run.run_number, MatchKind.UNKNOWN_NSB, None, math.nan, f"the NSB of run {run.run_number} is unknown"
        )
    if not available:
        return LevelMatch(
            run.run_number, MatchKind.NO_PRODUCTION, None, math.nan, "there is no production of models at all"
        )
    same_version = [level for level in available if version is None or level.version == version]
    if not same_version:
        versions = ", ".join(sorted({level.version for level in available}))
        return _answer(run, MatchKind.OTHER_VERSION, available, f"version {version} is wanted, there is {versions}")
    same_tailcut = [level for level in same_version if level.tailcut == run.tailcut]
    if not same_tailcut:
        tailcuts = ", ".join(map(str, sorted({level.tailcut for level in same_version})))
        return _answer(
            run, MatchKind.OTHER_TAILCUT, same_version, f"cleaning {run.tailcut} is wanted, there is {tailcuts}"
        )
    distance = _distance_ghz(run, _nearest(run, same_tailcut))
    if distance < _EXACT_GHZ:
        return _answer(run, MatchKind.EXACT, same_tailcut, "the levels agree")
    if distance <= tolerance_ghz:
        return _answer(
            run, MatchKind.WITHIN_TOLERANCE, same_tailcut, f"the levels agree within {tolerance_ghz:.2f} GHz"
        )
    low = min(level.level_ghz for level in same_version)
    high = max(level.level_ghz for level in same_version)
    if low <= run.extra_ghz <= high:
        return _between(run, same_version, same_tailcut, tolerance_ghz)
    words = f"the grid reaches from {low:.2f} to {high:.2f} GHz"
    return _answer(run, MatchKind.OUTSIDE_GRID, same_tailcut, words)


def _between(
    run: RunNsb, same_version: Sequence[NsbLevel], same_tailcut: Sequence[NsbLevel], tolerance_ghz: float
) -> LevelMatch:
    below = [level for level in same_version if level.level_ghz <= run.extra_ghz]
    above = [level for level in same_version if level.level_ghz > run.extra_ghz]
    neighbours = (_nearest(run, below), _nearest(run, above)) if below and above else ()
    named = " and ".join(f"{n.name} ({n.level_ghz:.2f} GHz{mismatch_words(run, n)})" for n in neighbours)
    words = f"it lies between {named}; no level of its cleaning is within {tolerance_ghz:.2f} GHz"
    answer = _answer(run, MatchKind.BETWEEN_LEVELS, same_tailcut, words)
    return replace(answer, neighbours=neighbours)


def mismatch_words(run: RunNsb, level: NsbLevel) -> str:
    """How the noise of the level's pixels differs from the run's, in per cent; nothing where that is not known."""
    try:
        return f", pixel noise {noise_mismatch_percent(run.extra_ghz, level.level_ghz):+.1f} %"
    except DataError:
        return ""


def _distance_ghz(run: RunNsb, level: NsbLevel) -> float:
    """Rounded: 0.15 GHz is as far from 0.10 as from 0.20, whatever their binary fractions say."""
    return round(abs(level.level_ghz - run.extra_ghz), 3)


def _nearest(run: RunNsb, levels: Sequence[NsbLevel]) -> NsbLevel:
    # of two equally near ones the standard, then the lower, then by name: the same question has the same answer
    def order(level: NsbLevel) -> tuple[float, bool, float, str]:
        return _distance_ghz(run, level), not level.is_standard, level.level_ghz, level.name

    return min(levels, key=order)


def _answer(run: RunNsb, kind: MatchKind, levels: Sequence[NsbLevel], why: str) -> LevelMatch:
    level = _nearest(run, levels)
    distance = run.extra_ghz - level.level_ghz
    explanation = (
        f"{kind.value}: run {run.run_number} has {run.extra_ghz:.2f} GHz and cleaning {run.tailcut}; nearest is "
        f"{level.name} with {level.level_ghz:.2f} GHz{mismatch_words(run, level)}, cleaning {level.tailcut}, "
        f"{level.version}; {why}"
    )
    return LevelMatch(run.run_number, kind, level, distance, explanation)
