"""What every process has to see in Redis, beside the caps: claims of events from outside, objects
at providers, batches that are still to be billed, callbacks of payments, answers that are kept.
"""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import Any

from metering.redis_batch_notes import RedisBatchNotes
from metering.redis_callbacks import RedisCallbacks
from metering.redis_claims import RedisClaims
from metering.redis_connect import RedisRunner, open_runner
from metering.redis_keys import RedisKeys
from metering.redis_owners import RedisOwners
from metering.redis_replies import RedisReplies
from proxy.door import Door
from proxy.metrics_redis import MeasuredRunner
from proxy.passthrough_objects import Ownership
from proxy.settings import Settings


def with_stores(
    door: Door, runner: MeasuredRunner, keys: RedisKeys
) -> tuple[Door, contextlib.AbstractAsyncContextManager[object]]:
    """The door with what every process has to see in Redis, and the way to that of `cache.url`,
    which is still to be opened."""
    shared = replace(
        door,
        claims=RedisClaims(runner, keys),
        owned=Ownership(RedisOwners(runner, keys), door.log),
        batches=RedisBatchNotes(runner, keys),
        callbacks=RedisCallbacks(runner, keys),
    )
    apart = _cache_runner(door.settings, door.proxy_id, door.log)
    kept_in = runner if apart is None else MeasuredRunner(apart, door.metrics.metrics)
    made = replace(shared, replies=RedisReplies(kept_in, keys))
    return made, apart or contextlib.nullcontext()


def _cache_runner(settings: Settings, proxy_id: str, log: Any) -> RedisRunner | None:
    """The way to a Redis for kept answers alone; None where they share that of the caps."""
    if settings.cache_url is None:
        return None
    return open_runner(
        settings.cache_url.reveal(),
        timeout_ms=settings.redis.timeout_ms,
        name=f"weir-cache-{proxy_id}",
        on_error=lambda error: log.error("cache_link_failed", cause=repr(error)),
    )
