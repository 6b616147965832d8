"""The segments on a real disk: kept, put away, torn, full."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from caps_samples import hold
from spool_samples import body, files, fill, largest_file

from metering.caps import Vector
from metering.memory_caps import MemoryCaps
from metering.seq_ranges import SeqRanges
from metering.spool import FORGET_SENT_S, KEEP_SENT_S, Spool, SpoolDepth, SpoolError


async def test_a_torn_tail_keeps_what_came_before_it(tmp_path: Path) -> None:
    """The file is kept aside for a person; the whole records are committed."""
    spool, caps = Spool(tmp_path, "p1"), MemoryCaps()
    await spool.open()
    await fill(spool, 3)
    await spool.close()
    path = next((tmp_path / "spool" / "p1").glob("*.open"))
    os.truncate(path, path.stat().st_size - 5)

    again = Spool(tmp_path, "p1")
    await again.open()
    report = await again.replay(caps)
    await again.close()

    assert (report.records, report.segments) == (2, 1)
    assert report.damaged_bytes > 0
    assert files(tmp_path) == [".damaged", ".open", ".sent"]
    assert caps.model.events == [body(0), body(1)]


async def test_kept_segments_wait_for_the_ledger(tmp_path: Path) -> None:
    """They are not replayed again, and go when each of their records is confirmed."""
    spool, caps = Spool(tmp_path, "p1"), MemoryCaps()
    await spool.open()
    await fill(spool, 3)
    await spool.replay(caps)
    await fill(spool, 2, start=3)
    await spool.replay(caps)

    kept = files(tmp_path)
    early = await spool.discard(SeqRanges.of([1, 3, 4]))
    one = await spool.discard(SeqRanges.parse("1-4"))
    other = await spool.discard(SeqRanges.parse("1-5"))
    await spool.close()

    assert kept == [".open", ".sent", ".sent"]
    assert (early, one, other) == (0, 1, 1)
    assert len(caps.model.events) == 5


async def test_a_full_disk_is_told_and_costs_only_what_did_not_fit(tmp_path: Path) -> None:
    """The part that was written is cut off again; when there is room, appends go on."""
    spool, caps = Spool(tmp_path, "p1"), MemoryCaps()
    await spool.open()
    await fill(spool, 2)

    with largest_file(700), pytest.raises(SpoolError, match=r"cannot write .*: File too large"):
        await fill(spool, 3, start=100)
    await fill(spool, 1, start=2)
    report = await spool.replay(caps)
    await spool.close()

    assert report.damaged_bytes == 0
    assert caps.model.events[:2] == [body(0), body(1)]
    assert caps.model.events[-1] == body(2)


async def test_what_the_ledger_never_got_is_kept_and_told(tmp_path: Path) -> None:
    """A week later somebody should look at it; it is the only copy there is."""
    spool, caps = Spool(tmp_path, "p1"), MemoryCaps()
    await spool.open()
    await fill(spool, 1)
    await spool.replay(caps)
    await spool.close()
    [sent] = (tmp_path / "spool" / "p1").glob("*.sent")
    old_s = sent.stat().st_mtime - KEEP_SENT_S - 60
    os.utime(sent, (old_s, old_s))

    again = Spool(tmp_path, "p1")
    await again.open()
    await again.replay(caps)
    overdue = await again.overdue()
    await again.close()

    assert overdue == 1
    assert ".sent" in files(tmp_path)


async def test_what_redis_has_had_for_long_goes(tmp_path: Path) -> None:
    """Its age counts from when Redis took it, not from when it was written."""
    spool, caps = Spool(tmp_path, "p1"), MemoryCaps()
    await spool.open()
    await fill(spool, 1)
    os.utime(next((tmp_path / "spool" / "p1").glob("*.open")), (0, 0))  # a long outage
    await spool.replay(caps)
    [sent] = (tmp_path / "spool" / "p1").glob("*.sent")

    young = await spool.forget()
    old_s = sent.stat().st_mtime - FORGET_SENT_S - 1
    os.utime(sent, (old_s, old_s))
    old = await spool.forget()
    await spool.close()

    assert (young, old) == (0, 1)
    assert files(tmp_path) == [".open"]


async def test_old_segments_are_trusted_at_a_start(tmp_path: Path) -> None:
    """Beyond the time that a commit is remembered, a repeat would count twice in the windows."""
    spool, caps = Spool(tmp_path, "p1"), MemoryCaps()
    await spool.open()
    await fill(spool, 1)
    await spool.replay(caps)
    [sent] = (tmp_path / "spool" / "p1").glob("*.sent")
    os.utime(sent, (0, 0))

    lacking = await spool.distrust(within_s=60)
    report = await spool.replay(MemoryCaps())
    await spool.close()

    assert (lacking, report.records) == (0, 0)


async def test_depth_tells_what_waits(tmp_path: Path) -> None:
    """Of this run and of earlier ones."""
    spool, caps = Spool(tmp_path, "p1", segment_bytes=1_000), MemoryCaps()
    await spool.open()
    empty = spool.depth
    await fill(spool, 9)
    spool.committed(4)
    ours = spool.depth
    await spool.close()
    again = Spool(tmp_path, "p1")
    await again.open()
    await fill(again, 1)
    theirs = again.depth
    await again.replay(caps)
    after = again.depth
    await again.close()

    assert (empty, after) == (SpoolDepth(), SpoolDepth())
    assert (ours.records, theirs.records) == (8, 9)
    assert 0 < ours.bytes <= theirs.bytes
    assert 0 < ours.oldest_s < theirs.oldest_s + 60


async def test_a_disk_that_is_full_says_so_until_it_takes_something(tmp_path: Path) -> None:
    """F-24: what cannot be recorded must not be begun, and nobody need write to find out."""
    spool = Spool(tmp_path, "p1")
    await spool.open()
    with largest_file(0):
        with pytest.raises(SpoolError):
            await spool.append(hold(), Vector(), ())
        told = spool.is_writable
        await spool.check()
        full = spool.is_writable

    await spool.check()
    again = spool.is_writable
    await spool.close()

    assert (told, full, again) == (False, False, True)
    assert files(tmp_path) == [".open"]


def test_a_folder_cannot_be_escaped(tmp_path: Path) -> None:
    """The proxy's id names a folder."""
    with pytest.raises(ValueError, match="folder"):
        Spool(tmp_path, "../other")
