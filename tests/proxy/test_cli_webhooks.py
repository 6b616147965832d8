"""`weir webhooks`, over a real ledger and a receiver on a socket."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from fixtures_ledger import book, make_event, new_ledger

from metering.clock import now_ns
from metering.settlement.ledger import webhook_book
from metering.settlement.ledger.rollups import update_rollups
from metering.settlement.ledger.store import Ledger
from metering.settlement.ledger.webhook_news import fill
from metering.settlement.webhooks import headers_of
from metering.webhook_settings import WebhookEndpoint, read_secret
from proxy.cli import weir

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
KEY = read_secret(SECRET)
HOUR = 3_600_000_000_000


@pytest.fixture
def receiver() -> Iterator[HTTPServer]:
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_args: Any) -> None:
            pass

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            at_s = int(self.headers["webhook-timestamp"])
            signed = headers_of(self.headers["webhook-id"], body, KEY, at_s=at_s)
            is_ours = self.headers["webhook-signature"] == signed["webhook-signature"]
            self.send_response(204 if is_ours and self.path == "/hook" else 400)
            self.end_headers()

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def ledger_here(
    tmp_path: Path, receiver: HTTPServer, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Ledger]:
    """A ledger with an hour that `erp` has to be told, and a file that names two endpoints."""
    opened = new_ledger(tmp_path)
    at = f"http://127.0.0.1:{receiver.server_port}"
    entry = 'secret: "${HOOK_SECRET}", events: [usage.hourly]'
    (tmp_path / "config.yaml").write_text(
        f"data_dir: .\nwebhooks:\n  - {{name: erp, url: '{at}/hook', {entry}}}\n"
        f"  - {{name: off, url: '{at}/other', {entry}}}\n"
    )
    monkeypatch.setenv("HOOK_SECRET", SECRET)
    monkeypatch.chdir(tmp_path)
    book(opened, [make_event(occurred_at=now_ns() // HOUR * HOUR - 3 * HOUR)])
    update_rollups(opened)
    erp = WebhookEndpoint("erp", "", KEY, frozenset({"usage.hourly"}), since_ns=0, dead_after_s=0)
    fill(opened, erp, now_ns())
    [message] = webhook_book.take_messages(opened, "erp", now_ns())
    webhook_book.note_failed(opened, erp, message, "answered 500", now_ns())
    yield opened
    opened.close()


def _run(*words: str) -> Result:
    return CliRunner().invoke(weir, ["webhooks", *words], catch_exceptions=False)


def test_a_test_is_taken_or_not(ledger_here: Ledger) -> None:
    """The receiver checks the signature."""
    assert _run("send-test", "erp").exit_code == 0
    refused = _run("send-test", "off", "--json")
    assert (refused.exit_code, "answered 400" in refused.stderr) == (1, True)
    assert "127.0.0.1" not in refused.stderr
    assert _run("send-test", "none").exit_code == 3


def test_what_is_dead_is_listed_and_sent_again(ledger_here: Ledger) -> None:
    listed = json.loads(_run("list", "--json").stdout)
    assert [(each["name"], each["dead"]) for each in listed["endpoints"]] == [
        ("erp", 1),
        ("off", 0),
    ]
    [unsent] = listed["unsent"]
    assert (unsent["state"], unsent["reason"]) == ("dead", "answered 500")
    assert "answered 500" in _run("list").stdout

    assert _run("retry", "msg_none").exit_code == 3
    assert json.loads(_run("retry", unsent["message_id"], "--json").stdout) == {"retried": 1}
    assert json.loads(_run("list", "--json").stdout)["endpoints"][0]["waiting"] == 1
