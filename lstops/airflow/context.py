"""What the DAGs take from Airflow's context and from the environment."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from lstops.errors import ConfigError
from lstops.night import Night
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


def site_of_environment() -> Site:
    """The site that this Airflow works for (LSTOPS_SITE)."""
    return load_site()
