"""Messages to other systems, beside settlement: found in the ledger, sent, and sent again.

Rules: at least once each, and in order for each subject; one that is not taken holds back only what
comes after it of the same subject, at the same endpoint. The requests are those of the alerts'
webhooks: no redirect is followed, no answer read, and neither address nor secret logged.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence

from sqlalchemy.exc import SQLAlchemyError

from metering.clock import now_ns
from metering.settlement.ledger import webhook_book as book
from metering.settlement.ledger.store import Ledger
from metering.settlement.ledger.webhook_news import fill
from metering.settlement.sending import SinkError
from metering.settlement.sinks.webhook import post
from metering.settlement.terms import Offer
from metering.settlement.watch import Log, Unwatched, Watch
from metering.settlement.webhooks import Message, body_of, headers_of
from metering.webhook_settings import WebhookEndpoint

LOOK_EVERY_S = 1.0
"""How soon a stop is noticed, and a retry that is due."""
FILL_EVERY_S = 5.0
"""How soon what is new in the ledger is found."""
AT_ONCE = 4
"""Requests at one endpoint at a time."""


class WebhooksLoop:
    """The worker's side of `webhooks`."""

    def __init__(
        self, ledger: Ledger, offer: Offer, *, log: Log, watch: Watch | None = None
    ) -> None:
        self._ledger, self._offer, self._log = ledger, offer, log
        self._watch = watch or Unwatched()
        self._source = ""

    async def run(self, over: asyncio.Event) -> None:
        """Until `over`; requests under way are waited for. One that answers late, or never, is
        left at it: the others have their turns meanwhile."""
        loop = asyncio.get_running_loop()
        serving: dict[str, asyncio.Task[None]] = {}
        fill_at_s: dict[str, float] = {}
        async with asyncio.TaskGroup() as group:
            while not over.is_set():
                for each in self._offer.terms.webhooks:
                    if each.name in serving and not serving[each.name].done():
                        continue
                    is_time = loop.time() >= fill_at_s.get(each.name, 0.0)
                    if is_time:
                        fill_at_s[each.name] = loop.time() + FILL_EVERY_S
                    serving[each.name] = group.create_task(self._serve(each, fills=is_time))
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_EVERY_S):
                        await over.wait()

    async def turn(self, endpoints: Sequence[WebhookEndpoint], *, fills: bool = True) -> None:
        """Find what is new, and send what is due; endpoints know nothing of each other."""
        async with asyncio.TaskGroup() as group:
            for each in endpoints:
                group.create_task(self._serve(each, fills=fills))

    async def _serve(self, endpoint: WebhookEndpoint, *, fills: bool) -> None:
        try:
            if not self._source:
                self._source = await asyncio.to_thread(book.source_of, self._ledger)
            while fills and await asyncio.to_thread(fill, self._ledger, endpoint, now_ns()):
                continue
            args = self._ledger, endpoint.name
            while messages := await asyncio.to_thread(book.take_messages, *args, now_ns()):
                outcomes = await self._send_all(endpoint, messages)
                if not all(outcomes):
                    return  # the next turn goes on, and others of the endpoint had their try
        except SQLAlchemyError as error:  # the lanes say more
            self._log.warning("webhooks_wait", endpoint=endpoint.name, cause=type(error).__name__)

    async def _send_all(self, endpoint: WebhookEndpoint, messages: Sequence[Message]) -> list[bool]:
        room = asyncio.Semaphore(AT_ONCE)

        async def send(message: Message) -> bool:
            async with room:
                return await self._send(endpoint, message)

        return list(await asyncio.gather(*map(send, messages)))

    async def _send(self, endpoint: WebhookEndpoint, message: Message) -> bool:
        try:
            await deliver(endpoint, message, source=self._source)
        except SinkError as error:
            args = self._ledger, endpoint, message, str(error), now_ns()
            is_dead = await asyncio.to_thread(book.note_failed, *args)
            self._log.warning(
                "webhook_dead" if is_dead else "webhook_not_taken",
                endpoint=endpoint.name,
                message=message.message_id,
                cause=str(error),
                attempts=message.attempts + 1,
            )
            self._watch.delivered(endpoint.name, "dead" if is_dead else "not_taken")
            return False
        self._watch.delivered(endpoint.name, "taken")
        await asyncio.to_thread(book.note_sent, self._ledger, message, now_ns())
        return True


async def deliver(endpoint: WebhookEndpoint, message: Message, *, source: str) -> None:
    """One request; SinkError when it was not taken."""
    kind, body = body_of(message, endpoint.format, source=source)
    at_s = now_ns() // 1_000_000_000
    headers = {
        "content-type": kind,
        "user-agent": "tokenweir",
        **headers_of(message.message_id, body, *endpoint.keys, at_s=at_s),
    }
    await post(endpoint.url, body, headers, timeout_s=endpoint.timeout_s)
