"""The reader of the night-wise data check files, with what real and broken disks hold."""

from __future__ import annotations

import os

import h5py
import numpy as np
import pytest

from lstops.errors import DataError
from lstops.night import Night
from lstops.quality.collect import collect_nights
from lstops.quality.datacheck import find_datachecks, read_datacheck
from lstops.quality.tables import SubrunTable, unique_nights
from tests.unit.datachecks import NIGHT, as_rows, subruns, summary, write_datacheck, write_rows


def assert_named(caught, *words):
    for word in words:
        assert str(word) in caught.value.what
    assert caught.value.remedy


def test_a_night_survives_writing_and_reading(tmp_path):
    table = SubrunTable.concatenate([subruns(run=2001), subruns(run=2002, n_subruns=3)])
    night = read_datacheck(write_datacheck(tmp_path, table))
    assert night.night == Night.parse("20240115")
    for name, values in table.arrays().items():
        assert np.array_equal(getattr(night.subruns, name), values), name
        assert getattr(night.subruns, name).dtype in (np.float64, np.int64)
    assert night.runs.run_number.tolist() == [2001, 2002]
    assert night.flatfield is not None
    assert len(night.flatfield) == 23


def test_other_dtypes_say_the_same(tmp_path):
    dtypes = {"diffuse_nsb_std": "<f4", "runnumber": "<i4", "subrun": ">i2", "picture_thresh": "<f8", "time": ">f8"}
    usual = read_datacheck(write_datacheck(tmp_path))
    (tmp_path / "other").mkdir()
    other = read_datacheck(write_datacheck(tmp_path / "other", **dtypes))
    nsb = other.subruns.diffuse_nsb_std_pe
    assert np.array_equal(nsb, usual.subruns.diffuse_nsb_std_pe.astype("f4").astype("f8"))
    for name in ("run_number", "subrun", "picture_threshold_pe", "time_s"):
        assert np.array_equal(getattr(other.subruns, name), getattr(usual.subruns, name))


def test_a_night_without_flatfield_table_or_without_rows_is_an_answer(tmp_path):
    assert read_datacheck(write_datacheck(tmp_path, flatfield=False)).flatfield is None
    empty = read_datacheck(write_datacheck(tmp_path, SubrunTable.empty()))
    assert len(empty.subruns) == len(empty.runs) == 0
    assert empty.night == Night.parse("20240115")


@pytest.mark.parametrize("table", ["cosmics_intensity_spectrum", "runsummary"])
def test_a_missing_table_is_named(tmp_path, table):
    path = write_datacheck(tmp_path)
    with h5py.File(path, "a") as file:
        del file[table]
    with pytest.raises(DataError) as caught:
        read_datacheck(path)
    assert_named(caught, path, f"has no table '{table}'")


@pytest.mark.parametrize(
    ("table", "column"),
    [("cosmics_intensity_spectrum", "light_yield"), ("runsummary", "num_pedestals"), ("flatfield", "charge_mean")],
)
def test_a_missing_column_is_named(tmp_path, table, column):
    path = write_datacheck(tmp_path)
    with h5py.File(path, "a") as file:
        rows = file[table]["table"][:]
        del file[table]["table"]
        file[table]["table"] = rows[[name for name in rows.dtype.names if name != column]].copy()
    with pytest.raises(DataError) as caught:
        read_datacheck(path)
    assert_named(caught, path, table, column)


def test_a_table_in_another_format_is_named(tmp_path):
    path = write_datacheck(tmp_path)
    with h5py.File(path, "a") as file:
        del file["runsummary"]["table"]
        file["runsummary"]["block0_values"] = np.zeros((3, 3))
    with pytest.raises(DataError, match="no data set 'table' for the table 'runsummary'"):
        read_datacheck(path)


@pytest.mark.parametrize("kept", [0, 8, 1000, -2000])
def test_an_empty_or_truncated_file_is_named(tmp_path, kept):
    path = write_datacheck(tmp_path, subruns(500))
    size = path.stat().st_size
    os.truncate(path, kept if kept >= 0 else size + kept)
    with pytest.raises(DataError) as caught:
        read_datacheck(path)
    assert_named(caught, path, "truncated")


