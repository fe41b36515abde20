"""Verdicts, their reasons, and good time within a run."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from lstops.errors import ConfigError, DataError
from lstops.night import Night
from lstops.quality.cli import app
from lstops.quality.datacheck import read_datacheck
from lstops.quality.intervals import cut_runs, fullest_window_centre, good_subruns, good_time
from lstops.quality.judge import judge, judge_runs
from lstops.quality.profiles import Profile, load_profile
from lstops.quality.quantities import RunTable, run_table
from lstops.quality.request import SelectionRequest
from lstops.quality.select import Sample, document, select
from lstops.quality.sky import separation_deg
from lstops.quality.tables import SubrunTable
from tests.unit.datachecks import subruns, summary, write_datacheck

STANDARD, NOTEBOOK = load_profile("standard"), load_profile("notebook")


def table_of(*runs, **columns):
    parts = [subruns(run=2001 + i, **part) for i, part in enumerate(runs)]
    numbers = [2001 + i for i in range(len(runs))]
    return run_table(SubrunTable.concatenate(parts), summary(*numbers, **columns))


def only_failure(verdict):
    assert not verdict.selected
    assert len(verdict.failed) == 1, verdict.reasons
    return verdict.failed[0]


@pytest.mark.parametrize("profile", [STANDARD, NOTEBOOK])
def test_a_good_run_is_selected_and_every_limit_shown(profile):
    (verdict,) = judge_runs(table_of({}), profile)
    assert verdict.selected
    assert verdict.reasons == ()
    assert (verdict.run_number, verdict.night) == (2001, Night.parse("20240115"))
    assert all(result.margin > 0 for result in verdict.results)
    assert {result.cut for result in verdict.results} >= {
        "drdi_rate_selection",
        "zd_selection",
        "pointing_stability_selection",
    }


@pytest.mark.parametrize(
    ("columns", "cut", "words"),
    [
        ({"r422": np.full(20, 1.2)}, "drdi_rate_selection", "cosmics rate is too low: mean_believable_r422 is 1.2 1/"),
        ({"index": np.full(20, -2.5)}, "drdi_index_selection", "too steep: mean_index is -2.5, must be above -2.35"),
        ({"index": np.full(20, -2.0)}, "drdi_index_selection", "too hard: mean_index is -2, must be below -2.1"),
        ({"fit_p_value": np.full(20, 0.01)}, "p_value_selection", "is -7.591 sigma, must be above -3 sigma"),
        ({"dec_deg": np.linspace(22, 22.1, 20)}, "pointing_stability_selection", "deg, must be below 0.01 deg"),
        ({"dec_deg": np.append(np.full(19, 22.0), np.nan)}, "pointing_stability_selection", "std_dec_deg is unknown"),
        ({"cos_zenith": np.full(20, 0.2)}, "zd_selection", "zenith_deg is 78.46 deg, must be below 75 deg"),
        ({"r422": np.tile([1.6, 1.9], 10)}, "drdi_rate_selection", "not stable: fraction_in_window_r422 is 0.5"),
    ],
)
def test_a_rejected_run_says_why(columns, cut, words):
    (verdict,) = judge_runs(table_of(columns), STANDARD)
    result = only_failure(verdict)
    assert result.cut == cut
    assert words in result.reason
    assert not result.margin > 0


def test_no_interleaved_events():
    for name, words in (("pedestals", "pedestal"), ("flatfield", "flatfield")):
        for value in (0.0, np.nan):
            (verdict,) = judge_runs(table_of({}, **{name: value}), STANDARD)
            assert only_failure(verdict).failure == f"No interleaved {words} events"


def test_limits_that_are_off_reject_nothing_until_asked():
    table = table_of({"diffuse_nsb_std_pe": np.full(20, 3.0)}, {"diffuse_nsb_std_pe": np.full(20, np.nan)}, {})
    assert judge(table, STANDARD).selected.all()
    asked = judge(table, STANDARD, SelectionRequest(max_diffuse_nsb_std_pe=2.3))
    # an unknown NSB passes, as in the notebook
    assert asked.selected.tolist() == [False, True, True]
    assert only_failure(asked.verdict(0)).margin == pytest.approx(-0.7)


def test_source_and_dates():
    table = table_of({}, {"night": np.full(20, 20240120)}, {"dec_deg": np.full(20, 30.0)})
    crab = SelectionRequest(source_ra_deg=83.6333, source_dec_deg=22.0145)
    assert judge(table, STANDARD, crab).selected.tolist() == [True, True, False]
    dated = crab.model_copy(update={"dates": (20240101, 20240119)})
    judgement = judge(table, STANDARD, dated)
    assert judgement.selected.tolist() == [True, False, False]
    assert judgement.verdict(1).reasons == (
        "Not within the dates asked for: night is 20240120, must be at most 20240119",
    )
    assert "separation from the source is 7.986 deg, must be below 0.45 deg" in judgement.verdict(2).reasons[0]
    flow = dict((name, left) for name, _, left in judgement.cut_flow())
    assert (flow["date_selection"], flow["skyregion_selection"], flow["drdi_rate_selection"]) == (2, 1, 1)


def test_a_limit_holds_only_in_its_period():
    content = STANDARD.model_dump(mode="json")
    limit = {"quantity": "mean_light_yield", "above": 1.2, "failure": "Dark mirrors", "since": 20240116}
    content["cuts"] = [{"name": "mirrors", "limits": [limit]}]
    profile = Profile.model_validate(content)
    table = table_of({}, {"night": np.full(20, 20240116)})
    judgement = judge(table, profile)
    assert judgement.selected.tolist() == [True, False]
    assert judgement.verdict(0).results == ()
    # a run whose night is unknown does not escape
    unknown = RunTable.partial(np.array([1]), mean_light_yield=np.array([1.0]))
    assert not judge(unknown, profile).selected.any()
    assert judge(unknown, profile).verdict(0).night is None


def test_mends_of_the_standard_profile():
    one_subrun = {"n_subruns": 1, "fit_p_value": [0.5], "r422": [1.7], "index": [-2.2]}
    edge = {"r422": np.array([1.60] * 9 + [1.70] * 8 + [1.80] * 3)}
    outlier = {"r422": np.append(np.linspace(1.16, 1.24, 19), 1e4)}
    table = table_of(one_subrun, edge, outlier)
    # the notebook loses two good runs, and takes the mean of a bad one for good
    assert judge(table, NOTEBOOK).selected.tolist() == [False, False, True]
    assert judge(table, STANDARD).selected.tolist() == [True, True, False]


def test_an_infinite_rate_is_a_verdict_not_a_crash():
    table = table_of({"r422": np.append(np.full(19, 1.7), np.inf)})
    assert not judge(table, NOTEBOOK).selected.any()
    assert judge(table, STANDARD).selected.all()


@settings(max_examples=100, deadline=None)
@given(
    st.floats(0, 359.99),
    st.floats(-90, 90),
    st.floats(0, 359.99),
    st.floats(-90, 90),
)
def test_separation_is_that_of_the_unit_vectors(ra, dec, source_ra, source_dec):
    def vector(lon, lat):
        lon, lat = np.deg2rad([lon, lat])
        return np.array([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)])

    one, other = vector(ra, dec), vector(source_ra, source_dec)
    angle = np.rad2deg(np.arctan2(np.linalg.norm(np.cross(one, other)), one @ other))
    assert separation_deg(np.array([ra]), np.array([dec]), (source_ra, source_dec))[0] == pytest.approx(angle, abs=1e-9)


class TestGoodTime:
    def cloudy(self, n_cloudy=6):
        rate = subruns(40).r422.copy()
        rate[10 : 10 + n_cloudy] = 1.1
        return subruns(40, r422=rate)

    def test_a_run_with_a_cloud_is_cut_not_lost(self):
        table = self.cloudy(10)
        whole = run_table(table, summary(2001, elapsed_s=400.0))
        cut = cut_runs(whole, table, STANDARD)
        assert not cut.whole.selected.any()
        assert cut.selected.all()
        (time,) = cut.good_time
        assert [(part.first_subrun, part.last_subrun) for part in time.intervals] == [(0, 9), (20, 39)]
        assert time.intervals[0].stop_s - time.intervals[0].start_s == pytest.approx(100)
        assert time.intervals[1].start_s - time.intervals[0].stop_s == pytest.approx(100)
        assert (time.good_s, time.total_s) == (300, 400)
        assert cut.hours_gained == cut.hours == pytest.approx(300 / 3600)
        assert cut.hours_trimmed == 0

    def test_time_trimmed_from_a_good_run(self):
        table = self.cloudy(4)
        cut = cut_runs(run_table(table, summary(2001, elapsed_s=400.0)), table, STANDARD)
        assert cut.whole.selected.all()
        assert cut.hours_trimmed == pytest.approx(40 / 3600)
        assert cut.hours_gained == 0

    def test_a_run_mostly_bad_or_without_any_good_subrun_is_lost(self):
        for n_cloudy in (25, 30):
            table = self.cloudy(n_cloudy)
            cut = cut_runs(run_table(table, summary(2001)), table, STANDARD)
            assert not cut.selected.any()
        table = subruns(5, r422=np.full(5, np.nan))
        cut = cut_runs(run_table(table, summary(2001)), table, STANDARD)
        assert not cut.selected.any()
        assert cut.good_time[0].intervals == ()

    def test_a_short_good_run_stays(self):
        table = subruns(3)
        assert cut_runs(run_table(table, summary(2001)), table, STANDARD).selected.all()

    def test_a_missing_subrun_ends_an_interval(self):
        table = subruns(10).take(np.array([5, 6, 0, 1, 2, 9]))
        (time,) = good_time(table, np.ones(6, dtype=bool))
        assert [(part.first_subrun, part.last_subrun) for part in time.intervals] == [(0, 2), (5, 6), (9, 9)]

    def test_spikes_and_odd_indices_are_bad(self):
        table = subruns(10)
        rate, index = table.r422.copy(), table.index.copy()
        rate[2], index[5] = 2.4, -1.5
        good = good_subruns(subruns(10, r422=rate, index=index), STANDARD.subruns)
        assert np.flatnonzero(~good).tolist() == [2, 5]

    def test_centre_of_the_fullest_window(self):
        assert fullest_window_centre(np.array([1.0, 1.7, 1.75, 1.8, 2.5])) == 1.75

    def test_runs_that_lose_nothing_stay_as_they_are(self):
        parts = [subruns(10, run=2001), self.cloudy(10), subruns(10, run=2003)]
        parts[1] = SubrunTable(**{**parts[1].arrays(), "run_number": np.full(40, 2002)})
        table = SubrunTable.concatenate(parts)
        whole = run_table(table, summary(2001, 2002, 2003))
        cut = cut_runs(whole, table, STANDARD)
        for name, values in whole.arrays().items():
            assert np.array_equal(getattr(cut.cut.table, name)[[0, 2]], values[[0, 2]], equal_nan=True), name
        assert cut.cut.table.n_subruns.tolist() == [10, 30, 10]
        assert cut.selected.tolist() == [True, True, True]

    def test_a_profile_without_rules_for_subruns(self):
        with pytest.raises(ConfigError, match="no rules for subruns"):
            cut_runs(table_of({}), subruns(), NOTEBOOK)


class TestSelection:
    def test_nothing_selected_is_an_answer(self, tmp_path):
        sample = Sample.of([read_datacheck(write_datacheck(tmp_path))])
        request = SelectionRequest(dates=(20300101, 20300102))
        for profile in (NOTEBOOK, STANDARD):
            selection = select(sample.table, sample.subruns, profile, request)
            answer = document(sample, selection, {})
            assert (answer["good_runs"], answer["obs_hours"], answer["nsb_median"]) == ([], 0.0, None)
            assert answer["typical_subruns"] == []
            assert selection.nsb.recommendation.value == "unknown"

    def test_no_nights_is_an_answer(self):
        sample = Sample.of([])
        answer = document(sample, select(sample.table, sample.subruns, STANDARD), {})
        assert answer["runlist"] == []
        json.dumps(answer, allow_nan=False)

    def test_infinite_numbers_become_null(self, tmp_path):
        night = read_datacheck(write_datacheck(tmp_path, subruns(r422=np.full(20, np.inf))))
        sample = Sample.of([night])
        answer = document(sample, select(sample.table, sample.subruns, NOTEBOOK), {})
        assert answer["mean_R422"] == [None]
        json.dumps(answer, allow_nan=False)


class TestCommandLine:
    def test_select_writes_the_answer_with_reasons(self, tmp_path):
        table = SubrunTable.concatenate([subruns(run=2001), subruns(run=2002, r422=np.full(20, 1.0))])
        write_datacheck(tmp_path, table)
        out = tmp_path / "answer" / "out.json"
        result = CliRunner().invoke(app, ["select", "--datacheck", str(tmp_path), "--out", str(out)])
        assert result.exit_code == 0, result.output
        assert "1 of 2 runs in 1 nights selected" in result.output
        answer = json.loads(out.read_text())
        assert answer["good_runs"] == [2001]
        assert answer["profile"] == "standard"
        assert list(answer["reasons"]) == ["2002"]
        assert "too low" in answer["reasons"]["2002"][0]

    def test_a_damaged_night_leaves_no_answer(self, tmp_path):
        write_datacheck(tmp_path)
        (tmp_path / "DL1_datacheck_20240116.h5").touch()
        out = tmp_path / "out.json"
        result = CliRunner().invoke(app, ["select", "--datacheck", str(tmp_path), "--out", str(out)])
        assert isinstance(result.exception, DataError)
        assert "DL1_datacheck_20240116.h5" in str(result.exception)
        assert not out.exists()

    def test_a_damaged_night_is_left_out_and_named(self, tmp_path):
        write_datacheck(tmp_path)
        (tmp_path / "DL1_datacheck_20240116.h5").touch()
        command = ["select", "--datacheck", str(tmp_path), "--keep-going"]
        result = CliRunner().invoke(app, command)
        assert result.exit_code == 0, result.output
        assert "1 of 1 runs in 1 nights selected" in result.output
        assert "Left out" in result.stderr
        assert "DL1_datacheck_20240116.h5" in result.stderr

    def test_why_shows_each_cut(self, tmp_path):
        path = write_datacheck(tmp_path, subruns(r422=np.full(20, 1.0)))
        result = CliRunner().invoke(app, ["why", "2001", "--datacheck", str(path)], env={"COLUMNS": "200"})
        assert result.exit_code == 0, result.output
        assert "Run 2001, night 20240115: rejected by standard" in result.output
        assert "FAILED drdi_rate_selection            mean_believable_r422 is 1 1/(s p.e.)" in result.output
        assert "(margin -0.5 1/(s p.e.))" in result.output
        assert "The cosmics rate is too low." in result.output
        assert "Good time: 0 of 200 s; cut to it the run is rejected. Good subruns: none" in result.output
        missing = CliRunner().invoke(app, ["why", "1", "--datacheck", str(path)])
        assert "Run 1 is not in" in str(missing.exception)

    def test_the_command_line_starts_light(self):
        code = (
            "import sys, lstops.quality.cli; print(*sorted({'numpy', 'scipy', 'h5py', 'astropy'} & set(sys.modules)))"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=180)
        assert done.stdout.strip() == ""


def test_good_time_makes_periodograms_only_where_a_cut_needs_them():
    """They are what costs, and the cut on them is off by default."""
    wave = 1.74 + 0.05 * np.sin(np.arange(60) / 3)
    rate = np.where(np.arange(60) < 5, 0.5, wave)
    rows = subruns(60, r422=rate)
    table = run_table(rows, summary(2001, elapsed_s=600.0))
    assert np.isnan(cut_runs(table, rows, STANDARD).cut.table.max_lsc_believable[0])
    request = SelectionRequest.model_validate({"set": {"max_LS_periodogram_maxamplitude": 1e-4}})
    cut = cut_runs(table, rows, STANDARD, request)
    assert cut.cut.table.max_lsc_believable[0] > 1e-4
    assert not cut.selected[0]
    assert cut_runs(table, rows, STANDARD).selected[0]
