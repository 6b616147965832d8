"""The spool on a real disk: what was promised is there, whoever dies."""

from __future__ import annotations

import asyncio
import struct
import zlib
from pathlib import Path

import orjson
import pytest
from caps_samples import cap, hold
from spool_samples import body, files, fill

from metering.caps import CapsUnavailableError, Commit, Hold, Vector
from metering.memory_caps import MemoryCaps
from metering.seq_ranges import SeqRanges
from metering.spool import (
    IN_FLIGHT,
    ReplayReport,
    Spool,
    SpoolError,
)
from metering.spool_codec import MARK
from metering.spool_folder import SpoolFolder


class FailingCaps(MemoryCaps):
    """Caps that are away after so many commits."""

    left = 0

    async def commit(self, hold: Hold, actual: Vector, events: object) -> Commit:
        if self.left == 0:
            raise CapsUnavailableError("away")
        self.left -= 1
        return await super().commit(hold, actual, events)  # type: ignore[arg-type]


async def test_what_was_appended_is_replayed_once_in_order(tmp_path: Path) -> None:
    """And the segments are put away, so that a second replay finds nothing."""
    spool, caps = Spool(tmp_path, "p1", segment_bytes=1_000), MemoryCaps()
    await spool.open()
    await fill(spool, 10)

    first = await spool.replay(caps)
    second = await spool.replay(caps)
    await spool.close()

    assert first.records == 10
    assert first.segments > 1
    assert second == ReplayReport()
    assert caps.model.events == [body(number) for number in range(10)]
    assert set(files(tmp_path)) == {".open", ".sent"}


async def test_a_crash_loses_nothing_and_no_number_comes_again(tmp_path: Path) -> None:
    """Without closing, without replay: the next run finds all and counts on."""
    crashed, caps = Spool(tmp_path, "p1"), MemoryCaps()
    await crashed.open()
    await fill(crashed, 3)
    await crashed.close()

    spool = Spool(tmp_path, "p1")
    await spool.open()
    await spool.replay(caps)
    after_replay = await spool.append(hold(), Vector(), ())
    await spool.close()
    third = Spool(tmp_path, "p1")
    await third.open()
    await third.replay(caps)
    await third.replay(caps)
    await third.close()
    last = Spool(tmp_path, "p1")
    await last.open()

    assert caps.model.events == [body(0), body(1), body(2)]
    assert after_replay == 4
    assert last.take_seq() == 5
    await last.close()


async def test_a_replay_that_fails_is_taken_up_again(tmp_path: Path) -> None:
    """Nothing is put away before all of it was taken, and nothing is counted twice."""
    spool, caps = Spool(tmp_path, "p1"), FailingCaps()
    await spool.open()
    await fill(spool, 5)

    caps.left = 2
    with pytest.raises(CapsUnavailableError):
        await spool.replay(caps)
    caps.left = -1
    await spool.replay(caps)
    await spool.close()

    assert caps.model.events == [body(number) for number in range(5)]


async def test_appends_at_once_share_an_fsync_and_all_stand(tmp_path: Path) -> None:
    """Hundreds at once, each on disk when its append returns."""
    spool, caps = Spool(tmp_path, "p1", segment_bytes=10_000), MemoryCaps()
    await spool.open()

    numbers = await asyncio.gather(
        *(spool.append(hold(), Vector(1), (body(number),)) for number in range(300))
    )
    report = await spool.replay(caps)
    await spool.close()

    assert sorted(numbers) == list(range(1, 301))
    assert report.records == 300


async def test_a_number_taken_before_is_written(tmp_path: Path) -> None:
    """Events carry their number, so it must exist before they are encoded."""
    spool = Spool(tmp_path, "p1")
    await spool.open()
    early = spool.take_seq()

    later = await spool.append(hold(), Vector(), ())
    first = await spool.append(hold(), Vector(), (), seq=early)
    await spool.close()

    assert (first, later) == (1, 2)


