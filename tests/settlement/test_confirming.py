"""Proxies are told what is in the ledger, however late."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, cast

import pytest
from fixtures_ledger import book, make_event
from fixtures_worker import CollectingLog
from redis.exceptions import ConnectionError as RedisConnectionError

from metering.events import encode, payload_hash
from metering.settlement import common_keys
from metering.settlement.common_keys import CommonKeys
from metering.settlement.confirming import Confirming
from metering.settlement.entries import Entry
from metering.settlement.ledger.store import Ledger


@dataclass
class List:
    """The list of what is confirmed, on a node that may be away."""

    is_away: bool = False
    said: list[dict[str, str]] = field(default_factory=list)

    async def confirm(self, confirmed: dict[str, str]) -> None:
        if self.is_away:
            raise RedisConnectionError("refused")
        self.said.append(confirmed)


@pytest.fixture
def confirming(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> Confirming:
    monkeypatch.setattr(common_keys, "REST_S", 0.0)
    for number, proxy_id in enumerate(("p1", "p2"), start=1):
        body = encode(make_event(proxy_id=proxy_id, spool_seq=number))
        book(ledger, [Entry(0, f"{number}-0", body, payload_hash(body))])
    log = CollectingLog()
    return Confirming(ledger, common=CommonKeys("confirmed", is_cluster=True, log=log))


async def test_those_that_are_named_or_all(confirming: Confirming) -> None:
    told = List()

    await confirming.confirm(cast("Any", told), {"p1"})
    await confirming.confirm(cast("Any", told))
    await confirming.say_what_is_owed(cast("Any", told))

    assert told.said == [{"p1": "1-1"}, {"p1": "1-1", "p2": "2-2"}]


async def test_what_could_not_be_said_is_owed(confirming: Confirming) -> None:
    """Nobody waits for the node; when it is back, all is said."""
    told = List(is_away=True)
    await confirming.confirm(cast("Any", told), {"p1"})
    told.is_away = False

    await confirming.say_what_is_owed(cast("Any", told))
    await confirming.say_what_is_owed(cast("Any", told))

    assert told.said == [{"p1": "1-1", "p2": "2-2"}]


@dataclass
class Slow(List):
    """While it is told the first time, another worker books one more and says so."""

    ledger: Ledger | None = None
    other: Confirming | None = None

    async def confirm(self, confirmed: dict[str, str]) -> None:
        if self.ledger is not None and self.other is not None:
            ledger, self.ledger = self.ledger, None
            body = encode(make_event(proxy_id="p1", spool_seq=2))
            book(ledger, [Entry(0, "9-0", body, payload_hash(body))])
            await self.other.confirm(cast("Any", self), {"p1"})
        await super().confirm(confirmed)


async def test_whoever_spoke_last_with_less_says_it_again(
    ledger: Ledger, confirming: Confirming
) -> None:
    """Two workers read and tell; the slower one overwrote the newer word, and looks at it again."""
    common = CommonKeys("confirmed", is_cluster=False, log=CollectingLog())
    told = Slow(ledger=ledger, other=Confirming(ledger, common=common))

    await confirming.confirm(cast("Any", told), {"p1"})
    stale = told.said[-1]
    for _ in range(3):
        await confirming.say_what_is_owed(cast("Any", told))

    assert (stale, told.said[2:]) == ({"p1": "1-1"}, [{"p1": "1-2"}])
