"""Keys of no shard: in a Cluster, another node than that of a lane's own shard may have them.

Shell; where there is one server for all keys it changes nothing.

Rules: while that node is away, lanes whose own shard is there go on, and none waits for it longer
than a moment, nor again and again. Whoever asks says what is done without the answer; a refusal is
an answer, and raised as it is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from redis.exceptions import ClusterDownError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from metering.clock import monotonic_s
from metering.settlement.watch import Log

WAIT_S = 1.0
"""A living node has answered by then."""

REST_S = 5.0
"""For so long after an answer that did not come, nobody asks again."""

_T = TypeVar("_T")


class AwayError(RedisConnectionError):
    """The node that has the key gives no answer; to be met like any trouble with Redis."""


class CommonKeys:
    """The way to keys of one node, for all lanes of a worker. `about` names them in the log."""

    def __init__(self, about: str, *, is_cluster: bool, log: Log) -> None:
        self._about = about
        self.is_cluster = is_cluster
        self._log = log
        self._rest_until_s = 0.0
        self._why = ""

    async def ask(self, call: Callable[[], Awaitable[_T]]) -> _T:
        """What `call` answers; AwayError when nobody does, at once while that was seen just now."""
        if not self.is_cluster:
            return await call()
        if monotonic_s() < self._rest_until_s:
            raise AwayError(self._why)
        try:
            async with asyncio.timeout(WAIT_S):
                answer = await call()
        except (RedisConnectionError, RedisTimeoutError, ClusterDownError, OSError) as error:
            self._rest_until_s = monotonic_s() + REST_S
            if not self._why:
                self._log.warning("common_keys_away", keys=self._about, error=repr(error))
            self._why = f"the node with {self._about} does not answer: {error or repr(error)}"
            raise AwayError(self._why) from error
        if self._why:
            self._why = ""
            self._log.info("common_keys_back", keys=self._about)
        return answer
