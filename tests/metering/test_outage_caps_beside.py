"""What happens to an exchange beside a renewal that places it in Redis, or tries to."""

from __future__ import annotations

import asyncio
from typing import Any, Literal

import pytest
from caps_samples import NOW_MS, cap, hold

from metering.background import spawn
from metering.caps import (
    AdmittedBy,
    Candidate,
    CapsUnavailableError,
    Commit,
    CommitResult,
    Hold,
    HoldEndedError,
    Reservation,
    Vector,
)
from metering.memory_caps import MemoryCaps
from metering.outage_caps import OutageCaps, OutagePolicy

CAP = cap(1_000)
CHEAP, DEAR = Candidate("cheap", Vector(10)), Candidate("dear", Vector(500))


class Redis(MemoryCaps):
    """Caps whose answers come when they are let through; `is_up` is looked at then."""

    def __init__(self) -> None:
        super().__init__(now_ms=lambda: NOW_MS)
        self.is_up = True
        self.is_silent = False
        self.lets: dict[str, asyncio.Event] = {}

    async def reserve(self, *args: Any, **more: Any) -> Any:
        await self._turn("reserve")
        answer = await super().reserve(*args, **more)
        if self.is_silent:
            raise CapsUnavailableError("silent")
        return answer

    async def commit(self, *args: Any, **more: Any) -> Commit:
        await self._turn("commit")
        return await super().commit(*args, **more)

    async def release(self, hold: Hold) -> None:
        await self._turn("release")
        await super().release(hold)

    async def _turn(self, verb: str) -> None:
        if verb in self.lets:
            await self.lets[verb].wait()
        if not self.is_up:
            raise CapsUnavailableError("away")

    def held(self, what: Hold) -> tuple[str, int]:
        record = self.model.records[what.tenant, what.exchange_id]
        return record.upstream, record.vector.nano


class Site:
    def __init__(self, mode: Literal["local", "open"] = "open") -> None:
        self.redis = Redis()
        self.caps = OutageCaps(
            self.redis, OutagePolicy(mode), is_up=lambda: True, is_recordable=lambda: True
        )

    async def admitted(self) -> Hold:
        """Admitted here, while Redis is away."""
        what = hold(CAP)
        self.redis.is_up = False
        await self.reserve(what, CHEAP)
        self.redis.is_up = True
        return what

    async def placed_beside_its_commit(self) -> Hold:
        """Redis holds it, and its commit is under way, when a renewal that thought the hold lost is
        refused."""
        what = hold(CAP)
        await self.reserve(what, CHEAP)
        self.redis.lets["commit"] = asyncio.Event()
        self.committing = spawn(self.caps.commit(what, Vector(7), ()), name="commit")
        await asyncio.sleep(0)
        self.redis.is_up = False
        await self.reserve(what, CHEAP)
        self.redis.is_up = True
        return what

    async def reserve(self, what: Hold, *asked: Candidate) -> Any:
        return await self.caps.reserve(what, asked, owner="p", ttl_ms=60_000)


async def test_what_moves_while_it_is_placed_holds_what_it_moved_to() -> None:
    """Redis had been sent the smaller amount: it is asked for the difference, too."""
    site = Site()
    what = await site.admitted()
    site.redis.lets["reserve"] = asyncio.Event()
    renewing = spawn(site.caps.renew(what, ttl_ms=60_000), name="renew")
    await asyncio.sleep(0)

    moved = await site.caps.swap(what, DEAR)
    site.redis.lets["reserve"].set()
    await renewing
    back = await site.caps.swap(what, CHEAP)

    assert isinstance(moved, Reservation)
    assert isinstance(back, Reservation)
    assert back.admitted_by != moved.admitted_by  # the second move was Redis' to allow
    assert site.redis.held(what) == ("cheap", 10)
    assert back.states[0].held == Vector(10)


