"""Messages to people, over a real web server and a real mail server."""

from __future__ import annotations

import email
import email.policy
import json
import logging
import socketserver
import threading
from collections.abc import Iterator
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from unit.nightreports import bundle, report, run

from lstops.airflow.notifier import ApprovalNotifier, FailureNotifier, NightNotifier, report_link
from lstops.airflow.sending import send
from lstops.errors import SubmitError
from lstops.report.message import Message, compose, night_message
from lstops.report.model import NightReport, Quarantine
from lstops.site.notify import Email, Notify, Webhook

TI = SimpleNamespace(dag_id="nightly", task_id="dl2", run_id="scheduled 1", log_url="http://host/log")
CONTEXT: dict[str, Any] = {
    "ti": TI,
    "params": {"night": "20240115"},
    "exception": SubmitError("sbatch refused postgresql://u:hunter2@host/.", "correct the partition."),
}
LOG = logging.getLogger("test")


class Hook(BaseHTTPRequestHandler):
    received: list[dict[str, str]] = []  # noqa: RUF012
    status = 200

    def do_POST(self) -> None:
        self.received.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(self.status)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        return


@pytest.fixture
def webhook(monkeypatch: pytest.MonkeyPatch) -> Iterator[Webhook]:
    server = HTTPServer(("127.0.0.1", 0), Hook)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    Hook.received.clear()
    Hook.status = 200
    monkeypatch.setenv("HOOK", f"http://127.0.0.1:{server.server_port}/hook?token=hunter2")
    yield Webhook(address_variable="HOOK")
    server.shutdown()
    server.server_close()


class Post(socketserver.StreamRequestHandler):
    """As much of SMTP (RFC 5321) as taking a mail needs; mail to `full@` is refused."""

    mails: list[tuple[list[str], EmailMessage]] = []  # noqa: RUF012

    def handle(self) -> None:
        self.say("220 here")
        to: list[str] = []
        while line := self.rfile.readline().decode().strip():
            word = line.split(":")[0].upper()
            if word.startswith("EHLO"):
                self.say("250 here")
            elif word == "RCPT TO" and "full@" in line:
                self.say("552 mailbox full")
            elif word == "RCPT TO":
                to.append(line.split("<")[1].split(">")[0])
                self.say("250 ok")
            elif word == "DATA":
                self.say("354 go on")
                lines = []
                while (data := self.rfile.readline()) != b".\r\n":
                    lines.append(data.removeprefix(b".") if data.startswith(b"..") else data)
                found = email.message_from_bytes(b"".join(lines), policy=email.policy.default)
                assert isinstance(found, EmailMessage)
                self.mails.append((to, found))
                self.say("250 taken")
            elif word == "QUIT":
                self.say("221 bye")
                return
            else:
                self.say("250 ok")

    def say(self, words: str) -> None:
        self.wfile.write(words.encode() + b"\r\n")


@pytest.fixture
def mailbox(monkeypatch: pytest.MonkeyPatch) -> Iterator[Email]:
    server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Post)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    Post.mails.clear()
    connection = {
        "conn_type": "smtp", "host": "127.0.0.1", "port": server.server_address[1],
        "extra": {"disable_ssl": True, "disable_tls": True, "retry_limit": 0},
    }  # fmt: skip
    monkeypatch.setenv("AIRFLOW_CONN_SHIFT_MAIL", json.dumps(connection))
    yield Email(to=("shift@example.org", "expert@example.org"), sender="lstops@example.org", connection="shift_mail")
    server.shutdown()
    server.server_close()


def attention() -> NightReport:
    stopped = run(2, quarantine=Quarantine("dl2", "no models <for> 1.1 GHz", "request a production"))
    return report(run(1), stopped, published=(bundle(1),))


def test_webhook_and_mail_say_the_same(webhook: Webhook, mailbox: Email, tmp_path: Path) -> None:
    page = tmp_path / "night_20240115.html"
    page.write_text("<p>the report</p>")
    message = night_message(attention(), "http://host/lstops/reports/20240115", page)
    assert message is not None
    assert send(message, Notify(webhook=webhook, email=mailbox), LOG)
    (posted,) = Hook.received
    ((to, mail),) = Post.mails
    assert to == ["shift@example.org", "expert@example.org"]
    assert mail["From"] == "lstops@example.org"
    assert mail["Subject"] == "LST-1 night 20240115: 1 thing needs a person"
    body, attached = mail.iter_parts()
    assert body.get_content().strip().startswith("<pre>")
    assert "no models &lt;for&gt; 1.1 GHz" in body.get_content()
    assert attached.get_filename() == "night_20240115.html"
    for words in ("no models <for> 1.1 GHz", "request a production", "http://host/lstops/reports/20240115", "Run 2"):
        assert words in posted["text"]


