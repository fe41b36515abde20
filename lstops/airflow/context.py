"""What the DAGs take from Airflow's context and from the environment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from lstops.errors import ConfigError
from lstops.night import Night
from lstops.reduction.reprocessing import Reprocessing, parse_reprocessing
from lstops.site.model import Site, load_site


def night_of(context: Mapping[str, Any]) -> Night:
    """The night of a DAG run: its parameter, else the night that ended on the morning of its logical date.

    Raises
    ------
    ConfigError
        If the run was started by hand without a night.
    """
    if night := context["params"].get("night"):
        return Night.parse(night)
    logical_date = context.get("logical_date")
    if logical_date is None:
        raise ConfigError("this run has no night.", "start it again with the parameter `night`, as YYYYMMDD.")
    return Night.of(logical_date - timedelta(hours=12))


@dataclass(frozen=True)
class NightWork:
    """What a run of the DAG `nightly` is about.

    Attributes
    ----------
    site : Site
        As the run has to see it: a reprocessing changes what the site file says of the nightly reduction.
    again : Reprocessing or None
        The reprocessing that the run is part of.
    """

    site: Site
    night: Night
    profile: str | None
    again: Reprocessing | None


def night_work(context: Mapping[str, Any]) -> NightWork:
    """What a DAG run of `nightly` has to do.

    Raises
    ------
    ConfigError
        If it was started by hand without a night, or with a reprocessing that cannot be.
    """
    site, night, params = site_of_environment(), night_of(context), context["params"]
    if not (form := params.get("reprocessing")):
        return NightWork(site, night, params["profile"], None)
    again = parse_reprocessing(form)
    return NightWork(again.site(site), night, again.profile, again)


def site_of_environment() -> Site:
    """The site that this Airflow works for (LSTOPS_SITE)."""
    return load_site()
