"""Nights, runs and the readers of the telescope's own tables."""

from __future__ import annotations

from datetime import date, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lstops.errors import ConfigError, DataError
from lstops.night import Night, RunType, Subrun, is_night_closed, read_run_catalog, read_run_summary, read_runs

SUMMARY = """\
# %ECSV 1.0
# ---
# datatype:
# - {name: run_id, datatype: int64}
# - {name: n_subruns, datatype: int64}
# - {name: run_type, datatype: string}
# - {name: run_start, datatype: int64}
# delimiter: ','
# meta: !!omap
# - {date: '2024-01-15'}
# schema: astropy-2.0
run_id,n_subruns,run_type,run_start
"""
CATALOG = """\
# %ECSV 1.0
# ---
# datatype:
# - {name: run_id, datatype: int32}
# - {name: source_name, datatype: string}
# - {name: source_ra, datatype: float64}
# - {name: source_dec, datatype: float64}
# delimiter: ','
# schema: astropy-2.0
run_id,source_name,source_ra,source_dec
"""


def write(path, text):
    path.write_text(text)
    return path


@given(st.dates(min_value=date(1, 1, 2), max_value=date(9999, 12, 30)))
def test_a_night_survives_text_and_number(day):
    night = Night(day)
    assert Night.parse(str(night)) == Night.parse(night.iso) == night
    assert len(str(night)) == 8
    assert Night.parse(f"{int(night):08d}") == night


@given(st.datetimes(min_value=datetime(2018, 1, 1), max_value=datetime(2100, 1, 1)), st.integers(-12, 12))
def test_a_time_lies_in_its_night_in_every_zone(naive, hours):
    time = naive.replace(tzinfo=timezone(timedelta(hours=hours)))
    night = Night.of(time)
    assert night.start <= time < night.end
    assert Night.of(time.timestamp()) == night


def test_the_night_is_the_date_before_midnight():
    assert str(Night.of(datetime(2024, 1, 16, 3, tzinfo=timezone.utc))) == "20240115"
    assert str(Night.of(datetime(2024, 1, 15, 20, tzinfo=timezone.utc))) == "20240115"
    assert Night.parse("20240229").shift(1) == Night.parse("20240301")


def test_the_night_of_an_astropy_time():
    time = pytest.importorskip("astropy.time").Time("2024-01-16T03:00:00", scale="tai")
    assert str(Night.of(time)) == "20240115"


@pytest.mark.parametrize("text", ["2024115", "20240230", "2024/01/15", "tomorrow", "", "202401150", "٢٠٢٤٠١١٥"])
def test_what_is_no_night_is_refused(text):
    with pytest.raises(ConfigError, match="is not a night"):
        Night.parse(text)


@pytest.mark.parametrize("time", [datetime(2024, 1, 15, 20), "20240115", None, True, float("nan"), 1e30])
def test_what_is_no_definite_time_is_refused(time):
    with pytest.raises(ConfigError, match="time"):
        Night.of(time)


def test_names_of_runs_and_subruns():
    assert str(Subrun(2929, 3)) == "Run02929.0003"
    assert str(Subrun(20929, 12345)) == "Run20929.12345"


def test_run_summary_and_catalogue_with_awkward_names(tmp_path):
    summary = write(
        tmp_path / "RunSummary_20240115.ecsv",
        SUMMARY + '2003,2,DATA,1705356037000000000\n2001,3,DRS4,-1\n2002,1,PEDCALIB,-1\n2004,0,"moon test",-1\n',
    )
    catalog = write(
        tmp_path / "RunCatalog_20240115.ecsv",
        CATALOG + '2003,"Crab, ""the"" Nebula",83.63,22.01\n2999,Mrk 421,166.1,38.2\n',
    )
    runs = read_runs(summary, catalog)
    assert [run.number for run in runs] == [2001, 2002, 2003, 2004]
    assert [run.run_type for run in runs] == [RunType.DRS4, RunType.PEDCALIB, RunType.DATA, RunType.OTHER]
    assert runs[3].type_text == "moon test"
    assert [run.is_sky for run in runs] == [False, False, True, False]
    crab = runs[2]
    assert crab.source is not None
    assert (crab.source.name, crab.source.ra_deg) == ('Crab, "the" Nebula', 83.63)
    assert crab.start == datetime(2024, 1, 15, 22, 0, tzinfo=timezone.utc)  # 37 s of leap seconds before
    assert crab.subruns == (Subrun(2003, 0), Subrun(2003, 1))
    assert runs[0].source is None
    assert runs[0].start is None
    assert {run.night for run in runs} == {Night.parse("20240115")}


def test_a_night_without_observations_is_an_answer(tmp_path):
    assert read_run_summary(write(tmp_path / "RunSummary_20240115.ecsv", SUMMARY)) == ()
    assert read_run_catalog(write(tmp_path / "RunCatalog_20240115.ecsv", CATALOG)) == {}
    assert read_runs(tmp_path / "RunSummary_20240115.ecsv", tmp_path / "absent.ecsv") == ()


def test_a_catalogue_row_without_name_or_coordinates(tmp_path):
    sources = read_run_catalog(
        write(tmp_path / "RunCatalog_20240115.ecsv", CATALOG + '1,"",1.0,2.0\n2,New target,nan,nan\n')
    )
    assert list(sources) == [2]
    assert sources[2].ra_deg is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "cannot be read"),
        ("run_id n_subruns\n1 2\n", "cannot be read"),
        (SUMMARY.replace("run_type", "kind"), "no column run_type"),
        (SUMMARY + "1,2,DATA,-1\n1,3,DATA,-1\n", "lists run 1 twice"),
        (SUMMARY + "1,-2,DATA,-1\n", "-2 subruns"),
        (SUMMARY + "1,2\n", "cannot be read"),
        (SUMMARY.replace("{name: run_id", "{name: [run_id") + "1,2,DATA,-1\n", "cannot be read"),
    ],
)
def test_a_damaged_run_summary_is_named(tmp_path, text, words):
    path = write(tmp_path / "RunSummary_20240115.ecsv", text)
    with pytest.raises(DataError, match=words) as caught:
        read_run_summary(path)
    assert str(path) in str(caught.value)
    assert caught.value.remedy


def test_missing_file_and_file_without_night(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        read_run_summary(tmp_path / "RunSummary_20240115.ecsv")
    with pytest.raises(DataError, match="holds no night"):
        read_run_summary(write(tmp_path / "summary.ecsv", SUMMARY))


def test_two_sources_for_one_run(tmp_path):
    path = write(tmp_path / "RunCatalog_20240115.ecsv", CATALOG + "1,Crab,83.63,22.01\n1,Mrk 421,166.1,38.2\n")
    with pytest.raises(DataError, match="two sources, 'Crab' and 'Mrk 421'"):
        read_run_catalog(path)


def test_the_flag_closes_a_night(tmp_path):
    flag = tmp_path / "20240115" / "v0.10" / "NightFinished.txt"
    assert not is_night_closed(flag)
    flag.parent.mkdir(parents=True)
    assert not is_night_closed(flag)
    flag.touch()
    assert is_night_closed(flag)
    flag.unlink()
    flag.mkdir()
    assert not is_night_closed(flag)
