"""Night-sky background: the level of a run and of a sample, and which production fits it."""

from __future__ import annotations

from lstops.nsb.finder import RunNsb, read_tailcut_finder
from lstops.nsb.match import LevelMatch, MatchKind, NsbLevel, match_level
from lstops.nsb.sample import Recommendation, SampleNsb, TypicalSubrun, recommend
from lstops.nsb.tailcuts import TAILCUTS, Tailcut, extra_nsb_ghz, pedestal_quantile_pe, tailcut_for

__all__ = [
    "TAILCUTS",
    "LevelMatch",
    "MatchKind",
    "NsbLevel",
    "Recommendation",
    "RunNsb",
    "SampleNsb",
    "Tailcut",
    "TypicalSubrun",
    "extra_nsb_ghz",
    "match_level",
    "pedestal_quantile_pe",
    "read_tailcut_finder",
    "recommend",
    "tailcut_for",
]
