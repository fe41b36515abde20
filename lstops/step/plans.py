"""Plans on disk: written once, with the resolved site beside them, so that a compute node needs nothing else."""

from __future__ import annotations

from pathlib import Path

import yaml

from lstops.errors import ConfigError
from lstops.site.layout import Layout
from lstops.site.model import Site, load_site
from lstops.step.manifest import write_atomically
from lstops.step.model import Plan

SITE_NAME = "site.yaml"


def save_plan(plan: Plan, site: Site) -> Path:
    """Write a plan and its site below the site's work area.

    Returns
    -------
    Path
        Of the plan. The same plan again gives the same file.
    """
    layout = Layout(site.base, site.work)
    path = layout.plan_file(plan.plan_id)
    text = plan.to_json()
    if not path.exists() or path.read_text() != text:
        write_atomically(path, text)
    write_atomically(path.with_name(SITE_NAME), yaml.safe_dump(site.model_dump(mode="json"), sort_keys=False))
    return path


def load_plan(path: Path) -> Plan:
    """Read a plan.

    Raises
    ------
    ConfigError
        If it is not there or is no plan.
    """
    try:
        text = path.read_text()
    except OSError as error:
        raise ConfigError(f"cannot read the plan {path}: {error.strerror}.", "plan again.") from error
    return Plan.from_json(text, str(path))


def site_of_plan(path: Path) -> Site:
    """The site that was resolved when the plan was written."""
    return load_site(path.with_name(SITE_NAME))
