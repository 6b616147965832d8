"""Payments beside settlement: callbacks out of Redis into the ledger, and what they come to.

Off unless `stripe.webhook_secrets` is set. A callback is taken out of Redis after the ledger has
it; several workers may do so at once. What goes wrong is said and tried again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError
from sqlalchemy.exc import SQLAlchemyError

from metering.callbacks import Callback
from metering.clock import now_ns
from metering.settlement.common_keys import CommonKeys
from metering.settlement.ledger.payment_book import keep_callbacks
from metering.settlement.ledger.store import Ledger
from metering.settlement.payments_booking import Payments, PaymentTurn
from metering.settlement.payments_port import PaymentsSdk
from metering.settlement.stripe_port import StripeMissingError
from metering.settlement.terms import Offer, Terms
from metering.settlement.watch import Log, Unwatched, Watch

LOOK_EVERY_S = 1.0
"""How soon a callback is seen."""
TURN_EVERY_S = 5.0
"""How soon what was put off, or a person has decided, is seen."""
_AT_ONCE = 100


class PaymentsLoop:
    """The worker's side of payments."""

    def __init__(
        self,
        ledger: Ledger,
        redis: Redis,
        key: str,
        offer: Offer,
        *,
        common: CommonKeys,
        log: Log,
        watch: Watch | None = None,
    ) -> None:
        """`key` is the stream of callbacks."""
        self._ledger, self._redis, self._key, self._offer = ledger, redis, key, offer
        self._common, self._log, self._watch = common, log, watch or Unwatched()
        self._going_by: Terms | None = None
        self._payments: Payments | None = None
        self._next_s = 0.0
        self._is_silent = False

    async def run(self, over: asyncio.Event) -> None:
        """Until `over`; what is under way is waited for."""
        loop = asyncio.get_running_loop()
        while not over.is_set():
            if self._adopt():
                came = await self._fetch()
                if came or loop.time() >= self._next_s:
                    self._next_s = loop.time() + TURN_EVERY_S
                    await self._turn()
            try:
                async with asyncio.timeout(LOOK_EVERY_S):
                    await over.wait()
            except TimeoutError:
                continue

    def _adopt(self) -> bool:
        """Go by the terms that hold now; whether payments are booked by them."""
        terms = self._offer.terms
        if terms is self._going_by:
            return self._payments is not None
        self._going_by, self._payments, self._next_s = terms, None, 0.0
        settings = terms.stripe
        if settings is None or not settings.webhook_secrets:
            return False
        try:
            port = PaymentsSdk(settings)
        except StripeMissingError as error:
            self._log.warning("payments_unusable", detail=str(error))
            return False
        self._payments = Payments(
            self._ledger, port, customers=settings.customers, tenants=terms.tenants
        )
        return True

    async def _fetch(self) -> bool:
        """Callbacks from Redis into the ledger; whether there were any."""
        try:
            entries: Any = await self._common.ask(
                lambda: self._redis.xrange(self._key, count=_AT_ONCE)
            )
            if not entries:
                return False
            found = [callback_of(fields) for _, fields in entries]
            callbacks = [each for each in found if each is not None]
            if len(callbacks) < len(found):
                self._log.warning("callbacks_unreadable", entries=len(found) - len(callbacks))
            await asyncio.to_thread(keep_callbacks, self._ledger, callbacks, now_ns())
            names = [name for name, _ in entries]
            await self._common.ask(lambda: self._redis.xdel(self._key, *names))
        except (RedisError, SQLAlchemyError, OSError) as error:  # the lanes say more
            if not self._is_silent:
                self._log.warning("payments_wait", cause=type(error).__name__)
            self._is_silent = True
            return False
        self._is_silent = False
        return True

    async def _turn(self) -> None:
        assert self._payments is not None
        try:
            turn = await asyncio.to_thread(self._payments.turn)
        except SQLAlchemyError as error:
            self._log.warning("payments_wait", cause=type(error).__name__)
            return
        self._say(turn)

    def _say(self, turn: PaymentTurn) -> None:
        if turn.trouble is not None:
            self._log.warning("payments_wait", cause=turn.trouble)
        if turn.steps:
            self._watch.paid(turn.steps)
            self._log.info("payments_booked", **dict(turn.steps))


def callback_of(fields: Mapping[Any, Any]) -> Callback | None:
    """The callback of an entry; None where the entry is not one of ours."""
    try:
        name, kind = fields[b"id"].decode(), fields[b"type"].decode()
        return Callback(name, kind, int(fields[b"created"]))
    except (KeyError, ValueError):
        return None
