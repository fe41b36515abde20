"""Analysis requests as people fill in the form."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from lstops.embedded.rest import AirflowClient, DagRun
from lstops.errors import ConfigError
from lstops.operations.request_cli import PASSWORD, URL, USER, airflow_client, start
from lstops.reduction.request import ReductionRequest, parse_request

EMPTY = {"target": None, "runs": [], "since": None, "until": "", "zd_max_deg": 30.0, "profile": None, "cuts": None}


def test_empty_fields_are_not_there() -> None:
    request = parse_request({**EMPTY, "target": "Crab"})
    assert request == ReductionRequest(target="Crab Nebula", zd_max_deg=30)
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
    assert not re.search("Value error|file:", caught.value.what)


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


@pytest.mark.parametrize(
    ("one", "other"),
    [("Crab", "crab nebula"), ("M1", "Crab_Nebula"), ("Mrk 421", "mrk-421"), ("83.63 22.01", " 83.63,  22.01 ")],
)
def test_another_spelling_is_no_other_request(one: str, other: str) -> None:
    """It would be computed and published a second time, in another folder."""
    assert parse_request({"target": one}) == parse_request({"target": other})
    again = parse_request({"target": one})
    assert parse_request(again.model_dump(mode="json")) == again


def test_what_was_asked_for_in_words() -> None:
    assert "the site's tolerance" in parse_request({"target": "Crab"}).models
    assert parse_request({"target": "Crab", "nsb_tolerance_ghz": 0.1}).models.endswith("to 0.1 GHz")
    assert parse_request({"target": "Crab", "production": "p"}).models == "p for all runs"
    assert parse_request({"target": "Crab", "runs": [2, 1]}).title.startswith("Crab Nebula (runs 1, 2)")
    assert parse_request({"runs": [1]}).title.startswith("run 1, zd")


class Airflow(AirflowClient):
    """Answers as an Airflow in which one DAG is switched off."""

    def __init__(self, off: str) -> None:
        super().__init__("http://localhost:1", "op", "secret")
        self.off, self.sent = off, list[str]()

    def request(self, method: str, path: str, **arguments: object) -> dict[str, bool]:
        return {"is_paused": path.endswith(f"/{self.off}")}

    def trigger(self, dag_id: str, run_id: str | None = None, *more: object) -> DagRun:  # type: ignore[override]
        self.sent.append(f"{dag_id} {run_id}")
        return DagRun(dag_id, str(run_id), "queued", {}, None)


@pytest.mark.parametrize("off", ["reduction", "nightly"])
def test_nothing_is_started_that_would_wait_for_ever(off: str) -> None:
    """A run of a DAG that is switched off stays queued, and the command line had said that it was started."""
    airflow = Airflow(off)
    with pytest.raises(ConfigError, match=f"{off} switched off .* nothing was started"):
        start(airflow, "reduction", "Crab_all_1", {}, also=["nightly"])
    assert airflow.sent == []
    other = Airflow("else")
    assert start(other, "reduction", "Crab_all_1", {}).startswith("Crab_all_1__2")
    assert other.sent[0].startswith("reduction Crab_all_1__")
