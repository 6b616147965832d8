"""The scripts and their specification, asked the same: any calls at any times."""

from __future__ import annotations

import random
from collections.abc import Coroutine, Iterable
from typing import Any

from caps_samples import (
    DAY_MS,
    KEY,
    PARIS_DAY,
    SHORT,
    USER,
    UTC_MONTH,
    RedisSubject,
    ask,
    cap,
    hold,
    shrinking,
    stairs,
)

from metering.caps import (
    BALANCE,
    AnyWindow,
    Candidate,
    CapMode,
    Hold,
    HoldEndedError,
    Scope,
    Vector,
)
from metering.caps_model import MemoryCapsModel
from metering.recovery import LostHold, Recovery
from metering.redis_keys import RedisKeys
from metering.redis_link import RedisLink
from metering.redis_recovery import KEEP_MS

CAP_SETS = (
    (cap(1_000, tokens=300, marks=(0.5, 0.8, 1.0)),),
    (
        cap(1_000, tokens=300, concurrent=3),
        cap(400, scope=KEY, window=SHORT, marks=(0.9,)),
        cap(200, scope=KEY, window=SHORT, mode=CapMode.SHADOW),
    ),
    (
        cap(300, window=SHORT, requests=3),
        cap(700, scope=KEY, mode=CapMode.ALERT, marks=(0.3, 0.6)),
        cap(scope=USER, tokens=90, concurrent=2),
    ),
    (
        cap(900, window=PARIS_DAY, marks=(0.8,)),
        cap(2_000, window=UTC_MONTH),
        cap(1_500, scope=USER, window=PARIS_DAY, mode=CapMode.SHADOW, requests=4),
    ),
    (cap(900), cap(1_100, window=BALANCE)),
    (cap(None, tokens=300), cap(1_500, window=BALANCE)),
)
"""The same scope under different windows in different calls, as after a change of configuration."""

FACTS = b"facts"
NANOS = (0, 1, 60, 150, 260, 450)
TOKENS = (0, 10, 95)
VECTORS = [Vector(n, t, r) for n in NANOS for t in TOKENS for r in (0, 1)]
CANDIDATES: list[Candidate] = [
    *(ask(n, t, r, stage=s) for n in NANOS for t in TOKENS for r in (0, 1) for s in (0, 1, 2)),
    *(
        shrinking(n, t, rate_pico=rate, least=least, stage=stage)
        for n in (0, 40)
        for t in (50, 300)
        for rate in (0, 999, 1_001, 3_333)
        for least in (0, 1, 40)
        for stage in (0, 2)
    ),
]
STAIRS = [
    None,
    stairs(0.0),
    stairs(0.3),
    stairs(0.5, 0.75),
    stairs(0.3, 0.6, leave=0.2, name="slow"),
    stairs(0.25, 0.5, 0.9, leave=0.1, dwell_ms=4_000, name="slower"),
    stairs(0.3, 0.6, leave=0.2, dwell_ms=900, is_shadow=True, name="shadow"),
]
TTLS = (1, 500, 5_000, 600_000)
PAUSES = (0, 0, 0, 1, 999, 1_000, 4_000, 300_000, 7_000_000, DAY_MS, -1_500)
CHECKPOINTS = (None, b"", b"{}\nseen")
FLAGS = ("paused", "killed", "killed:user/u1", "paused:key/k1")
STOPS = ((), (KEY,), (USER, KEY))


def random_steps(dice: random.Random, count: int) -> Iterable[Any]:
    """Steps as the strategies of the property test make them, faster; mostly within one window."""
    left_ms = KEEP_MS - DAY_MS  # then Redis drops what was recovered, and the model does not
    for _ in range(count):
        pause = dice.choice(PAUSES) if dice.random() < 0.1 else dice.randrange(0, 400)
        pause = pause if pause < left_ms else 0
        left_ms -= pause
        yield (
            pause,
            dice.randrange(6) if dice.random() < 0.3 else dice.randrange(1_000),
            dice.randrange(len(CAP_SETS)),
            dice.choice(STOPS),
            _random_operation(dice),
        )


