"""The worker's care for the registry, over a real Redis and a ledger on disk."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from fixtures_door import CollectingLog, settings
from fixtures_ledger import new_ledger
from fixtures_redis import RedisServer

from metering.background import spawn
from metering.redis_keys import RedisKeys
from metering.redis_link import RedisLink
from metering.settlement.ledger.registry_books import put_tenant
from proxy import settling_registry
from proxy.registry_copy import read_copy
from proxy.settings import RedisSettings, Secret
from proxy.settling_registry import keep_published


async def _until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(8):
        while not is_so():
            await asyncio.sleep(0.005)


async def test_a_worker_alone_publishes_and_keeps_a_copy(
    tmp_path: Path,
    redis_server: RedisServer,
    redis_keys: RedisKeys,
    redis_link: RedisLink,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What is new is published, kept beside the file, and told to the worker; nothing twice."""
    monkeypatch.setattr(settling_registry, "LOOK_EVERY_S", 0.01)
    ledger = new_ledger(tmp_path)
    made = replace(
        settings({"one": "http://one"}),
        data_dir=tmp_path,
        ledger_url=f"sqlite:///{tmp_path / 'ledger.db'}",
        redis=RedisSettings(url=Secret(redis_server.url), prefix=redis_keys.prefix),
    )
    told: list[int] = []
    log = CollectingLog()
    work = keep_published(made, log, changed=lambda: told.append(read_copy(tmp_path).number))
    running = spawn(work, name="registry")
    try:
        put_tenant(ledger, {"id": "acme"}, now_ns=1)
        await _until(lambda: told == [1])
        put_tenant(ledger, {"id": "beta"}, now_ns=2)
        await _until(lambda: told == [1, 2])
        await redis_link.call("DEL", redis_keys.registry)
        await _until(lambda: len(log.lines) == 3)
    finally:
        running.cancel()
        await asyncio.wait([running])
        ledger.close()

    assert [event for event, _ in log.lines] == ["registry_published"] * 3
    assert told == [1, 2]
