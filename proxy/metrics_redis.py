"""The calls of the request path to Redis, counted and timed by the verb of their script."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from metering.caps import CapsUnavailableError
from metering.clock import monotonic_s
from metering.redis_wire import RedisReplyError
from metering.scripts import Script, ScriptRunner
from proxy import metrics_catalogue as catalogue
from proxy.metrics import Metrics

_CALLS = catalogue.REDIS_CALLS.name


class MeasuredRunner:
    """A `ScriptRunner` like the one it is given. Single commands pass unmeasured."""

    def __init__(self, runner: ScriptRunner, metrics: Metrics) -> None:
        self._runner = runner
        self._metrics = metrics
        self.committed_at_s: float | None = None
        """When Redis last took a commit."""

    @property
    def generation(self) -> int:
        """See `ScriptRunner`."""
        return self._runner.generation

    async def call(self, *args: str | bytes | int) -> Any:
        """See `ScriptRunner`."""
        return await self._runner.call(*args)

    async def call_each(self, *args: str | bytes | int) -> list[Any]:
        """See `ScriptRunner`."""
        return await self._runner.call_each(*args)

    async def eval(
        self, script: Script, keys: Sequence[str], args: Sequence[str | bytes | int]
    ) -> Any:
        """See `ScriptRunner`."""
        began_s, result = monotonic_s(), "cancelled"
        try:
            answer = await self._runner.eval(script, keys, args)
            result = "answered"
            if script.name == "commit":
                self.committed_at_s = began_s
            return answer
        except RedisReplyError:
            result = "refused"
            raise
        except CapsUnavailableError:
            result = "unavailable"
            raise
        finally:
            took_s = monotonic_s() - began_s
            self._metrics.counters[_CALLS, script.name, result] += 1
            self._metrics.observe(catalogue.REDIS_SECONDS, script.name, value=took_s)
