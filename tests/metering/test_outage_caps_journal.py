"""What is admitted without Redis is on disk for as long as nobody else knows of it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from caps_samples import NOW_MS, ask, cap, hold
from spool_samples import largest_file

from metering.background import spawn
from metering.caps import (
    AdmittedBy,
    Candidate,
    CapsNotAskedError,
    CapsUnavailableError,
    Commit,
    Hold,
    Reservation,
    Vector,
    WindowsRebuildingError,
)
from metering.local_codec import decode_local
from metering.local_journal import LocalJournal
from metering.memory_caps import MemoryCaps
from metering.outage_caps import OutageCaps
from metering.outage_slices import OutagePolicy
from metering.recent import RecentCommits
from metering.spool import Spool

CAP = cap(1_000)


class Redis(MemoryCaps):
    """Caps that can be away."""

    def __init__(self) -> None:
        super().__init__(now_ms=lambda: NOW_MS)
        self.is_up = True

    async def reserve(self, *args: Any, **more: Any) -> Any:
        self._ask()
        return await super().reserve(*args, **more)

    async def commit(self, *args: Any, **more: Any) -> Commit:
        self._ask()
        return await super().commit(*args, **more)

    async def swap(self, *args: Any, **more: Any) -> Any:
        self._ask()
        return await super().swap(*args, **more)

    def _ask(self) -> None:
        if not self.is_up:
            raise CapsUnavailableError("away")


class Site:
    """A process in front of that Redis, with its disk."""

    def __init__(self, folder: Path) -> None:
        self.redis = Redis()
        self.folder = folder / "local" / "p1"
        self.journal = LocalJournal(folder, "p1")
        self.spool = Spool(folder, "p1", on_kept=self.journal.remove)
        self.recent = RecentCommits(lambda: 0)
        self.caps = OutageCaps(
            self.redis,
            OutagePolicy("local"),
            is_up=lambda: self.redis.is_up,
            is_recordable=lambda: True,
            recent=self.recent,
            journal=self.journal,
        )

    async def open(self) -> None:
        await self.journal.open()
        await self.spool.open()

    async def close(self) -> None:
        await self.spool.close()
        await self.journal.close()

    async def admitted(self) -> Hold:
        """An exchange that Redis knows nothing of."""
        known = hold(CAP)
        await self.caps.reserve(known, [ask(1)], owner="p-0", ttl_ms=1_000)
        await self.caps.commit(known, Vector(1), ())
        self.redis.is_up = False
        what = hold(CAP)
        await self.caps.reserve(what, [ask(60)], owner="p-0", ttl_ms=1_000, facts=b"{}")
        return what

    @property
    def files(self) -> list[str]:
        return sorted(path.name for path in self.folder.iterdir())


@pytest.fixture
async def site(tmp_path: Path) -> Any:
    opened = Site(tmp_path)
    await opened.open()
    yield opened
    await opened.close()


async def test_it_is_written_down_before_it_is_admitted(site: Site) -> None:
    """With all that its hold record in Redis would say."""
    what = await site.admitted()

    [name] = site.files
    record = decode_local((site.folder / name).read_bytes())
    assert name == what.exchange_id
    assert (record.lost.hold, record.lost.owner, record.lost.facts) == (what, "p-0", b"{}")
    assert (record.lost.upstream, record.admitted_by) == ("acme/model", AdmittedBy.LOCAL)


async def test_its_checkpoints_and_its_upstream_are_kept(site: Site) -> None:
    what = await site.admitted()

    await site.caps.swap(what, Candidate("acme/dear", Vector(70)))
    await site.caps.renew(what, ttl_ms=1_000, checkpoint=b"seen 7")

    record = decode_local((site.folder / what.exchange_id).read_bytes())
    assert (record.lost.upstream, record.lost.checkpoint) == ("acme/dear", b"seen 7")


async def test_facts_of_where_it_goes_instead_are_kept(site: Site) -> None:
    """On disk at once, and in Redis when it is placed there: either may have to recover it."""
    what = await site.admitted()

    await site.caps.swap(what, Candidate("acme/dear", Vector(70), facts=b"elsewhere"))
    record = decode_local((site.folder / what.exchange_id).read_bytes())
    site.redis.is_up = True
    await site.caps.renew(what, ttl_ms=1_000)

    assert record.lost.facts == b"elsewhere"
    [held] = [each for each in site.redis.model.records.values() if each.state == "held"]
    assert (held.upstream, held.facts) == ("acme/dear", b"elsewhere")


async def test_facts_that_redis_was_told_are_known_without_it(site: Site) -> None:
    """What was moved there and grows here is written down as Redis had it last."""
    await site.caps.release(await site.admitted())
    site.redis.is_up = True
    what = hold(CAP)
    await site.caps.reserve(what, [ask(50)], owner="p-0", ttl_ms=1_000, facts=b"as planned")
    await site.caps.swap(what, Candidate("acme/dear", Vector(60), facts=b"elsewhere"))
    site.redis.is_up = False

    await site.caps.swap(what, Candidate("acme/dear", Vector(61)))

    record = decode_local((site.folder / what.exchange_id).read_bytes())
    assert (record.lost.upstream, record.lost.facts) == ("acme/dear", b"elsewhere")


async def test_the_spool_takes_over_what_has_ended(site: Site) -> None:
    """Only then: between the commit that failed and the spool there is a moment to die in."""
    what = await site.admitted()

    with pytest.raises(CapsUnavailableError):
        await site.caps.commit(what, Vector(50), ())
    between = site.files
    await site.spool.append(what, Vector(50), ())
    await site.journal.close()

    assert between == [what.exchange_id]
    assert site.files == []


async def test_what_the_spool_had_no_room_for_stays_here(site: Site) -> None:
    """F-24: the next run finds at least its checkpoint."""
    what = await site.admitted()
    with pytest.raises(CapsUnavailableError):
        await site.caps.commit(what, Vector(50), ())

    site.caps.replayed()
    await site.journal.close()

    assert site.files == [what.exchange_id]


@pytest.mark.parametrize("end", ["commit", "release"])
async def test_nothing_is_left_of_what_redis_has_or_nobody_uses(site: Site, end: str) -> None:
    what = await site.admitted()

    if end == "commit":
        site.redis.is_up = True
        await site.caps.commit(what, Vector(50), ())
    else:
        await site.caps.release(what)
    await site.journal.close()

    assert site.files == []


async def test_what_is_held_in_redis_again_is_noted_there_and_not_here(site: Site) -> None:
    what = await site.admitted()
    site.redis.is_up = True

    await site.caps.renew(what, ttl_ms=1_000, checkpoint=b"seen 7")
    await site.journal.close()

    record = site.redis.model.records[what.tenant, what.exchange_id]
    assert (record.state, record.owner, record.facts) == ("held", "p-0", b"{}")
    assert record.checkpoint == b"seen 7"
    assert site.files == []


async def test_while_windows_are_rebuilt_it_stays_here(site: Site) -> None:
    """With its checkpoint; and whoever renews it hears that it is worth trying again soon."""
    what = await site.admitted()
    site.redis.is_up = True
    site.redis.model.is_rebuilt = False

    with pytest.raises(WindowsRebuildingError):
        await site.caps.renew(what, ttl_ms=1_000, checkpoint=b"seen 7")

    record = decode_local((site.folder / what.exchange_id).read_bytes())
    assert record.lost.checkpoint == b"seen 7"


async def test_a_disk_that_takes_nothing_admits_nobody(site: Site) -> None:
    """F-24: and what was not admitted uses nothing of the slice."""
    await site.caps.release(await site.admitted())

    with largest_file(64), pytest.raises(CapsUnavailableError, match="cannot write"):
        await site.caps.reserve(hold(CAP), [ask(99)], owner="p-0", ttl_ms=1_000)
    admitted = await site.caps.reserve(hold(CAP), [ask(99)], owner="p-0", ttl_ms=1_000)

    assert isinstance(admitted, Reservation)
    assert (site.caps.counts.admitted, site.caps.counts.refused) == (2, 1)


async def test_a_disk_that_takes_nothing_moves_nobody(site: Site) -> None:
    """The exchange stays with the upstream that is written down, and with its share of the cap."""
    what = await site.admitted()

    with largest_file(64), pytest.raises(CapsUnavailableError, match="cannot write"):
        await site.caps.swap(what, ask(90))

    assert isinstance(
        await site.caps.reserve(hold(CAP), [ask(39)], owner="p-0", ttl_ms=1_000), Reservation
    )


async def test_a_refusal_without_a_question_stays_one(site: Site) -> None:
    """There is nothing to give back, whatever the disk says."""
    await site.caps.release(await site.admitted())

    with largest_file(64), pytest.raises(CapsNotAskedError):
        await site.caps.reserve(hold(CAP), [ask(1)], owner="p-0", ttl_ms=1_000)


async def test_a_client_that_leaves_while_the_disk_works_leaves_nothing(site: Site) -> None:
    await site.caps.release(await site.admitted())
    what = hold(CAP)
    asking = spawn(site.caps.reserve(what, [ask(1)], owner="p-0", ttl_ms=1_000), name="reserve")
    await asyncio.sleep(0)
    asking.cancel()

    await site.caps.release(what)
    await site.journal.close()

    assert site.files == []


async def test_a_commit_that_was_a_repeat_may_have_to_be_sent_once_more(site: Site) -> None:
    """F-05: two power cuts within a second; the first one's repeat is on no disk yet, either."""
    what = hold(CAP)
    await site.caps.reserve(what, [ask(1)], owner="p-0", ttl_ms=1_000)
    await site.caps.commit(what, Vector(1), (b"{}",))

    site.recent.suspect()
    first = await site.recent.replay(site.caps)
    site.recent.suspect()
    second = await site.recent.replay(site.caps)

    assert (first, second) == (1, 1)


