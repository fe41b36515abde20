"""What a reprocessing made, beside what was there: data only, as the page and the JSON file tell it."""

from __future__ import annotations

import math
from collections.abc import Iterable
from datetime import datetime

from pydantic import Field

from lstops.step.model import Frozen


class Side(Frozen):
    """A published version of a source of a night.

    Attributes
    ----------
    version : str
        Its folder, relative to the site's base.
    live_time_s, significance, flux, flux_error : float or None
        Of its source check: s, standard deviations, 1 / (cm2 s) above 0.1 TeV. None: there is no check.
    """

    version: str
    production: str
    profile: str
    cuts: str
    runs: tuple[int, ...]
    live_time_s: float | None = None
    significance: float | None = None
    flux: float | None = None
    flux_error: float | None = None


class Pair(Frozen):
    """A source of a night, old and new; None: not published.

    Attributes
    ----------
    lost : dict
        Runs that only the old version has, and what the new run list says of them.
    """

    night: str
    source: str
    old: Side | None
    new: Side | None
    lost: dict[int, str] = Field(default_factory=dict)

    @property
    def gained(self) -> tuple[int, ...]:
        """Runs that only the new version has."""
        return tuple(sorted(set(self.new.runs if self.new else ()) - set(self.old.runs if self.old else ())))

    @property
    def ratio(self) -> float | None:
        """Flux, new to old."""
        if self.old is None or self.new is None or not self.old.flux or self.new.flux is None:
            return None
        return self.new.flux / self.old.flux


class Stopped(Frozen):
    """What could not be reprocessed, why, and what helps."""

    night: str
    subject: str
    cause: str
    remedy: str


class Total(Frozen):
    """Of one side, over all nights; flux is the mean, weighted with the errors, if all is of one source."""

    runs: int
    hours: float
    flux: float | None
    flux_error: float | None


class Comparison(Frozen):
    """A reprocessing against what was there.

    Attributes
    ----------
    changes : dict
        What is other than in the nightly reduction.
    is_current : bool
        Whether readers get the new versions.
    unfinished : tuple of str
        Nights that have not ended yet, or failed.
    """

    name: str
    site: str
    since: str
    until: str
    changes: dict[str, str]
    is_current: bool
    made_at: datetime
    pairs: tuple[Pair, ...]
    stopped: tuple[Stopped, ...] = ()
    unfinished: tuple[str, ...] = ()
    synthetic: bool = False

    @property
    def totals(self) -> tuple[Total, Total]:
        """Old and new."""
        measured = {p.source for p in self.pairs for side in (p.old, p.new) if side and side.flux is not None}
        alike = len(measured) <= 1
        return total([p.old for p in self.pairs if p.old], alike), total([p.new for p in self.pairs if p.new], alike)

    @property
    def ratio(self) -> float | None:
        """Flux, new to old: the mean of the pairs that have both, weighted with the relative errors of the old one.

        Not that of the totals: a night that only one of them has, or another source, would change it.
        """
        found = [
            (pair.ratio, (pair.old.flux / pair.old.flux_error) ** 2)
            for pair in self.pairs
            if pair.ratio is not None and pair.old and pair.old.flux and pair.old.flux_error
        ]
        norm = sum(weight for _, weight in found)
        return sum(ratio * weight for ratio, weight in found) / norm if norm else None


def total(sides: Iterable[Side], alike: bool = True) -> Total:
    """Sum up versions; a flux without error does not count, nor does any if they are not all `alike`, of one source."""
    found = list(sides)
    weights = [(s.flux, s.flux_error**-2) for s in found if alike and s.flux is not None and s.flux_error]
    norm = sum(weight for _, weight in weights)
    return Total(
        runs=sum(len(side.runs) for side in found),
        hours=sum(side.live_time_s or 0.0 for side in found) / 3600,
        flux=sum(flux * weight for flux, weight in weights) / norm if norm else None,
        flux_error=1 / math.sqrt(norm) if norm else None,
    )
