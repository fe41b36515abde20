"""A site on this machine, for tests of any kind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lstops.site.model import Site

#: what a site file must name
DOCUMENT: dict[str, Any] = {
    "name": "test",
    "observatory": {"name": "LST-1", "latitude_deg": 28.76, "longitude_deg": -17.89, "height_m": 2184},
    "cluster": {"name": "test", "scheduler": "local"},
    "environments": {"0.12.3": {"lstchain_version": "0.12.3", "activate": "/nonexistent/activate"}},
    "nightly": {"pipeline_version": "v0.12", "lstchain_version": "0.12.3"},
    "production": {"base_production": "base"},
}


def make_site(base: Path, **changes: Any) -> Site:
    """A site with a local scheduler below `base`."""
    return Site.model_validate({**DOCUMENT, "base": str(base), **changes})
