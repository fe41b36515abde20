"""Reading many nights so that a bad file stops itself only."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from lstops.errors import DataError
from lstops.quality.datacheck import read_datacheck
from lstops.quality.tables import DatacheckNight, unique_nights


@dataclass(frozen=True)
class NightProblem:
    """A file that was left out.

    Parameters
    ----------
    path : Path
    what : str
        What is wrong.
    remedy : str
        What a person can do about it.
    """

    path: Path
    what: str
    remedy: str


@dataclass(frozen=True, eq=False)
class Collected:
    """What could be read.

    Parameters
    ----------
    nights : tuple of DatacheckNight
        In order of night, each once.
    problems : tuple of NightProblem
        One for each file that was left out. Of files that contradict each other the one
        named first stays.
    """

    nights: tuple[DatacheckNight, ...]
    problems: tuple[NightProblem, ...]


def collect_nights(paths: Iterable[Path]) -> Collected:
    """Read night-wise data check files, leaving out those that are damaged or contradict an earlier one."""
    nights: list[DatacheckNight] = []
    problems: list[NightProblem] = []
    for path in paths:
        try:
            night = read_datacheck(path)
        except DataError as error:
            problems.append(NightProblem(path, error.what, error.remedy))
        else:
            nights.append(night)
    return _consistent(nights, problems)


def _consistent(nights: list[DatacheckNight], problems: list[NightProblem]) -> Collected:
    try:
        return Collected(unique_nights(nights), tuple(problems))
    except DataError:
        pass  # rare: find out below which files contradict earlier ones
    kept: list[DatacheckNight] = []
    for night in nights:
        try:
            unique_nights([*kept, night])
        except DataError as error:
            problems.append(NightProblem(night.path, error.what, error.remedy))
        else:
            kept.append(night)
    return Collected(unique_nights(kept), tuple(problems))
