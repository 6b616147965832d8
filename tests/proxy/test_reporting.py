"""What a proxy process says of itself."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import orjson
import pytest
from fixtures_door import CollectingLog

from metering.background import spawn
from metering.redis_keys import RedisKeys
from metering.redis_link import RedisLink
from metering.settlement.crossings import Marks, spool_readings
from proxy import reporting
from proxy.reporting import report_end, report_once, report_spools


@dataclass(frozen=True)
class Depth:
    records: int = 3
    bytes: int = 900
    oldest_s: float = 12.5


@dataclass(frozen=True)
class Spool:
    depth: Depth = Depth()


async def test_a_process_reports_its_spool(redis_link: RedisLink, redis_keys: RedisKeys) -> None:
    await report_once(redis_link, redis_keys, "p-1", Spool(), now_ms=1_000)

    found = await redis_link.call("HGET", redis_keys.proxies, "p-1")
    assert orjson.loads(found) == {
        "at_ms": 1_000,
        "run": "",
        "spool": {"records": 3, "bytes": 900, "oldest_s": 12.5},
    }


async def test_the_worker_reads_what_a_process_reports(
    redis_link: RedisLink, redis_keys: RedisKeys
) -> None:
    """The two sides share no code, so they are held together here."""
    running = spawn(
        report_spools(redis_link, redis_keys, {"p-1": Spool()}, CollectingLog()), name="report"
    )
    async with asyncio.timeout(5):
        while (found := await redis_link.call("HGET", redis_keys.proxies, "p-1")) is None:
            await asyncio.sleep(0.01)
    running.cancel()
    await asyncio.wait([running])

    at_ms = orjson.loads(found)["at_ms"]
    [reading], _ = spool_readings({"p-1": found}, Marks(spool_wait_s=12), now_ms=at_ms)
    assert reading.is_over
    assert (reading.value, reading.body["records"], reading.body["bytes"]) == (12.5, 3, 900)


async def test_two_processes_of_one_name_are_told_of(
    redis_link: RedisLink, redis_keys: RedisKeys, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A copied data_dir: whoever finds the other's mark after its own says so, once."""
    monkeypatch.setattr(reporting, "REPORT_EVERY_S", 0.01)
    log = CollectingLog()
    both = [
        spawn(report_spools(redis_link, redis_keys, {"p-1": Spool()}, log), name=f"report-{each}")
        for each in range(2)
    ]
    async with asyncio.timeout(5):
        while not log.lines:
            await asyncio.sleep(0.01)
    for task in both:
        task.cancel()
    await asyncio.wait(both)

    assert {event for event, _ in log.lines} == {"proxy_id_shared"}
    assert len(log.lines) <= len(both)


async def test_a_process_after_another_of_its_name_is_none_of_two(
    redis_link: RedisLink, redis_keys: RedisKeys, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What an earlier run has said is no reason to complain."""
    monkeypatch.setattr(reporting, "REPORT_EVERY_S", 0.01)
    await report_once(redis_link, redis_keys, "p-1", Spool(), now_ms=1_000, run="before")
    log = CollectingLog()
    running = spawn(report_spools(redis_link, redis_keys, {"p-1": Spool()}, log), name="report")
    async with asyncio.timeout(5):
        while (
            orjson.loads(await redis_link.call("HGET", redis_keys.proxies, "p-1"))["at_ms"] <= 1_000
        ):
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.05)
    running.cancel()
    await asyncio.wait([running])

    assert log.lines == []


async def test_who_ends_in_order_says_what_it_leaves(
    redis_link: RedisLink, redis_keys: RedisKeys
) -> None:
    """Nothing: it is not waited for at the end of a month. Something: it is."""
    for name in ("empty", "full"):
        await report_once(redis_link, redis_keys, name, Spool(), now_ms=1_000)

    spools = {"empty": Spool(Depth(0, 0, 0.0)), "full": Spool(Depth(2))}
    await report_end(redis_link, redis_keys, spools)

    assert await redis_link.call("HGET", redis_keys.proxies, "empty") is None
    left = orjson.loads(await redis_link.call("HGET", redis_keys.proxies, "full"))
    assert left["spool"]["records"] == 2
