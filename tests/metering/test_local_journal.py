"""What was admitted without Redis is on a real disk, and is recorded once, whoever dies."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
from caps_samples import NOW_MS, cap, hold
from local_samples import FACTS, checkpoint_of, record
from spool_samples import largest_file

from metering.background import spawn
from metering.caps import AdmittedBy, Candidate, CapsUnavailableError, Commit, Hold, Vector
from metering.events import UsageEvent, decode
from metering.local_codec import LocalRecord
from metering.local_journal import JournalError, Leftover, LocalJournal
from metering.memory_caps import MemoryCaps
from metering.recovery import recovery
from metering.redis_wire import RedisReplyError

FOLDER = Path("local") / "p1"


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / FOLDER).iterdir())


async def opened(folder: Path) -> LocalJournal:
    journal = LocalJournal(folder, "p1")
    await journal.open()
    return journal


async def left(folder: Path, *records: LocalRecord) -> None:
    """What a killed process leaves: it neither removes nor closes anything."""
    journal = await opened(folder)
    for each in records:
        await journal.add(each)


async def recovered(folder: Path, caps: MemoryCaps) -> list[Leftover]:
    journal, told = await opened(folder), list[Leftover]()
    await journal.recover(caps, told.append)
    await journal.close()
    return told


def events(caps: MemoryCaps) -> list[UsageEvent]:
    return [decode(body) for body in caps.model.events]


async def test_what_a_killed_process_left_is_recorded_once(tmp_path: Path) -> None:
    """Its checkpoint if there is one, else its facts; and then no file is left."""
    bare, noted = record(), record()
    noted = replace(noted, lost=replace(noted.lost, checkpoint=checkpoint_of(noted, nano=70)))
    await left(tmp_path, bare, noted)
    caps = MemoryCaps()

    told = await recovered(tmp_path, caps)
    again = await recovered(tmp_path, caps)

    ids = {bare.lost.hold.exchange_id, noted.lost.hold.exchange_id}
    assert {event.exchange_id for event in events(caps)} == ids
    assert {event.admitted_by for event in events(caps)} == {AdmittedBy.LOCAL}
    assert sorted(event.admission_nano for event in events(caps)) == [0, 70]
    assert {each.exchange_id for each in told} == ids
    assert {(each.tenant, each.owner, each.cause) for each in told} == {("acme", "p-0", "")}
    assert again == []
    assert len(caps.model.events) == 2
    assert names(tmp_path) == []


async def test_an_exchange_that_ended_leaves_nothing(tmp_path: Path) -> None:
    """Nor one that is noted again when it has: the file does not come back."""
    journal, kept = await opened(tmp_path), record()
    await journal.add(kept)
    there = names(tmp_path)

    journal.remove(kept.lost.hold.exchange_id)
    await journal.note(kept.lost.hold.exchange_id, checkpoint=b"late")
    journal.remove("0190-never-here")
    await journal.close()

    assert there == [kept.lost.hold.exchange_id]
    assert names(tmp_path) == []


async def test_the_newest_note_counts(tmp_path: Path) -> None:
    """And the upstream that it moved to, where nothing was noted."""
    moved, noted = record(), record()
    journal = await opened(tmp_path)
    for each in (moved, noted):
        await journal.add(each)
    await journal.note(moved.lost.hold.exchange_id, upstream="one/dear")
    for nano in (10, 20):
        made = checkpoint_of(noted, nano=nano)
        await journal.note(noted.lost.hold.exchange_id, checkpoint=made)
    caps = MemoryCaps()

    await recovered(tmp_path, caps)

    found = {event.exchange_id: event for event in events(caps)}
    assert found[moved.lost.hold.exchange_id].model_upstream == "dear"
    assert found[noted.lost.hold.exchange_id].admission_nano == 20


async def test_a_true_commit_that_came_first_stands(tmp_path: Path) -> None:
    """The spool had it: what was left is a repeat, told to nobody, and goes."""
    kept, caps = record(), MemoryCaps()
    await left(tmp_path, kept)
    await caps.commit(kept.lost.hold, Vector(nano=5), (b"the truth",))

    told = await recovered(tmp_path, caps)

    assert caps.model.events == [b"the truth"]
    assert (told, names(tmp_path)) == ([], [])


async def test_what_the_worker_recovered_as_well_is_taken_back(tmp_path: Path) -> None:
    """A hold was placed unseen and reaped: by their ids both are booked, and its reversal."""
    kept = record()
    exchange = kept.lost.hold
    await left(tmp_path, kept)
    caps = MemoryCaps(now_ms=lambda: NOW_MS)
    asked = [Candidate("one/cheap", Vector(nano=90))]
    await caps.reserve(exchange, asked, owner="p-0", ttl_ms=1, facts=FACTS)
    [lost] = caps.model.lost(grace_ms=0, now_ms=NOW_MS + 1)
    caps.model.recover(lost, recovery(lost), grace_ms=0, now_ms=NOW_MS + 1)

    await recovered(tmp_path, caps)

    reaped, reversal, own = events(caps)
    assert reversal.corrects == reaped.event_id
    assert len({reaped.event_id, reversal.event_id, own.event_id}) == 3
    assert own.cost_nano == reaped.cost_nano == -reversal.cost_nano > 0


async def test_damage_is_put_aside_and_in_nobodys_way(tmp_path: Path) -> None:
    torn, odd, good = record(), record(), record()
    odd = replace(odd, lost=replace(odd.lost, facts=b"{}"))
    await left(tmp_path, torn, odd, good)
    path = tmp_path / FOLDER / torn.lost.hold.exchange_id
    path.write_bytes(path.read_bytes()[:-1])
    caps = MemoryCaps()

    told = {each.exchange_id: each.cause for each in await recovered(tmp_path, caps)}
    again = await recovered(tmp_path, caps)

    assert [event.exchange_id for event in events(caps)] == [good.lost.hold.exchange_id]
    assert "torn" in told[torn.lost.hold.exchange_id]
    assert "cannot be recovered" in told[odd.lost.hold.exchange_id]
    assert str(tmp_path / FOLDER) in told[torn.lost.hold.exchange_id]
    assert (again, {Path(name).suffix for name in names(tmp_path)}) == ([], {".damaged"})


class AwayCaps(MemoryCaps):
    """Caps that are away after one commit."""

    is_up = True

    async def commit(self, hold: Hold, actual: Vector, events: object) -> Commit:
        if not self.is_up:
            raise CapsUnavailableError("away")
        self.is_up = False
        return await super().commit(hold, actual, events)  # type: ignore[arg-type]


async def test_recovering_goes_on_where_redis_went_away(tmp_path: Path) -> None:
    await left(tmp_path, record(), record())
    journal, caps, told = await opened(tmp_path), AwayCaps(), list[Leftover]()

    with pytest.raises(CapsUnavailableError):
        await journal.recover(caps, told.append)
    waiting = names(tmp_path)
    caps.is_up = True
    await journal.recover(caps, told.append)
    await journal.close()

    assert (len(waiting), len(told), len(caps.model.events)) == (1, 2, 2)


class BrokenCaps(MemoryCaps):
    """Caps that refuse one tenant by itself, or everybody."""

    broken = ""

    async def commit(self, hold: Hold, actual: Vector, events: object) -> Commit:
        if self.broken in (hold.tenant, "all"):
            raise RedisReplyError("WRONGTYPE it is a string" if self.broken != "all" else "OOM")
        return await super().commit(hold, actual, events)  # type: ignore[arg-type]


async def is_its_own(failure: BaseException) -> bool:
    return isinstance(failure, CapsUnavailableError) and failure.is_its_own


async def test_what_redis_refuses_by_itself_stops_nobody_behind_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is told once, tried again later, and recorded once it is mended."""
    odd = record()
    odd = replace(odd, lost=replace(odd.lost, hold=replace(odd.lost.hold, tenant="odd")))
    await left(tmp_path, record(), record(), odd, record(), record())
    journal, caps, told = await opened(tmp_path), BrokenCaps(), list[Leftover]()
    caps.broken = "odd"

    async def recover(retry_s: float) -> int:
        monkeypatch.setattr("metering.local_journal.RETRY_S", retry_s)
        await journal.recover(caps, told.append, is_its_own=is_its_own)
        return len(caps.model.events)

    first = await recover(0.0)
    second = await recover(1_000.0)
    caps.broken = ""
    not_due = await recover(0.0)
    await journal.close()
    [late] = await recovered(tmp_path, caps)

    assert (first, second, not_due, len(caps.model.events)) == (4, 4, 4, 5)
    [waits] = [each for each in told if each.is_put_off]
    assert (waits.exchange_id, waits.tenant) == (odd.lost.hold.exchange_id, "odd")
    assert "WRONGTYPE" in waits.cause
    assert len(told) == 5
    assert (late.exchange_id, late.cause) == (odd.lost.hold.exchange_id, "")
    assert names(tmp_path) == []


