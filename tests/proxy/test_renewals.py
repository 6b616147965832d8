"""Holds of long exchanges stay alive and say what they have come to; ended ones are left alone."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import pytest
from fixtures_door import CollectingLog
from renewals_samples import CAPS, TIMES, CountingCaps, ManualClock, Open, held, soon

from metering.background import spawn
from metering.caps import (
    Candidate,
    CapsUnavailableError,
    Hold,
    Renewal,
    Vector,
)
from metering.memory_caps import MemoryCaps
from metering.redis_wire import RedisReplyError
from proxy.door import HOLD_TTL_MS, HoldTimes
from proxy.renewals import RENEW_AGAIN_S, TOGETHER, Renewals


async def test_a_long_exchange_keeps_its_hold() -> None:
    """Renewed in time, a hold outlives its first expiry, whether or not there is news."""
    clock = ManualClock()
    caps = MemoryCaps(now_ms=clock)
    renewals = Renewals(caps, CollectingLog())
    exchange = await held(caps, clock, 1)
    renewals.add(exchange)
    now_s = soon()

    for _ in range(5):
        await renewals.turn(now_s)
        now_s += TIMES.renew_every_s
        clock.now_ms += HOLD_TTL_MS // 2

    record = caps.model.records["acme", exchange.hold.exchange_id]
    assert record.state == "held"
    assert record.checkpoint == b"seen 7"
    assert exchange.asked == 1


async def test_what_is_short_is_never_noted_and_what_changes_is() -> None:
    """First after a second, then every five in which something was counted."""
    clock = ManualClock()
    caps = MemoryCaps(now_ms=clock)
    renewals = Renewals(caps, CollectingLog())
    exchange = await held(caps, clock, 1)
    renewals.add(exchange)
    noted = []

    async def turn(now_s: float) -> None:
        await renewals.turn(now_s)
        noted.append(caps.model.records["acme", exchange.hold.exchange_id].checkpoint)

    now_s = soon()
    await turn(now_s - TIMES.first_checkpoint_s / 2)
    await turn(now_s)
    exchange.progress = (1, 9)
    await turn(now_s + 4)
    await turn(now_s + 5)
    await turn(now_s + 10)

    assert noted == [b"", b"seen 7", b"seen 7", b"seen 9", b"seen 9"]
    assert exchange.asked == 2


async def test_an_exchange_that_has_sent_nothing_leaves_its_facts() -> None:
    """A checkpoint without an attempt would hide what was known at the reserve."""
    clock = ManualClock()
    caps = MemoryCaps(now_ms=clock)
    renewals = Renewals(caps, CollectingLog())
    exchange = await held(caps, clock, 1)
    exchange.progress = ()
    renewals.add(exchange)

    await renewals.turn(soon())

    assert caps.model.records["acme", exchange.hold.exchange_id].checkpoint == b""


async def test_many_are_noted_together_and_not_all_at_once() -> None:
    """Two hundred streams take four round trips, not two hundred, and never flood the link."""
    clock = ManualClock()
    caps = CountingCaps(now_ms=clock)
    renewals = Renewals(caps, CollectingLog())
    for number in range(200):
        renewals.add(await held(caps, clock, number))

    await renewals.turn(soon())

    assert (caps.answered, caps.most) == (200, TOGETHER)
    assert {record.checkpoint for record in caps.model.records.values()} == {b"seen 7"}


@dataclass(eq=False)
class Odd(Open):
    def checkpoint(self) -> bytes:
        raise RuntimeError("nobody thought of this")


async def test_one_that_fails_oddly_is_in_nobodys_way() -> None:
    """The turn says so by its error; the next one goes on with those behind it."""
    clock = ManualClock()
    caps = MemoryCaps(now_ms=clock)
    renewals = Renewals(caps, CollectingLog())
    renewals.add(Odd((await held(caps, clock, 0)).hold))
    for number in range(1, TOGETHER + 2):
        renewals.add(await held(caps, clock, number))
    now_s = soon()

    with pytest.raises(RuntimeError):
        await renewals.turn(now_s)
    await renewals.turn(now_s)

    noted = [record.checkpoint for record in caps.model.records.values()]
    assert noted.count(b"seen 7") == TOGETHER + 1


async def test_an_ended_exchange_is_not_renewed() -> None:
    """What has ended, or is being recorded, is neither renewed nor missed."""
    clock = ManualClock()
    caps = MemoryCaps(now_ms=clock)
    renewals = Renewals(caps, log := CollectingLog())
    ended, ending = await held(caps, clock, 1), await held(caps, clock, 2)
    for exchange in (ended, ending):
        renewals.add(exchange)
        await caps.release(exchange.hold)

    renewals.discard(ended)
    ending.is_ending = True
    await renewals.turn(soon())

    assert len(renewals) == 1
    assert (ended.asked, ending.asked) == (0, 0)
    assert log.lines == []


async def test_a_lapsed_hold_is_said() -> None:
    """A hold that was lost while its exchange goes on is worth a line."""
    clock = ManualClock()
    caps = MemoryCaps(now_ms=clock)
    renewals = Renewals(caps, log := CollectingLog())
    exchange = await held(caps, clock, 1)
    renewals.add(exchange)
    await caps.release(exchange.hold)

    await renewals.turn(soon())

    assert [name for name, _ in log.lines] == ["hold_lapsed"]


async def test_a_hold_that_lapsed_is_placed_again() -> None:
    """Redis was away for longer than the hold lives; then the cap knows of the exchange again."""
    clock = ManualClock()
    caps = MemoryCaps(now_ms=clock)
    renewals = Renewals(caps, log := CollectingLog())
    exchange = await held(caps, clock, 1)
    exchange.held = Candidate("u", Vector(nano=10))
    renewals.add(exchange)
    clock.now_ms += 2 * HOLD_TTL_MS
    other = await held(caps, clock, 2)  # sweeps what has lapsed

    await renewals.turn(soon())

    assert caps.model.records["acme", exchange.hold.exchange_id].state == "held"
    assert caps.model.scopes["acme", CAPS[0].scope].held == Vector(nano=20)
    assert [name for name, _ in log.lines] == ["hold_placed_again"]
    assert other.hold != exchange.hold


async def test_a_hold_that_fits_no_more_is_said() -> None:
    """Others have taken the room meanwhile: nothing is placed, the exchange goes on."""
    clock = ManualClock()
    caps = MemoryCaps(now_ms=clock)
    renewals = Renewals(caps, log := CollectingLog())
    exchange = await held(caps, clock, 1)
    exchange.held = Candidate("u", Vector(nano=9_995))
    renewals.add(exchange)
    clock.now_ms += 2 * HOLD_TTL_MS
    await held(caps, clock, 2)

    await renewals.turn(soon())

    [(name, fields)] = log.lines
    assert (name, "held" in fields["cause"]) == ("hold_lapsed", True)


class RefusingCaps(MemoryCaps):
    """Caps that fail so many times before they answer."""

    failures = 0
    error: Exception = CapsUnavailableError("away")

    def _fail(self) -> None:
        if self.failures:
            self.failures -= 1
            raise self.error

    async def renew(self, hold: Hold, *, ttl_ms: int, checkpoint: bytes | None = None) -> Renewal:
        self._fail()
        return await super().renew(hold, ttl_ms=ttl_ms, checkpoint=checkpoint)

    async def release(self, hold: Hold) -> None:
        self._fail()
        await super().release(hold)


async def test_one_failure_delays_nobody_for_long() -> None:
    """The one that failed is renewed a second later, those with it in time."""
    clock = ManualClock()
    caps = RefusingCaps(now_ms=clock)
    renewals = Renewals(caps, log := CollectingLog())
    for number in range(3):
        renewals.add(await held(caps, clock, number))
    clock.now_ms += HOLD_TTL_MS // 2
    caps.failures = 1
    now_s = soon()

    await renewals.turn(now_s)
    left = [record.checkpoint for record in caps.model.records.values()].count(b"")
    await renewals.turn(now_s + RENEW_AGAIN_S)

    assert left == 1
    expiries = {record.expires_ms for record in caps.model.records.values()}
    assert expiries == {clock.now_ms + HOLD_TTL_MS}
    assert [name for name, _ in log.lines] == ["renewal_failed"]


async def test_an_unexpected_error_does_not_end_the_giving_back() -> None:
    """One hold cannot be released, whatever the reason; those after it can."""
    clock = ManualClock()
    caps = RefusingCaps(now_ms=clock)
    renewals = Renewals(caps, log := CollectingLog())
    odd, good, later = [await held(caps, clock, number) for number in range(3)]
    caps.failures, caps.error = 1, RuntimeError("nobody thought of this")
    renewals.give_back(odd.hold)
    renewals.give_back(good.hold)
    async with asyncio.timeout(5):
        while ("acme", good.hold.exchange_id) in caps.model.records:
            await asyncio.sleep(0)

    renewals.give_back(later.hold)

    async with asyncio.timeout(5):
        while ("acme", later.hold.exchange_id) in caps.model.records:
            await asyncio.sleep(0)
    assert [name for name, _ in log.lines] == ["release_failed"]


async def test_a_release_outlasts_the_hold_until_redis_answers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """F-07: a Redis that stood still applies late what lay in its socket; somebody must end it."""
    monkeypatch.setattr("proxy.renewals.RELEASE_AGAIN_S", 0)
    clock = ManualClock()
    caps = RefusingCaps(now_ms=clock)
    renewals = Renewals(caps, CollectingLog(), HoldTimes(ttl_ms=0))
    late = await held(caps, clock, 1)
    caps.failures, caps.error = 3, CapsUnavailableError("it stands still")

    renewals.give_back(late.hold)

    async with asyncio.timeout(5):
        while ("acme", late.hold.exchange_id) in caps.model.records:
            await asyncio.sleep(0)


async def test_a_hold_that_redis_refuses_to_release_is_left_to_lapse() -> None:
    """One that lapsed by itself, and whose key is broken, stops none of those behind it."""
    clock = ManualClock()
    caps = RefusingCaps(now_ms=clock)
    renewals = Renewals(caps, CollectingLog(), HoldTimes(ttl_ms=0))
    odd, good = [await held(caps, clock, number) for number in range(2)]
    caps.failures, caps.error = 1, RedisReplyError("WRONGTYPE")

    renewals.give_back(odd.hold)
    renewals.give_back(good.hold)

    async with asyncio.timeout(5):
        while ("acme", good.hold.exchange_id) in caps.model.records:
            await asyncio.sleep(0)
    assert ("acme", odd.hold.exchange_id) in caps.model.records


async def test_what_is_open_is_cut_by_name() -> None:
    """Each is cancelled once, and what has ended is not cut again."""
    clock = ManualClock()
    caps = MemoryCaps(now_ms=clock)
    renewals = Renewals(caps, CollectingLog())
    exchange = await held(caps, clock, 1)
    heard: list[str] = []

    async def serve() -> None:
        renewals.add(exchange)
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            heard.append("cut")
        finally:
            renewals.discard(exchange)

    serving = spawn(serve(), name="exchange")
    await asyncio.sleep(0)

    cut = renewals.cut()
    await serving

    assert (cut, heard, renewals.cut(), len(renewals)) == (1, ["cut"], 0, 0)
