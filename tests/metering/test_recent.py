"""What Redis took last is sent again when it may have lost it, and only then."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
from caps_samples import cap, hold

from metering.caps import CapsUnavailableError, Commit, Hold, Vector
from metering.memory_caps import MemoryCaps
from metering.recent import IN_FLIGHT, RecentCommits


@dataclass
class Server:
    """How often Redis was another one, and what time it is."""

    generation: int = 0
    now_s: float = 100.0
    taken: list[Hold] = field(default_factory=list)

    def ring(self, **bounds: int) -> RecentCommits:
        return RecentCommits(lambda: self.generation, clock_s=lambda: self.now_s, **bounds)

    async def commit(self, ring: RecentCommits, caps: MemoryCaps, number: int) -> None:
        what, events = hold(cap(100), number=number), [b"%d" % number]
        await caps.commit(what, Vector(1), events)
        ring.add(what, Vector(1), events)


async def test_nothing_is_sent_again_while_redis_stays() -> None:
    server, caps = Server(), MemoryCaps()
    ring = server.ring()
    await server.commit(ring, caps, 1)

    assert await ring.replay(MemoryCaps()) == 0
    assert len(ring) == 1


async def test_what_the_last_seconds_brought_is_sent_to_the_next_server() -> None:
    """F-05: the seconds before Redis died count, however long it was away."""
    server, caps, after = Server(), MemoryCaps(), MemoryCaps()
    ring = server.ring()
    for number in range(5):
        server.now_s += 4
        await server.commit(ring, caps, number)

    server.now_s += 60
    server.generation += 1
    await server.commit(ring, after, 9)
    sent = await ring.replay(after)

    assert sent == 3
    assert after.model.events == [b"9", b"2", b"3", b"4"]
    assert await ring.replay(after) == 0


async def test_what_a_living_server_has_had_for_long_is_forgotten() -> None:
    """Without another commit, too: Redis knows a repeat for an hour only, and an idle proxy would
    count its last requests a second time."""
    server, caps, after = Server(), MemoryCaps(), MemoryCaps()
    ring = server.ring()
    await server.commit(ring, caps, 1)
    server.now_s += 6
    await server.commit(ring, caps, 2)
    server.now_s += 6
    ring.trust()
    server.now_s += 3_700  # in which nobody is there
    server.generation += 1
    ring.trust()

    assert await ring.replay(after) == 1
    assert after.model.events == [b"2"]


async def test_what_is_kept_is_no_larger_than_it_looks() -> None:
    """The encoder's own bytes lie in a buffer of several times their length."""
    server, taken = Server(), list[bytes]()

    class Recorder(MemoryCaps):
        async def commit(self, hold: Hold, actual: Vector, events: Sequence[bytes]) -> Commit:
            taken.extend(events)
            return await super().commit(hold, actual, events)

    ring, body = server.ring(), b'{"units":{}}'
    ring.add(hold(cap(100)), Vector(1), [body])
    server.generation += 1
    await ring.replay(Recorder())

    assert taken == [body]
    assert taken[0] is not body


async def test_a_commit_that_was_not_lost_is_not_counted_twice() -> None:
    server, caps = Server(), MemoryCaps()
    ring = server.ring()
    await server.commit(ring, caps, 1)
    server.generation += 1

    assert await ring.replay(caps) == 1
    assert caps.model.events == [b"1"]


async def test_one_that_fails_keeps_no_other_waiting() -> None:
    class Broken(MemoryCaps):
        async def commit(self, hold: Hold, actual: Vector, events: Sequence[bytes]) -> Commit:
            if b"0" in events:
                raise CapsUnavailableError("WRONGTYPE")
            return await super().commit(hold, actual, events)

    server, caps, broken = Server(), MemoryCaps(), Broken()
    ring = server.ring()
    for number in range(IN_FLIGHT + 3):
        await server.commit(ring, caps, number)
    ring.suspect()

    with pytest.raises(CapsUnavailableError):
        await ring.replay(broken)

    assert len(ring) == 1
    assert len(broken.model.events) == IN_FLIGHT + 2


async def test_what_fails_is_sent_the_next_time() -> None:
    class Failing(MemoryCaps):
        async def commit(self, hold: Hold, actual: Vector, events: Sequence[bytes]) -> Commit:
            if b"2" in events:
                raise CapsUnavailableError("away")
            return await super().commit(hold, actual, events)

    server, caps, failing, after = Server(), MemoryCaps(), Failing(), MemoryCaps()
    ring = server.ring()
    for number in (1, 2, 3):
        await server.commit(ring, caps, number)
    ring.suspect()

    with pytest.raises(CapsUnavailableError):
        await ring.replay(failing)
    assert await ring.replay(after) == 1
    assert (failing.model.events, after.model.events) == ([b"1", b"3"], [b"2"])


@pytest.mark.parametrize("bounds", [{"count_max": 2}, {"bytes_max": 2}])
async def test_the_bounds_hold_and_what_they_cost_is_counted(bounds: dict[str, int]) -> None:
    server, caps = Server(), MemoryCaps()
    ring = server.ring(**bounds)
    for number in range(5):
        await server.commit(ring, caps, number)
        ring.suspect()

    assert (len(ring), ring.crowded_out) == (2, 3)
