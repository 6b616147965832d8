"""Prices that are on a node of a Cluster which is away."""

from __future__ import annotations

from typing import Any, cast

import pytest
from fixtures_ledger import PRICES, make_event
from fixtures_worker import CollectingLog
from redis.exceptions import ConnectionError as RedisConnectionError

from metering.events import encode, payload_hash
from metering.redis_keys import RedisKeys
from metering.settlement.common_keys import CommonKeys
from metering.settlement.entries import Arrival, Entry, sort_entries
from metering.settlement.ledger.store import Ledger
from metering.settlement.price_shelf import PriceShelf

KEYS = RedisKeys()


class Published:
    """What proxies published, where it can be asked for."""

    def __init__(self, *, is_away: bool) -> None:
        self.is_away = is_away

    async def get(self, key: str) -> bytes | None:
        if self.is_away:
            raise RedisConnectionError("refused")
        return {KEYS.prices(version): body for version, body in PRICES.items()}.get(key)


def arrivals() -> list[Arrival]:
    body = encode(make_event())
    ready, _ = sort_entries([Entry(0, "1-0", body, payload_hash(body))])
    return ready


def shelf(ledger: Ledger, *, is_away: bool, is_cluster: bool = True) -> PriceShelf:
    redis = cast("Any", Published(is_away=is_away))
    common = CommonKeys("prices", is_cluster=is_cluster, log=CollectingLog())
    return PriceShelf(ledger, redis, KEYS, common=common)


async def test_what_needs_them_waits_and_no_other(ledger: Ledger) -> None:
    """Of a Cluster the lane's own node is there: other events go on."""
    found = await shelf(ledger, is_away=True).split(arrivals())

    assert [len(each) for each in found] == [0, 1]
    assert [len(each) for each in await shelf(ledger, is_away=False).split(arrivals())] == [1, 0]


async def test_one_server_that_is_away_is_an_error(ledger: Ledger) -> None:
    """Nothing of the lane would go on."""
    with pytest.raises(RedisConnectionError):
        await shelf(ledger, is_away=True, is_cluster=False).split(arrivals())


async def test_a_person_who_replays_is_told(ledger: Ledger) -> None:
    """That Redis cannot be asked, not that there is no such price."""
    redis = cast("Any", Published(is_away=True))

    with pytest.raises(RedisConnectionError):
        await PriceShelf(ledger, redis, KEYS).fetch(make_event())
