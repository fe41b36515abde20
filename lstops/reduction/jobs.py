"""A run to reduce: what it is, and what is used for it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timezone

from lstops.reduction.geometry import Field, IrfNode, NodeWeight, around, nearest, weights
from lstops.site.layout import parse_run_file


@dataclass(frozen=True)
class ModelSet:
    """The random forests for a run.

    Attributes
    ----------
    path : str
        Folder, relative to the site's base.
    sha256 : str or None
        Pins the content: what is unpickled is what was registered.
    config : str or None
        lstchain configuration of the training, relative to the base; None: the copy in the folder.
    training_zd_deg : (low, high) or None
        Zenith distances that the forests were trained at: beyond, lstchain extrapolates without a word.
    """

    production: str
    line: str
    level_ghz: float
    path: str
    sha256: str | None = None
    config: str | None = None
    training_zd_deg: tuple[float, float] | None = None


@dataclass(frozen=True)
class RunJob:
    """One run to reduce: what it is, and what is used for it.

    Attributes
    ----------
    dl1 : str
        Run-wise DL1, relative to the site's base.
    ra_deg, dec_deg : float
        Of the source, in degrees (ICRS).
    zd_deg, az_deg : float
        Mean pointing in degrees.
    middle_unix_s : float
        Middle of the run, seconds since 1970 (UTC).
    irfs : tuple of IrfNode
        What the responses are interpolated from; with `nearest_deg` the one node whose responses are taken as they are.
    nearest_deg : float or None
        How far the pointing is from that node; None: the responses are interpolated.
    min_live_fraction : float
        Smallest LIVETIME / ONTIME of the DL3.
    dropped : tuple of str
        Subrun-wise DL1 files whose events are left out of the DL3, relative to the site's base.
    tailcut : str
        Folder of its image cleaning, that of its models ("tailcut1005"); empty: the night's.
    """

    run: int
    dl1: str
    source: str
    ra_deg: float
    dec_deg: float
    zd_deg: float
    az_deg: float
    middle_unix_s: float
    models: ModelSet
    irfs: tuple[IrfNode, ...]
    nearest_deg: float | None = None
    min_live_fraction: float = 0.5
    dropped: tuple[str, ...] = ()
    tailcut: str = ""

    @property
    def dropped_subruns(self) -> tuple[int, ...]:
        """Numbers of the subruns that are left out, ascending."""
        return tuple(sorted(parse_run_file(path.rpartition("/")[2]).subrun or 0 for path in self.dropped))

    @property
    def field(self) -> Field:
        """Geomagnetic field in the middle of the run."""
        return Field.at(datetime.fromtimestamp(self.middle_unix_s, timezone.utc))

    @property
    def responses(self) -> tuple[NodeWeight, ...]:
        """Nodes that the responses come from, with their weights; empty if they cannot be interpolated."""
        if self.nearest_deg is not None:
            return (NodeWeight(self.irfs[0], 1.0),)
        return weights(self.zd_deg, self.az_deg, self.field.delta_deg(self.zd_deg, self.az_deg), self.irfs)

    @property
    def nodes_around(self) -> tuple[IrfNode, ...]:
        """All nodes that the responses may come from, once the mean pointing of the events is known."""
        if self.nearest_deg is not None:
            return self.irfs
        return around(self.zd_deg, self.az_deg, self.field, self.irfs)

    @property
    def response_words(self) -> str:
        """For a person, where the responses are not interpolated; else empty."""
        if self.nearest_deg is None:
            return ""
        return f"IRFs of the nearest node ({self.irfs[0].where}), {self.nearest_deg:.1f} deg away"


def with_nearest_node(job: RunJob, within_deg: float | None) -> RunJob:
    """The job with the responses of the nearest node where its pointing is outside the grid.

    Parameters
    ----------
    within_deg : float or None
        Largest angle between pointing and node. None: never; such a run is refused later (`split_runs`).
    """
    if within_deg is None or not job.irfs or job.responses:
        return job
    node, distance_deg = nearest(job.zd_deg, job.az_deg, job.irfs)
    return replace(job, irfs=(node,), nearest_deg=distance_deg) if distance_deg <= within_deg else job
