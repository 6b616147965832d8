"""What one proxy learns of the length of prompts, added to what all know. Never on the path.

`P:calibration:<day>` is a hash: `<upstream model>|<sum>` -> a whole number, added to by every
process; the sums of today and yesterday hold. Rules: Redis away means that what was seen is kept
and told later; a word that was lost on the way may be told twice, which an average bears.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from metering.calibration import Calibration, Sums
from metering.caps import CapsUnavailableError
from metering.redis_keys import RedisKeys
from metering.scripts import ScriptRunner
from proxy.sharing import repeat

SYNC_EVERY_S = 30.0
KEPT_S = 3 * 86_400
_DAY_S = 86_400
_SUMS = ("samples", "counted", "reported", "spread")


class CalibrationSync:
    """Spreads a process' calibration. `models` are the upstream models of the configuration."""

    def __init__(
        self,
        calibration: Calibration,
        runner: ScriptRunner,
        keys: RedisKeys,
        *,
        models: Collection[str],
        log: Any,
    ) -> None:
        self._calibration = calibration
        self._runner = runner
        self._keys = keys
        self._models = frozenset(models)
        self._log = log

    def know(self, models: Collection[str]) -> None:
        """Listen to news of these from now on."""
        self._models = frozenset(models)

    async def run(self) -> None:
        """Tell and listen, forever."""
        await repeat(self.turn, SYNC_EVERY_S, name="calibration_sync", log=self._log)

    async def turn(self) -> None:
        """Add what was seen here, then learn what all have seen."""
        day = int((await self._runner.call("TIME"))[0]) // _DAY_S
        for model, sums in self._calibration.take().items():
            try:
                await self._tell(self._keys.calibration(day), model, sums)
            except CapsUnavailableError:
                self._calibration.give_back({model: sums})
        today, before = [await self._sums(self._keys.calibration(each)) for each in (day, day - 1)]
        known = today.keys() | before.keys()
        self._calibration.learn(
            {model: today.get(model, Sums()) + before.get(model, Sums()) for model in known}
        )

    async def _tell(self, key: str, model: str, sums: Sums) -> None:
        for name in _SUMS:
            await self._runner.call("HINCRBY", key, f"{model}|{name}", getattr(sums, name))
        await self._runner.call("EXPIRE", key, KEPT_S)

    async def _sums(self, key: str) -> dict[str, Sums]:
        flat: list[bytes] = await self._runner.call("HGETALL", key)
        found: dict[str, dict[str, int]] = {}
        for field, value in zip(flat[::2], flat[1::2], strict=True):
            model, _, name = field.decode(errors="replace").rpartition("|")
            if model in self._models and name in _SUMS:
                found.setdefault(model, {})[name] = int(value)
        return {model: Sums(**sums) for model, sums in found.items()}
