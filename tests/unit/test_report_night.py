"""The night report: figures that add up, causes with remedies, and a page that is safe and self-contained."""

from __future__ import annotations

import io
import math
import re
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote
from xml.etree import ElementTree

import numpy as np
import pytest
from rich.console import Console

from lstops.errors import DataError
from lstops.quality.targets import Position
from lstops.report.model import NightReport, Quarantine, ReportRun, SubrunRates, UsedProduction
from lstops.report.night import night_report, night_table, source_facts
from lstops.report.odd import OddRun
from lstops.report.source import read_source_check
from lstops.report.summary import cut_flow, headline, totals, verdict_word

from .nightreports import EVIL, START, Page, bundle, check, report, run


# -- pure functions ---------------------------------------------------------------------------------------------------
def test_cut_flow_adds_up() -> None:
    flow = cut_flow(
        report(run(1), run(2, "zd", "rate"), run(3, "rate"), run(4, "late"), run(5), cuts=("zd", "nsb", "rate"))
    )
    assert [(c.cut, c.failing, c.only, c.remaining) for c in flow.cuts] == [
        ("zd", 1, 0, 4), ("nsb", 0, 0, 4), ("rate", 2, 1, 3), ("late", 1, 1, 2),
    ]  # fmt: skip
    assert (flow.judged, flow.accepted, flow.excluded, flow.selected) == (5, 0, 0, 2)


def test_cut_flow_shows_what_people_decided() -> None:
    runs = (
        run(1, "zd", selected=True, decision="accepted by Ana"),
        run(2, selected=False, decision="excluded by Ana: car headlights"),
        run(3),
        replace(run(4), selected=None),
    )
    flow = cut_flow(report(*runs))
    assert (flow.judged, flow.accepted, flow.excluded, flow.selected) == (3, 1, 1, 2)
    assert [verdict_word(r) for r in runs] == ["accepted", "excluded", "good", "not judged"]


@pytest.mark.parametrize(
    ("runs", "changes", "expected"),
    [
        ((), {}, "Nothing was observed."),
        ((run(1), run(2, "zd")), {}, "Nothing was published: 1 of 2 runs selected."),
        ((replace(run(1), selected=None),), {}, "No run was judged."),
        ((run(1),), {"published": (bundle(1),)}, "1 run of Crab published as v0002."),
    ],
)
def test_headline(runs: tuple[ReportRun, ...], changes: dict[str, object], expected: str) -> None:
    assert headline(report(*runs, **changes)) == expected


def test_the_page_says_when_a_version_was_published() -> None:
    """It said "new" of each, also of one that was published weeks before."""
    assert "<b>v0002</b> of 2024-01-16 09:41 UTC, 1 run," in night_report(report(run(1), published=(bundle(1),)))


def test_totals() -> None:
    t = totals(report(run(1), run(2, "zd"), run(3, quarantine=Quarantine("a", "b", "c")), published=(bundle(1),)))
    assert (t.runs, t.judged, t.selected, t.rejected, t.quarantined, t.published) == (3, 3, 2, 1, 1, 1)
    assert (t.selected_s, t.published_s) == (2400, 1200)


# -- the page ---------------------------------------------------------------------------------------------------------
def full_report() -> NightReport:
    pointing = {"mean_r422": 1.7, "mean_index": -2.2, "mean_ra_deg": 83.2, "mean_dec_deg": 22.0}
    seconds = np.arange(0.0, 1200.0, 10.0)
    return report(
        run(2001, source=EVIL, quantities=pointing),
        run(2002, "rate", source=EVIL, quantities=pointing),
        run(2003, source=EVIL, quarantine=Quarantine("DL2", "NSB <b>too high</b>", "request a production")),
        run(2004, "rate", selected=True, decision="included by <i>Ana</i>: only dust"),
        published=(bundle(2001, source=EVIL),),
        productions=(UsedProduction("prod & co", "dec_2276", 0.14, "0.12.3", (2001,)),),
        checks=(check(),),
        limits={"r422": (1.5,), "index": (-2.35, -2.1)},
        sources=(Position(EVIL, 83.6, 22.0),),
        subruns=SubrunRates(START.timestamp() + seconds, 1.7 + 0 * seconds),
        odd=OddRun(2001, seconds, 1.7 + 0.1 * np.sin(seconds / 30)),
        synthetic=True,
    )


