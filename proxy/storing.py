"""Answers to the store and back. A store that fails is a miss, and told in the log once a while."""

from __future__ import annotations

from metering.caps import CapsUnavailableError
from metering.replies import Found, Reply, Shelf, encode_reply
from proxy.cache_rules import CacheRule
from proxy.door import Door

FULL_PPM = 800_000
"""Of `maxmemory`: from here on nothing more is kept there, long before requests are refused."""


async def found_in(door: Door, shelf: Shelf, name: str) -> Found | None:
    """What was kept under that name."""
    try:
        return await door.replies.find(shelf, name)
    except CapsUnavailableError as error:
        door.log.info("cache_unavailable", step="find", cause=str(error))
        return None


async def store(door: Door, rule: CacheRule, name: str, reply: Reply) -> None:
    """Keep an answer for others."""
    count = door.metrics.stored
    if is_full(door):
        count("redis_full")
        return
    bounds = door.settings.cache.bounds(door.settings.redis.shards)
    try:
        gone = await door.replies.keep(rule.shelf, name, reply, ttl_ms=rule.ttl_ms, bounds=bounds)
    except CapsUnavailableError as error:
        door.log.info("cache_unavailable", step="keep", cause=str(error))
        count("unavailable")
        return
    if gone is None:
        count("too_large")
    else:
        count("stored", size=len(encode_reply(reply)), evicted=gone)


def is_full(door: Door) -> bool:
    """Whether the caps' Redis needs what is left for itself; one of the cache's own has its bounds
    alone."""
    standing = door.lifecycle.backlog
    is_shared = door.settings.cache_url is None
    return is_shared and standing is not None and standing.memory.used_ppm >= FULL_PPM
