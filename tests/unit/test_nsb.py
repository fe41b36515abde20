"""NSB of runs and samples, and matching to productions."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lstops.errors import DataError
from lstops.nsb import (
    TAILCUTS,
    MatchKind,
    NsbLevel,
    Recommendation,
    RunNsb,
    Tailcut,
    extra_nsb_ghz,
    match_level,
    pedestal_quantile_pe,
    read_tailcut_finder,
    recommend,
    tailcut_for,
)
from lstops.nsb.sample import sample_nsb, typical_subruns
from lstops.quality.tables import SubrunTable
from tests.unit.datachecks import subruns

DIRECTORIES = ("tailcut84", "tailcut1005", "tailcut1206", "tailcut1407", "tailcut1608", "tailcut1809")
# the standard grid: levels in GHz by cleaning
GRID = {0: (0.0, 0.07, 0.14, 0.22), 1: (0.38, 0.50), 2: (0.81,), 3: (1.25,), 4: (1.76,), 5: (2.34,)}
LEVELS = tuple(
    NsbLevel(level, TAILCUTS[step], "v0.10", f"allsky_nsb_tuning_{level:.2f}")
    for step, levels in GRID.items()
    for level in levels
)


def test_ladder_of_tailcuts_and_their_directories():
    assert tuple(cut.directory for cut in TAILCUTS) == DIRECTORIES
    assert all(Tailcut.parse(name) == cut for name, cut in zip(DIRECTORIES, TAILCUTS, strict=True))


@given(st.integers(1, 30), st.integers(1, 30))
def test_directory_names_can_be_read_back(picture, boundary):
    cut = Tailcut(picture, boundary)
    if picture < 10 and boundary != 4:
        return  # such names are ambiguous on site, and no such cleaning is in use
    assert Tailcut.parse(cut.directory) == cut


@pytest.mark.parametrize(
    "name", ["tailcut", "tailcut8", "tailcut105", "tailcut10055", "cut84", "tailcut84/", "tailcut1004"]
)
def test_what_is_no_tailcut_directory(name):
    with pytest.raises(DataError, match="is not the name of a tailcut directory"):
        Tailcut.parse(name)


@pytest.mark.parametrize(
    ("quantile", "picture"),
    [(0, 8), (5.84, 8), (5.85, 10), (7.25, 12), (8.75, 14), (10.29, 14), (10.3, 16), (11.67, 18), (50, 18)],
)
def test_edges_of_the_ladder(quantile, picture):
    assert tailcut_for(quantile) == Tailcut(picture, picture // 2)


def test_extra_nsb():
    assert extra_nsb_ghz(3.95147396) == 0
    assert extra_nsb_ghz(5.85) == pytest.approx(0.302, abs=1e-3)
    assert extra_nsb_ghz(3.5) < 0
    for value in (math.nan, math.inf):
        with pytest.raises(DataError, match="not a number"):
            extra_nsb_ghz(value)
        with pytest.raises(DataError, match="not a number"):
            tailcut_for(value)
    with pytest.raises(DataError, match="No pedestal charge"):
        pedestal_quantile_pe(-1)


@given(st.floats(1, 20))
def test_quantile_and_level_are_each_others_inverse(quantile):
    assert pedestal_quantile_pe(extra_nsb_ghz(quantile)) == pytest.approx(quantile, rel=1e-6)


def run(level, step=0):
    return RunNsb(2001, level, TAILCUTS[step])


@pytest.mark.parametrize(
    ("level", "step", "kind", "nearest"),
    [
        (0.14, 0, MatchKind.EXACT, 0.14),
        (0.1437, 0, MatchKind.EXACT, 0.14),
        (0.16, 0, MatchKind.WITHIN_TOLERANCE, 0.14),
        (-0.02, 0, MatchKind.WITHIN_TOLERANCE, 0.0),
        (0.30, 0, MatchKind.BETWEEN_LEVELS, 0.22),
        (0.65, 1, MatchKind.BETWEEN_LEVELS, 0.50),
        (-0.10, 0, MatchKind.OUTSIDE_GRID, 0.0),
        (3.50, 5, MatchKind.OUTSIDE_GRID, 2.34),
        (2.35, 5, MatchKind.WITHIN_TOLERANCE, 2.34),
    ],
)
def test_every_way_of_matching_has_a_name(level, step, kind, nearest):
    match = match_level(run(level, step), LEVELS, tolerance_ghz=0.05, version="v0.10")
    assert match.kind is kind
    assert match.level is not None
    assert match.level.level_ghz == nearest
    assert match.distance_ghz == pytest.approx(level - nearest)
    assert match.usable == (kind in (MatchKind.EXACT, MatchKind.WITHIN_TOLERANCE))
    assert match.explanation.startswith(kind.value)
    assert match.level.name in match.explanation


def test_other_version_comes_before_other_tailcut():
    match = match_level(run(0.14), LEVELS, 0.05, version="v0.11")
    assert match.kind is MatchKind.OTHER_VERSION
    assert not match.usable
    assert "version v0.11 is wanted, there is v0.10" in match.explanation
    assert match_level(run(0.14), LEVELS, 0.05).kind is MatchKind.EXACT


def test_other_tailcut_however_near_the_level():
    match = match_level(run(0.14, step=2), LEVELS[:6], 0.05, version="v0.10")
    assert match.kind is MatchKind.OTHER_TAILCUT
    assert match.level is not None
    assert match.level.level_ghz == 0.14
    assert "cleaning 12/6 is wanted, there is 8/4, 10/5" in match.explanation


def test_without_production_or_without_nsb():
    nothing = match_level(run(0.14), (), 0.05)
    assert (nothing.kind, nothing.level, nothing.usable) == (MatchKind.NO_PRODUCTION, None, False)
    unknown = match_level(run(math.nan), LEVELS, 0.05)
    assert (unknown.kind, unknown.level, unknown.usable) == (MatchKind.UNKNOWN_NSB, None, False)


@given(st.floats(-1, 5), st.integers(0, 5), st.permutations(LEVELS), st.floats(0, 0.5))
def test_a_match_never_accepts_what_does_not_fit(level, step, available, tolerance):
    match = match_level(run(level, step), available, tolerance, "v0.10")
    assert match == match_level(run(level, step), LEVELS, tolerance, "v0.10")
    assert match.level is not None
    if match.usable:
        assert match.level.tailcut == TAILCUTS[step]
        # levels are compared to three decimals
        assert abs(level - match.level.level_ghz) <= max(tolerance, 0.005) + 0.0006


class TestTailcutFinder:
    LOG = "Median of 95% quantile of pedestal charge: 5.012 p.e.\n\nAdditional NSB rate (over dark MC): {} p.e./ns\n"

    def write(self, folder, rate="0.1534", **cleaning):
        config, log = folder / "dl1ab_Run02001.json", folder / "log_find_tailcuts_Run02001.log"
        levels = {"picture_thresh": 8, "boundary_thresh": 4} | cleaning
        config.write_text(json.dumps({"tailcuts_clean_with_pedestal_threshold": levels}))
        log.write_text(self.LOG.format(rate))
        return config, log

    def test_result(self, tmp_path):
        assert read_tailcut_finder(2001, *self.write(tmp_path)) == RunNsb(2001, 0.1534, Tailcut(8, 4), 5.012)

    def test_a_sky_darker_than_the_monte_carlo(self, tmp_path):
        assert read_tailcut_finder(2001, *self.write(tmp_path, "-0.0123")).extra_ghz == -0.0123

    def test_what_stops_a_run_only(self, tmp_path):
        config, log = self.write(tmp_path)
        log.write_text("No valid computation was possible for run 2001\n")
        with pytest.raises(DataError, match="does not tell the NSB of run 2001"):
            read_tailcut_finder(2001, config, log)
        log.write_text(self.LOG.format("nan"))
        with pytest.raises(DataError, match="does not tell the NSB"):
            read_tailcut_finder(2001, config, log)
        log.unlink()
        with pytest.raises(DataError, match="cannot be read"):
            read_tailcut_finder(2001, config, log)
        for text in ("{}", "[1]", "", '{"tailcuts_clean_with_pedestal_threshold": {"picture_thresh": "x"}}'):
            config.write_text(text)
            with pytest.raises(DataError, match="holds no cleaning levels"):
                read_tailcut_finder(2001, config, log)


def test_consistency_of_a_run_made_from_its_quantile():
    made = RunNsb.from_quantile(2001, 6.0)
    assert made.tailcut == Tailcut(10, 5)
    assert made.extra_ghz == pytest.approx(0.331, abs=1e-3)


@pytest.mark.parametrize(
    ("median", "answer"),
    [
        (1.599, Recommendation.STANDARD),
        (1.6, Recommendation.IMAGE_LEVEL),
        (3.999, Recommendation.IMAGE_LEVEL),
        (4.0, Recommendation.WAVEFORM),
        (math.nan, Recommendation.UNKNOWN),
    ],
)
def test_recommendation(median, answer):
    assert recommend(median) is answer
    assert answer.advice


def two_runs():
    near, far = np.linspace(1.699, 1.701, 10), np.linspace(1.75, 1.80, 10)
    tables = [subruns(10, run=2001, diffuse_nsb_std_pe=near), subruns(10, run=2002, diffuse_nsb_std_pe=far)]
    return SubrunTable.concatenate(tables)


def test_typical_subruns_are_spread_over_the_runs():
    table = two_runs()
    uneven = SubrunTable(**{**table.arrays(), "elapsed_time_s": 10 + 0.01 * (np.arange(20) % 2)})
    runs = np.array([2001, 2002])
    spread = typical_subruns(uneven, runs, 1.7, 4, spread=True)
    assert [item.run_number for item in spread] == [2001, 2002, 2001, 2002]
    assert spread[1].diffuse_nsb_std_pe == 1.75
    notebook = typical_subruns(uneven, runs, 1.7, 4, spread=False)
    assert [item.run_number for item in notebook] == [2001] * 4
    assert all(uneven.elapsed_time_s[item.subrun] > 10.005 for item in notebook)


def test_typical_subruns_do_not_depend_on_what_else_is_loaded():
    ours = two_runs()
    other = subruns(50, run=2003, elapsed_time_s=np.full(50, 60.0))
    more = SubrunTable.concatenate([ours, other])
    runs = np.array([2001, 2002])
    assert typical_subruns(more, runs, 1.7, spread=True) == typical_subruns(ours, runs, 1.7, spread=True) != ()
    # the notebook finds all of ours too short once longer ones are loaded
    assert typical_subruns(more, runs, 1.7, spread=False) == ()


def test_the_broken_end_of_a_run_is_not_typical():
    table = subruns(5, diffuse_nsb_std_pe=[1.8, 1.8, 1.8, 1.8, 1.7], elapsed_time_s=[10, 10, 10, 10, 3])
    assert 4 not in [item.subrun for item in typical_subruns(table, np.array([2001]), 1.7, spread=True)]


def test_a_run_without_nsb():
    table, runs = two_runs(), np.array([2001, 2002])
    values = np.array([1.7, np.nan])
    mended = sample_nsb(values, table, runs, ignore_unknown=True, spread=True)
    assert (mended.median_pe, mended.n_runs_without) == (1.7, 1)
    assert mended.recommendation is Recommendation.IMAGE_LEVEL
    notebook = sample_nsb(values, table, runs, ignore_unknown=False, spread=False)
    assert math.isnan(notebook.median_pe)
    assert notebook.recommendation is Recommendation.WAVEFORM
    nothing = sample_nsb(np.array([np.nan]), table, runs[:1], ignore_unknown=True, spread=True)
    assert (nothing.recommendation, nothing.typical) == (Recommendation.UNKNOWN, ())


@pytest.mark.parametrize("n_runs", [1, 3, 5, 20])
def test_typical_subruns_of_many_are_those_of_a_full_sort(n_runs):
    """With ties, and with runs far from the median, so that the nearest rows are of few runs."""
    rng = np.random.default_rng(n_runs)
    levels = [np.round(rng.normal(2 + i % 4, 0.3, 300), 3) for i in range(n_runs)]
    parts = [subruns(300, run=2001 + i, diffuse_nsb_std_pe=level) for i, level in enumerate(levels)]
    table = SubrunTable.concatenate(parts)
    by_run: dict[int, list[tuple[float, int, int]]] = {}
    for run, subrun, nsb in zip(table.run_number, table.subrun, table.diffuse_nsb_std_pe, strict=True):
        by_run.setdefault(int(run), []).append((abs(nsb - 2.0), int(run), int(subrun)))
    ranked = [(place, *item) for items in by_run.values() for place, item in enumerate(sorted(items))]
    wanted = [(run, subrun) for _, _, run, subrun in sorted(ranked)[:5]]
    found = typical_subruns(table, np.array(sorted(by_run)), 2.0, 5, spread=True)
    assert [(item.run_number, item.subrun) for item in found] == wanted
