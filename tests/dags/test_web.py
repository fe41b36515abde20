"""The reports behind Airflow's login: nobody without it, nothing but reports, no script of a report ever runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from lstops.night import Night
from lstops.operations.nightly import layout_of
from lstops.site.model import load_site

AGAIN = "20240214-20240215_0123abcd"
REPORT = "<!DOCTYPE html><p>the report of <i>20240115</i></p>"
#: asks Airflow's own application, with the plugin of the repository in it
ASK = """
import json, sys
from airflow import settings
from airflow.api_fastapi.app import create_app, get_auth_manager
from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser
from airflow.models import import_all_models
from airflow.models.base import Base
from fastapi.testclient import TestClient

import_all_models()
Base.metadata.create_all(settings.get_engine())
client = TestClient(create_app(apps="core"), follow_redirects=False)
token = get_auth_manager().generate_jwt(SimpleAuthManagerUser(username="viewer", role="viewer"))
answers = []
for path, login in json.loads(sys.argv[1]):
    client.cookies.clear()
    bearer = {"bearer": token, "forged": "x.y.z"}.get(login)
    headers = {"Authorization": "Bearer " + bearer} if bearer else {}
    if login == "cookie":
        client.cookies.set("_token", token)
    answer = client.get(path, headers=headers)
    answers.append([answer.status_code, answer.text, dict(answer.headers)])
print(json.dumps(answers))
"""


@dataclass(frozen=True)
class Answer:
    status: int
    text: str
    headers: dict[str, str]


QUESTIONS = {
    "anonymous report": ("/lstops/reports/20240115", ""),
    "anonymous list": ("/lstops/reports", ""),
    "forged": ("/lstops/reports/20240115", "forged"),
    "report": ("/lstops/reports/20240115", "bearer"),
    "by cookie": ("/lstops/reports/20240115", "cookie"),
    "list": ("/lstops/reports", "bearer"),
    "no report": ("/lstops/reports/20240116", "bearer"),
    "no day": ("/lstops/reports/20241399", "bearer"),
    "up": ("/lstops/reports/..%2f..%2fsecrets.env", "bearer"),
    "up twice": ("/lstops/reports/%2e%2e/%2e%2e/secrets.env", "bearer"),
    "absolute": ("/lstops/reports/%2fetc%2fpasswd", "bearer"),
    "elsewhere": ("/lstops/reports/20240117", "bearer"),
    "schema": ("/lstops/openapi.json", "bearer"),
    "comparison": (f"/lstops/reports/reprocessing/{AGAIN}", "bearer"),
    "numbers": (f"/lstops/reports/reprocessing/{AGAIN}/json", "bearer"),
    "anonymous comparison": (f"/lstops/reports/reprocessing/{AGAIN}/json", ""),
    "no comparison": ("/lstops/reports/reprocessing/20240115-20240115_ffffffff", "bearer"),
    "comparison elsewhere": ("/lstops/reports/reprocessing/%2e%2e%2f20240115", "bearer"),
}


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory, repository: Path) -> dict[str, Answer]:
    home = tmp_path_factory.mktemp("web")
    environ = {
        **os.environ,
        "AIRFLOW_HOME": str(home / "airflow"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(repository / "plugins"),
        "AIRFLOW__API_AUTH__JWT_SECRET": "x" * 64,
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": "viewer:viewer",
        "LSTOPS_HOME": str(home),
        "LSTOPS_VENV_SCIENCE": "/nonexistent",
        "LSTOPS_SITE": str(repository / "config/sites/local.yaml"),
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LSTOPS_HOME", str(home))
        patch.setenv("LSTOPS_VENV_SCIENCE", "/nonexistent")
        layout = layout_of(load_site(repository / "config/sites/local.yaml"))
    (home / "secrets.env").write_text("PASSWORD=hunter2")
    for text, night in ((REPORT, "20240115"), (None, "20240117")):
        path = layout.absolute(layout.night_report(Night.parse(night)))
        path.parent.mkdir(parents=True)
        if text is None:
            path.symlink_to(home / "secrets.env")
        else:
            path.write_text(text)
    page = layout.absolute(layout.comparison_report(AGAIN))
    page.parent.mkdir(parents=True)
    page.write_text("old and new")
    page.with_suffix(".json").write_text('{"name": "x"}')
    command = [sys.executable, "-c", ASK, json.dumps(list(QUESTIONS.values()))]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    found = json.loads(done.stdout.splitlines()[-1])
    return {name: Answer(*answer) for name, answer in zip(QUESTIONS, found, strict=True)}


@pytest.mark.parametrize("name", ["anonymous report", "anonymous list", "forged", "anonymous comparison"])
def test_without_a_login_there_is_nothing(answers: dict[str, Answer], name: str) -> None:
    assert answers[name].status in (401, 403)
    assert "the report of" not in answers[name].text


@pytest.mark.parametrize("name", ["report", "by cookie"])
def test_a_reader_sees_the_report_and_its_scripts_cannot_run(answers: dict[str, Answer], name: str) -> None:
    answer = answers[name]
    assert (answer.status, answer.text) == (200, REPORT)
    policy = answer.headers["content-security-policy"]
    assert "sandbox" in policy
    assert "default-src 'none'" in policy
    assert "script" not in policy


def test_the_list_leads_to_the_reports(answers: dict[str, Answer]) -> None:
    assert answers["list"].status == 200
    assert 'href="reports/20240115">2024-01-15<' in answers["list"].text
    assert "20240116" not in answers["list"].text


def test_comparisons_are_served_like_reports(answers: dict[str, Answer]) -> None:
    assert (answers["comparison"].status, answers["comparison"].text) == (200, "old and new")
    assert "sandbox" in answers["comparison"].headers["content-security-policy"]
    assert json.loads(answers["numbers"].text) == {"name": "x"}
    assert answers["numbers"].headers["content-type"] == "application/json"
    assert f'href="reports/reprocessing/{AGAIN}"' in answers["list"].text


NOTHING = ["no report", "no day", "up", "up twice", "absolute", "elsewhere", "schema", "no comparison",
           "comparison elsewhere"]  # fmt: skip


@pytest.mark.parametrize("name", NOTHING)
def test_nothing_else_is_served(answers: dict[str, Answer], name: str) -> None:
    assert answers[name].status == 404
    assert "hunter2" not in answers[name].text
    assert "root:" not in answers[name].text
