"""Keys that the node of another shard may have."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import pytest
from fixtures_worker import CollectingLog
from redis.exceptions import ClusterDownError, ReadOnlyError, RedisError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from metering.settlement import common_keys
from metering.settlement.common_keys import AwayError, CommonKeys


@dataclass
class Node:
    """Answers 7, or fails as it is told."""

    fails: Exception | None = None
    hangs: bool = False
    asked: int = 0
    log: CollectingLog = field(default_factory=CollectingLog)

    async def answer(self) -> int:
        self.asked += 1
        if self.hangs:
            await asyncio.Event().wait()
        if self.fails is not None:
            raise self.fails
        return 7

    def keys(self, *, is_cluster: bool = True) -> CommonKeys:
        return CommonKeys("weir:meta", is_cluster=is_cluster, log=self.log)


AWAY = [
    RedisConnectionError("refused"),
    RedisTimeoutError("slow"),
    ClusterDownError("CLUSTERDOWN Hash slot not served"),
    ConnectionResetError(),
]


@pytest.mark.parametrize("error", AWAY, ids=lambda each: type(each).__name__)
async def test_who_is_away_is_asked_once(error: Exception) -> None:
    """All lanes ask; one of them finds out, for all, and says so once."""
    node = Node(fails=error)
    keys = node.keys()

    for _ in range(3):
        with pytest.raises(AwayError, match=r"the node with weir:meta does not answer: "):
            await keys.ask(node.answer)

    assert node.asked == 1
    assert node.log.said == ["common_keys_away"]


async def test_who_says_nothing_is_waited_for_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(common_keys, "WAIT_S", 0.02)
    node = Node(hangs=True)

    with pytest.raises(AwayError):
        await node.keys().ask(node.answer)


async def test_who_is_back_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(common_keys, "REST_S", 0.0)
    node = Node(fails=RedisConnectionError("refused"))
    keys = node.keys()
    with pytest.raises(AwayError):
        await keys.ask(node.answer)
    node.fails = None

    assert [await keys.ask(node.answer), await keys.ask(node.answer)] == [7, 7]
    assert node.log.said == ["common_keys_away", "common_keys_back"]


async def test_a_refusal_is_an_answer() -> None:
    node = Node(fails=ReadOnlyError("READONLY"))

    with pytest.raises(ReadOnlyError):
        await node.keys().ask(node.answer)

    assert node.log.said == []


async def test_one_server_has_all_keys() -> None:
    """What is wrong with it is wrong for the lane, which waits it out by itself."""
    node = Node(fails=RedisConnectionError("refused"))

    with pytest.raises(RedisError) as raised:
        await node.keys(is_cluster=False).ask(node.answer)

    assert raised.value is node.fails
    assert node.log.said == []
