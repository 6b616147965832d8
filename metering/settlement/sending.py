"""From the outbox to the sinks: at least once each, oldest first, again later where a sink fails.

Rules: sinks know nothing of each other. Each has a sender of its own that goes on while another
waits, and what one has taken is not sent to it again because another has not. A sink that fails is
left alone for this turn: the alert that it did not take waits, the others are given back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Protocol

from sqlalchemy.exc import SQLAlchemyError

from metering.alert_sinks import SinkSettings
from metering.clock import now_ns
from metering.settlement.ledger.outbox import (
    Alert,
    close_alerts,
    give_back,
    note_failed,
    note_sent,
    take_alerts,
)
from metering.settlement.ledger.store import Ledger
from metering.settlement.watch import Log, Watch


class SinkError(Exception):
    """The sink did not take an alert; it is tried again. The message holds no URL and no secret."""


class Sink(Protocol):
    """Where alerts go."""

    async def deliver(self, alert: Alert) -> None:
        """Take it, or raise SinkError or OSError."""
        ...


@dataclass(frozen=True, slots=True)
class Outlet:
    """A sink with the name under which its deliveries are noted, and the kinds that it wants."""

    name: str
    sink: Sink
    kinds: Collection[str] | None = None


def open_outlets(settings: Sequence[SinkSettings], log: Log) -> list[Outlet]:
    """The sinks as configured: each type is a file in `sinks` with an `open_sink`."""
    found = []
    for each in settings:
        module = import_module(f"metering.settlement.sinks.{each.type}")
        found.append(Outlet(each.name, module.open_sink(each, log), each.kinds))
    return found


class Sender:
    """Sends what is due at one sink."""

    def __init__(
        self,
        ledger: Ledger,
        outlet: Outlet,
        *,
        among: Collection[str],
        writing: asyncio.Lock,
        log: Log,
        told: Watch,
    ) -> None:
        self._ledger = ledger
        self._outlet = outlet
        self._among = among
        self._writing = writing
        self._log = log
        self._told = told

    async def run(self, over: asyncio.Event, *, every_s: float, last_s: float) -> None:
        """Send until `over`, and then once more, for at most `last_s`."""
        while not over.is_set():
            await self._try()
            try:
                async with asyncio.timeout(every_s):
                    await over.wait()
            except TimeoutError:
                continue
        try:
            async with asyncio.timeout(last_s):
                await self._try()
        except TimeoutError:
            self._log.warning("alerts_left", sink=self._outlet.name)

    async def once(self) -> list[str]:
        """Deliver what is due; the kinds of what the sink took."""
        name, sent = self._outlet.name, []
        async with self._writing:
            due = await asyncio.to_thread(
                take_alerts, self._ledger, name, now_ns=now_ns(), kinds=self._outlet.kinds
            )
        for at, alert in enumerate(due):
            try:
                await self._outlet.sink.deliver(alert)
            except (SinkError, OSError) as error:
                await self._failed(alert, due[at + 1 :], error)
                break
            async with self._writing:
                await asyncio.to_thread(note_sent, self._ledger, alert, name)
            sent.append(alert.kind)
            self._told.alerted(alert.kind)
        async with self._writing:
            await asyncio.to_thread(close_alerts, self._ledger, self._among)
        return sent

    async def _failed(self, alert: Alert, rest: Sequence[Alert], error: Exception) -> None:
        name = self._outlet.name
        async with self._writing:
            await asyncio.to_thread(note_failed, self._ledger, alert, name, now_ns=now_ns())
            await asyncio.to_thread(give_back, self._ledger, rest, name, now_ns=now_ns())
        cause = str(error) if isinstance(error, SinkError) else type(error).__name__
        self._log.warning(
            "alert_not_taken",
            sink=name,
            kind=alert.kind,
            cause=cause,
            attempts=alert.attempts + 1,
        )

    async def _try(self) -> None:
        """A database in trouble is for the lanes to report; alerts wait in it."""
        try:
            await self.once()
        except SQLAlchemyError as error:
            self._log.warning("alerts_wait", sink=self._outlet.name, cause=type(error).__name__)