def test_a_file_that_is_not_there_or_no_hdf5(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        read_datacheck(tmp_path / "DL1_datacheck_20240115.h5")
    page = tmp_path / "DL1_datacheck_20240116.h5"
    page.write_text("<html>404</html>")
    with pytest.raises(DataError, match="no readable HDF5 file"):
        read_datacheck(page)


def rows_with(column, dtype, value):
    rows = as_rows(subruns(3), **{column: dtype})
    rows[column] = value
    return {"cosmics_intensity_spectrum": rows, "runsummary": as_rows(summary(2001))}


@pytest.mark.parametrize(
    ("column", "dtype", "value", "words"),
    [
        ("light_yield", "S4", b"good", "not one number a row"),
        ("light_yield", ("f8", (2,)), 1.0, "not one number a row"),
        ("runnumber", "f8", np.nan, "not whole numbers"),
        ("subrun", "f8", 0.5, "not whole numbers"),
        ("runnumber", "f8", np.inf, "not whole numbers"),
        ("subrun", "i8", 7, "run 2001.7 twice"),
        ("yyyymmdd", "i8", 20240116, "rows are of 20240116"),
    ],
)
def test_a_column_of_another_kind_is_named(tmp_path, column, dtype, value, words):
    path = write_rows(tmp_path / "DL1_datacheck_20240115.h5", rows_with(column, dtype, value))
    with pytest.raises(DataError, match=words) as caught:
        read_datacheck(path)
    assert_named(caught, path)


def test_a_run_twice_in_the_summary(tmp_path):
    path = write_datacheck(tmp_path, subruns(), summary(2001, 2001))
    with pytest.raises(DataError, match="table 'runsummary' holds run 2001 twice"):
        read_datacheck(path)


def test_nan_and_infinity_are_read_as_they_are(tmp_path):
    values = np.where(np.arange(20) % 2, np.nan, -np.inf)
    night = read_datacheck(write_datacheck(tmp_path, subruns(r422=values)))
    assert np.array_equal(night.subruns.r422, values, equal_nan=True)


def test_a_file_of_another_name_takes_its_night_from_its_rows(tmp_path):
    path = write_datacheck(tmp_path).rename(tmp_path / "copy.h5")
    assert int(read_datacheck(path).night) == NIGHT
    two = SubrunTable.concatenate([subruns(run=2001), subruns(run=2002, night=20240116)])
    path = write_datacheck(tmp_path, two).rename(tmp_path / "two.h5")
    with pytest.raises(DataError, match="neither the file's name nor its rows"):
        read_datacheck(path)


def test_files_of_a_directory_and_of_a_tree(tmp_path):
    with pytest.raises(DataError, match="holds no file"):
        find_datachecks(tmp_path)
    with pytest.raises(DataError, match="is not a directory"):
        find_datachecks(tmp_path / "absent")
    below = tmp_path / "v0.10" / "20240115"
    below.mkdir(parents=True)
    real = write_datacheck(below)
    assert find_datachecks(tmp_path) == (real,)
    # the link on top of the tree, as on site: the night is found once
    link = tmp_path / real.name
    link.symlink_to(real)
    (tmp_path / "DL1_datacheck_20240115.log").touch()
    assert find_datachecks(tmp_path) == (link,)
    assert read_datacheck(link).same_content(read_datacheck(real))


def test_a_night_twice_counts_once_and_a_contradiction_is_named(tmp_path):
    for name in "abc":
        (tmp_path / name).mkdir()
    first, again = read_datacheck(write_datacheck(tmp_path / "a")), read_datacheck(write_datacheck(tmp_path / "b"))
    assert unique_nights([first, again]) == (first,)
    other = read_datacheck(write_datacheck(tmp_path / "c", subruns(seed=1)))
    with pytest.raises(DataError, match="disagree about night 20240115") as caught:
        unique_nights([first, other])
    assert_named(caught, first.path, other.path)


def test_a_run_in_two_nights_is_named(tmp_path):
    first = read_datacheck(write_datacheck(tmp_path))
    second = read_datacheck(write_datacheck(tmp_path, subruns(night=20240116), night=20240116))
    with pytest.raises(DataError, match="Run 2001 is in two nights"):
        unique_nights([first, second])


def test_bad_nights_stop_themselves_only(tmp_path):
    for name in "abcd":
        (tmp_path / name).mkdir()
    first = write_datacheck(tmp_path / "a")
    again, other = write_datacheck(tmp_path / "b"), write_datacheck(tmp_path / "c", subruns(seed=1))
    same_run = write_datacheck(tmp_path / "d", subruns(night=20240117), night=20240117)
    good = write_datacheck(tmp_path, subruns(run=2005, night=20240118), night=20240118)
    empty = tmp_path / "DL1_datacheck_20240119.h5"
    empty.touch()
    collected = collect_nights([first, again, other, same_run, good, empty])
    assert [night.path for night in collected.nights] == [first, good]
    assert sorted(problem.path for problem in collected.problems) == sorted([other, same_run, empty])
    assert all(str(problem.path) in problem.what and problem.remedy for problem in collected.problems)
    assert collect_nights([]).nights == ()
