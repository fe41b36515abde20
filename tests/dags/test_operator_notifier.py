"""Messages to the shift, over a real web server."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from types import SimpleNamespace

import pytest

from lstops.airflow.notifier import ShiftNotifier, failure_text
from lstops.errors import SubmitError

CONTEXT = {
    "ti": SimpleNamespace(dag_id="nightly", task_id="dl2", run_id="night 20240101", log_url="http://host/log"),
    "exception": SubmitError("sbatch refused the job.", "correct the partition."),
}


class Hook(BaseHTTPRequestHandler):
    received: list[dict[str, str]] = []  # noqa: RUF012

    def do_POST(self) -> None:
        self.received.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        return


@pytest.fixture
def webhook() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), Hook)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/hook?token=hunter2"
    server.shutdown()
    server.server_close()


def test_the_message_names_thing_cause_and_remedy(webhook: str) -> None:
    Hook.received.clear()
    ShiftNotifier(webhook).notify(CONTEXT)
    text = Hook.received[0]["text"]
    assert text == failure_text(CONTEXT)
    for part in ("nightly", "dl2", "night 20240101", "sbatch refused", "correct the partition", "http://host/log"):
        assert part in text


@pytest.mark.parametrize("address", ["http://127.0.0.1:9/hook?token=hunter2", "file:///etc/passwd", ""])
def test_a_message_that_cannot_be_sent_fails_nothing(
    address: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LSTOPS_WEBHOOK_URL", raising=False)
    ShiftNotifier(address).notify(CONTEXT)
    assert "hunter2" not in caplog.text


def test_a_context_without_anything_still_gives_a_message() -> None:
    assert failure_text({}) == "a task failed. no reason given"
