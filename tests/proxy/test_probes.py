"""Probes of providers: one process asks, what it finds opens and closes breakers, and no prompt
goes out. Through a real Redis."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import orjson
import pytest
from fixtures_door import PROVIDER_KEY, CollectingLog, OpenDoor, settings
from fixtures_upstream import Act, ScriptedUpstream, body

from metering.clock import monotonic_s
from metering.redis_keys import RedisKeys
from metering.redis_link import RedisLink
from proxy.door import Door
from proxy.probes import FAILURES_MIN, Probing, outcome_of
from proxy.settings import Probe
from routing.fallback import Outcome
from routing.health import FAILURES_IN_A_ROW, OPEN_MAX_S, State

OK = [body({"data": []})]
BROKEN = [body({"error": {}}, 503)]
LABEL = "one/up-m"


@pytest.fixture
async def probing(
    open_door: OpenDoor, upstream: ScriptedUpstream, redis_link: RedisLink, redis_keys: RedisKeys
) -> Callable[[str], Any]:
    """Makes a process that probes the scripted upstream at every turn."""

    async def make(name: str = "p-0", timeout_s: float = 5.0) -> Probing:
        made = settings({"one": upstream.url})
        probe = Probe("/models", every_s=0.0, timeout_s=timeout_s)
        provider = replace(made.providers["one"], probe=probe)
        running = await open_door(replace(made, providers={"one": provider}))
        return Probing(lambda: running.door, redis_link, redis_keys, name=name, log=running.log)

    return make


def state(door: Door) -> State:
    return door.health.state(LABEL, monotonic_s())


async def record(link: RedisLink, keys: RedisKeys) -> Any:
    return orjson.loads(await link.call("HGET", keys.probes, "one"))


async def test_a_probe_asks_for_the_models(
    probing: Any, upstream: ScriptedUpstream, redis_link: RedisLink, redis_keys: RedisKeys
) -> None:
    """With the provider's key, without a body; what came is noted for all, and counted."""
    upstream.scripts = [OK]
    one = await probing()
    await one.turn()

    (asked,) = upstream.received
    assert (asked.method, asked.path, asked.body) == ("GET", "/v1/models", b"")
    assert asked.headers["authorization"] == f"Bearer {PROVIDER_KEY}"
    found = await record(redis_link, redis_keys)
    assert (found["result"], found["failures"]) == ("ok", 0)
    assert found["took_ms"] >= 0
    counters = one.door.metrics.metrics.counters
    assert counters["weir_probes_total", "one", "ok"] == 1


async def test_failing_probes_open_and_the_next_success_closes(
    probing: Any, upstream: ScriptedUpstream
) -> None:
    """Not the first failure; all processes are to hear of both, and a person, too."""
    upstream.scripts = [BROKEN, BROKEN, OK]
    one = await probing()
    await one.turn()
    assert state(one.door) is State.CLOSED

    await one.turn()
    assert FAILURES_MIN == 2
    assert state(one.door) is State.OPEN
    assert one.door.health.changed[LABEL] > monotonic_s()

    await one.turn()
    assert state(one.door) is State.CLOSED
    assert one.door.health.changed == {LABEL: 0.0}
    assert [event for event, _ in one.door.log.lines] == ["provider_probed"] * 2


async def test_a_success_takes_no_breaker_away_that_requests_opened(
    probing: Any, upstream: ScriptedUpstream
) -> None:
    """A list of models may be well while completions fail."""
    upstream.scripts = [OK]
    one = await probing()
    for _ in range(FAILURES_IN_A_ROW):
        one.door.health.record(LABEL, Outcome.SERVER_ERROR, monotonic_s(), retry_after_s=None)

    await one.turn()

    assert state(one.door) is State.OPEN


async def test_it_is_opened_again_while_probes_fail(
    probing: Any, upstream: ScriptedUpstream
) -> None:
    """When its time is over no client has to find out."""
    upstream.scripts = [BROKEN]
    one = await probing()
    health = one.door.health
    await one.turn()
    await one.turn()
    later = monotonic_s() + OPEN_MAX_S + 5
    assert health.state(LABEL, later) is State.HALF_OPEN

    await one.turn()

    assert state(one.door) is State.OPEN


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (200, Outcome.SERVED),
        (302, Outcome.SERVED),
        (401, Outcome.AUTH),
        (403, Outcome.AUTH),
        (404, None),
        (429, None),
        (500, Outcome.SERVER_ERROR),
        (503, Outcome.SERVER_ERROR),
    ],
)
def test_what_a_status_says(status: int, expected: Outcome | None) -> None:
    """A path that is not there, and too many requests, are no word on the provider's health."""
    assert outcome_of(status) is expected


@pytest.mark.parametrize(
    ("script", "result"),
    [([Act.HANG], "timeout"), ([Act.RESET], "nonsense"), ([b"what?\r\n\r\n"], "nonsense")],
    ids=["silent", "reset", "no-http"],
)
async def test_what_goes_wrong_has_a_name(
    probing: Any,
    upstream: ScriptedUpstream,
    redis_link: RedisLink,
    redis_keys: RedisKeys,
    script: list[Any],
    result: str,
) -> None:
    """Ours: no word of the other side is kept."""
    upstream.scripts = [script]
    one = await probing(timeout_s=0.2)
    await one.turn()

    assert (await record(redis_link, redis_keys))["result"] == result


async def test_one_process_asks_and_another_takes_over(
    probing: Any, upstream: ScriptedUpstream, redis_link: RedisLink, redis_keys: RedisKeys
) -> None:
    """While the first comes back in time the other asks nobody; when its lease is over, the other
    goes on from what it had found."""
    upstream.scripts = [BROKEN]
    one, other = await probing("p-0"), await probing("p-1")
    await one.turn()
    await other.turn()
    assert (one.is_leader, other.is_leader) == (True, False)
    assert len(upstream.received) == 1
    assert 0 < await redis_link.call("PTTL", redis_keys.probing) <= 15_000

    await redis_link.call("DEL", redis_keys.probing)  # as it goes when its time is over
    await other.turn()
    await one.turn()

    assert (one.is_leader, other.is_leader) == (False, True)
    assert len(upstream.received) == 2
    assert state(other.door) is State.OPEN


async def test_without_probes_redis_is_not_asked(
    open_door: OpenDoor, upstream: ScriptedUpstream, redis_keys: RedisKeys
) -> None:
    """They are off unless a provider has them."""

    class Unasked:
        generation = 0

        async def call(self, *args: Any) -> Any:
            raise AssertionError(args)

    running = await open_door(settings({"one": upstream.url}))
    one = Probing(lambda: running.door, Unasked(), redis_keys, name="p", log=CollectingLog())  # type: ignore[arg-type]
    await one.turn()

    assert upstream.received == []
