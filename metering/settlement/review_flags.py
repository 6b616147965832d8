"""The flags that a review item sets and lifts: hash `RedisKeys.state` of its tenant.

Rules: `paused` (of the tenant) and `paused:key/<id>` say who, why and when as JSON, so that nobody
lifts another's; `stage_min` is the degradation stage. Beside each stands a note of the item, what
it has set: where the note is gone, Redis has lost both, and the flag is set again. Where only the
flag is gone, a person took it away.
"""

from __future__ import annotations

from importlib.resources import files
from typing import Any

import orjson
from redis.asyncio import Redis

from metering.redis_keys import RedisKeys
from metering.settlement.ledger.reviews import Item
from metering.tolerances import Step

BY = "anomaly"
"""Who sets these flags."""

_LIFTS = {Step.DEGRADE_LIFTED: Step.DEGRADE_SET, Step.PAUSE_LIFTED: Step.PAUSE_SET}


async def carry_out(
    redis: Redis, keys: RedisKeys, item: Item, step: Step, *, stage: int, now_ms: int
) -> bool:
    """Set or lift the flag that `step` notes; whether it was changed. Repeating it does nothing."""
    of = _LIFTS.get(step, step)
    flag, value = _flag(item, of, stage=stage, now_ms=now_ms)
    state, note = keys.state(item.tenant), _note(item, of)
    if step in _LIFTS:
        answer: Any = await redis.eval(_script("lower_flag"), 1, state, flag, note)
    else:
        answer = await redis.eval(_script("raise_flag"), 1, state, flag, value, note)
    return bool(answer)


async def lost_flags(redis: Redis, keys: RedisKeys, item: Item) -> list[Step]:
    """Which flags of an item should stand, and Redis does not know that they were ever set."""
    lost = []
    for step, lifted in (
        (Step.DEGRADE_SET, Step.DEGRADE_LIFTED),
        (Step.PAUSE_SET, Step.PAUSE_LIFTED),
    ):
        if step not in item.steps or lifted in item.steps:
            continue
        if not await redis.hexists(keys.state(item.tenant), _note(item, step)):
            lost.append(step)
    return lost


def _flag(item: Item, step: Step, *, stage: int, now_ms: int) -> tuple[str, str]:
    if step is Step.DEGRADE_SET:
        return "stage_min", str(stage)
    flag = f"paused:key/{item.api_key_id}" if item.api_key_id else "paused"
    story = {"by": BY, "why": f"review item {item.id}", "at_ms": now_ms}
    return flag, orjson.dumps(story).decode()


def _note(item: Item, step: Step) -> str:
    return f"review:{item.id}:{step.value}"


def _script(name: str) -> str:
    return files("metering").joinpath("lua", f"{name}.lua").read_text(encoding="utf-8")
