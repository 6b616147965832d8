"""How far the settlement worker is behind, learned in the background: never on a request's path.

Rules: refusing begins at the mark and ends well below it, and each is logged once. While Redis
cannot be asked the last answer stands; requests are refused for that reason then. Events that are
already on their way are never refused: a commit takes its place whatever the backlog.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from metering.caps import CapsUnavailableError
from metering.fullness import Standing
from metering.redis_events import backlog, memory
from metering.redis_keys import RedisKeys
from metering.redis_wire import RedisReplyError
from metering.scripts import ScriptRunner
from proxy.door import Door
from proxy.errors import BacklogFull
from proxy.refusals import backlog_full, memory_full

LOOK_EVERY_S = 5.0
"""At 2,000 requests per second, 10,000 more events find room: one in a hundred of the default."""

MEMORY_FULL_PPM = 900_000
"""Of `maxmemory`. The last tenth is for the commits of what runs, and for holds being renewed."""

_AGAIN = 0.8
_MEMORY_AGAIN_PPM = 850_000


def is_full(standing: Standing, high_water: int, *, was_full: bool) -> bool:
    """Whether requests would be refused; once they are, until it is well below the marks."""
    entries_mark = high_water * _AGAIN if was_full else high_water
    memory_mark = _MEMORY_AGAIN_PPM if was_full else MEMORY_FULL_PPM
    return standing.unsettled >= entries_mark or standing.memory.used_ppm >= memory_mark


def why_refused(door: Door) -> BacklogFull:
    """What a request is told while the backlog is full: which of the two marks it has passed."""
    standing, mark = door.lifecycle.backlog, door.settings.metering.backlog_high_water * _AGAIN
    if standing is None or standing.unsettled >= mark:
        return backlog_full()
    return memory_full()


async def watch_backlog(current: Callable[[], Door], runner: ScriptRunner, keys: RedisKeys) -> None:
    """Look again and again, and let the door know that is open then. Runs until cancelled."""
    was_full, is_warned = False, False
    while True:
        door = current()
        try:
            standing = await look(runner, keys)
        except CapsUnavailableError as error:
            door.log.debug("backlog_unknown", cause=str(error))
        except RedisReplyError as error:  # a command that is forbidden there stays forbidden
            if not is_warned:
                door.log.warning("backlog_unknown", cause=str(error))
            is_warned = True
        else:
            was_full = apply(door, standing, was_full=was_full)
        await asyncio.sleep(LOOK_EVERY_S)


async def look(runner: ScriptRunner, keys: RedisKeys) -> Standing:
    """Where the streams of all shards and the memory of Redis stand."""
    shards = await asyncio.gather(*(backlog(runner, keys, shard) for shard in range(keys.shards)))
    return Standing(sum(each.unsettled for each in shards), await memory(runner))


def apply(door: Door, standing: Standing, *, was_full: bool) -> bool:
    """Open or close the door for new exchanges; whether the backlog is full now."""
    metering = door.settings.metering
    full = is_full(standing, metering.backlog_high_water, was_full=was_full)
    refuses = metering.on_backlog == "refuse"
    door.lifecycle.backlog = standing
    door.lifecycle.is_backlogged = full and refuses
    numbers: dict[str, Any] = {
        "unsettled": standing.unsettled,
        "high_water": metering.backlog_high_water,
        "used_bytes": standing.memory.used,
        "max_bytes": standing.memory.limit,
    }
    if full and not was_full:
        door.log.error("backlog_full", refuses=refuses, **numbers)
    elif was_full and not full:
        door.log.info("backlog_over", **numbers)
    return full