def _random_operation(dice: random.Random) -> Any:
    name = dice.choices(
        ("reserve", "swap", "commit", "release", "renew", "recover", "flag", "floor"),
        (40, 10, 30, 5, 6, 6, 1, 1),
    )[0]
    match name:
        case "reserve":
            asked = dice.choices(CANDIDATES, k=dice.randint(1, 3))
            return name, asked, dice.choice(TTLS), dice.choice(STAIRS)
        case "swap":
            return name, dice.choice(CANDIDATES)
        case "commit":
            return name, dice.choice(VECTORS)
        case "renew":
            return name, dice.choice(TTLS), dice.choice(CHECKPOINTS)
        case "recover":
            return name, dice.choice(VECTORS), dice.choice((0, 500))
        case "flag":
            return name, dice.choice(FLAGS), dice.random() < 0.2
        case "floor":
            return name, dice.choice((0, 0, 1, 5))
    return (name,)


async def agree(link: RedisLink, prefix: str, script: Iterable[Any]) -> MemoryCapsModel:
    """Ask both everything; the answers, and what is left behind, are the same."""
    keys = RedisKeys(prefix=prefix, shards=1)
    subject, model = RedisSubject(link, keys), MemoryCapsModel()
    await subject.mark()
    for passed_ms, number, caps, stops, operation in script:
        subject.clock.ms += passed_ms
        exchange = hold(*CAP_SETS[caps], number=number, stops=stops)
        expected = await _outcome(_ask_model(model, exchange, operation, subject.clock.ms))
        actual = await _outcome(_ask_redis(subject, exchange, operation))
        assert actual == expected, operation
    await compare(subject, model)
    return model


async def compare(subject: RedisSubject, model: MemoryCapsModel) -> None:
    """What both have kept."""
    link, keys = subject.link, subject.keys
    for scope in {scope for _, scope in model.scopes}:
        assert await _stored(link, keys, scope) == _kept(model, scope)
    assert await subject.events("acme") == model.events
    assert await subject.notes("acme") == model.book.notes
    assert await _records(link, keys) == {name for _, name in model.records}
    raw = await link.call("HGETALL", keys.state("acme"))
    stages = {
        name.decode(): value.decode()
        for name, value in zip(raw[::2], raw[1::2], strict=True)
        if name.startswith(b"stage:")
    }
    assert stages == {
        f"stage:{name}": f"{kept.level} {kept.since_ms}"
        for (_, name), kept in model.book.stages.items()
        if kept.level
    }


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
        case ("flag", flag, is_set):
            (set.add if is_set else set.discard)(model.flags.setdefault("acme", set()), flag)
            return None
        case ("floor", stage):
            model.book.stage_min["acme"] = stage
            return None
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
        case ("flag", flag, is_set):
            state = subject.keys.state("acme")
            await subject.link.call("HSET", state, flag, '{"by":"x"}' if is_set else "0")
            return None
        case ("floor", stage):
            return await subject.set_stage_min("acme", stage)
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


def _shape(lost: LostHold) -> set[tuple[Scope, AnyWindow]]:
    return {(cap.scope, cap.window) for cap in lost.hold.caps}


async def _records(link: Any, keys: RedisKeys) -> set[str]:
    """The exchanges with a record; each stands in the index, and nothing else does or is kept."""
    fields = {name.decode() for name in await link.call("HKEYS", keys.holds("acme"))}
    exchanges = {name for name in fields if ":" not in name}
    index = await link.call("ZRANGE", keys.open_holds(keys.shard("acme")), 0, -1)
    assert {name.decode() for name in index} == {f"acme/{name}" for name in exchanges}
    assert {name.partition(":")[0] for name in fields} == exchanges
    return exchanges


async def _stored(link: Any, keys: RedisKeys, scope: Scope) -> dict[str, Any]:
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
    found |= {f"told:{label}": str(nano) for label, nano in state.told.items() if nano}
    found |= {f"refused:{label}": str(nano) for label, nano in state.refused.items() if nano}
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
