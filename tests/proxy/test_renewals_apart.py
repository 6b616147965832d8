"""One tenant's broken key, or a part of a Cluster that is away, is in nobody else's way."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import pytest
from fixtures_door import CollectingLog
from renewals_samples import CAPS, ManualClock, Open, held, soon

from metering.caps import (
    Candidate,
    CapsUnavailableError,
    Denial,
    Hold,
    Renewal,
    Reservation,
    Vector,
)
from metering.ids import uuid7
from metering.memory_caps import MemoryCaps
from metering.redis_wire import RedisReplyError
from proxy.renewals import TOGETHER, TURN_EVERY_S, Renewals

AWAY = CapsUnavailableError("its part is away")
BROKEN = RedisReplyError("WRONGTYPE Operation against a key holding the wrong kind of value")


class PartlyCaps(MemoryCaps):
    """Caps that do not answer for one tenant; `asked` says how often for whom."""

    def __init__(self, error: CapsUnavailableError) -> None:
        super().__init__(now_ms=ManualClock())
        self.error = error
        self.asked: dict[str, int] = {}

    async def renew(self, hold: Hold, *, ttl_ms: int, checkpoint: bytes | None = None) -> Renewal:
        self._ask(hold)
        return Renewal(is_held=True)

    async def release(self, hold: Hold) -> None:
        self._ask(hold)
        await super().release(hold)

    def _ask(self, hold: Hold) -> None:
        self.asked[hold.exchange_id] = self.asked.get(hold.exchange_id, 0) + 1
        if hold.tenant == "gone":
            raise self.error


def opened(caps: MemoryCaps, tenant: str, number: int) -> Open:
    hold = Hold(tenant, uuid7(1_800_000_000_000, number.to_bytes(10, "big")), CAPS)
    return Open(hold, caps=caps)


async def turns(renewals: Renewals, exchanges: Sequence[Open], for_s: float) -> None:
    """Every stream makes progress all the time."""
    start_s = now_s = soon()
    while now_s < start_s + for_s:
        for exchange in exchanges:
            exchange.progress = (1, int(now_s * 10))
        await renewals.turn(now_s)
        now_s += TURN_EVERY_S


@pytest.mark.parametrize("error", [AWAY, BROKEN], ids=["away", "broken"])
@pytest.mark.parametrize("every", [3, 1], ids=["among the others", "before the others"])
async def test_who_can_be_renewed_is(error: CapsUnavailableError, every: int) -> None:
    """Six hundred streams, a third of them of the tenant that fails, in chunks of their own or
    not: nobody else's hold lapses, nor does its checkpoint get old."""
    caps = PartlyCaps(error)
    renewals = Renewals(caps, CollectingLog())
    exchanges = [
        opened(caps, "gone" if (n % 3 == 0 if every == 3 else n < 200) else "acme", n)
        for n in range(600)
    ]
    for exchange in exchanges:
        renewals.add(exchange)

    await turns(renewals, exchanges, for_s=30.0)

    others = [each.hold.exchange_id for each in exchanges if each.hold.tenant == "acme"]
    assert min(caps.asked.get(each, 0) for each in others) >= 5


async def test_a_redis_that_is_away_is_not_asked_for_each() -> None:
    """One chunk and one line a turn: its silence would cost every chunk its wait."""
    caps = PartlyCaps(AWAY)
    renewals = Renewals(caps, log := CollectingLog())
    for number in range(3 * TOGETHER):
        renewals.add(opened(caps, "gone", number))

    await renewals.turn(soon())

    assert len(caps.asked) == TOGETHER
    assert [(name, fields["holds"]) for name, fields in log.lines] == [("renewal_failed", TOGETHER)]


@pytest.mark.parametrize("error", [AWAY, BROKEN], ids=["away", "broken"])
async def test_a_release_that_fails_lets_the_others_pass(
    error: CapsUnavailableError, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many there are; each is tried in its turn."""
    monkeypatch.setattr("proxy.renewals.RELEASE_AGAIN_S", 0)
    caps = PartlyCaps(error)
    renewals = Renewals(caps, CollectingLog())
    good = [opened(caps, "acme", number).hold for number in range(3)]
    bad = [opened(caps, "gone", 10 + number).hold for number in range(2 * TOGETHER)]
    for hold in (*bad, *good):
        renewals.give_back(hold)

    async with asyncio.timeout(5):
        while len(caps.model.ended) < len(good):
            await asyncio.sleep(0)

    assert {exchange_id for _, exchange_id in caps.model.ended} == {
        hold.exchange_id for hold in good
    }
    assert all(caps.asked[hold.exchange_id] >= 1 for hold in bad)


@dataclass(eq=False)
class SlowOpen(Open):
    """One that ends while it is placed again."""

    renewals: Renewals | None = None

    async def place(self, candidates: Sequence[Candidate]) -> Reservation | Denial:
        answer = await super().place(candidates)
        assert self.renewals is not None
        self.renewals.discard(self)
        return answer


async def test_what_is_placed_for_one_that_has_ended_is_given_back() -> None:
    """Its commit was answered before: nobody else would end what came after it."""
    clock = ManualClock()
    caps = MemoryCaps(now_ms=clock)
    renewals = Renewals(caps, log := CollectingLog())
    first = await held(caps, clock, 1)
    exchange = SlowOpen(first.hold, held=Candidate("u", Vector(nano=10)), caps=caps)
    exchange.renewals = renewals
    renewals.add(exchange)
    caps.model.records.clear()
    caps.model.scopes.clear()

    await renewals.turn(soon())
    async with asyncio.timeout(5):
        while caps.model.records:
            await asyncio.sleep(0)

    assert exchange.placed == 1
    assert log.lines == []
