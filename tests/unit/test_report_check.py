"""The page of a source check and the quick looks: whatever is in them can be drawn, and names are text."""

from __future__ import annotations

import json
from datetime import datetime, timezone

import pytest

from lstops.report.attention import actions
from lstops.report.check import check_page
from lstops.report.look_plots import look_svg, look_views
from lstops.report.model import NightReport
from lstops.report.night import source_facts
from lstops.report.source import FluxPoint, LightPoint, LogParabola, RateBin, RunCheck, RunLook, SourceCheck, Theta2

THETA2 = Theta2(edges_deg2=(0.0, 0.01, 0.02), on=(30.0, 12.0), off=(10.0, 11.0), off_error=(2.0, 2.1))
CRAB = LogParabola(amplitude=3.23e-11, alpha=2.47, beta=0.1)


def look(run: int = 2001, rates: int = 3, outside: int = 0) -> RunLook:
    bins = tuple(
        RateBin(time_unix_s=1.7e9 + 60 * k, zenith_deg=20.0 + 0.1 * k, rate_hz=3.0 + k, rate_error_hz=0.2)
        for k in range(rates)
    )
    return RunLook(
        run_id=run, theta2=THETA2, map_edges_deg=(-1.0, 0.0, 1.0), counts=((1, 2), (3, 40)), source_deg=(0.4, 0.1),
        outside=outside, rates=bins,
    )  # fmt: skip


def check(**changes: object) -> SourceCheck:
    run = RunCheck(
        run_id=2001, live_time_s=120.0, offset_deg=0.4, n_off_regions=3, counts_on=42, counts_off=60, alpha=1 / 3,
        excess=22, significance=3.9,
    )  # fmt: skip
    values = {
        "source_name": "<b>Crab $x$</b>", "ra_deg": 83.63, "dec_deg": 22.01, "gammapy_version": "1.3",
        "energy_range_tev": (0.05, 20.0), "live_time_s": 120.0, "counts_on": 42, "counts_off": 60, "excess": 22,
        "background": 20, "significance": 3.9, "spectrum": CRAB, "free": ("amplitude",), "flux": 4e-10,
        "flux_error": 1e-10, "reference": CRAB, "reference_name": "Crab Nebula", "reference_flux": 4.7e-10,
        "ratio": 0.9, "ratio_error": 0.2, "runs": (run,), "theta2": THETA2, "looks": (look(),),
        "skipped": {2002: "it has no events"},
    }  # fmt: skip
    return SourceCheck.model_validate(values | changes)


def point(start_s: float, significance: float = 5.0) -> LightPoint:
    return LightPoint(
        run_id=2001, start_unix_s=start_s, stop_unix_s=start_s + 60, flux=4e-10, flux_error=1e-10,
        flux_upper_limit=6e-10, significance=significance,
    )  # fmt: skip


def test_everything_is_on_the_page_and_names_are_text() -> None:
    published = FluxPoint(
        energy_tev=1.0, energy_min_tev=0.8, energy_max_tev=1.2, dnde=3e-11, dnde_error=1e-12, dnde_upper_limit=None,
        significance=9.0,
    )  # fmt: skip
    page = check_page(
        check(
            light_curve=(point(1.7e9), point(1.7e9 + 600, significance=0.5)), reference_points=(published,),
            reference_points_name="LST-1 2023", points_ratio=0.95, points_ratio_error=0.05,
        )
    )  # fmt: skip
    assert page.count("<img ") == 4
    assert "&lt;b&gt;Crab" in page
    assert "<b>Crab" not in page
    assert "0.95 ± 0.05 of LST-1 2023" in page
    assert "not used: it has no events" in page
    assert "<script" not in page


def test_of_many_runs_the_oddest_are_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """A page of a year of the Crab would be larger than its data."""
    monkeypatch.setattr("lstops.report.look_plots.MOST_LOOKS", 3)
    one = check().runs[0]
    runs = [one.model_copy(update={"run_id": 2001 + k, "excess": 22.0 + 30 * (k in (4, 7))}) for k in range(9)]
    looks = [look(run.run_id) for run in runs]
    page = check_page(check(runs=tuple(runs), looks=tuple(looks), skipped={}))
    shown = [run.run_id for run in runs if f"<h2>run {run.run_id}:" in page]
    assert (len(shown), {2005, 2008} < set(shown)) == (3, True)
    assert "Of 9 runs the 3 are shown" in page
    assert "are shown" not in check_page(check())


@pytest.mark.parametrize(("expected", "term", "tasks"), [(True, "against", 1), (False, "in units", 0)])
def test_a_flux_is_a_surprise_only_where_one_is_expected(expected: bool, term: str, tasks: int) -> None:
    found = check(ratio=0.3, ratio_error=0.02, expected=expected, skipped={})
    assert term in dict(source_facts(found))
    report = NightReport("20240115", "x", "standard", (), datetime(2024, 1, 16, tzinfo=timezone.utc), checks=(found,))
    assert len(actions(report)) == tasks


def test_a_page_without_spectrum_or_with_nights_of_runs() -> None:
    assert check_page(check(spectrum=None, flux=None, ratio=None, looks=())).count("<img ") == 1
    days = tuple(point(1.7e9 + 86400.0 * k) for k in range(30))
    assert "modified Julian date" not in check_page(check())
    assert check_page(check(light_curve=days)).count("<img ") == 4


def test_the_page_of_a_synthetic_site_says_so() -> None:
    assert "Synthetic data." in check_page(check(synthetic=True))
    assert "Synthetic" not in check_page(check())


@pytest.mark.parametrize("rates", [0, 1, 4])
def test_a_run_with_few_parts_can_be_drawn(rates: int) -> None:
    svg = look_svg(look(rates=rates, outside=7), "Crab $x").decode()
    assert svg.startswith("<?xml")
    assert "zenith distance (deg)" in svg
    assert "7 events outside" in svg
    # the same numbers give the same file
    assert svg == look_svg(look(rates=rates, outside=7), "Crab $x").decode()


def test_what_a_run_look_says() -> None:
    (view,) = look_views(check())
    assert view["words"] == "run 2001: 3.9 σ, excess 22 in 2.0 min"
    assert SourceCheck.model_validate(json.loads(check().model_dump_json())) == check()
