"""An analysis request: which runs of which target, and what they are reduced with."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from pydantic import Field, ValidationError, field_validator, model_validator

from lstops.errors import ConfigError
from lstops.night import Night
from lstops.quality.targets import load_targets
from lstops.site.layout import slug
from lstops.site.model import MAX_NSB_GHZ, describe
from lstops.step.model import Frozen


class ReductionRequest(Frozen):
    """What a person asks for; the same request again gives the same bundle, or its next version.

    Attributes
    ----------
    target : str
        Name of the target list, or "ra dec" in degrees; empty: the source of the named runs.
    runs : tuple of int
        Only these runs; empty: every good run of the target.
    since, until : str or None
        Nights YYYYMMDD, both included.
    zd_min_deg, zd_max_deg : float
        Range of the runs' mean zenith distance.
    profile : str or None
        Selection profile; None: the site's.
    production : str or None
        Models for all runs; None: those that fit the NSB of each run.
    nsb_tolerance_ghz : float or None
        Largest difference between the NSB of a run and that of its models. None: the site's, and any difference for a
        production that is named.
    cuts : str or None
        Cut set; None: the site's.
    intensity_per_run : bool
        The lower limit of the intensity is that of each run, whatever the cut set says (see `CutSet`).
    """

    target: str = ""
    runs: tuple[int, ...] = ()
    since: str | None = None
    until: str | None = None
    zd_min_deg: float = Field(default=0.0, ge=0, le=90)
    zd_max_deg: float = Field(default=75.0, ge=0, le=90)
    profile: str | None = None
    production: str | None = None
    nsb_tolerance_ghz: float | None = Field(default=None, gt=0, le=MAX_NSB_GHZ)
    cuts: str | None = None
    intensity_per_run: bool = False

    @field_validator("since", "until")
    @classmethod
    def _night(cls, value: str | None) -> str | None:
        try:
            return None if value is None else str(Night.parse(value))
        except ConfigError as error:
            raise ValueError(error.what) from None

    @field_validator("runs")
    @classmethod
    def _each_once(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if any(run <= 0 for run in value):
            raise ValueError(f"run numbers are positive, not {min(value)}")
        return tuple(sorted(set(value)))

    @model_validator(mode="after")
    def _complete(self) -> ReductionRequest:
        if not self.target.strip() and not self.runs:
            raise ValueError("neither a target nor runs are named")
        if self.since and self.until and self.since > self.until:
            raise ValueError(f"since {self.since} is after until {self.until}")
        if self.zd_min_deg >= self.zd_max_deg:
            raise ValueError(f"zenith range from {self.zd_min_deg:g} to {self.zd_max_deg:g} deg is empty")
        return self

    @property
    def dates(self) -> tuple[int, int] | None:
        """Nights as whole numbers for the selection; None for all."""
        if self.since is None and self.until is None:
            return None
        return int(self.since or 0), int(self.until or 29990101)

    @property
    def name(self) -> str:
        """Of the bundle's folder: for people, and different for every other request."""
        what = slug(self.target) if self.target.strip() else f"run_{self.runs[0]}"
        when = "-".join(n for n in (self.since, self.until) if n) or "all"
        # as before there was this option: a request that was made then has the same name
        told = self.model_dump_json(exclude=None if self.intensity_per_run else {"intensity_per_run"})
        return f"{what}_{when}_{hashlib.sha256(told.encode()).hexdigest()[:8]}"

    @property
    def models(self) -> str:
        """What the runs are reduced with, for people."""
        tolerance = self.nsb_tolerance_ghz
        if self.production:
            return f"{self.production} for all runs" + (f", to {tolerance:g} GHz of their NSB" if tolerance else "")
        return "those that fit the NSB of each run to " + (
            f"{tolerance:g} GHz" if tolerance else "the site's tolerance"
        )

    @property
    def title(self) -> str:
        """For people."""
        runs = ", ".join(map(str, self.runs))
        runs = f"{'run' if len(self.runs) == 1 else 'runs'} {runs}"
        what = f"{self.target.strip()}{f' ({runs})' if self.runs else ''}" if self.target.strip() else runs
        nights = f" from {self.since or 'the beginning'} until {self.until or 'now'}" if self.dates else ""
        return f"{what}{nights}, zd {self.zd_min_deg:g} to {self.zd_max_deg:g} deg"


def parse_request(form: Mapping[str, Any]) -> ReductionRequest:
    """Read a request from the fields of a form; empty fields are as if they were not there.

    A target is named as in the target list, however it was written: another spelling is no other request.

    Raises
    ------
    ConfigError
        Naming every field that is wrong.
    """
    given = {key: value for key, value in form.items() if value not in (None, "", [], ())}
    try:
        request = ReductionRequest.model_validate(given)
        return request.model_copy(update={"target": load_targets().spelling(request.target)})
    except ValidationError as error:
        raise ConfigError(
            f"the request is wrong: {describe(error)}", "name a target or runs; see `lstops reduce --help`."
        ) from error
