"""From the outbox to sinks."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from fixtures_ledger import NOW_NS
from fixtures_worker import CollectingLog

from metering.settlement.ledger.outbox import Alert, put_alerts
from metering.settlement.ledger.store import Ledger
from metering.settlement.sending import SinkError, send_alerts
from metering.settlement.sinks.log import LogSink


@dataclass
class MoodySink:
    """Takes nothing while it is down."""

    is_down: bool = True
    taken: list[str] = field(default_factory=list)

    async def deliver(self, alert: Alert) -> None:
        if self.is_down:
            raise SinkError("not now")
        self.taken.append(alert.key)


def _put(ledger: Ledger, *keys: str) -> None:
    with ledger.write() as connection:
        put_alerts(connection, ((key, {"tenant": "acme"}) for key in keys), NOW_NS)


async def test_an_alert_that_a_sink_does_not_take_waits_for_it(ledger: Ledger) -> None:
    _put(ledger, "memory:1", "backlog:1")
    sink, lock = MoodySink(), asyncio.Lock()
    assert await send_alerts(ledger, sink, writing=lock) == []
    sink.is_down = False
    assert await send_alerts(ledger, sink, writing=lock) == []  # it is given a second

    with ledger.write() as connection:
        connection.exec_driver_sql("UPDATE outbox SET next_at = 0")
    assert await send_alerts(ledger, sink, writing=lock) == ["memory", "backlog"]

    assert sink.taken == ["memory:1", "backlog:1"]
    assert await send_alerts(ledger, sink, writing=lock) == []


async def test_the_log_gets_one_line_with_kind_and_body(ledger: Ledger) -> None:
    _put(ledger, "unpriced:e1")
    log = CollectingLog()

    await send_alerts(ledger, LogSink(log), writing=asyncio.Lock())

    assert log.lines == [
        ("alert", {"kind": "unpriced", "key": "unpriced:e1", "body": {"tenant": "acme"}})
    ]
