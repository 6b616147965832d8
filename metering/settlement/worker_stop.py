"""What a stop does not wait for: a Redis that says nothing.

Rules: a refusal or a closed port is an answer, and the lane deals with it; silence is none. What a
lane leaves is safe in its stream, and the next start goes on there. It matters for a stop alone:
at any other time a worker can wait for as long as Redis stands still.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Protocol

from redis.exceptions import RedisError


class Asked(Protocol):
    """What is needed of a client of Redis."""

    def exists(self, *names: str) -> Awaitable[int]:
        """How many of these keys there are."""


class SilentRedisError(Exception):
    """The server of a shard gives no answer; the message says for how long."""


async def need_answers(
    redis: Asked, key: str, stop: asyncio.Event, over: asyncio.Event, *, within_s: float
) -> None:
    """From `stop` on, ask the server of `key` again and again; SilentRedisError when it is silent.

    Runs until it is cancelled, or `over`: a client of Redis that is cancelled while it connects may
    keep that to itself.
    """
    await stop.wait()
    while not over.is_set():
        try:
            async with asyncio.timeout(within_s):
                await redis.exists(key)
        except TimeoutError:
            raise SilentRedisError(f"Redis did not answer within {within_s:g} s") from None
        except (RedisError, OSError):
            pass  # said at once; whoever has work there meets it, too, and counts its tries
        await asyncio.sleep(within_s / 4)