async def test_what_does_not_fit_after_it_moved_stays_local() -> None:
    """Others took the room meanwhile: the next renewal tries again, and Redis has what fitted."""
    site = Site()
    what, other = await site.admitted(), hold(CAP)
    site.redis.lets["reserve"] = asyncio.Event()
    renewing = spawn(site.caps.renew(what, ttl_ms=60_000), name="renew")
    await asyncio.sleep(0)
    await site.caps.swap(what, DEAR)
    site.redis.model.reserve(
        other, [Candidate("o", Vector(600))], owner="o", ttl_ms=60_000, now_ms=NOW_MS
    )
    site.redis.lets["reserve"].set()
    await renewing
    tight = site.redis.held(what)

    await site.redis.release(other)
    await site.caps.renew(what, ttl_ms=60_000)

    assert tight == ("cheap", 10)
    assert site.redis.held(what) == ("dear", 500)


async def test_what_was_placed_unseen_is_set_to_what_was_admitted() -> None:
    """A silent Redis chose the first candidate; without it another was taken."""
    site = Site()
    what = hold(CAP)
    site.redis.is_silent = True
    await site.reserve(what, CHEAP)
    await site.caps.swap(what, DEAR)
    site.redis.is_silent = False
    unseen = site.redis.held(what)

    await site.caps.renew(what, ttl_ms=60_000)

    assert unseen == ("cheap", 10)
    assert site.redis.held(what) == ("dear", 500)


async def test_a_place_that_is_refused_while_it_ends_leaves_nothing() -> None:
    """It is admitted here after all, beside its own commit, which is the last to hear of it."""
    site = Site()
    what = await site.placed_beside_its_commit()

    site.redis.lets["commit"].set()
    done = await site.committing

    assert done.result is CommitResult.COMMITTED
    with pytest.raises(HoldEndedError):  # Redis was asked, it is not here any more
        await site.caps.swap(what, DEAR)


async def test_a_place_and_a_commit_that_are_refused_are_ended_by_the_replay() -> None:
    site = Site()
    what = await site.placed_beside_its_commit()
    site.redis.is_up = False
    site.redis.lets["commit"].set()
    with pytest.raises(CapsUnavailableError):
        await site.committing
    site.redis.is_up = True

    site.caps.replayed()

    moved = await site.caps.swap(what, DEAR)
    assert isinstance(moved, Reservation)
    assert moved.admitted_by is AdmittedBy.CAPS


async def test_what_ended_in_the_spool_while_it_is_placed_waits_for_its_replay() -> None:
    """Its amounts still count here, and the hold that came too late is for its commit to end."""
    site = Site("local")
    known = hold(CAP)
    await site.reserve(known, CHEAP)
    await site.caps.commit(known, Vector(0), ())
    what = await site.admitted()
    site.redis.lets["reserve"] = asyncio.Event()
    renewing = spawn(site.caps.renew(what, ttl_ms=60_000), name="renew")
    await asyncio.sleep(0)
    site.redis.is_up = False
    with pytest.raises(CapsUnavailableError):
        await site.caps.commit(what, Vector(60), ())
    site.redis.is_up = True
    site.redis.lets["reserve"].set()
    await renewing
    held = site.redis.held(what)

    site.redis.is_up = False
    with pytest.raises(CapsUnavailableError):  # a tenth of 1,000, and 60 of that are used
        await site.reserve(hold(CAP), Candidate("u", Vector(41)))
    site.redis.is_up = True
    done = await site.caps.commit(what, Vector(60), ())

    assert held == ("cheap", 10)
    assert (done.states[0].spent.nano, done.states[0].held.nano) == (60, 0)


async def test_a_local_exchange_is_not_in_its_own_way() -> None:
    """As many run as may at once: each of them may still grow, and no more may begin."""
    bound = cap(1_000, concurrent=2)
    site = Site("local")
    known = hold(bound)
    await site.reserve(known, CHEAP)
    await site.caps.commit(known, Vector(0), ())
    site.redis.is_up = False
    running = [hold(bound), hold(bound)]
    for each in running:
        await site.reserve(each, Candidate("u", Vector(nano=10)))

    grown = [await site.caps.swap(each, Candidate("u", Vector(nano=20))) for each in running]

    assert all(isinstance(each, Reservation) for each in grown)
    with pytest.raises(CapsUnavailableError):
        await site.reserve(hold(bound), Candidate("u", Vector(nano=1)))
