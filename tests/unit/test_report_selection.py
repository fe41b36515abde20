"""The report of a request: the answer, why not the others, light and safe; and the same by the command line."""

from __future__ import annotations

import json
from pathlib import Path
from urllib.parse import unquote
from xml.etree import ElementTree

import numpy as np
import pytest
from typer.testing import CliRunner

from lstops.cli import app
from lstops.quality.profiles import load_profile
from lstops.quality.quantities import RunTable, run_table
from lstops.quality.request import SelectionRequest
from lstops.quality.select import select
from lstops.quality.tables import SubrunTable
from lstops.report.points import limits_of
from lstops.report.run_plots import limits_for
from lstops.report.selection import named_source, request_terms, selection_report
from lstops.report.selection_model import SelectionReport, odd_run

from .datachecks import subruns, summary, write_datacheck
from .nightreports import EVIL, Page

CRAB = SelectionRequest(source_ra_deg=83.6333, source_dec_deg=22.0145)
RATE_WITH_PERIOD = 1.74 + 0.07 * np.sin(2 * np.pi * np.arange(60) * 10 / 150)


def sample() -> tuple[RunTable, SubrunTable]:
    """Good runs 2001 and 2004, 2002 with a low rate, 2003 elsewhere in the sky, 2005 oscillating with 150 s."""
    parts = [
        subruns(run=2001), subruns(run=2002, r422=np.full(20, 0.5)), subruns(run=2003, dec_deg=np.full(20, 60.0)),
        subruns(run=2004), subruns(60, run=2005, r422=RATE_WITH_PERIOD),
    ]  # fmt: skip
    table = SubrunTable.concatenate(parts)
    return run_table(table, summary(2001, 2002, 2003, 2004, 2005)), table


def content(request: SelectionRequest = CRAB, **more: object) -> SelectionReport:
    table, parts = sample()
    answer = select(table, parts, load_profile("standard"), request)
    return SelectionReport.of(answer.judgement, answer.nsb, parts, **more)  # type: ignore[arg-type]


def test_only_what_was_asked_for_is_rejected() -> None:
    report = content()
    assert odd_run(report.judgement) == 2005
    assert [run.run_id for run in report.rejected()] == [2002]
    assert "The cosmics rate is too low" in report.rejected()[0].reasons[-1]
    flow = {row.cut: row for row in report.cut_flow()}
    assert (flow["skyregion_selection"].failing, flow["skyregion_selection"].remaining) == (1, 4)
    assert flow["skyregion_selection"].hours == pytest.approx(4 * 200 / 3600)
    assert list(flow.values())[-1].remaining == 3
    (night,) = report.nights()
    assert (night.night, night.asked, night.selected) == ("20240115", 4, 3)
    assert night.rejected_h == pytest.approx(200 / 3600)


def test_what_people_decided_counts_and_is_told() -> None:
    chosen = content().judgement.selected.copy()
    chosen[[0, 1]] = False, True
    report = content(selected=chosen, decisions={2001: "excluded by Ana: cars", 2003: "about something else"})
    assert [run.run_id for run in report.rejected()] == [2001]
    assert report.rejected()[0].reasons == ("excluded by Ana: cars",)
    assert report.decisions == {2001: "excluded by Ana: cars"}
    assert report.points().decided.tolist() == [True, False, False, False]
    assert report.hours == pytest.approx(3 * 200 / 3600)


def test_the_odd_run_has_its_period() -> None:
    odd = content().odd
    assert odd is not None
    assert odd.peak[0] == pytest.approx(150, rel=0.03)
    assert "a period of 1" in odd.words


@pytest.fixture(scope="module")
def page() -> str:
    source = named_source(CRAB)
    return selection_report(content(title=EVIL, source=source, decisions={2001: EVIL}, where=EVIL, synthetic=True))


def test_the_page_answers_and_nothing_from_outside_becomes_markup(page: str) -> None:
    seen = Page(page)
    assert "script" not in seen.tags
    assert EVIL in seen.text
    for words in ("3 of 4 runs selected", "The oddest run: 2005", "Synthetic data.", "rejected", "Crab Nebula",
                  "The cosmics rate is too low", "hours left", "2002"):  # fmt: skip
        assert words in seen.text


