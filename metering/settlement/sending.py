"""From the outbox to a sink: at least once, oldest first, again later where the sink fails."""

from __future__ import annotations

import asyncio
from typing import Protocol

from metering.clock import now_ns
from metering.settlement.ledger.outbox import Alert, note_failed, note_sent, take_alerts
from metering.settlement.ledger.store import Ledger


class SinkError(Exception):
    """The sink did not take an alert; it is tried again."""


class Sink(Protocol):
    """Where alerts go."""

    async def deliver(self, alert: Alert) -> None:
        """Take it, or raise SinkError or OSError."""
        ...


async def send_alerts(ledger: Ledger, sink: Sink, *, writing: asyncio.Lock) -> list[str]:
    """Deliver what is due; the kinds of what the sink took."""
    async with writing:
        due = await asyncio.to_thread(take_alerts, ledger, now_ns=now_ns())
    sent = []
    for alert in due:
        try:
            await sink.deliver(alert)
        except (SinkError, OSError):
            async with writing:
                await asyncio.to_thread(note_failed, ledger, alert, now_ns=now_ns())
        else:
            async with writing:
                await asyncio.to_thread(note_sent, ledger, alert)
            sent.append(alert.kind)
    return sent
