"""A run to reduce: what it is, and what is used for it."""

from __future__ import annotations

from dataclasses import dataclass

from lstops.reduction.geometry import IrfNode
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
    min_live_fraction : float
        Smallest LIVETIME / ONTIME of the DL3.
    dropped : tuple of str
        Subrun-wise DL1 files whose events are left out of the DL3, relative to the site's base.
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
    min_live_fraction: float = 0.5
    dropped: tuple[str, ...] = ()

    @property
    def dropped_subruns(self) -> tuple[int, ...]:
        """Numbers of the subruns that are left out, ascending."""
        return tuple(sorted(parse_run_file(path.rpartition("/")[2]).subrun or 0 for path in self.dropped))
