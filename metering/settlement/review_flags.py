"""The flags that a review item sets and lifts: hash `RedisKeys.state` of its tenant.

Rules: `paused` (of the tenant) and `paused:key/<id>` say who, why and when as JSON, so that nobody
lifts another's; `stage_min` is the degradation stage. Beside each stands a note of the item: where
the note is gone, Redis has lost both, and the flag is set again. Where only the flag is gone, a
person took it away.
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

_SETS = {Step.DEGRADE_SET: Step.DEGRADE_SET, Step.PAUSE_SET: Step.PAUSE_SET}
_LIFTS = {Step.DEGRADE_LIFTED: Step.DEGRADE_SET, Step.PAUSE_LIFTED: Step.PAUSE_SET}


async def carry_out(
    redis: Redis, keys: RedisKeys, item: Item, step: Step, *, stage: int, now_ms: int
) -> bool:
    """Set or lift the flag that `step` notes; whether it was changed. Repeating it does nothing."""
    is_set = step in _SETS
    of = (_SETS | _LIFTS)[step]
    if of is Step.DEGRADE_SET:
        flag, value, mine = "stage_min", str(stage), ""
    else:
        flag = f"paused:key/{item.api_key_id}" if item.api_key_id else "paused"
        why = f"review item {item.id}"
        value = orjson.dumps({"by": BY, "why": why, "at_ms": now_ms}).decode()
        mine = orjson.dumps({"why": why}).decode().strip("{}")
    script = _script("raise_flag" if is_set else "lower_flag")
    state = keys.state(item.tenant)
    answer: Any = await redis.eval(
        script, 1, state, flag, value if is_set else mine, _note(item, of)
    )
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


def _note(item: Item, step: Step) -> str:
    return f"review:{item.id}:{step.value}"


def _script(name: str) -> str:
    return files("metering").joinpath("lua", f"{name}.lua").read_text(encoding="utf-8")
