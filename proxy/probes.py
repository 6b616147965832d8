"""Asks providers whether they are there, without a request of a client's: optional, off by default.

A probe is a GET of the list of models, or of `probe.path`: free, and without a prompt. One process
of all asks, for as long as it holds the lease `P:probing`; what it found is in `P:probes`. Rules:
- FAILURES_MIN failures in a row open the breakers of the provider's upstreams, for all processes.
- The first success after that closes them. Any other success says nothing: a list of models may be
  well while completions fail, so it takes no breaker away that requests have opened.
- What is no word on the provider's health (a 404 of the path, a 429) does neither.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import orjson

from metering.clock import monotonic_s, now_ns
from metering.redis_keys import RedisKeys
from metering.scripts import ScriptRunner
from proxy import metrics_catalogue as catalogue
from proxy import vendors
from proxy.cli_times import rfc3339
from proxy.door import Door
from proxy.outgoing import REQUEST_HEADERS, prepared
from proxy.relay import OUTCOME_OF_FAULT
from proxy.settings import Probe, Provider
from proxy.sharing import repeat
from proxy.transport import Call, TransportError
from routing.fallback import Outcome
from routing.health import FAILURES, State

TURN_S = 2.0
LEASE_S = 10.0
"""Beside the longest probe: so much later another process asks when the one that did is gone."""
FAILURES_MIN = 2
"""One may be a packet that was lost."""
OPEN_MIN_S = 10.0


@dataclass(frozen=True, slots=True)
class Finding:
    """What a probe found; `result` is a word for people, `outcome` None where it says nothing."""

    result: str
    outcome: Outcome | None
    took_ms: int


class Probing:
    """The probes of one process, while it is the one that asks.

    `door` gives the one of the configuration that holds now.
    """

    def __init__(
        self,
        door: Callable[[], Door],
        runner: ScriptRunner,
        keys: RedisKeys,
        *,
        name: str,
        log: Any,
    ) -> None:
        self._door = door
        self._runner, self._keys = runner, keys
        self._name, self._log = name, log
        self._due_s: dict[str, float] = {}
        self._failures: dict[str, int] = {}
        self.is_leader = False

    @property
    def door(self) -> Door:
        """The process' door, as it is now."""
        return self._door()

    async def run(self) -> None:
        """Probe what is due, whenever it is this process that asks, forever."""
        await repeat(self.turn, TURN_S, name="probes", log=self._log)

    async def turn(self) -> None:
        """Probe what is due. Without anything to probe Redis is not asked."""
        probed = {
            name: (provider, provider.probe)
            for name, provider in self.door.settings.providers.items()
            if provider.probe is not None and provider.unavailable is None
        }
        if not probed:
            return
        longest_s = max(probe.timeout_s for _, probe in probed.values())
        if not await self._leads(LEASE_S + longest_s):
            return
        now_s = monotonic_s()
        due = [name for name in probed if self._due_s.get(name, 0.0) <= now_s]
        await asyncio.gather(*(self._probe(*probed[name]) for name in due))

    async def _leads(self, lease_s: float) -> bool:
        """Whether this process is the one; it stays that while it comes back in time."""
        lease_ms, key, had = int(lease_s * 1000), self._keys.probing, self.is_leader
        self.is_leader = False
        if await self._runner.call("GET", key) == self._name.encode():
            await self._runner.call("PEXPIRE", key, lease_ms)
        elif not await self._runner.call("SET", key, self._name, "NX", "PX", lease_ms):
            return False
        if not had:
            await self._take_over()
        self.is_leader = True
        return True

    async def _take_over(self) -> None:
        """Go on from what the one before found."""
        flat = await self._runner.call("HGETALL", self._keys.probes)
        for name, raw in zip(flat[::2], flat[1::2], strict=True):
            try:
                failures = orjson.loads(raw).get("failures")
            except (orjson.JSONDecodeError, AttributeError):
                continue
            if type(failures) is int:
                self._failures[name.decode(errors="replace")] = failures

    async def _probe(self, provider: Provider, probe: Probe) -> None:
        self._due_s[provider.name] = monotonic_s() + probe.every_s
        found = await self._ask(provider, probe)
        before = self._failures.get(provider.name, 0)
        failures = before + 1 if found.outcome in FAILURES else 0
        self._failures[provider.name] = failures
        self.door.metrics.metrics.add(catalogue.PROBES, provider.name, found.result)
        if failures >= FAILURES_MIN:
            self._open(provider, max(OPEN_MIN_S, 2 * probe.every_s))
        elif before >= FAILURES_MIN and found.outcome is Outcome.SERVED:
            self._close(provider)
        if (failures == FAILURES_MIN) or (before >= FAILURES_MIN and not failures):
            self._log.warning("provider_probed", provider=provider.name, result=found.result)
        record = {
            "at": rfc3339(now_ns()),
            "result": found.result,
            "took_ms": found.took_ms,
            "failures": failures,
        }
        await self._runner.call("HSET", self._keys.probes, provider.name, orjson.dumps(record))

    async def _ask(self, provider: Provider, probe: Probe) -> Finding:
        started_s, outcome = monotonic_s(), None
        try:
            async with asyncio.timeout(probe.timeout_s):
                status = await self._status(provider, probe)
        except TimeoutError:
            outcome = Outcome.TIMEOUT
            result = str(outcome)
        except TransportError as error:
            outcome = OUTCOME_OF_FAULT[error.fault]
            result = str(outcome)
        else:
            outcome = outcome_of(status)
            result = "ok" if outcome is Outcome.SERVED else f"status_{status // 100}xx"
            result = str(outcome) if outcome is Outcome.AUTH else result
        return Finding(result, outcome, int((monotonic_s() - started_s) * 1000))

    async def _status(self, provider: Provider, probe: Probe) -> int:
        vendor, transport = vendors.vendor(provider.type), self.door.transport
        headers = {**REQUEST_HEADERS, **vendor.headers(provider)}
        del headers["Content-Type"]  # nothing is sent
        call = Call(
            url=provider.base_url + probe.path,
            headers=headers,
            body=b"",
            method="GET",
            timeout_s=probe.timeout_s,
            connect_timeout_s=min(provider.connect_timeout_s, probe.timeout_s),
            max_answer_s=probe.timeout_s,
            ca_file=provider.ca_file,
        )
        answer = await transport.send(await prepared(provider, call, transport), lambda: None)
        answer.close()
        return answer.status

    def _labels(self, provider: Provider) -> list[str]:
        models = self.door.settings.models.values()
        places = [each for model in models for each in model.upstreams]
        return list(dict.fromkeys(each.label for each in places if each.provider == provider.name))

    def _open(self, provider: Provider, open_s: float) -> None:
        """Pass its upstreams over, here and everywhere; those that are, stay as they are."""
        health, now_s = self.door.health, monotonic_s()
        for label in self._labels(provider):
            if health.state(label, now_s) is not State.OPEN:
                health.forget(label)
                health.learn(label, open_s, now_s)
                health.changed[label] = now_s + open_s

    def _close(self, provider: Provider) -> None:
        """It is back: all may ask it again."""
        health = self.door.health
        for label in self._labels(provider):
            if label in health.troubled:
                health.forget(label)
                health.changed[label] = 0.0


def outcome_of(status: int) -> Outcome | None:
    """What the status of a probe says of its provider, None where it says nothing."""
    if status // 100 in (2, 3):
        return Outcome.SERVED
    if status in (401, 403):
        return Outcome.AUTH
    return Outcome.SERVER_ERROR if status >= 500 else None