async def test_what_grew_here_is_written_down_with_what_redis_had_of_it(site: Site) -> None:
    """A kill leaves what was counted last, in Redis or since; a file from before would say less."""
    what = hold(CAP)
    await site.caps.reserve(what, [ask(60)], owner="p-0", ttl_ms=1_000, facts=b"{}")
    await site.caps.renew(what, ttl_ms=1_000, checkpoint=b"seen 7")
    site.redis.is_up = False

    await site.caps.swap(what, ask(100))

    record = decode_local((site.folder / what.exchange_id).read_bytes())
    assert (record.lost.checkpoint, record.lost.facts) == (b"seen 7", b"{}")
    await site.caps.renew(what, ttl_ms=1_000, checkpoint=b"seen 9")
    record = decode_local((site.folder / what.exchange_id).read_bytes())
    assert record.lost.checkpoint == b"seen 9"


async def test_a_disk_that_takes_nothing_grows_nothing(site: Site) -> None:
    """What it holds in Redis stays as it is, and its slice is free."""
    what = hold(CAP)
    await site.caps.reserve(what, [ask(60)], owner="p-0", ttl_ms=1_000)
    site.redis.is_up = False
    with largest_file(0), pytest.raises(CapsUnavailableError, match="cannot write"):
        await site.caps.swap(what, ask(100))

    grown = await site.caps.swap(what, ask(60 + 94))

    assert isinstance(grown, Reservation)
