"""The page that compares old and new: numbers, missing sides, and text that must not become markup."""

from __future__ import annotations

from datetime import datetime, timezone

import pytest

from lstops.report.comparison import comparison_page, headline
from lstops.report.comparison_model import Comparison, Pair, Side, Stopped

EVIL = "<script>alert(1)</script>"


def side(version: str, runs: tuple[int, ...], hours: float, flux: float | None) -> Side:
    return Side(
        version=f"DL3/x/{version}", production="prod", profile="standard", cuts="std_cuts", runs=runs,
        live_time_s=hours * 3600, significance=12.3, flux=flux, flux_error=None if flux is None else flux / 10,
    )  # fmt: skip


def comparison(*pairs: Pair, **changes: object) -> Comparison:
    fields: dict[str, object] = {
        "name": "20240115-20240116_0123abcd", "site": "here", "since": "20240115", "until": "20240116",
        "changes": {"profile": "notebook"}, "is_current": False,
        "made_at": datetime(2024, 2, 1, tzinfo=timezone.utc), "pairs": pairs,
    }  # fmt: skip
    return Comparison.model_validate(fields | changes)


PAIRS = (
    Pair(night="20240115", source=EVIL, old=side("v0001", (1, 2), 0.6, 4e-10), new=side("v0002", (2, 3), 0.5, 5e-10),
         lost={1: "the rate is too low"}),
    Pair(night="20240116", source="Crab", old=None, new=side("v0001", (7,), 0.3, None)),
)  # fmt: skip


def test_numbers_of_both_sides() -> None:
    found = comparison(*PAIRS)
    old, new = found.totals
    assert (old.runs, old.hours, old.flux) == (2, pytest.approx(0.6), pytest.approx(4e-10))
    assert (new.runs, new.hours, new.flux_error) == (3, pytest.approx(0.8), pytest.approx(5e-11))
    assert PAIRS[0].gained == (3,)
    assert PAIRS[0].ratio == pytest.approx(1.25)
    assert PAIRS[1].ratio is None
    assert headline(found) == ("2 nights: 0.80 h in 3 runs, before 0.60 h in 2 runs; mean flux 1.250 of what it was.")


def test_a_source_that_only_one_side_has_does_not_change_the_flux_of_the_other() -> None:
    bright = Pair(night="20240115", source="Crab", old=side("v1", (1,), 0.6, 4e-10), new=side("v2", (1,), 0.6, 4e-10))
    faint = Pair(night="20240115", source="Mrk 421", old=side("v1", (2,), 0.6, 1e-11), new=None)
    found = comparison(bright, faint)
    assert found.ratio == pytest.approx(1.0)
    assert "mean flux 1.000 of what it was" in headline(found)
    assert [t.flux for t in found.totals] == [None, None], "a mean over sources says nothing"
    night = Pair(night="20240116", source="Crab", old=side("v1", (3,), 0.6, 8e-10), new=None)
    assert comparison(bright, night).ratio == pytest.approx(1.0)


def test_the_page_says_everything_and_runs_nothing() -> None:
    stopped = Stopped(night="20240116", subject="run 8", cause="outside the nodes.", remedy="produce test nodes.")
    page = comparison_page(comparison(*PAIRS, stopped=(stopped,), unfinished=("2024-01-17",)))
    expected = (
        "50.00 ± 5.00", "1.250", "gained 3", "lost 1 (the rate is too low)", "not published", "produce test nodes.",
        "2024-01-17", "Readers still get the old versions", "profile notebook",
    )  # fmt: skip
    for words in expected:
        assert words in page, words
    assert EVIL not in page
    assert "<script" not in page
    assert "The new versions are current" in comparison_page(comparison(*PAIRS, is_current=True))


def test_nothing_was_published() -> None:
    assert "Nothing is published of these nights" in comparison_page(comparison())


def test_the_json_file_gives_the_comparison_back() -> None:
    found = comparison(*PAIRS)
    assert Comparison.model_validate_json(found.model_dump_json()) == found
