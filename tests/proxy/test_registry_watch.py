"""A proxy's look at the registry, over a real Redis."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from fixtures_door import CollectingLog, settings

from metering.redis_keys import RedisKeys
from metering.redis_link import RedisLink
from metering.registry_body import Snapshot
from proxy import metrics_catalogue as catalogue
from proxy.metrics import Metrics
from proxy.registry_copy import read_copy
from proxy.registry_watch import AGAIN_S, RegistryWatch
from proxy.settings_line import RegistryHint

FIRST, SECOND = Snapshot(1, ({"id": "acme"},)), Snapshot(2, ({"id": "beta"},))


class Watched:
    """A watch, what it says, and the settings that it sees."""

    def __init__(self, link: RedisLink, keys: RedisKeys, folder: Path) -> None:
        self.link, self.keys, self.folder = link, keys, folder
        self.said: list[RegistryHint] = []
        self.log = CollectingLog()
        self.metrics = Metrics()
        made = settings({"one": "http://one"})
        counted = SimpleNamespace(metrics=self.metrics)
        self.door = SimpleNamespace(settings=made, log=self.log, metrics=counted)
        self.watch = RegistryWatch(
            link, keys, data_dir=folder, door=lambda: cast("Any", self.door), say=self.said.append
        )

    async def publish(self, snapshot: Snapshot, body: bytes | None = None) -> None:
        told = snapshot.body if body is None else body
        words = "version", snapshot.version.encode(), "body", told
        await self.link.call("HSET", self.keys.registry, *words)

    def take_up(self, snapshot: Snapshot) -> None:
        self.door.settings = replace(self.door.settings, registry=snapshot.version)

    @property
    def is_failed(self) -> bool:
        return bool(self.metrics.gauges.get((catalogue.REGISTRY_FAILED.name,)))


@pytest.fixture
def watched(redis_link: RedisLink, redis_keys: RedisKeys, tmp_path: Path) -> Watched:
    return Watched(redis_link, redis_keys, tmp_path)


async def test_another_version_is_kept_and_told(watched: Watched) -> None:
    """Once, and again after a while if nobody took it up; nothing published says nothing."""
    await watched.watch.look(now_s=0.0)
    assert watched.said == []
    await watched.publish(FIRST)
    for now_s in (1.0, 2.0, 1.0 + AGAIN_S):
        await watched.watch.look(now_s=now_s)

    assert watched.said == [RegistryHint(FIRST.version)] * 2
    assert read_copy(watched.folder) == FIRST
    watched.take_up(FIRST)
    await watched.watch.look(now_s=99.0)
    assert len(watched.said) == 2
    await watched.link.call("DEL", watched.keys.registry)
    await watched.watch.look(now_s=100.0)
    assert len(watched.said) == 2
    await watched.publish(SECOND)
    await watched.watch.look(now_s=101.0)
    assert watched.said[-1] == RegistryHint(SECOND.version)


async def test_a_broken_one_changes_nothing(watched: Watched) -> None:
    """It is said once and shown; when it is whole again that is taken up."""
    await watched.publish(FIRST, FIRST.body[:-3])
    for now_s in (0.0, 1.0, 1.0 + AGAIN_S):
        await watched.watch.look(now_s=now_s)

    assert watched.said == []
    [(event, fields)] = watched.log.lines
    assert (event, fields["in_use"]) == ("registry_broken", "none")
    assert watched.is_failed
    await watched.publish(FIRST)
    await watched.watch.look(now_s=50.0)
    assert watched.said == [RegistryHint(FIRST.version)]
    watched.take_up(FIRST)
    await watched.watch.look(now_s=51.0)
    assert not watched.is_failed


async def test_a_disk_that_takes_nothing_is_said(watched: Watched) -> None:
    """The supervisor would find an old one: it is not told."""
    (watched.folder / "registry.json").mkdir()
    await watched.publish(FIRST)
    await watched.watch.look(now_s=0.0)

    assert watched.said == []
    assert watched.log.lines[0][0] == "registry_not_kept"
    assert watched.is_failed
