"""What the campaign runs, and in which order."""

from __future__ import annotations

from typing import Any

from lstops.demo.campaign import brightest_night, night_jobs, request_jobs
from lstops.reduction.request import parse_request


def night(day: int, *levels: float, source: str = "Crab") -> dict[str, Any]:
    return {"night": f"202401{day}", "source": {"name": source}, "runs": [{"nsb_ghz": level} for level in levels]}


NIGHTS = [night(10, 0.28, 0.28), night(11, 0.49), night(12, 0.38, source="1ES 0647+250"), night(13, 0.38)]


def test_a_production_is_made_where_the_sky_is_new() -> None:
    jobs = [(job.dag_id, job.label) for _, group in night_jobs(NIGHTS) for job in group]
    assert jobs == [
        ("mc_production", "20240110"),
        ("nightly", "20240110"),
        ("mc_production", "20240111"),
        ("nightly", "20240111"),
        ("mc_production", "20240112"),
        ("nightly", "20240112"),
        ("nightly", "20240113"),
    ]


def test_requests_are_one_a_source_and_the_brightest_night_twice() -> None:
    assert brightest_night(NIGHTS) == "20240111"
    jobs = request_jobs(NIGHTS, "campaign", "dark")
    assert list(jobs) == ["Crab", "1ES 0647+250", "tuned", "untuned"]
    requests = {name: parse_request(job.conf) for name, job in jobs.items()}
    assert (requests["Crab"].since, requests["Crab"].until) == ("20240110", "20240113")
    assert (requests["tuned"].since, requests["tuned"].until) == ("20240111", "20240111")
    assert (requests["tuned"].production, requests["untuned"].production) == (None, "dark")
    assert len({request.name for request in requests.values()}) == 4
    assert len({job.label for job in jobs.values()}) == 4
