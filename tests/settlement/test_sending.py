"""From the outbox to sinks."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

from fixtures_ledger import NOW_NS
from fixtures_worker import CollectingLog

from metering.alert_sinks import SinkSettings
from metering.settlement.ledger.outbox import Alert, put_alerts
from metering.settlement.ledger.store import Ledger
from metering.settlement.sending import Outlet, Sender, SinkError, open_outlets
from metering.settlement.sinks.log import LogSink
from metering.settlement.sinks.webhook import WebhookSink
from metering.settlement.watch import Unwatched


@dataclass
class MoodySink:
    """Takes nothing while it is down, and nothing of a key that it chokes on."""

    is_down: bool = False
    chokes_on: str = ""
    taken: list[str] = field(default_factory=list)

    async def deliver(self, alert: Alert) -> None:
        if self.is_down or alert.key == self.chokes_on:
            raise SinkError("not now")
        self.taken.append(alert.key)


class HangingSink:
    """Never answers."""

    async def deliver(self, alert: Alert) -> None:
        await asyncio.Event().wait()


def _put(ledger: Ledger, *keys: str) -> None:
    with ledger.write() as connection:
        put_alerts(connection, ((key, {"tenant": "acme"}) for key in keys), NOW_NS)


def _sender(ledger: Ledger, sink: Any, name: str = "a", **changes: Any) -> Sender:
    values = {
        "among": ["a"],
        "writing": asyncio.Lock(),
        "log": CollectingLog(),
        "told": Unwatched(),
        **changes,
    }
    return Sender(ledger, Outlet(name, sink), **values)


def _make_due(ledger: Ledger) -> None:
    with ledger.write() as connection:
        connection.exec_driver_sql("UPDATE outbox_delivery SET next_at = 0")


async def test_an_alert_that_a_sink_does_not_take_waits_for_it(ledger: Ledger) -> None:
    _put(ledger, "memory:1", "backlog:1")
    sink = MoodySink(is_down=True)
    sender = _sender(ledger, sink)
    assert await sender.once() == []
    sink.is_down = False
    assert await sender.once() == ["backlog"]  # the first is given a second

    _make_due(ledger)
    assert await sender.once() == ["memory"]

    assert sink.taken == ["backlog:1", "memory:1"]
    assert await sender.once() == []


async def test_an_alert_that_a_sink_chokes_on_stops_no_other(ledger: Ledger) -> None:
    _put(ledger, "memory:1", "backlog:1", "memory:2")
    sink = MoodySink(chokes_on="memory:1")
    sender = _sender(ledger, sink)

    await sender.once()
    await sender.once()

    assert sink.taken == ["backlog:1", "memory:2"]


async def test_a_sink_that_fails_neither_delays_nor_repeats_at_the_others(ledger: Ledger) -> None:
    _put(ledger, "memory:1")
    down, sound = MoodySink(is_down=True), MoodySink()
    first = _sender(ledger, down, "a", among=["a", "b"])
    second = _sender(ledger, sound, "b", among=["a", "b"])

    for _ in range(3):
        await first.once()
        await second.once()
        _make_due(ledger)
    down.is_down = False
    await first.once()
    await second.once()

    assert (down.taken, sound.taken) == (["memory:1"], ["memory:1"])


async def test_a_failure_is_logged_without_what_was_sent(ledger: Ledger) -> None:
    _put(ledger, "memory:1")
    log = CollectingLog()

    await _sender(ledger, MoodySink(is_down=True), log=log).once()

    assert log.lines == [
        (
            "alert_not_taken",
            {"sink": "a", "kind": "memory", "cause": "not now", "attempts": 1},
        )
    ]


async def test_a_run_ends_although_a_sink_hangs(ledger: Ledger) -> None:
    _put(ledger, "memory:1")
    log, over = CollectingLog(), asyncio.Event()
    over.set()

    await _sender(ledger, HangingSink(), log=log).run(over, every_s=9.0, last_s=0.05)

    assert log.said == ["alerts_left"]


async def test_the_log_gets_one_line_with_kind_and_body(ledger: Ledger) -> None:
    _put(ledger, "unpriced:e1")
    log = CollectingLog()

    await _sender(ledger, LogSink(log)).once()

    assert log.lines == [
        ("alert", {"kind": "unpriced", "key": "unpriced:e1", "body": {"tenant": "acme"}})
    ]


def test_sinks_are_found_by_their_type() -> None:
    settings = [SinkSettings("log"), SinkSettings("webhook", url="http://x", kinds=frozenset("k"))]

    outlets = open_outlets(settings, CollectingLog())

    assert [type(each.sink) for each in outlets] == [LogSink, WebhookSink]
    assert [each.kinds for each in outlets] == [None, frozenset("k")]
