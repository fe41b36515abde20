"""What needs a person, and the message about it: all of it, none when all is well, and never a secret."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from lstops.errors import ConfigError
from lstops.operations.report import ended_in
from lstops.operations.site_check import check_notify
from lstops.publish.bundle import build_bundle
from lstops.publish.publisher import publish
from lstops.publish.versions import remove_tree
from lstops.publish.withdraw import withdraw
from lstops.report.attention import actions, missed_by_far
from lstops.report.message import compose, failure_message, night_message, without_secrets
from lstops.report.model import EndedBundle, FailedCut, NightReport, Problem, Quarantine, ReportRun
from lstops.report.summary import headline
from lstops.site.model import load_site
from lstops.site.notify import NotifyEvent

from .nightreports import bundle, check, failed, report, run
from .published_site import FOLDER, make_request, make_site

PUBLISHED = {"published": (bundle(1),)}
NO_MODELS = Quarantine("match", "no models at 0.81 GHz.", "request a production.")


def far(value: float | None, limit: float | None, quantity: str = "mean_believable_r422") -> FailedCut:
    return FailedCut("cut", quantity, value, limit, "1/(s p.e.)", f"Too low: {quantity} is {value}")


@pytest.mark.parametrize(
    "night",
    [
        report(run(1), **PUBLISHED),
        report(run(1), run(2, "rate"), run(3, selected=False, decision="excluded by Ana: cars"), **PUBLISHED),
        report(run(1, "rate"), run(2, "zd")),
        report(run(1), checks=(check(),), **PUBLISHED),
        report(),
        report(replace(run(1), selected=None)),
    ],
    ids=["good", "rejected and excluded", "clouds all night", "source as it should be", "no runs", "not judged"],
)
def test_when_all_is_well_there_is_no_message(night: NightReport) -> None:
    assert actions(night) == ()
    assert night_message(night) is None


@pytest.mark.parametrize(
    ("night", "subjects", "words"),
    [
        (report(run(1), problems=(Problem("index failed.", "start again."),), **PUBLISHED), ["Night"], "index failed"),
        (report(run(1), run(7, quarantine=NO_MODELS), run(5, quarantine=NO_MODELS), **PUBLISHED), ["Runs 5, 7"],
         "no models at 0.81 GHz"),
        (report(run(1), checks=(check(ratio=0.4, ratio_error=0.05),), **PUBLISHED), [check().source_name],
         "0.40 ± 0.05 of Crab Nebula"),
        (report(run(1), checks=(check(skipped={3: "it has no events"}),), **PUBLISHED), [check().source_name],
         "3 (it has no events)"),
        (report(run(1), run(4, dl3="failed"), **PUBLISHED), ["Run 4"], "good, but not published"),
        (report(run(1, dl3="failed"), run(4, dl3="pending")), ["Night"], "nothing is published though 2 runs are good"),
        (report(run(1), replace(run(2, "x"), failed=(far(0.5, 1.5),)), **PUBLISHED), ["Run 2"],
         "rejected by far: Too low (0.5 1/(s p.e.), the limit is 1.5)"),
        (report(run(1), replace(run(2, "x"), failed=(far(None, 0, "num_pedestals"),)), **PUBLISHED), ["Run 2"],
         "rejected by far: Too low"),
    ],
    ids=["stage", "quarantine", "flux", "skipped", "left out", "nothing published", "far", "unknown"],
)  # fmt: skip
def test_what_needs_a_person_is_named_with_a_remedy(night: NightReport, subjects: list[str], words: str) -> None:
    found = actions(night)
    assert [action.subject for action in found] == subjects
    assert words in found[0].cause
    assert all(action.remedy for action in found)
    message = night_message(night, "http://host/lstops/reports/20240115")
    assert message is not None
    assert "20240115" in message.subject
    for part in (*subjects, words, found[0].remedy, "http://host/lstops/reports/20240115"):
        assert part in message.text


def test_what_somebody_withdrew_is_told_and_nobody_is_sent_to_publish_it_again() -> None:
    ended = EndedBundle("Crab", "DL3/20240115/x/v0003", "withdrawn by Ana: clouds.", (1, 2))
    alone = report(run(1, dl3="done"), run(2, dl3="done"), ended=(ended,))
    assert actions(alone) == ()
    assert headline(alone) == "v0003 of Crab was withdrawn by Ana: clouds."
    # the version before is current again, and a run was in neither
    (action,) = actions(report(run(1), run(2, dl3="done"), run(5, dl3="done"), published=(bundle(1),), ended=(ended,)))
    assert (action.subject, action.cause) == ("Run 5", "good, but not published")


def test_a_withdrawal_counts_until_something_newer_is_current(tmp_path: Path) -> None:
    layout = make_site(tmp_path / "site")

    def publish_with(gammaness: float) -> None:
        publish(build_bundle(make_request(cuts={"gammaness": gammaness}), layout), layout)

    publish_with(0.7)
    publish_with(0.8)
    assert ended_in(FOLDER, "Crab", layout) is None
    withdraw(FOLDER, "v0002", "Ana", "clouds", layout)
    expected = EndedBundle("Crab", f"{FOLDER}/v0002", "withdrawn by Ana: clouds", (2001, 2002))
    assert ended_in(FOLDER, "Crab", layout) == expected, "v0001 is current again"
    withdraw(FOLDER, "v0001", "Ben", "cars", layout)
    assert ended_in(FOLDER, "Crab", layout) == expected
    publish_with(0.9)
    assert ended_in(FOLDER, "Crab", layout) is None
    remove_tree(layout.base / "DL3")


def test_what_somebody_decided_is_no_surprise_any_more() -> None:
    surprise = replace(run(2, "x"), failed=(far(0.5, 1.5),))
    assert actions(report(run(1), replace(surprise, decision="excluded by Ana: dust"), **PUBLISHED)) == ()


def test_a_quarantine_of_all_good_runs_says_both() -> None:
    night = report(run(1, dl3="none", quarantine=NO_MODELS))
    assert [a.subject for a in actions(night)] == ["Night", "Run 1"]


@pytest.mark.parametrize(
    ("value", "limit", "quantity", "expected"),
    [
        (1.4, 1.5, "r", False), (0.7, 1.5, "r", True), (-2.41, -2.35, "r", False), (-13.0, -3.0, "r", True),
        (None, None, "r", True), (float("nan"), 1.0, "r", True), (0.0, 0.0, "r", True), (3.0, None, "r", False),
        (0.1, 0.8, "fraction_in_window_r422", False), (-1.0, 1.5, "r", True),
    ],
)  # fmt: skip
def test_missed_by_far(value: float | None, limit: float | None, quantity: str, expected: bool) -> None:
    assert missed_by_far(far(value, limit, quantity)) is expected


def test_a_bad_night_is_a_message_of_readable_length() -> None:
    runs: list[ReportRun] = [
        run(n, quarantine=Quarantine("dl2", f"cause {n} " + 50 * "x", "do this")) for n in range(99)
    ]
    message = night_message(report(*runs, **PUBLISHED), "http://host/report")
    assert message is not None
    assert len(message.text) <= 3501
    assert "more, see the report" in message.text
    assert "http://host/report" in message.text
    assert "\n" not in message.subject


# -- secrets ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "text",
    [
        "cannot reach postgresql://lstops:hunter2@host/db.",
        "https://hooks.example/x?token=hunter2",
        "PASSWORD=hunter2 was refused",
        "api_key: hunter2",
        "LSTOPS_SECRET = hunter2",
    ],
)
def test_no_secret_is_in_a_message(text: str) -> None:
    night = report(run(1, quarantine=Quarantine("dl2", text, text)), **PUBLISHED)
    message = night_message(night)
    assert message is not None
    assert "hunter2" not in message.text + failure_message("nightly, dl2", "20240115", text, text).text
    assert "hunter2" not in compose(text, text).subject


def test_a_known_secret_is_taken_out_wherever_it_is() -> None:
    assert without_secrets("see https://hooks/abc and abc", ("https://hooks/abc",)) == "see *** and abc"


# -- the site file ----------------------------------------------------------------------------------------------------
def site_file(folder: Path, repository: Path, notify: object, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LSTOPS_HOME", str(folder))
    monkeypatch.setenv("LSTOPS_VENV_SCIENCE", "/nonexistent")
    document = yaml.safe_load((repository / "config/sites/local.yaml").read_text()) | {"notify": notify}
    path = folder / "site.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


def test_nobody_is_told_unless_the_site_says_so(
    tmp_path: Path, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = load_site(site_file(tmp_path, repository, {}, monkeypatch))
    assert (site.notify.webhook, site.notify.email) == (None, None)
    assert site.notify.events == tuple(NotifyEvent)


@pytest.mark.parametrize(
    ("notify", "named"),
    [
        ({"webhook": {"address_variable": "https://hooks.example/hunter2"}}, "notify.webhook.address_variable"),
        ({"email": {"to": [], "sender": "a@b.c"}}, "notify.email.to"),
        ({"email": {"to": ["nobody"], "sender": "a@b.c"}}, "notify.email.to"),
        ({"email": {"to": ["a@b.c"], "sender": "a@b.c\nBcc: x@y.z"}}, "notify.email.sender"),
        ({"email": {"to": ["a@b.c"], "sender": "a@b.c", "password": "hunter2"}}, "notify.email.password"),
        ({"events": ["everything"]}, "notify.events"),
    ],
)
def test_a_wrong_section_is_named_and_a_secret_in_it_is_not_repeated(
    notify: object, named: str, tmp_path: Path, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError) as caught:
        load_site(site_file(tmp_path, repository, notify, monkeypatch))
    assert named in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_the_site_check_says_who_is_told(tmp_path: Path, repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nobody = check_notify(load_site(site_file(tmp_path, repository, {}, monkeypatch)))
    assert (nobody.ok, "nobody is told" in nobody.result) == (True, True)
    ways = {"webhook": {"address_variable": "HOOK"}, "email": {"to": ["a@b.c"], "sender": "a@b.c"}}
    site = load_site(site_file(tmp_path, repository, ways, monkeypatch))
    monkeypatch.delenv("HOOK", raising=False)
    assert not check_notify(site).ok
    assert "set HOOK" in check_notify(site).remedy
    monkeypatch.setenv("HOOK", "https://hooks.example/hunter2")
    found = check_notify(site)
    assert found.ok
    assert found.result == "webhook of HOOK; e-mail to a@b.c by Airflow's connection smtp_default"


def test_failures_name_thing_cause_remedy_and_log() -> None:
    message = failure_message(
        "nightly, dl2", "20240115", "sbatch refused.", "correct the partition.", "http://host/log"
    )
    assert message.subject == "LST-1: nightly, dl2 failed in the night 20240115"
    assert message.text.splitlines() == ["Log: http://host/log", "sbatch refused.", "→ correct the partition."]
    assert "No reason is given" in failure_message("a task", "", "", "").text


def test_ordinary_failures_of_cuts_are_no_surprise() -> None:
    assert not missed_by_far(failed("rate"))