async def test_a_writer_that_fails_in_any_way_is_told_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not only the disk can fail; whoever waits hears of it, and the next append is written."""

    def fails(spool: Spool, data: bytes) -> None:
        raise MemoryError("no room to join")

    spool, caps = Spool(tmp_path, "p1"), MemoryCaps()
    await spool.open()
    with monkeypatch.context() as patch:
        patch.setattr(SpoolFolder, "write", fails)
        with pytest.raises(SpoolError, match="no room to join"):
            await fill(spool, 1, start=100)

    await fill(spool, 1)
    await spool.replay(caps)
    await spool.close()

    assert caps.model.events == [body(0)]


async def test_a_closed_spool_says_so(tmp_path: Path) -> None:
    """Whoever comes too late does not wait for ever."""
    spool = Spool(tmp_path, "p1")
    await spool.open()
    await spool.close()

    async with asyncio.timeout(5):
        with pytest.raises(SpoolError, match="closed"):
            await fill(spool, 1)


class PickyCaps(MemoryCaps):
    """Caps that take anything but one amount."""

    async def commit(self, hold: Hold, actual: Vector, events: object) -> Commit:
        if actual.nano == 13:
            raise ValueError("13 is out of range")
        return await super().commit(hold, actual, events)  # type: ignore[arg-type]


async def test_poison_is_put_aside_and_the_rest_is_taken(tmp_path: Path) -> None:
    """An amount that is refused, a version of tomorrow: neither stops the records around it, now or
    when Redis has lost them."""
    spool, caps, after = Spool(tmp_path, "p1"), PickyCaps(), PickyCaps()
    await spool.open()
    await fill(spool, 1)
    await spool.append(hold(), Vector(13), (body(13),))
    await fill(spool, 1, start=1)
    await spool.close()
    path = next((tmp_path / "spool" / "p1").glob("*.open"))
    unknown = orjson.dumps({"v": 99, "seq": 4})
    head = struct.pack(">4sII", MARK, len(unknown), zlib.crc32(unknown))
    path.write_bytes(path.read_bytes() + head + unknown)

    again = Spool(tmp_path, "p1")
    await again.open()
    report = await again.replay(caps)
    second = await again.replay(caps)
    left = files(tmp_path)
    lacking = await again.distrust()
    third = await again.replay(after)
    gone = await again.discard(SeqRanges.parse("1-3"))
    await again.close()

    assert (report.records, len(report.refused), lacking) == (2, 2, 1)
    assert caps.model.events == after.model.events == [body(0), body(1)]
    assert second == ReplayReport()
    assert left == [".damaged", ".open", ".sent"]
    assert (third.records, third.refused, gone) == (2, (), 1)


async def test_what_was_committed_is_not_replayed(tmp_path: Path) -> None:
    """Neither by this run nor, after a clean stop, by the next, however late that is."""
    spool, caps = Spool(tmp_path, "p1"), MemoryCaps()
    await spool.open()
    await fill(spool, 4)
    for seq in (1, 2, 4):
        spool.committed(seq)
    await spool.close()

    again = Spool(tmp_path, "p1")
    await again.open()
    next_seq = again.take_seq()
    report = await again.replay(caps)
    await again.close()

    assert caps.model.events == [body(2)]
    assert (report.records, next_seq) == (1, 5)
    assert ".ready" not in files(tmp_path)


async def test_a_stop_with_everything_committed_leaves_nothing_to_replay(tmp_path: Path) -> None:
    """And the numbers go on all the same."""
    spool = Spool(tmp_path, "p1")
    await spool.open()
    await fill(spool, 2)
    spool.committed(1)
    spool.committed(2)
    await spool.close()

    again, caps = Spool(tmp_path, "p1"), MemoryCaps()
    await again.open()
    report = await again.replay(caps)
    seq = again.take_seq()
    await again.close()

    assert (report.records, seq) == (0, 3)


async def test_what_is_being_committed_is_given_time(tmp_path: Path) -> None:
    """A replay leaves records alone that the exchange itself is about to commit."""
    spool, caps = Spool(tmp_path, "p1"), MemoryCaps()
    await spool.open()
    await fill(spool, 1)

    early = await spool.replay(caps, waited_s=60.0)
    late = await spool.replay(caps, waited_s=0.0)
    await spool.close()

    assert (early.records, late.records) == (0, 1)


async def test_what_redis_lost_is_committed_again(tmp_path: Path) -> None:
    """All that the ledger is not known to have, whether it was replayed, kept or just written."""
    spool, caps = Spool(tmp_path, "p1"), MemoryCaps()
    await spool.open()
    await fill(spool, 4)
    await spool.replay(caps)
    await spool.append(hold(cap(100)), Vector(1), (body(4),))
    spool.committed(5)
    await spool.discard(SeqRanges.of([2, 3]))
    emptied = MemoryCaps()

    before = await spool.replay(emptied)
    lacking = await spool.distrust()
    waiting = spool.depth.records
    after = await spool.replay(emptied)
    again = await spool.replay(emptied)
    await spool.close()

    assert (before.records, lacking, waiting) == (0, 1, 5)
    assert (after.records, again.records) == (3, 0)
    assert emptied.model.events == [body(0), body(3), body(4)]


async def test_what_waits_for_the_disk_while_redis_loses_its_data_is_still_owed(
    tmp_path: Path,
) -> None:
    """It is written behind the segment that ends then, and is replayed from the next one."""
    spool, caps = Spool(tmp_path, "p1"), MemoryCaps()
    await spool.open()
    first = asyncio.create_task(fill(spool, 1))
    await asyncio.sleep(0)  # it is asked for
    await asyncio.sleep(0)  # it is under way
    second = asyncio.create_task(fill(spool, 1, start=1))
    await asyncio.sleep(0)
    await asyncio.gather(first, second, spool.distrust())
    owed = len(spool.exchanges)

    await spool.replay(caps)
    await spool.replay(caps)
    await spool.close()

    assert owed == 1
    assert sorted(caps.model.events) == [body(0), body(1)]


async def test_numbers_that_never_reached_the_disk_do_not_come_again(tmp_path: Path) -> None:
    """The ledger has them: another record of that number would count as confirmed."""
    spool = Spool(tmp_path, "p1")
    await spool.open()

    await spool.discard(SeqRanges.parse("1-41"))
    await spool.discard(SeqRanges())
    number = spool.take_seq()
    await spool.close()

    assert number == 42


async def test_a_record_that_fails_stops_no_other_in_flight(tmp_path: Path) -> None:
    """Poison among what is committed at once is refused by itself, and the rest is taken once."""
    spool, caps = Spool(tmp_path, "p1"), MemoryCaps()
    await spool.open()
    await fill(spool, 40)
    await spool.append(hold(cap(100)), Vector(nano=-1), (b"{}",))
    await fill(spool, IN_FLIGHT, start=40)

    report = await spool.replay(caps)
    await spool.close()

    assert report.records == 40 + IN_FLIGHT
    assert [each.partition(":")[0] for each in report.refused] == ["record 41"]
    assert caps.model.events == [body(number) for number in range(40 + IN_FLIGHT)]


class BrokenFor(MemoryCaps):
    """Caps that cannot take what has this amount, for as long as it is set."""

    amount: int | None = 13

    async def commit(self, hold: Hold, actual: Vector, events: object) -> Commit:
        if actual.nano == self.amount:
            raise CapsUnavailableError("WRONGTYPE")
        return await super().commit(hold, actual, events)  # type: ignore[arg-type]


async def _its_own(failure: BaseException) -> bool:
    return isinstance(failure, CapsUnavailableError)


async def test_what_redis_refuses_by_itself_is_put_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It stops nobody, is told once, survives the run, and goes when it is taken."""
    spool, caps = Spool(tmp_path, "p1"), BrokenFor()
    await spool.open()
    await fill(spool, 1)
    await spool.append(hold(), Vector(13), (body(13),))
    await fill(spool, 1, start=1)

    first = await spool.replay(caps, is_its_own=_its_own)
    monkeypatch.setattr("metering.spool.RETRY_S", -1.0)
    waiting, owing = spool.depth.records, spool.exchanges
    early = await spool.replay(caps, is_its_own=_its_own)
    await fill(spool, 1, start=2)
    await spool.close()
    again = Spool(tmp_path, "p1")
    await again.open()
    next_seq = again.take_seq()
    second = await again.replay(caps, is_its_own=_its_own)
    third = await again.replay(caps, is_its_own=_its_own)
    caps.amount = None
    last = await again.replay(caps, is_its_own=_its_own)
    after = again.depth.records
    await again.close()

    assert (first.records, len(first.put_off), waiting, early) == (2, 1, 1, ReplayReport())
    assert len(owing) == 1
    assert (next_seq, second.records, len(second.put_off)) == (5, 1, 1)
    assert (third, last.records, after) == (ReplayReport(), 1, 0)
    assert caps.model.events == [body(0), body(1), body(2), body(13)]


async def test_a_failure_of_all_of_redis_still_stops_the_replay(tmp_path: Path) -> None:
    """Nobody else would be taken, and what was not is not set apart."""

    async def of_all(_: BaseException) -> bool:
        return False

    spool, caps = Spool(tmp_path, "p1"), FailingCaps()
    await spool.open()
    await fill(spool, 3)

    with pytest.raises(CapsUnavailableError):
        await spool.replay(caps, is_its_own=of_all)
    waiting, owing = spool.depth.records, spool.exchanges
    await spool.replay(MemoryCaps(), is_its_own=of_all)
    after = spool.exchanges
    await spool.close()

    assert (waiting, len(owing), after) == (3, 3, set())
