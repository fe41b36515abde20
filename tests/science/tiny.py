"""What the tests know of the tiny site (see conftest.py)."""

from __future__ import annotations

from pathlib import Path

from sites import make_site

from lstops.site.model import Site

RUN = 2001
SIMTEL = "mc/simtel/history_meta_75.simtel.zst"


def site_at(base: Path) -> Site:
    """A site file for a synthetic tree, with forests that are trained in seconds."""
    return make_site(
        base,
        production={
            "base_production": "20240601_v0.12.3_sim_dark",
            "tuning_simtel": SIMTEL,
            "forests": {"n_estimators": 10, "max_depth": 10, "min_samples_leaf": 5},
        },
    )
