"""What one proxy finds out about upstreams, told to the others through Redis. Never on the path.

`P:health` is a hash: upstream label -> until when it is open, in Unix milliseconds of Redis' own
clock, so that clocks that differ do no harm. Written when a breaker opens or closes, read every
second. Rules:
- Own news goes out before the news of others comes in, or it would look taken back.
- Redis away: every process goes on with what it found itself, and tells it later.
- Who tells first that an upstream is open probes first; the others, who found the same or learnt
  it, ask two seconds later, and by then know what became of that. Whoever finds it whole closes the
  breaker for all.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from metering.clock import monotonic_s
from metering.redis_keys import RedisKeys
from metering.scripts import ScriptRunner
from proxy.sharing import repeat
from routing.health import LEARNT_LATER_S, Health

SYNC_EVERY_S = 1.0
FORGOTTEN_MS = 600_000
"""So long after it has cooled, a note that nobody took back goes: its writer is gone."""


class HealthSync:
    """Spreads a process' breakers. `labels` are the upstreams of the configuration."""

    def __init__(
        self,
        health: Health,
        runner: ScriptRunner,
        keys: RedisKeys,
        *,
        labels: Collection[str],
        log: Any,
    ) -> None:
        self._health = health
        self._runner = runner
        self._key = keys.health
        self._labels = frozenset(labels)
        self._log = log
        self._led: set[str] = set()
        """Those that we told first."""

    def know(self, labels: Collection[str]) -> None:
        """Listen to news of these upstreams from now on."""
        self._labels = frozenset(labels)

    async def run(self) -> None:
        """Tell and listen, forever."""
        await repeat(self.turn, SYNC_EVERY_S, name="health_sync", log=self._log)

    async def turn(self) -> None:
        """Tell what changed here, then learn what changed elsewhere."""
        now_ms = await self._now_ms()
        for label, until_s in list(self._health.changed.items()):
            await self._tell(label, until_s, now_ms)
            if self._health.changed.get(label) == until_s:
                del self._health.changed[label]
        # asked before the hash: an upstream that opens here meanwhile is in `changed`, and one
        # that was troubled and is missing there was taken back by somebody
        troubled = self._health.troubled
        notes = await self._notes()
        now_s = monotonic_s()
        for label, until_ms in notes.items():
            if label in self._labels and label not in self._health.changed and until_ms > now_ms:
                later_s = 0.0 if label in self._led else LEARNT_LATER_S
                self._health.learn(label, (until_ms - now_ms) / 1000, now_s, later_s=later_s)
            elif until_ms < now_ms - FORGOTTEN_MS:
                await self._runner.call("HDEL", self._key, label)
        for label in troubled - notes.keys() - self._health.changed.keys():
            self._led.discard(label)
            self._health.forget(label)

    async def _tell(self, label: str, until_s: float, now_ms: int) -> None:
        if until_s:
            until_ms = now_ms + int((until_s - monotonic_s()) * 1000)
            if await self._runner.call("HSET", self._key, label, until_ms):
                self._led.add(label)
            elif label not in self._led:
                self._health.yield_probe(label, monotonic_s())
        else:
            self._led.discard(label)
            await self._runner.call("HDEL", self._key, label)
        self._log.info("upstream_health", upstream=label, is_open=bool(until_s))

    async def _notes(self) -> dict[str, int]:
        flat: list[bytes] = await self._runner.call("HGETALL", self._key)
        return {
            name.decode(errors="replace"): int(value)
            for name, value in zip(flat[::2], flat[1::2], strict=True)
        }

    async def _now_ms(self) -> int:
        seconds, micros = await self._runner.call("TIME")
        return int(seconds) * 1000 + int(micros) // 1000
