"""A Redis that lost what it had acknowledged, end to end: it is in the ledger all the same, once.

As tests/test_outages.py; both are named in docs/reliability.md.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Literal

import pytest
from caps_samples import cap, hold
from fixtures_outage import (
    SELL_NANO,
    OpenSite,
    all_booked,
    begin_stream,
    refused,
    until,
    until_stream,
)
from local_samples import checkpoint_of, record

from metering.caps import Scope, ScopeKind, Vector
from metering.local_journal import LocalJournal
from metering.memory_caps import MemoryCaps
from metering.recent import RecentCommits
from metering.spool import Spool
from proxy.settings import redis_keys


@pytest.mark.parametrize("spool", ["outage", "always"])
async def test_f05_emptied(open_site: OpenSite, spool: Literal["outage", "always"]) -> None:
    """FLUSHALL: nobody is admitted until the windows are rebuilt, and then spend is as before.

    Two events were in the ledger; the third was only in Redis, and is sent again.
    """
    site = await open_site(spool=spool)
    await site.served(2)
    await site.settle()
    await site.served()

    await site.redis.ask("FLUSHALL")
    await refused(site)
    await until_stream(site, 3)  # before the worker looks
    await site.settle()
    await site.until_ready()
    await site.served()

    await all_booked(site, 4)


async def test_f05_emptied_and_rebuilt_before_we_looked(open_site: OpenSite) -> None:
    """Then the window counts the newest commits twice, as if more were spent: at most those of the
    last ten seconds. The ledger does not."""
    site = await open_site()
    await site.served(2)
    await site.settle()
    await site.redis.ask("FLUSHALL")
    await site.settle()

    await until_stream(site, 2)
    events = await site.settle()

    assert len(events) == 2
    assert await site.spent_nano() in (2 * SELL_NANO, 4 * SELL_NANO)


@pytest.mark.parametrize("spool", ["outage", "always"])
async def test_f05_restarted_empty(open_site: OpenSite, spool: Literal["outage", "always"]) -> None:
    """Redis comes back without its folder."""
    site = await open_site(spool=spool, on_outage="local")
    await site.served(3)
    site.redis.kill()
    await site.served()

    site.redis.lose()
    await site.redis.start()
    await site.settle()
    await site.until_ready()

    async def is_complete() -> bool:
        return len(await site.settle()) == 4

    await until(is_complete)
    assert len({event.event_id for event in await site.settle()}) == 4


@pytest.mark.parametrize("spool", ["outage", "always"])
async def test_f05_power_cut(open_site: OpenSite, spool: Literal["outage", "always"]) -> None:
    """Redis comes back as it was before the last commits: they are in the ledger all the same."""
    site = await open_site(spool=spool)
    await site.served(2)
    copy = site.redis.copy()
    await site.served(3)

    site.redis.kill()
    site.redis.put_back(copy)
    await site.redis.start()
    await site.until_ready()

    await until_stream(site, 5)
    await all_booked(site, 5)


async def test_kept_segments_go_once_the_ledger_has_them(open_site: OpenSite) -> None:
    """`metering.spool: always`: confirmed by ranges, deleted by the proxy, and nothing replayed."""
    site = await open_site(spool="always")
    folder = site.settings.data_dir / "spool" / "p-0"
    await site.served(2)
    await site.services.spool.distrust()  # as after a failover: everything is sent again
    await site.settle()

    async def is_gone() -> bool:
        return {path.suffix for path in folder.iterdir()} == {".open"}

    await until(is_gone)
    await all_booked(site, 2)


async def test_f05_power_cut_right_after_a_replay(
    open_site: OpenSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was served during an outage is on the proxy's disk until Redis' own has it."""
    monkeypatch.setattr(RecentCommits, "add", lambda *_: None)  # its memory is longer than 10 s
    site = await open_site(on_outage="open")
    await site.served()
    site.redis.kill()
    copy = site.redis.copy()
    await site.served(5)
    await site.redis.start()
    await site.until_replayed()

    site.redis.kill()
    site.redis.put_back(copy)
    await site.redis.start()
    await until_stream(site, 6)

    await all_booked(site, 6)


async def test_f05_power_cut_of_the_proxy_too(open_site: OpenSite, tmp_path: Path) -> None:
    """The next run sends again what Redis took in the last seconds of the one before."""
    before = Spool(tmp_path, "p-0")
    await before.open()
    await before.append(hold(cap(100)), Vector(1), (b"{}",))
    await before.replay(MemoryCaps())
    await before.close()

    site = await open_site()

    await until_stream(site, 1)


