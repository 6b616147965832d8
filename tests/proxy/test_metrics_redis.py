"""Calls to Redis, counted by verb and how they ended."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from metering.caps import CapsUnavailableError
from metering.redis_wire import RedisReplyError
from metering.scripts import load_script
from proxy.metrics import Metrics
from proxy.metrics_redis import MeasuredRunner


class Scripted:
    """A runner that answers, or fails, as it is told."""

    generation = 7

    def __init__(self) -> None:
        self.failure: BaseException | None = None

    async def call(self, *args: Any) -> Any:
        return args

    async def call_each(self, *args: Any) -> list[Any]:
        return [args]

    async def eval(self, script: Any, keys: Any, args: Any) -> Any:
        if self.failure is not None:
            raise self.failure
        return b"1"


@pytest.mark.parametrize(
    ("failure", "result"),
    [
        (None, "answered"),
        (RedisReplyError("OOM command not allowed"), "refused"),
        (CapsUnavailableError("no answer within 250 ms"), "unavailable"),
        (asyncio.CancelledError(), "cancelled"),
    ],
)
async def test_each_end_of_a_call_has_a_name(failure: BaseException | None, result: str) -> None:
    """The answer or the error passes unchanged; only a commit that was taken is remembered."""
    inner, metrics = Scripted(), Metrics()
    runner, inner.failure = MeasuredRunner(inner, metrics), failure
    if failure is None:
        assert await runner.eval(load_script("commit"), [], []) == b"1"
    else:
        with pytest.raises(type(failure)):
            await runner.eval(load_script("commit"), [], [])

    assert metrics.counters == {("weir_redis_calls_total", "commit", result): 1}
    assert sum(metrics.histograms["weir_redis_call_seconds", "commit"][:-1]) == 1
    assert (runner.committed_at_s is None) is (failure is not None)


async def test_the_rest_passes() -> None:
    """Single commands are not counted; the generation is that of the server."""
    runner = MeasuredRunner(Scripted(), metrics := Metrics())

    assert await runner.call("PING") == ("PING",)
    assert await runner.call_each("PING") == [("PING",)]
    assert runner.generation == 7
    assert metrics.counters == {}
