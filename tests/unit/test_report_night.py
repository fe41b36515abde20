"""The night report: figures that add up, causes with remedies, and a page that is safe and self-contained."""

from __future__ import annotations

import base64
import io
import math
import re
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest
from rich.console import Console

from lstops.errors import DataError
from lstops.report.model import (
    FailedCut,
    NightReport,
    Problem,
    ProductState,
    Quarantine,
    ReportBundle,
    ReportRun,
    UsedProduction,
)
from lstops.report.night import night_report, night_table, source_facts
from lstops.report.source import FluxPoint, LogParabola, RunCheck, SourceCheck, Theta2, read_source_check
from lstops.report.summary import actions, cut_flow, headline, totals, verdict_word

EVIL = "Mrk <script>alert(\"x\")</script> & $'421' [red]"
START = datetime(2024, 1, 15, 21, 0, tzinfo=timezone.utc)


def failed(cut: str) -> FailedCut:
    return FailedCut(cut, "q", 1.0, 2.0, "p.e.", f"{cut} failed: q is 1 p.e., must be above 2 p.e.")


def run(number: int, *cuts: str, selected: bool | None = None, **changes: object) -> ReportRun:
    good = not cuts if selected is None else selected
    fields: dict[str, object] = {
        "source": "Crab",
        "start": START + timedelta(minutes=20 * (number % 50)),
        "elapsed_s": 1200.0,
        "zenith_deg": 20.0,
        "quantities": {"mean_r422": 1.7, "mean_diffuse_nsb_std_pe": 1.8},
        "selected": good,
        "failed": tuple(map(failed, cuts)),
        "dl3": ProductState.PUBLISHED if good else ProductState.NONE,
    }
    return ReportRun(number, **(fields | changes))  # type: ignore[arg-type]


def check(**changes: object) -> SourceCheck:
    fields: dict[str, object] = {
        "source_name": EVIL,
        "ra_deg": 83.6,
        "dec_deg": 22.0,
        "gammapy_version": "1.3",
        "energy_range_tev": (0.05, 20.0),
        "live_time_s": 1200.0,
        "counts_on": 300,
        "counts_off": 60,
        "excess": 280.0,
        "background": 20.0,
        "significance": 25.3,
        "spectrum": LogParabola(amplitude=3e-11, alpha=2.5, beta=0.1, amplitude_error=1e-12, alpha_error=0.1),
        "free": ("amplitude", "alpha"),
        "flux": 4.7e-10,
        "flux_error": 2e-11,
        "reference": LogParabola(amplitude=3.23e-11, alpha=2.47, beta=0.104),
        "reference_name": "Crab Nebula",
        "reference_flux": 4.76e-10,
        "ratio": 0.99,
        "ratio_error": 0.04,
        "runs": (
            RunCheck(run_id=1, live_time_s=1200, offset_deg=0.4, n_off_regions=3, counts_on=300, counts_off=60,
                     alpha=1 / 3, excess=280, significance=25.3),
        ),
        "points": (
            FluxPoint(energy_tev=1, energy_min_tev=0.8, energy_max_tev=1.3, dnde=3e-11, dnde_error=1e-12,
                      dnde_upper_limit=None, significance=9),
            FluxPoint(energy_tev=9, energy_min_tev=8, energy_max_tev=13, dnde=None, dnde_error=None,
                      dnde_upper_limit=1e-13, significance=0.4),
        ),
        "theta2": Theta2(edges_deg2=(0, 0.04, 0.08), on=(280, 60), off=(20, 21), off_error=(3, 3)),
    }  # fmt: skip
    return SourceCheck(**(fields | changes))  # type: ignore[arg-type]


def report(*runs: ReportRun, **changes: object) -> NightReport:
    fields: dict[str, object] = {
        "night": "20240115",
        "site": "local",
        "profile": "standard",
        "runs": runs,
        "generated_at": datetime(2024, 1, 16, 9, 30, tzinfo=timezone.utc),
    }
    return NightReport(**(fields | changes))  # type: ignore[arg-type]


def bundle(*runs: int, source: str = "Crab", is_new: bool = True) -> ReportBundle:
    return ReportBundle(source, "v0002", "DL3/20240115/x/v0002", is_new, runs, 1_234_567, "ab" * 32)


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