async def test_f05_emptied_with_more_on_disk_than_in_memory(
    open_site: OpenSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`always`: what no ledger has is sent again before the windows are whole, so that nobody is
    admitted against windows that lack it."""
    monkeypatch.setattr(RecentCommits, "add", lambda *_: None)
    site = await open_site(spool="always")
    await site.served(1)
    await site.settle()
    await site.served(2)

    await site.redis.ask("FLUSHALL")
    await site.settle()  # which begins with the windows
    spent_nano = await site.spent_nano()
    await all_booked(site, 3)

    assert spent_nano == 3 * SELL_NANO


@pytest.mark.parametrize("spool", ["outage", "always"])
async def test_f05_power_cut_of_what_was_booked(
    open_site: OpenSite, spool: Literal["outage", "always"]
) -> None:
    """The hold comes back without its commit, which the ledger has: its own commit ends it, or it
    would lapse, be recovered, and be billed a second time."""
    site = await open_site(spool=spool)
    body = await begin_stream(site)
    copy = site.redis.copy()
    site.upstream.proceed.set()
    await body
    await site.settle()

    site.redis.kill()
    site.redis.put_back(copy)
    await site.redis.start()
    await until_stream(site, 1)
    await site.until_ready()

    assert await site.held_nano() == 0
    assert len(await site.settle()) == 1


@pytest.mark.parametrize("kept", [0, 2], ids=["a new commit", "what is sent again"])
async def test_f05_an_older_copy_that_has_gone_on(
    open_site: OpenSite, monkeypatch: pytest.MonkeyPatch, kept: int
) -> None:
    """The stream is past what was settled again before the worker looks: by one new commit, or by
    what this proxy has in memory. The windows are rebuilt all the same."""
    remembering = partial(RecentCommits, count_max=kept)  # the others are older than 10 s
    monkeypatch.setattr("proxy.services.RecentCommits", remembering)
    site = await open_site()
    await site.served(2)
    copy = site.redis.copy()
    await site.served(10)
    await site.settle()

    site.redis.kill()
    site.redis.put_back(copy)
    await site.redis.start()
    await site.until_ready()
    if kept:
        await until_stream(site, 4)
    else:
        await site.served()

    await all_booked(site, 12 if kept else 13)


async def test_an_idle_proxy_sends_nothing_of_long_ago(
    open_site: OpenSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Redis has forgotten after an hour that it had these: it would count them a second time."""
    rings: list[RecentCommits] = []

    def remembering(generation: Callable[[], int]) -> RecentCommits:
        rings.append(RecentCommits(generation, keep_s=0.2))
        return rings[0]

    monkeypatch.setattr("proxy.services.RecentCommits", remembering)
    site = await open_site()
    await site.served(3)
    await site.settle()
    keys = redis_keys(site.settings)
    for marker in await site.redis.ask("KEYS", f"{keys.of('acme')}:done:*"):
        await site.redis.ask("DEL", marker.decode())

    async def is_forgotten() -> bool:
        return len(rings[0]) == 0

    await until(is_forgotten)
    site.redis.kill()
    await site.redis.start()
    await site.until_ready()
    await site.served()

    await all_booked(site, 4)


async def test_fewer_workers_strand_no_spool(open_site: OpenSite, tmp_path: Path) -> None:
    """The first proxy replays what the second one left, and says under its name what is left."""
    abandoned = Spool(tmp_path, "p-1")
    await abandoned.open()
    await abandoned.append(hold(cap(100)), Vector(1), (b"{}",))
    await abandoned.close()

    site = await open_site()

    await until_stream(site, 1)
    reports = await site.redis.ask("HKEYS", redis_keys(site.settings).proxies)
    assert sorted(reports) == [b"p-0", b"p-1"]


async def test_fewer_workers_strand_no_open_exchange(open_site: OpenSite, tmp_path: Path) -> None:
    """What the second proxy had admitted without Redis is recovered by the first one: the true
    commit where its spool has that, else what was noted last."""
    journal, spool = LocalJournal(tmp_path, "p-1"), Spool(tmp_path, "p-1")
    await journal.open()
    await spool.open()
    ended, open_ = record(), record()
    noted = replace(open_.lost, checkpoint=checkpoint_of(open_, nano=70))
    await journal.add(ended)
    await journal.add(replace(open_, lost=noted))
    await spool.append(ended.lost.hold, Vector(9), (b"{}",))
    await journal.close()
    await spool.close()

    site = await open_site()

    async def is_empty() -> bool:
        return not list(tmp_path.glob("local/p-1/*"))

    await until(is_empty)
    assert await site.stream_length() == 2
    assert await site.spent_nano() == 79


async def test_a_record_that_redis_refuses_stops_nobody_behind_it(
    open_site: OpenSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One tenant's key is broken: the others' usage is booked, and that one's once it is mended."""
    monkeypatch.setattr("metering.spool.RETRY_S", 0.1)
    site = await open_site(on_outage="open")
    key = redis_keys(site.settings).scope("broken", Scope(ScopeKind.TENANT))
    await site.redis.ask("SET", key, "x")
    spool = site.services.spool
    await spool.append(hold(cap(100), tenant="broken"), Vector(1), (b"{}",))
    for _ in range(70):
        await spool.append(hold(cap(100)), Vector(1), (b"{}",))

    await until_stream(site, 70)

    async def is_alone() -> bool:  # the answer to the last of the others may still be on its way
        return spool.depth.records == 1

    await until(is_alone)
    await site.redis.ask("DEL", key)
    await site.until_replayed()
