"""What the campaign runs, and in which order."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lstops.demo.campaign import _write_profile, brightest_night, night_jobs, request_jobs
from lstops.quality.profiles import load_profile
from lstops.reduction.request import parse_request


def night(day: int, *levels: float, source: str = "Crab") -> dict[str, Any]:
    return {"night": f"202401{day}", "source": {"name": source}, "runs": [{"nsb_ghz": level} for level in levels]}


NIGHTS = [night(10, 0.28, 0.28), night(11, 0.49), night(12, 0.38, source="1ES 0647+250"), night(13, 0.38)]


def test_a_production_is_made_where_the_sky_is_new() -> None:
    jobs = [(job.dag_id, job.label[:8]) for _, group in night_jobs(NIGHTS) for job in group]
    assert jobs == [
        ("mc_production", "20240110"),
        ("nightly", "20240110"),
        ("mc_production", "20240111"),
        ("nightly", "20240111"),
        ("mc_production", "20240112"),
        ("nightly", "20240112"),
        ("nightly", "20240113"),
    ]


def test_a_night_that_was_changed_is_run_again() -> None:
    changed = [*NIGHTS[:-1], night(13, 0.38, 0.38)]
    before, after = ([job.label for _, group in night_jobs(nights) for job in group] for nights in (NIGHTS, changed))
    assert after[:-1] == before[:-1]
    assert after[-1] != before[-1]


def test_requests_are_one_a_source_and_the_brightest_night_twice(tmp_path: Path) -> None:
    profile = tmp_path / "campaign.yaml"
    profile.write_text("name: campaign")
    assert brightest_night(NIGHTS) == "20240111"
    jobs = request_jobs(NIGHTS, profile, "dark")
    assert list(jobs) == ["Crab", "1ES 0647+250", "tuned", "untuned"]
    requests = {name: parse_request(job.conf) for name, job in jobs.items()}
    assert (requests["Crab"].since, requests["Crab"].until) == ("20240110", "20240113")
    assert (requests["tuned"].since, requests["tuned"].until) == ("20240111", "20240111")
    assert (requests["tuned"].production, requests["untuned"].production) == (None, "dark")
    assert len({request.name for request in requests.values()}) == 4
    assert len({job.label for job in jobs.values()}) == 4
    profile.write_text("name: other")
    assert {job.label for job in request_jobs(NIGHTS, profile, "dark").values()}.isdisjoint(
        {job.label for job in jobs.values()}
    )


def test_the_profile_is_the_standard_one_for_runs_of_seconds(tmp_path: Path) -> None:
    found, standard = load_profile(_write_profile(tmp_path)), load_profile("standard")
    assert found.subruns is not None
    assert found.subruns.min_good_time_s == 3
    limits = {(cut.name, limit.quantity, limit.value) for cut in found.cuts for limit in cut.limits}
    known = {(cut.name, limit.quantity, limit.value) for cut in standard.cuts for limit in cut.limits}
    assert {name for name, _, _ in limits ^ known} == {"drdi_index_selection"}
    assert {value for _, _, value in limits - known} == {-2.6, -1.85}