@pytest.mark.parametrize("status", [404, 500])
def test_a_webhook_that_refuses_is_logged_without_its_address(
    webhook: Webhook, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    Hook.status = status
    assert not send(compose("s", "t"), Notify(webhook=webhook), LOG)
    assert str(status) in caplog.text
    assert "hunter2" not in caplog.text


@pytest.mark.parametrize(
    ("address", "words"),
    [("http://127.0.0.1:9/hook?token=hunter2", "did not take"), ("file:///etc/hunter2", "is no web address"),
     (None, "is not set")],
)  # fmt: skip
def test_a_webhook_that_is_not_there_fails_nothing(
    address: str | None, words: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    if address is None:
        monkeypatch.delenv("HOOK", raising=False)
    else:
        monkeypatch.setenv("HOOK", address)
    assert not send(compose("s", "t"), Notify(webhook=Webhook(address_variable="HOOK")), LOG)
    assert words in caplog.text
    assert "hunter2" not in caplog.text


@pytest.mark.parametrize("connection", ["none_such", "nobody_there", "refusing"])
def test_a_mail_server_that_is_not_there_fails_nothing(
    connection: str, mailbox: Email, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = "smtp://u:hunter2@127.0.0.1:9?disable_ssl=true&disable_tls=true&retry_limit=0"
    monkeypatch.setenv("AIRFLOW_CONN_NOBODY_THERE", uri)
    changes = {"to": ("full@example.org",)} if connection == "refusing" else {"connection": connection}
    assert not send(compose("s", "t"), Notify(email=mailbox.model_copy(update=changes)), LOG)
    assert "nobody was told by e-mail" in caplog.text
    assert "hunter2" not in caplog.text
    assert not Post.mails


def test_an_attachment_that_is_gone_does_not_stop_the_mail(mailbox: Email, tmp_path: Path) -> None:
    assert send(Message("s", "t", tmp_path / "gone.html"), Notify(email=mailbox), LOG)
    assert len(Post.mails) == 1


def test_nobody_configured_is_no_failure(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        assert send(compose("s", "t"), Notify(), LOG)
    assert "nobody was told" in caplog.text


# -- the notifiers ----------------------------------------------------------------------------------------------------
@pytest.fixture
def site_file(webhook: Webhook, repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LSTOPS_HOME", str(tmp_path))
    monkeypatch.setenv("LSTOPS_VENV_SCIENCE", "/nonexistent")
    return write_site(tmp_path, repository)


def write_site(folder: Path, repository: Path, **notify: object) -> Path:
    document = yaml.safe_load((repository / "config/sites/local.yaml").read_text())
    document["notify"] = {"webhook": {"address_variable": "HOOK"}} | notify
    path = folder / "site.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


def test_a_failure_names_thing_cause_remedy_and_log_but_no_secret(site_file: Path) -> None:
    FailureNotifier(str(site_file))(CONTEXT)
    (posted,) = Hook.received
    for words in (
        "nightly, dl2",
        "20240115",
        "sbatch refused",
        "correct the partition",
        "http://host/log",
        "scheduled 1",
    ):
        assert words in posted["text"]
    assert "hunter2" not in posted["text"]


def test_a_context_without_anything_still_gives_a_message(site_file: Path) -> None:
    FailureNotifier(str(site_file))({})
    assert "a task failed" in Hook.received[0]["text"]


def test_an_approval_says_what_is_asked(site_file: Path) -> None:
    task = SimpleNamespace(subject="Start production x?", body="120 CPU hours")
    ApprovalNotifier(str(site_file))({"ti": TI, "task": task})
    for words in ("waits for a person", "Start production x?", "120 CPU hours", "http://host/log"):
        assert words in Hook.received[0]["text"]


def test_events_that_the_site_does_not_want_are_only_logged(
    site_file: Path, repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_site(site_file.parent, repository, events=["attention"])
    FailureNotifier(str(site_file))(CONTEXT)
    assert Hook.received == []
    assert "sbatch refused" in capsys.readouterr().out


def test_a_broken_site_file_fails_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "site.yaml").write_text("name: [")
    FailureNotifier(str(tmp_path / "site.yaml"))(CONTEXT)
    NightNotifier(str(tmp_path / "site.yaml"))(CONTEXT)
    assert capsys.readouterr().out.count("nobody was told") == 2


def test_the_link_leads_to_the_report(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "http://host:8080/")
    assert report_link("20240115") == "http://host:8080/lstops/reports/20240115"
