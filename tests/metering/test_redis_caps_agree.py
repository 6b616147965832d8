"""The scripts against their specification: any calls at any times, the same answers and amounts."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from caps_samples import DAY_MS, KEY, SHORT, USER, RedisSubject, ask, cap, hold, stairs
from fixtures_redis import RedisServer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from metering.caps import Hold, HoldEndedError, Scope, Vector, Window
from metering.caps_model import MemoryCapsModel
from metering.recovery import LostHold, Recovery
from metering.redis_keys import RedisKeys
from metering.redis_link import RedisLink

CAP_SETS = (
    (cap(1_000, tokens=300),),
    (cap(1_000, tokens=300), cap(400, scope=KEY, window=SHORT)),
    (cap(300, window=SHORT, requests=3), cap(700, scope=KEY), cap(scope=USER, tokens=90)),
)
"""The same scope under different windows in different calls, as after a change of configuration."""

FACTS = b"facts"

nanos = st.sampled_from([0, 1, 60, 150, 260, 450])
vectors = st.builds(Vector, nanos, st.sampled_from([0, 10, 95]), st.sampled_from([0, 1]))
candidates = st.builds(
    ask,
    nanos,
    st.sampled_from([0, 10, 95]),
    st.sampled_from([0, 1]),
    stage=st.sampled_from([0, 1]),
)
near = st.sampled_from([None, stairs(0.0), stairs(0.3), stairs(0.75)])
ttls = st.sampled_from([1, 500, 5_000, 600_000])
operations = st.one_of(
    st.tuples(st.just("reserve"), st.lists(candidates, min_size=1, max_size=3), ttls, near),
    st.tuples(st.just("reserve"), st.lists(candidates, min_size=1, max_size=3), ttls, near),
    st.tuples(st.just("swap"), candidates),
    st.tuples(st.just("commit"), vectors),
    st.tuples(st.just("commit"), vectors),
    st.tuples(st.just("release")),
    st.tuples(st.just("renew"), ttls, st.sampled_from([None, b"", b"{}\nseen"])),
    st.tuples(st.just("recover"), vectors, st.sampled_from([0, 500])),
    st.tuples(st.just("recover"), vectors, st.sampled_from([0, 500])),
)
steps = st.tuples(
    st.sampled_from([0, 0, 0, 1, 999, 1_000, 4_000, 300_000, 7_000_000, DAY_MS, -1_500]),
    st.integers(0, 5),
    st.integers(0, len(CAP_SETS) - 1),
    operations,
)


def test_the_scripts_answer_as_the_model_does(
    redis_server: RedisServer, redis_keys: RedisKeys
) -> None:
    """Any sequence of calls at any times: same answers, and the same amounts left behind."""
    count = 0

    @settings(max_examples=500, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.lists(steps, max_size=25))
    def agree(script: list[Any]) -> None:
        nonlocal count
        count += 1
        asyncio.run(_agree(redis_server, f"{redis_keys.prefix}-{count}", script))

    agree()


async def _agree(server: RedisServer, prefix: str, script: list[Any]) -> None:
    async with RedisLink(server.target, timeout_ms=5_000) as link:
        await link.wait_up(5)
        keys = RedisKeys(prefix=prefix, shards=1)
        subject, model = RedisSubject(link, keys), MemoryCapsModel()
        await subject.mark()
        for passed_ms, number, caps, operation in script:
            subject.clock.ms += passed_ms
            exchange = hold(*CAP_SETS[caps], number=number)
            expected = await _outcome(_ask_model(model, exchange, operation, subject.clock.ms))
            actual = await _outcome(_ask_redis(subject, exchange, operation))
            assert actual == expected, operation
        for scope in {scope for _, scope in model.scopes}:
            assert await _stored(link, keys, scope) == _kept(model, scope)
        assert await subject.events("acme") == model.events
        assert await _records(link, keys) == {name for _, name in model.records}


async def _outcome(answer: Coroutine[Any, Any, Any]) -> Any:
    try:
        return await answer
    except HoldEndedError:
        return "ended"


async def _ask_model(model: MemoryCapsModel, exchange: Hold, operation: Any, now_ms: int) -> Any:
    match operation:
        case ("reserve", asked, ttl_ms, near):
            return model.reserve(
                exchange, asked, owner="p", ttl_ms=ttl_ms, facts=FACTS, stairs=near, now_ms=now_ms
            )
        case ("swap", candidate):
            return model.swap(exchange, candidate, now_ms=now_ms)
        case ("commit", actual):
            return model.commit(exchange, actual, [b"true"], now_ms=now_ms)
        case ("renew", ttl_ms, checkpoint):
            return model.renew(exchange, ttl_ms=ttl_ms, checkpoint=checkpoint, now_ms=now_ms)
        case ("recover", actual, grace_ms):
            lost = model.lost(grace_ms=grace_ms, now_ms=now_ms)
            made = [
                model.recover(each, _made(actual), grace_ms=grace_ms, now_ms=now_ms)
                for each in lost[:1]
            ]
            return _named(lost), made
    return model.release(exchange, now_ms=now_ms)


async def _ask_redis(subject: RedisSubject, exchange: Hold, operation: Any) -> Any:
    match operation:
        case ("reserve", asked, ttl_ms, near):
            return await subject.caps.reserve(
                exchange, asked, owner="p", ttl_ms=ttl_ms, facts=FACTS, stairs=near
            )
        case ("swap", candidate):
            return await subject.caps.swap(exchange, candidate)
        case ("commit", actual):
            return await subject.caps.commit(exchange, actual, [b"true"])
        case ("renew", ttl_ms, checkpoint):
            return await subject.caps.renew(exchange, ttl_ms=ttl_ms, checkpoint=checkpoint)
        case ("recover", actual, grace_ms):
            lost = await subject.lost("acme", grace_ms=grace_ms)
            made = [
                await subject.recover(each, _made(actual), grace_ms=grace_ms) for each in lost[:1]
            ]
            return _named(lost), made
    return await subject.caps.release(exchange)


def _made(actual: Vector) -> Recovery:
    return Recovery(actual, (b"recovered 1", b"recovered 2"), (b"reversal 1", b"reversal 2"))


def _named(lost: list[LostHold]) -> list[Any]:
    """What was found, without what a record does not keep: the limits, and the caps' order."""
    return [
        (
            each.hold.exchange_id,
            _shape(each),
            each.upstream,
            each.expires_ms,
            each.facts,
            each.checkpoint,
        )
        for each in lost
    ]


