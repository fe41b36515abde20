"""Nights, runs and subruns, and what the telescope's own tables say about them."""

from __future__ import annotations

from lstops.night.closed import is_night_closed
from lstops.night.model import Night, Run, RunSource, RunType, Subrun
from lstops.night.tables import read_run_catalog, read_run_summary, read_runs

__all__ = [
    "Night",
    "Run",
    "RunSource",
    "RunType",
    "Subrun",
    "is_night_closed",
    "read_run_catalog",
    "read_run_summary",
    "read_runs",
]