async def test_a_redis_that_takes_nothing_is_not_asked_for_each(tmp_path: Path) -> None:
    await left(tmp_path, record(), record())
    journal, caps, told = await opened(tmp_path), BrokenCaps(), list[Leftover]()
    caps.broken = "all"

    with pytest.raises(RedisReplyError, match="OOM"):
        await journal.recover(caps, told.append, is_its_own=is_its_own)
    caps.broken = ""
    await journal.recover(caps, told.append, is_its_own=is_its_own)
    await journal.close()

    assert [each.is_put_off for each in told] == [False, False]


async def test_a_true_commit_that_waits_in_the_spool_comes_first(tmp_path: Path) -> None:
    """Its record was put off there: recovered now, the truth would be the repeat."""
    kept, caps = record(), MemoryCaps()
    exchange_id = kept.lost.hold.exchange_id
    await left(tmp_path, kept)
    journal, told = await opened(tmp_path), list[Leftover]()

    await journal.recover(caps, told.append, waiting={exchange_id})
    untouched = list(caps.model.events)
    await caps.commit(kept.lost.hold, Vector(nano=5), (b"the truth",))
    await journal.recover(caps, told.append)
    await journal.close()

    assert (untouched, caps.model.events, told) == ([], [b"the truth"], [])
    assert names(tmp_path) == []