def _shape(lost: LostHold) -> set[tuple[Scope, Window]]:
    return {(cap.scope, cap.window) for cap in lost.hold.caps}


async def _records(link: RedisLink, keys: RedisKeys) -> set[str]:
    """The exchanges with a record; each stands in the index, and nothing else does or is kept."""
    fields = {name.decode() for name in await link.call("HKEYS", keys.holds("acme"))}
    exchanges = {name for name in fields if ":" not in name}
    index = await link.call("ZRANGE", keys.open_holds(keys.shard("acme")), 0, -1)
    assert {name.decode() for name in index} == {f"acme/{name}" for name in exchanges}
    assert {name.partition(":")[0] for name in fields} == exchanges
    return exchanges


async def _stored(link: RedisLink, keys: RedisKeys, scope: Scope) -> dict[str, Any]:
    """What a scope's keys hold, zeros and bookkeeping aside."""
    raw = await link.call("HGETALL", keys.scope("acme", scope))
    found = {name.decode(): value.decode() for name, value in zip(raw[::2], raw[1::2], strict=True)}
    found = {
        name: value
        for name, value in found.items()
        if value != "0" and not name.endswith((":lo", ":hi")) and name != "until"
    }
    scores = await link.call("ZRANGE", keys.scope_holds("acme", scope), 0, -1, "WITHSCORES")
    expiries = dict(zip(scores[::2], scores[1::2], strict=True))
    return found | {f"z:{name.decode()}": int(ms) for name, ms in expiries.items()}


def _kept(model: MemoryCapsModel, scope: Scope) -> dict[str, Any]:
    state = model.scopes["acme", scope]
    found: dict[str, Any] = {f"z:{name}": ms for name, ms in state.expiries_ms.items()}
    for name, vector in state.holds.items():
        found[f"h:{name}"] = f"{vector.nano} {vector.tokens} {vector.requests}"
    amounts = {"held": state.held}
    for label, window in state.windows.items():
        amounts[label] = window.spent
        amounts |= {f"{label}:{index}": vector for index, vector in window.buckets.items()}
    for head, vector in amounts.items():
        for letter, amount in zip("ntr", _three(vector), strict=True):
            if amount:
                found[f"{head}:{letter}"] = str(amount)
    return found


def _three(vector: Vector) -> tuple[int, int, int]:
    return vector.nano, vector.tokens, vector.requests
