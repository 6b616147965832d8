"""`RedisCallbacks`: callbacks in a stream of their own, until the worker has them in the ledger."""

from __future__ import annotations

from metering.callbacks import Callback
from metering.redis_keys import RedisKeys
from metering.scripts import ScriptRunner


class RedisCallbacks:
    """The stream `P:callbacks`. A callback may stand there twice: the ledger knows its id."""

    def __init__(self, runner: ScriptRunner, keys: RedisKeys) -> None:
        self._runner = runner
        self._key = keys.callbacks

    async def take(self, callback: Callback) -> None:
        """As `Callbacks.take`."""
        fields = ("id", callback.id, "type", callback.type, "created", str(callback.created_s))
        await self._runner.call("XADD", self._key, "*", *fields)