@pytest.fixture(scope="module")
def full_page() -> str:
    return night_report(full_report())


def test_nothing_from_outside_becomes_markup(full_page: str) -> None:
    page = Page(full_page)
    assert "script" not in page.tags
    assert EVIL in page.text
    assert "NSB <b>too high</b>" in page.text
    assert "rate failed: 1 p.e., must be above 2 p.e." in page.text
    assert "→ request a production" in page.text
    assert "included by <i>Ana</i>: only dust" in page.text
    assert "Synthetic data." in page.text


def test_the_page_loads_nothing(full_page: str) -> None:
    page = Page(full_page)
    assert page.links
    assert all(link.startswith("data:image/svg+xml;") for link in page.links)
    assert "link" not in page.tags
    # within the plots, a reference to the plot itself is all there is
    assert not re.search(r"@import|url\((?!%23)", full_page)


def test_plots_are_whole_svg_without_scripts(full_page: str) -> None:
    page = Page(full_page)
    assert len(page.links) == 5
    for link in page.links:
        root = ElementTree.fromstring(unquote(link.split(",", 1)[1]))
        assert root.tag.endswith("}svg")
        assert not [e for e in root.iter() if e.tag.endswith("}script")]


def test_the_oddest_run_is_drawn_with_its_period(full_page: str) -> None:
    text = Page(full_page).text
    assert "The oddest run: 2001" in text
    assert "a period of 192 s" in text  # of those of the periodogram the nearest to 2 pi 30 s


def test_the_same_data_give_the_same_page(full_page: str) -> None:
    assert night_report(full_report()) == full_page


def test_a_long_night_stays_small() -> None:
    runs = [run(3000 + k, *(("rate",) if k % 7 == 0 else ())) for k in range(80)]
    assert len(night_report(report(*runs, checks=(check(),))).encode()) < 700_000


@pytest.mark.parametrize(
    "night",
    [
        report(),
        report(run(1, start=None, zenith_deg=None, quantities={}, elapsed_s=None)),
        report(run(1, quantities={"mean_r422": math.nan, "mean_diffuse_nsb_std_pe": None}, zenith_deg=math.nan)),
        report(replace(run(1), selected=None)),
        report(run(1), checks=(check(spectrum=None, free=(), flux=None, flux_error=None, ratio=None, ratio_error=None,
                                     points=(), significance=-0.3, note="no spectrum"),)),
    ],
    ids=["no runs", "nothing known", "nan", "not judged", "no spectrum"],
)  # fmt: skip
def test_unusual_nights_have_a_page_and_a_table(night: NightReport) -> None:
    page = Page(night_report(night))
    assert "LST-1, night 2024-01-15" in page.text
    assert "nan" not in page.text.lower().split()
    console = Console(file=io.StringIO(), width=120)
    console.print(night_table(night))


def test_facts_of_a_source_check() -> None:
    facts = dict(source_facts(check()))
    assert facts["significance"] == "25.3 σ (Li & Ma)"
    assert facts["flux > 100 GeV"] == "(4.70 ± 0.20) × 10⁻¹⁰ /(cm² s)"
    assert facts["log parabola"] == "alpha 2.50 ± 0.10, beta 0.10 (fixed)"


# -- the terminal -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("width", [80, 160])
def test_the_table_says_the_same(width: int) -> None:
    stream = io.StringIO()
    Console(file=stream, width=width).print(night_table(full_report()))
    lines = stream.getvalue().splitlines()
    text = " ".join(" ".join(lines).split())
    assert max(map(len, lines)) <= width
    assert "[red]" in text
    for words in ("2001", "quarantine", "Needs a person:", "25.3 σ"):
        assert words in text


# -- the source check's file ------------------------------------------------------------------------------------------
def test_a_source_check_survives_its_file(tmp_path: Path) -> None:
    path = tmp_path / "check.json"
    path.write_text(check(skipped={7: "x"}).model_dump_json())
    assert read_source_check(path) == check(skipped={7: "x"})


@pytest.mark.parametrize("content", [None, "", "{}", "[1]"])
def test_a_damaged_source_check_is_named(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "check.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(DataError, match=r"check\.json"):
        read_source_check(path)