async def test_of_a_run_that_goes_on_nothing_is_recovered(tmp_path: Path) -> None:
    """Only what was there at the start is of earlier runs."""
    journal, caps, told = await opened(tmp_path), MemoryCaps(), list[Leftover]()
    await journal.add(record())

    await journal.recover(caps, told.append)
    await journal.close()

    assert (told, caps.model.events) == ([], [])
    assert len(names(tmp_path)) == 1


async def test_a_full_disk_takes_nothing_and_leaves_nothing(tmp_path: Path) -> None:
    """F-24: and says so, with the path; what it had stays as it was."""
    journal, kept = await opened(tmp_path), record()
    await journal.add(kept)

    with largest_file(64):
        with pytest.raises(JournalError, match="local/p1/"):
            await journal.add(record())
        with pytest.raises(JournalError):
            await journal.note(kept.lost.hold.exchange_id, checkpoint=b"x")
    await journal.close()

    assert names(tmp_path) == [kept.lost.hold.exchange_id]
    assert [each.cause for each in await recovered(tmp_path, MemoryCaps())] == [""]


async def test_whoever_is_cancelled_while_the_disk_works_is_removed_all_the_same(
    tmp_path: Path,
) -> None:
    journal, kept = await opened(tmp_path), record()
    adding = spawn(journal.add(kept), name="add")
    await asyncio.sleep(0)

    adding.cancel()
    with pytest.raises(asyncio.CancelledError):
        await adding
    journal.remove(kept.lost.hold.exchange_id)
    await journal.close()

    assert names(tmp_path) == []


async def test_the_queue_for_the_disk_is_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("metering.local_journal.WAITING_MAX", 2)
    journal = await opened(tmp_path)

    answers = await asyncio.gather(
        *(journal.add(record()) for _ in range(3)), return_exceptions=True
    )
    await journal.close()

    assert [isinstance(each, JournalError) for each in answers] == [False, False, True]
    assert len(names(tmp_path)) == 2


async def test_a_file_that_was_never_finished_is_no_exchange(tmp_path: Path) -> None:
    """Its admission never returned, so nothing was sent for it."""
    await left(tmp_path)
    (tmp_path / FOLDER / f"{hold(cap(1)).exchange_id}.tmp").write_bytes(b"half")

    assert await recovered(tmp_path, MemoryCaps()) == []
    assert names(tmp_path) == []


def test_a_name_that_is_a_path_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="cannot name"):
        LocalJournal(tmp_path, "../elsewhere")
