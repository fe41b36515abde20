"""Analysis requests as people fill in the form."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from lstops.errors import ConfigError
from lstops.operations.request_cli import PASSWORD, URL, USER, airflow_client, run_id
from lstops.reduction.request import ReductionRequest, parse_request

EMPTY = {"target": None, "runs": [], "since": None, "until": "", "zd_max_deg": 30.0, "profile": None, "cuts": None}


def test_empty_fields_are_not_there() -> None:
    request = parse_request({**EMPTY, "target": "Crab"})
    assert request == ReductionRequest(target="Crab", zd_max_deg=30)
    assert request.dates is None
    assert parse_request({"runs": [7, 3, 7]}).runs == (3, 7)
    assert parse_request({"target": "Crab", "since": "20240115"}).dates == (20240115, 29990101)


def test_the_name_tells_requests_apart_and_is_a_folder() -> None:
    one = parse_request({"target": "PKS 0625-35 (off)/..", "since": "20240115", "until": "20240131"})
    assert one.name.startswith("PKS_0625-35_off_20240115-20240131_")
    assert "/" not in one.name
    assert one.name == parse_request({"target": "PKS 0625-35 (off)/..", "since": "20240115", "until": "20240131"}).name
    others: list[dict[str, object]] = [
        {"cuts": "small"},
        {"zd_max_deg": 30},
        {"profile": "notebook"},
        {"production": "x"},
        {"runs": [1]},
        {"intensity_per_run": True},
    ]
    names = {parse_request({"target": "Crab", **other}).name for other in [{}, *others]}
    assert len(names) == len(others) + 1
    assert parse_request({"runs": [2001, 2002]}).name.startswith("run_2001_all_")


@pytest.mark.parametrize(
    ("form", "words"),
    [
        ({}, "neither a target nor runs"),
        ({"target": "  "}, "neither a target nor runs"),
        ({"target": "Crab", "since": "20240132"}, "since"),
        ({"target": "Crab", "since": "20240201", "until": "20240101"}, "after until"),
        ({"target": "Crab", "zd_min_deg": 40, "zd_max_deg": 30}, "zenith range"),
        ({"target": "Crab", "zd_max_deg": 120}, "zd_max_deg"),
        ({"target": "Crab", "nsb_tolerance_ghz": -1}, "nsb_tolerance_ghz"),
        ({"target": "Crab", "nsb_tolerance_ghz": 1e9}, "nsb_tolerance_ghz"),
        ({"target": "Crab", "nsb_tolerance_ghz": float("nan")}, "nsb_tolerance_ghz"),
        ({"runs": [-4]}, "positive"),
        ({"runs": "2001; rm -rf /"}, "runs"),
        ({"target": "Crab", "nights": 3}, "nights"),
    ],
)
def test_wrong_fields_are_named(form: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match="the request is wrong") as caught:
        parse_request(form)
    assert words in caught.value.what


def test_which_airflow(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (URL, USER, PASSWORD, "LSTOPS_HOME"):
        monkeypatch.delenv(name, raising=False)
    assert airflow_client() is None
    monkeypatch.setenv(URL, "http://localhost:1")
    with pytest.raises(ConfigError, match=f"{USER} and {PASSWORD} not set"):
        airflow_client()
    monkeypatch.setenv(USER, "op")
    monkeypatch.setenv(PASSWORD, "secret")
    client = airflow_client()
    assert client is not None
    assert client.url == "http://localhost:1"
    client.close()


def test_every_field_of_the_request_is_in_the_form_of_the_dag(repository: Path) -> None:
    """The DAG refuses what it does not know, and the request what the DAG made up."""
    text = (repository / "dags/reduction.py").read_text()
    fields = set(ReductionRequest.model_fields)
    assert fields == set(re.findall(r'^        "(\w+)": (?:optional_text|Param)\(', text, re.MULTILINE))
    assert run_id(ReductionRequest(target="Crab").name).startswith("Crab_all_")
