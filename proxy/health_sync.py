"""What one proxy finds out about upstreams, told to the others through Redis. Never on the path.

`P:health` is a hash: upstream label -> until when it is open, in Unix milliseconds of Redis' own
clock, so that clocks that differ do no harm. Written when a breaker opens or closes, read every
second. Rules:
- Own news goes out before the news of others comes in, or it would look taken back.
- Redis away: every process goes on with what it found itself, and tells it later.
- One process at a time probes what has cooled: whoever holds its lease, `P:trial:UPSTREAM`, which
  is taken before that, kept while the probe is under way, and left to another when no request came
  that could be one. Whoever finds the upstream whole closes the breaker for all.
- While Redis is away nobody decides: who told first that an upstream is open probes first, and the
  others two seconds later.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from typing import Any

from metering.clock import monotonic_s
from metering.redis_keys import RedisKeys
from metering.scripts import ScriptRunner, load_script
from proxy.sharing import repeat
from routing.health import LEARNT_LATER_S, Health

SYNC_EVERY_S = 1.0
FORGOTTEN_MS = 600_000
"""So long after it has cooled, a note that nobody took back goes: its writer is gone."""

TRIAL_MS = 5_000
"""How long whoever may probe has to begin, from when the upstream has cooled, and how long its
lease outlives its process."""
ASK_AHEAD_S = TRIAL_MS / 1000 + 2 * SYNC_EVERY_S
"""So long before an upstream has cooled, processes decide who asks it then; whoever waits for
another's lease looks at it all the time."""


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
        self._key, self._key_of = keys.health, keys.trial
        self._labels = frozenset(labels)
        self._log = log
        self._led: set[str] = set()
        """Those that we told first, or may probe."""
        self._name = os.urandom(8).hex()
        self._trials: dict[str, float] = {}
        """The leases we took: upstream -> until when."""

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
        await self._share_trials(notes, now_ms)

    async def _share_trials(self, notes: Mapping[str, int], now_ms: int) -> None:
        """Find out who probes what has cooled, or is about to."""
        now_s = monotonic_s()
        for label in self._health.cooling(now_s, ASK_AHEAD_S):
            if label not in notes or label in self._health.changed:
                continue
            left_ms, until_s = max(0, notes[label] - now_ms), self._trials.get(label)
            if until_s is not None and not self._health.is_probing(label, now_s):
                if now_s < until_s:
                    continue
                # no request came that could be a probe: it is another's turn
                del self._trials[label]
                self._led.discard(label)
                self._health.follow(label, now_s + SYNC_EVERY_S)
                continue
            other_ms = await self._lease(label, left_ms + TRIAL_MS)
            if other_ms:
                self._led.discard(label)
                self._trials.pop(label, None)
                self._health.follow(label, now_s + other_ms / 1000)
            else:
                self._led.add(label)
                self._trials[label] = now_s + (left_ms + TRIAL_MS) / 1000
                self._health.lead(label, now_s + left_ms / 1000)

    async def _lease(self, label: str, ms: int) -> int:
        """Take the lease, keep it, or with 0 give it back; for how long it is another's, 0 if it is
        not."""
        script = load_script("lease")
        return int(await self._runner.eval(script, [self._key_of(label)], (self._name, ms)))

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
        if self._trials.pop(label, None) is not None:
            await self._lease(label, 0)
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
