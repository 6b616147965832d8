"""Renewals find out what somebody paused or killed, and ask once for all that share its scopes."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest
from fixtures_door import CollectingLog
from renewals_samples import TIMES, ManualClock, Open, held, soon

from metering.caps import Denial, DenialReason, Hold, Renewal, Scope, ScopeKind
from metering.memory_caps import MemoryCaps
from proxy.renewals import Renewals


class Flagged(MemoryCaps):
    """Notes whom it was asked about; `stops` are the exchanges that a flag stands in the way of."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__(now_ms=clock)
        self.asked: list[str] = []
        self.stops: dict[str, DenialReason] = {}

    async def renew(self, hold: Hold, *, ttl_ms: int, checkpoint: bytes | None = None) -> Renewal:
        self.asked.append(hold.exchange_id)
        renewal = await super().renew(hold, ttl_ms=ttl_ms, checkpoint=checkpoint)
        return replace(renewal, stop=self.stops.get(hold.exchange_id))


@dataclass
class Site:
    clock: ManualClock = field(default_factory=ManualClock)

    def __post_init__(self) -> None:
        self.caps = Flagged(self.clock)
        self.renewals = Renewals(self.caps, CollectingLog())

    async def open(self, number: int, run: str) -> Open:
        exchange = await held(self.caps, self.clock, number)
        exchange.hold = replace(exchange.hold, stops=(Scope(ScopeKind.RUN, run),))
        self.renewals.add(exchange)
        return exchange


async def test_one_answer_ends_all_that_share_its_scopes() -> None:
    """And nobody else; one that is ending already is left alone."""
    site = Site()
    first, second, ending = [await site.open(number, "a") for number in range(3)]
    other = await site.open(3, "b")
    ending.is_ending = True
    site.caps.stops[first.hold.exchange_id] = DenialReason.KILLED

    await site.renewals.turn(soon())

    assert first.stopped == second.stopped == Denial(DenialReason.KILLED)
    assert (ending.stopped, other.stopped) == (None, None)


async def test_those_without_news_are_asked_about_once() -> None:
    """A hundred quiet exchanges of one run and one of another make two calls every five seconds."""
    site = Site()
    for number in range(100):
        await site.open(number, "a")
    await site.open(100, "b")
    await site.renewals.turn(soon())
    site.caps.asked.clear()

    await site.renewals.turn(soon() + TIMES.checkpoint_every_s)
    once = len(site.caps.asked)
    await site.renewals.turn(soon() + TIMES.checkpoint_every_s + 1)

    assert once == 2
    assert len(site.caps.asked) == 2


async def test_a_look_is_taken_at_the_next_turn() -> None:
    """Whoever has come far is renewed before its time, once."""
    site = Site()
    exchange, _ = await site.open(0, "a"), await site.open(1, "b")
    await site.renewals.turn(soon())
    site.caps.asked.clear()
    exchange.progress = (1, 300)

    await site.renewals.turn(soon())
    assert site.caps.asked == []
    site.renewals.look(exchange)
    await site.renewals.turn(soon())
    await site.renewals.turn(soon())

    assert site.caps.asked == [exchange.hold.exchange_id]


async def test_a_look_at_what_has_ended_is_nothing() -> None:
    """An exchange may say so after it was taken off the list."""
    site = Site()
    exchange = await site.open(0, "a")
    site.renewals.discard(exchange)

    site.renewals.look(exchange)

    assert len(site.renewals) == 0


@pytest.mark.parametrize("reason", [DenialReason.PAUSED, DenialReason.KILLED])
async def test_a_lost_hold_is_not_placed_again_where_a_flag_stands(reason: DenialReason) -> None:
    """It lapsed meanwhile, and somebody stopped it: it ends."""
    site = Site()
    exchange = await site.open(0, "a")
    site.caps.model.records.clear()
    site.caps.stops[exchange.hold.exchange_id] = reason

    await site.renewals.turn(soon())

    assert exchange.stopped == Denial(reason)
    assert exchange.placed == 0
