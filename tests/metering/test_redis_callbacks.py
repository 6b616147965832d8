"""Callbacks in a real Redis."""

from __future__ import annotations

from metering.callbacks import Callback
from metering.redis_callbacks import RedisCallbacks
from metering.redis_keys import RedisKeys
from metering.redis_link import RedisLink


async def test_a_callback_waits_in_a_stream(redis_link: RedisLink, redis_keys: RedisKeys) -> None:
    """With its id, its type and its time, and nothing else."""
    await RedisCallbacks(redis_link, redis_keys).take(Callback("evt_1", "invoice.paid", 7))

    [[_, fields]] = await redis_link.call("XRANGE", redis_keys.callbacks, "-", "+")
    assert fields == [b"id", b"evt_1", b"type", b"invoice.paid", b"created", b"7"]
