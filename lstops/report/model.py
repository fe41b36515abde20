"""What a night report says, as data that the catalogue can fill."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import TYPE_CHECKING

from lstops.report.source import SourceCheck

if TYPE_CHECKING:
    from lstops.quality.tables import FloatArray
    from lstops.quality.targets import Position
    from lstops.report.odd import OddRun

#: quantities that the report shows, by the names of `lstops.quality`'s run table; the first one known is taken
R422 = ("mean_believable_r422", "mean_r422")
NSB = ("mean_diffuse_nsb_std_pe",)


class ProductState(str, Enum):
    """State of a run's DL2 or DL3."""

    #: made in this processing, or up to date
    DONE = "done"
    PUBLISHED = "published"
    #: wanted, but waiting for something (a model, the cluster)
    PENDING = "pending"
    FAILED = "failed"
    #: not wanted: the run was rejected
    NONE = "none"


@dataclass(frozen=True)
class FailedCut:
    """A limit that a run does not keep.

    Attributes
    ----------
    reason : str
        A sentence for people.
    """

    cut: str
    quantity: str
    value: float | None
    limit: float | None
    unit: str
    reason: str


@dataclass(frozen=True)
class Quarantine:
    """Why something could not be processed, and the one action that helps."""

    stage: str
    cause: str
    remedy: str


@dataclass(frozen=True)
class ReportRun:
    """One run of the night.

    Attributes
    ----------
    elapsed_s : float or None
        Without the subruns that people dropped.
    wobble : str
        For people, such as "W1" or "0.4 deg at 90 deg".
    selected : bool or None
        None: not judged (calibration, or no data check).
    decision : str
        What a person decided about it, with author and reason; empty if nobody did.
    models : str
        Production (and NSB level) whose models made the DL2.
    """

    run_id: int
    source: str
    start: datetime | None = None
    elapsed_s: float | None = None
    wobble: str = ""
    zenith_deg: float | None = None
    quantities: dict[str, float | None] = field(default_factory=dict)
    selected: bool | None = None
    failed: tuple[FailedCut, ...] = ()
    decision: str = ""
    models: str = ""
    dl2: ProductState = ProductState.NONE
    dl3: ProductState = ProductState.NONE
    quarantine: Quarantine | None = None

    def quantity(self, names: tuple[str, ...]) -> float | None:
        """The first of these quantities that is known (NaN counts as unknown)."""
        for name in names:
            value = self.quantities.get(name)
            if value is not None and value == value:
                return value
        return None


@dataclass(frozen=True)
class UsedProduction:
    """Monte Carlo that the night used."""

    name: str
    line: str
    nsb_level_ghz: float | None
    lstchain_version: str
    runs: tuple[int, ...] = ()


@dataclass(frozen=True)
class ReportBundle:
    """A published version.

    Attributes
    ----------
    path : str
        Relative to the site's base.
    published_at : str
        ISO 8601 (UTC).
    """

    source: str
    version: str
    path: str
    published_at: str
    runs: tuple[int, ...]
    size_bytes: int
    digest: str


@dataclass(frozen=True)
class EndedBundle:
    """The last version of a source, if readers do not get it because a person withdrew or replaced it.

    Attributes
    ----------
    words : str
        What became of it, by whom and why: "withdrawn by Ana: clouds".
    """

    source: str
    path: str
    words: str
    runs: tuple[int, ...]


@dataclass(frozen=True)
class Problem:
    """Something that needs a person and belongs to no run (a missing production, a failed stage)."""

    what: str
    remedy: str


@dataclass(frozen=True, eq=False)
class SubrunRates:
    """Rates of all subruns of a night, drawn behind those of the runs.

    Attributes
    ----------
    time_s, r422 : array of float, shape (n,)
        Seconds since 1970 (UTC); rate of cosmics at 422 p.e. in 1/(s p.e.).
    """

    time_s: FloatArray
    r422: FloatArray


@dataclass(frozen=True)
class NightReport:
    """Everything on the page.

    Attributes
    ----------
    night : str
        YYYYMMDD.
    cuts : tuple of str
        Names of the profile's cuts in their order; the cut flow follows it.
    limits : dict
        Limits of the profile by the name of the plots' columns (see `lstops.report.points`).
    sources : tuple of Position
        What was observed.
    odd : OddRun or None
        The run whose rate oscillates most.
    synthetic : bool
        The page then says so in its first line.
    """

    night: str
    site: str
    profile: str
    runs: tuple[ReportRun, ...]
    generated_at: datetime
    cuts: tuple[str, ...] = ()
    limits: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    sources: tuple[Position, ...] = ()
    subruns: SubrunRates | None = None
    odd: OddRun | None = None
    productions: tuple[UsedProduction, ...] = ()
    published: tuple[ReportBundle, ...] = ()
    ended: tuple[EndedBundle, ...] = ()
    checks: tuple[SourceCheck, ...] = ()
    problems: tuple[Problem, ...] = ()
    plan_id: str = ""
    lstops_version: str = ""
    synthetic: bool = False