def test_the_page_loads_nothing_and_is_whole_svg(page: str) -> None:
    seen = Page(page)
    assert len(seen.links) == 5
    for link in seen.links:
        assert ElementTree.fromstring(unquote(link.split(",", 1)[1])).tag.endswith("}svg")


def test_fifteen_thousand_rejected_runs_stay_below_two_megabytes() -> None:
    n = 15000
    rng = np.random.default_rng(1)
    table = RunTable.partial(
        np.arange(n) + 1000,
        night=20200101 + np.arange(n) // 600,
        mean_believable_r422=rng.normal(1.2, 0.3, n),
        mean_index=rng.normal(-2.2, 0.1, n),
        mean_diffuse_nsb_std_pe=rng.normal(2, 0.5, n),
        mean_cos_zenith=rng.uniform(0.4, 1, n),
        mean_ra_deg=rng.uniform(0, 360, n),
        mean_dec_deg=rng.uniform(-30, 80, n),
        elapsed_time_s=np.full(n, 1200.0),
        start_s=1.577e9 + 5000.0 * np.arange(n),
    )
    answer = select(table, SubrunTable.empty(), load_profile("standard"))
    text = selection_report(SelectionReport.of(answer.judgement, answer.nsb, SubrunTable.empty()))
    assert len(text.encode()) < 2_000_000
    assert "more, left out to keep this page light" in text


@pytest.mark.parametrize(
    "request_",
    [SelectionRequest(dates=(20300101, 20300102)), SelectionRequest(settings={"min_drdi_at_422pe": "9"})],
    ids=["nothing asked for", "nothing selected"],
)
def test_an_empty_answer_says_so(request_: SelectionRequest) -> None:
    text = Page(selection_report(content(request_))).text
    assert "0 of" in text
    assert "The cut flow below tells where the runs were lost." in text


def test_terms_say_what_was_asked_for() -> None:
    asked = SelectionRequest(
        source_ra_deg=10, source_dec_deg=-5, dates=(20240101, 29990101), zenith_deg=(0, 50), max_diffuse_nsb_std_pe=2.3
    )
    terms = dict(request_terms(asked, named_source(asked)))
    assert terms["nights"] == "from 2024-01-01"
    assert terms["zenith distance"] == "0° to 50°"
    assert terms["limit max_diffuse_nsb_std"] == "2.3"
    assert "RA 10°, dec -5°" in terms["source"]
    assert named_source(SelectionRequest()) is None


def test_limits_are_those_of_the_profile() -> None:
    assert limits_of(load_profile("standard")) == {"r422": (1.5,), "index": (-2.35, -2.1)}


def test_an_absurd_value_does_not_press_the_others_flat() -> None:
    low, high = limits_for(np.array([*np.linspace(1.6, 1.9, 50), 1e5]))
    assert 1 < low < 1.6
    assert 1.9 < high < 3
    assert limits_for(np.array([1.7]))[0] < 1.7 < limits_for(np.array([1.7]))[1]
    assert limits_for(np.array([0.5, 0.6]), (1.5,))[1] > 1.5


def test_the_command_writes_the_page(tmp_path: Path) -> None:
    table = SubrunTable.concatenate([subruns(run=2001), subruns(run=2002, r422=np.full(20, 0.5))])
    folder = tmp_path / "datacheck"
    folder.mkdir()
    write_datacheck(folder, table, summary(2001, 2002))
    (tmp_path / "request.json").write_text(json.dumps({"zenith_deg": [0, 60]}))
    out = tmp_path / "page.html"
    words = ["quality", "report", "--datacheck", folder, "--request", tmp_path / "request.json", "--out", out]
    done = CliRunner().invoke(app, list(map(str, words)))
    assert done.exit_code == 0, done.output
    assert "1 runs selected" in done.output
    assert "1 of 2 runs selected" in Page(out.read_text()).text