def test_runs_with_the_same_cause_are_one_action() -> None:
    same = Quarantine("DL2", "no models at 0.81 GHz", "request a production")
    found = actions(report(run(7, quarantine=same), run(5, quarantine=same), run(6), problems=(Problem("a", "b"),)))
    assert [(a.subject, a.remedy) for a in found] == [("Night", "b"), ("Runs 5, 7", "request a production")]


def test_a_flux_off_the_reference_needs_a_person() -> None:
    assert actions(report(run(1), checks=(check(),))) == ()
    (action,) = actions(report(run(1), checks=(check(ratio=0.4, ratio_error=0.05),)))
    assert "0.40 ± 0.05 of Crab Nebula" in action.cause
    (skipped,) = actions(report(run(1), checks=(check(skipped={3: "it has no events"}),)))
    assert "3 (it has no events)" in skipped.cause


@pytest.mark.parametrize(
    ("runs", "changes", "expected"),
    [
        ((), {}, "Nothing was observed."),
        ((run(1), run(2, "zd")), {}, "Nothing was published: 1 of 2 runs selected."),
        ((replace(run(1), selected=None),), {}, "No run was judged."),
        ((run(1),), {"published": (bundle(1),)}, "1 run of Crab published as v0002."),
        ((run(1), run(2)), {"published": (bundle(1, 2, is_new=False),)}, "2 runs of Crab already published as v0002."),
    ],
)
def test_headline(runs: tuple[ReportRun, ...], changes: dict[str, object], expected: str) -> None:
    assert headline(report(*runs, **changes)) == expected


def test_totals() -> None:
    t = totals(report(run(1), run(2, "zd"), run(3, quarantine=Quarantine("a", "b", "c")), published=(bundle(1),)))
    assert (t.runs, t.judged, t.selected, t.rejected, t.quarantined, t.published) == (3, 3, 2, 1, 1, 1)
    assert (t.selected_s, t.published_s) == (2400, 1200)


# -- the page ---------------------------------------------------------------------------------------------------------
class _Page(HTMLParser):
    """Collects what a browser would load and the visible text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.words: list[str] = []
        self.feed(text)
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [v or "" for k, v in attrs if k in ("src", "href", "data", "action")]

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def full_report() -> NightReport:
    return report(
        run(2001, source=EVIL),
        run(2002, "rate", source=EVIL),
        run(2003, source=EVIL, quarantine=Quarantine("DL2", "NSB <b>too high</b>", "request a production")),
        published=(bundle(2001, source=EVIL),),
        productions=(UsedProduction("prod & co", "dec_2276", 0.14, "0.12.3", (2001,)),),
        checks=(check(),),
        synthetic=True,
    )


def test_nothing_from_outside_becomes_markup() -> None:
    page = _Page(night_report(full_report()))
    assert "script" not in page.tags
    assert EVIL in page.text
    assert "NSB <b>too high</b>" in page.text
    assert "rate failed: q is 1 p.e., must be above 2 p.e." in page.text
    assert "→ request a production" in page.text
    assert "Synthetic data." in page.text


def test_the_page_loads_nothing() -> None:
    text = night_report(full_report())
    page = _Page(text)
    assert page.links
    assert all(link.startswith("data:image/svg+xml;base64,") for link in page.links)
    assert "link" not in page.tags
    assert not re.search(r"@import|url\(", text)


def test_plots_are_whole_svg_without_scripts() -> None:
    page = _Page(night_report(full_report()))
    assert len(page.links) == 3
    for link in page.links:
        root = ElementTree.fromstring(base64.b64decode(link.split(",", 1)[1]))
        assert root.tag.endswith("}svg")
        assert not [e for e in root.iter() if e.tag.endswith("}script")]


def test_the_same_data_give_the_same_page() -> None:
    assert night_report(full_report()) == night_report(full_report())


def test_a_long_night_stays_small() -> None:
    runs = [run(3000 + k, *(("rate",) if k % 7 == 0 else ())) for k in range(80)]
    assert len(night_report(report(*runs, checks=(check(),))).encode()) < 600_000


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
    page = _Page(night_report(night))
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
