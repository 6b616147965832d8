"""The price versions the worker rates with: from the ledger, else from where proxies publish them.

What comes from Redis is kept in the ledger by the next transaction that commits, so the books can
be rated again when Redis is gone. A version that is in neither place makes its events wait, and so
does one that is on a node of a Cluster which is away: what has its prices goes on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping, Sequence

from redis.asyncio import Redis

from metering.events import UsageEvent
from metering.prices import RatesByModel
from metering.redis_keys import RedisKeys
from metering.settlement.common_keys import AwayError, CommonKeys
from metering.settlement.entries import Arrival
from metering.settlement.ledger.standing import price_bodies
from metering.settlement.ledger.store import Ledger
from metering.settlement.rating import RateCards
from metering.settlement.redis_stream import price_body


class PriceShelf:
    """Finds price versions and remembers them."""

    def __init__(
        self, ledger: Ledger, redis: Redis, keys: RedisKeys, *, common: CommonKeys | None = None
    ) -> None:
        """Without `common`, a version that Redis cannot be asked for is an error."""
        self._ledger = ledger
        self._redis = redis
        self._keys = keys
        self._common = common
        self._unsaved: dict[str, bytes] = {}
        self.cards = RateCards()

    async def split(self, arrivals: Sequence[Arrival]) -> tuple[list[Arrival], list[Arrival]]:
        """The arrivals that can be rated now, and those whose prices are not to be had yet."""
        wanted = self.cards.lacking(arrival.event for arrival in arrivals)
        if not wanted:
            return list(arrivals), []
        await self._find(wanted)
        ready: list[Arrival] = []
        waiting: list[Arrival] = []
        for arrival in arrivals:
            (waiting if self.cards.missing(arrival.event) else ready).append(arrival)
        return ready, waiting

    def unsaved(self) -> Mapping[str, bytes]:
        """Bodies that the ledger has not kept yet."""
        return dict(self._unsaved)

    def saved(self, bodies: Mapping[str, bytes]) -> None:
        """Note that these were committed."""
        for version in bodies:
            self._unsaved.pop(version, None)

    async def fetch(self, event: UsageEvent) -> set[str]:
        """Look for this event's versions; those that are nowhere to be had."""
        await self._find(set(self.cards.missing(event)))
        return set(self.cards.missing(event))

    async def _find(self, versions: set[str]) -> None:
        kept = await asyncio.to_thread(price_bodies, self._ledger, versions)
        for version, body in kept.items():
            self.cards.add(RatesByModel(body, version=version))
        for version in sorted(versions - kept.keys()):
            published = await self._published(version)
            if published is not None and (card := _read(published, version)) is not None:
                self.cards.add(card)
                self._unsaved[version] = published

    async def _published(self, version: str) -> bytes | None:
        def ask() -> Awaitable[bytes | None]:
            return price_body(self._redis, self._keys, version)

        if self._common is None:
            return await ask()
        try:
            return await self._common.ask(ask)
        except AwayError:
            return None


def _read(body: bytes, version: str) -> RatesByModel | None:
    """The card, or None for a body that is not what its name says: as good as none at all."""
    try:
        return RatesByModel(body, version=version)
    except (ValueError, KeyError, TypeError):
        return None
