"""A bill is recorded once, by Redis or by the disk, whoever cancels meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import cast

import pytest
from fixtures_door import CollectingLog, MemorySpool, settings

from metering.caps import CapsUnavailableError, Commit, Hold, Vector
from metering.ids import uuid7
from metering.memory_caps import MemoryCaps
from proxy.billing import Bill
from proxy.door import Door, OpenExchanges
from proxy.errors import UsageNotRecorded
from proxy.recording import record
from proxy.transport import Transport

HOLD = Hold("acme", uuid7(1_800_000_000_000, bytes(10)), ())


def bill(seq: int | None = None) -> Bill:
    return Bill(Vector(nano=7, requests=1), [b"{}"], [], seq)


def door(caps: MemoryCaps, spool: MemorySpool, log: CollectingLog | None = None) -> Door:
    nothing = cast("Transport", None), cast("OpenExchanges", None)
    return Door(settings({}), caps, nothing[0], spool, nothing[1], log or CollectingLog(), "p")


class GatedCaps(MemoryCaps):
    """Commits when the gate opens; counts how often it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = asyncio.Event()
        self.asked = 0

    async def commit(self, hold: Hold, actual: Vector, events: Sequence[bytes]) -> Commit:
        self.asked += 1
        await self.gate.wait()
        return await super().commit(hold, actual, events)


async def test_cancelled_in_the_commit_it_is_recorded_once() -> None:
    """T-57: cancelled again and again, the bill is committed all the same, and once."""
    caps, spool = GatedCaps(), MemorySpool()
    recording = asyncio.ensure_future(record(door(caps, spool), HOLD, bill(), "req_1"))
    for _ in range(3):
        await asyncio.sleep(0)
        recording.cancel()
    await asyncio.sleep(0)

    caps.gate.set()
    with pytest.raises(asyncio.CancelledError):
        await recording

    assert caps.asked == 2
    assert caps.model.events == [b"{}"]
    assert spool.records == []


async def test_a_full_disk_does_not_stop_redis() -> None:
    """`metering.spool: always` with a full disk: what Redis can take is taken."""
    caps, spool = MemoryCaps(), MemorySpool(is_full=True)

    await record(door(caps, spool), HOLD, bill(seq=3), "req_1")

    assert caps.model.events == [b"{}"]


class AwayCaps(MemoryCaps):
    """Redis, while it is away."""

    async def commit(self, *_: object) -> Commit:
        raise CapsUnavailableError("gone")


async def test_what_neither_redis_nor_the_disk_takes_is_refused_by_name() -> None:
    """F-16: the disk is full while Redis is away; nobody is told that it was spooled."""
    log = CollectingLog()

    with pytest.raises(UsageNotRecorded) as refused:
        await record(door(AwayCaps(), MemorySpool(is_full=True), log), HOLD, bill(), "req_1")

    assert (refused.value.status, refused.value.should_retry) == (503, False)
    assert [event for event, _ in log.lines] == ["usage_not_recorded"]


async def test_it_is_told_as_spooled_once_it_is_on_disk() -> None:
    log, spool = CollectingLog(), MemorySpool()

    await record(door(AwayCaps(), spool, log), HOLD, bill(), "req_1")

    assert len(spool.records) == 1
    assert [event for event, _ in log.lines] == ["usage_spooled"]
    assert log.lines[0][1]["request_id"] == "req_1"


async def test_spooled_first_it_is_not_spooled_twice() -> None:
    """`metering.spool: always` with Redis away: one record, the one that was written first."""

    spool = MemorySpool()

    await record(door(AwayCaps(), spool), HOLD, bill(seq=3), "req_1")

    assert len(spool.records) == 1
