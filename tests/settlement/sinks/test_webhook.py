"""Alerts as signed requests, against a server on a socket."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiohttp import web
from aioresponses import aioresponses
from fixtures_ledger import new_ledger
from fixtures_worker import CollectingLog

from metering.alert_sinks import SinkSettings
from metering.settlement.ledger.outbox import Alert, put_alerts
from metering.settlement.sending import Sender, SinkError, open_outlets
from metering.settlement.sinks.webhook import WebhookSink, alert_id, encode, sign
from metering.settlement.watch import Unwatched

SECRET = "s3cret-of-sixteen-or-more"
ALERT = Alert(7, "memory", "memory:1", {"kind": "memory", "used_bytes": 5}, 0, 10**18)
PROGRAM = Path(__file__).parents[1] / "programs" / "send_alerts.py"


@dataclass
class Receiver:
    """A server that keeps what it is sent and answers as it is told."""

    url: str = ""
    status: int = 204
    headers: dict[str, str] = field(default_factory=dict)
    taken: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    on_request: Callable[[], None] = lambda: None
    hangs: bool = False

    async def answer(self, request: web.Request) -> web.Response:
        self.taken.append((dict(request.headers), await request.read()))
        self.on_request()
        if self.hangs:
            await asyncio.Event().wait()
        return web.Response(status=self.status, headers=self.headers)


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    made, app = Receiver(), web.Application()
    app.router.add_post("/{tail:.*}", made.answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0]
    made.url = f"http://{host}:{port}/hook"
    yield made
    await runner.cleanup()


def _sink(url: str, **changes: Any) -> WebhookSink:
    return WebhookSink(SinkSettings("webhook", url=url, secret=SECRET, **changes))


async def test_a_request_carries_the_alert_its_id_and_a_signature(receiver: Receiver) -> None:
    """Whoever has the secret can tell that it is ours, whole, and how old it is."""
    await _sink(receiver.url).deliver(ALERT)

    [(headers, body)] = receiver.taken
    at, _, signature = headers["x-weir-signature"].partition(",v1=")
    signed = at.removeprefix("t=").encode() + b"." + body
    assert hmac.new(SECRET.encode(), signed, hashlib.sha256).hexdigest() == signature
    assert orjson.loads(body) == {
        "v": 1,
        "id": headers["x-weir-alert-id"],
        "kind": "memory",
        "key": "memory:1",
        "at_ms": 10**12,
        "body": {"used_bytes": 5},
    }


def test_an_alert_has_one_id_and_another_alert_another() -> None:
    again = Alert(7, "memory", "memory:1", {"kind": "memory"}, 3, 10**18)
    later = Alert(9, "memory", "memory:1", {"kind": "memory"}, 0, 10**18 + 1)

    assert alert_id(ALERT) == alert_id(again)
    assert alert_id(ALERT) != alert_id(later)


def test_the_signature_covers_the_time() -> None:
    assert sign(b"{}", SECRET, at_s=1) == (
        "t=1,v1=" + hmac.new(SECRET.encode(), b"1.{}", hashlib.sha256).hexdigest()
    )
    assert sign(b"{}", SECRET, at_s=1)[4:] != sign(b"{}", SECRET, at_s=2)[4:]


@pytest.mark.parametrize("status", [300, 302, 404, 500])
async def test_anything_but_success_is_tried_again(receiver: Receiver, status: int) -> None:
    """A redirect is not followed: it could lead anywhere."""
    receiver.status, receiver.headers = status, {"location": receiver.url}

    with pytest.raises(SinkError, match=f"answered {status}"):
        await _sink(receiver.url).deliver(ALERT)

    assert len(receiver.taken) == 1


async def test_one_that_does_not_answer_is_given_up_in_time(receiver: Receiver) -> None:
    receiver.hangs = True

    with pytest.raises(SinkError, match="not reached: TimeoutError"):
        await _sink(receiver.url, timeout_s=0.05).deliver(ALERT)


async def test_one_that_is_not_there_says_so_without_its_address(unused_tcp_port: int) -> None:
    with pytest.raises(SinkError) as caught:
        await _sink(f"http://127.0.0.1:{unused_tcp_port}/token-in-path").deliver(ALERT)

    assert "token-in-path" not in str(caught.value)
    assert caught.value.__cause__ is None


async def test_a_broken_answer_is_a_failure_like_any_other() -> None:
    with aioresponses() as hooks:
        hooks.post("https://hook.example/x", exception=ConnectionResetError("reset"))

        with pytest.raises(SinkError, match="not reached: ConnectionResetError"):
            await _sink("https://hook.example/x").deliver(ALERT)


async def test_neither_secret_nor_address_is_ever_shown() -> None:
    settings = SinkSettings("webhook", url="https://h/token", secret=SECRET)

    assert SECRET not in repr(settings)
    assert "token" not in repr(settings) + settings.name
    assert SECRET.encode() not in encode(ALERT)


async def test_a_kill_between_delivery_and_mark_sends_it_again(
    receiver: Receiver, tmp_path: Path
) -> None:
    """At least once: the same alert under the same id, which the receiver can tell."""
    ledger = new_ledger(tmp_path)
    with ledger.write() as connection:
        put_alerts(connection, [("memory:1", {"used_bytes": 5})], 10**18)
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    process = subprocess.Popen(
        [sys.executable, str(PROGRAM), url, receiver.url, SECRET],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
        stdout=subprocess.DEVNULL,
    )
    receiver.on_request = lambda: process.send_signal(signal.SIGKILL)
    assert await asyncio.to_thread(process.wait, 8) == -signal.SIGKILL
    receiver.on_request = lambda: None
    with ledger.write() as connection:  # its lease is over
        connection.exec_driver_sql("UPDATE outbox_delivery SET next_at = 0")

    settings = [SinkSettings("webhook", url=receiver.url, secret=SECRET)]
    [outlet] = open_outlets(settings, CollectingLog())
    writing, log = asyncio.Lock(), CollectingLog()
    sender = Sender(ledger, outlet, among=[outlet.name], writing=writing, log=log, told=Unwatched())
    assert await sender.once() == ["memory"]
    assert await sender.once() == []
    ledger.close()

    [first, second] = [headers["x-weir-alert-id"] for headers, _ in receiver.taken]
    assert first == second
