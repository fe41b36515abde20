"""A reprocessing: nights that are reduced again in another way, beside what there is."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError, field_validator, model_validator

from lstops.errors import ConfigError
from lstops.night import Night
from lstops.site.model import Site, describe
from lstops.step.model import Frozen


class Reprocessing(Frozen):
    """Which nights, and what is other than in the nightly reduction.

    Attributes
    ----------
    since, until : str
        Nights YYYYMMDD, both included.
    profile, cuts : str or None
        Selection profile and cut set; None: the site's.
    pipeline_version : str or None
        DL1 of another version of lstosa ("v0.13"); None: the site's.
    lstchain_version : str or None
        Another science environment of the site, and the productions that were made with it; None: the site's.
    make_current : bool
        Whether readers get the new versions at once. It is no part of the name: the same reprocessing again, with it,
        computes nothing and moves `current`.
    """

    since: str
    until: str
    profile: str | None = None
    cuts: str | None = None
    pipeline_version: str | None = None
    lstchain_version: str | None = None
    make_current: bool = False

    @field_validator("since", "until")
    @classmethod
    def _night(cls, value: str) -> str:
        try:
            return str(Night.parse(value))
        except ConfigError as error:
            raise ValueError(error.what) from None

    @model_validator(mode="after")
    def _complete(self) -> Reprocessing:
        if self.since > self.until:
            raise ValueError(f"since {self.since} is after until {self.until}")
        return self

    @property
    def name(self) -> str:
        """Of its folder: for people, and different for every other reprocessing."""
        what = self.model_dump_json(exclude={"make_current"})
        return f"{self.since}-{self.until}_{hashlib.sha256(what.encode()).hexdigest()[:8]}"

    @property
    def changes(self) -> dict[str, str]:
        """What is other than in the nightly reduction, for people."""
        named = {
            "profile": self.profile,
            "cuts": self.cuts,
            "DL1": self.pipeline_version,
            "lstchain": self.lstchain_version,
        }
        return {name: value for name, value in named.items() if value}

    def site(self, site: Site) -> Site:
        """The site as this reprocessing sees it.

        Raises
        ------
        ConfigError
            If the environment is unknown, or the DL2 of the nights would be replaced.
        """
        nightly = site.nightly
        version, pipeline = self.lstchain_version or nightly.lstchain_version, self.pipeline_version
        if version not in site.environments:
            raise ConfigError(
                f"lstchain {version} is none of the site's environments {sorted(site.environments)}.",
                "add it to the site file, or name one of them.",
            )
        if version != nightly.lstchain_version and pipeline in (None, nightly.pipeline_version):
            raise ConfigError(
                f"lstchain {version} on the DL1 of {nightly.pipeline_version} would replace the DL2 that lstchain "
                f"{nightly.lstchain_version} made of it.",
                "name the version of the DL1 that belongs to it (pipeline_version).",
            )
        changed = nightly.model_copy(
            update={
                "profile": self.profile or nightly.profile,
                "lstchain_version": version,
                "pipeline_version": pipeline or nightly.pipeline_version,
            }
        )
        return site.model_copy(update={"nightly": changed, "cuts": self.cuts or site.cuts})


def parse_reprocessing(form: Mapping[str, Any]) -> Reprocessing:
    """Read a reprocessing from the fields of a form; empty fields are as if they were not there.

    Raises
    ------
    ConfigError
        Naming every field that is wrong.
    """
    given = {key: value for key, value in form.items() if value not in (None, "")}
    try:
        return Reprocessing.model_validate(given)
    except ValidationError as error:
        raise ConfigError(
            f"the reprocessing is wrong: {describe(error)}", "name the nights; see `lstops reprocess --help`."
        ) from error
