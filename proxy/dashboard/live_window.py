"""The last ten minutes of usage, second by second: what the dashboard's first page shows. Pure.

Rules:
- An event counts in the second in which it entered its stream, by Redis' clock.
- Money is what the caps count: the sell amount at admission, in nano-USD.
- Rates are over the last ten seconds, amounts per minute over the last sixty: an exchange is
  recorded when it ends, so a single second says little.
- What belongs to the books and not to now (corrections, what was used long before it came) is
  passed over, as `metering.live_rates` has it for `weir top`.
- Models are those of History, the upstreams' own: a name of ours may stand for several of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from metering.events import Kind, Status
from metering.live_rates import MINUTE_S, SPEED_S, is_news
from metering.money import format_usd
from metering.usage import TOKEN_CLASSES
from proxy.cli_times import rfc3339

KEPT_S = 600
MODELS_SHOWN = 8
STEPS_SHOWN = 12
STEPS_KEPT = 500
"""Distinct degradations that are remembered; the oldest give way."""

_TOKENS = frozenset(TOKEN_CLASSES)


@dataclass(slots=True)
class Second:
    """What one second brought."""

    requests: int = 0
    tokens: int = 0
    nano: int = 0
    errors: int = 0
    in_flight: int | None = None
    models: dict[str, list[int]] = field(default_factory=dict)
    """By the upstream's model: tokens and nano-USD."""


@dataclass(slots=True)
class _Step:
    count: int
    at_ms: int


@dataclass(slots=True)
class LiveWindow:
    """Fed with events, asked for the numbers of now."""

    _seconds: dict[int, Second] = field(default_factory=dict)
    _steps: dict[tuple[str, str, str, str], _Step] = field(default_factory=dict)
    steps_version: int = 0
    """Grows whenever a degradation was seen."""

    def feed(self, at_ms: int, event: Mapping[str, Any]) -> str | None:
        """Take one event that entered its stream then; the tenant that spent, if any did."""
        kind, tenant = event.get("kind", Kind.USAGE), str(event.get("tenant", ""))
        if not is_news(kind, event.get("completed_at", 0), at_ms):
            return tenant if kind in (Kind.USAGE, Kind.CUSTOM) else None
        second = self._seconds.setdefault(at_ms // 1000, Second())
        units: Mapping[str, int] = event.get("units") or {}
        tokens = sum(count for unit, count in units.items() if unit in _TOKENS)
        nano = int(event.get("admission_nano", 0))
        second.tokens += tokens
        second.nano += nano
        second.requests += event.get("attempt", 1) == 1
        second.errors += event.get("status") == Status.ERROR
        public = str(event.get("model_public") or event.get("model_requested") or "")
        sums = second.models.setdefault(str(event.get("model_upstream") or public), [0, 0])
        sums[0] += tokens
        sums[1] += nano
        if event.get("degrade_step") is not None:
            self._stepped(tenant, public, at_ms, event)
        return tenant

    def _stepped(self, tenant: str, model: str, at_ms: int, event: Mapping[str, Any]) -> None:
        key = (tenant, str(event.get("model_requested", "")), model, str(event["degrade_step"]))
        before = self._steps.pop(key, None)
        self._steps[key] = _Step(1 if before is None else before.count + 1, at_ms)
        if len(self._steps) > STEPS_KEPT:
            del self._steps[next(iter(self._steps))]
        self.steps_version += 1

    def tick(self, now_ms: int, in_flight: int | None) -> dict[str, Any]:
        """The numbers of this moment, and how many requests are open now (None: unknown)."""
        now = now_ms // 1000
        self._forget(now)
        self._seconds.setdefault(now, Second()).in_flight = in_flight
        # the second that has not ended yet would pull every rate down
        short, minute = self._sum(now - 1, SPEED_S), self._sum(now - 1, MINUTE_S)
        ranked = sorted(minute.models.items(), key=lambda each: (-each[1][1], -each[1][0], each[0]))
        return {
            "at": rfc3339(now_ms * 1_000_000),
            "at_ms": now_ms,
            "tokens_per_s": round(short.tokens / SPEED_S, 1),
            "requests_per_s": round(short.requests / SPEED_S, 2),
            "spend_usd_per_min": format_usd(minute.nano, places=9),
            "spend_nano_per_min": minute.nano,
            "in_flight": in_flight,
            "errors_per_min": minute.errors,
            "requests_per_min": minute.requests,
            "models": [
                {
                    "model": model,
                    "tokens_per_s": round(tokens / MINUTE_S, 1),
                    "spend_usd_per_min": format_usd(nano, places=9),
                    "spend_nano_per_min": nano,
                }
                for model, (tokens, nano) in ranked[:MODELS_SHOWN]
            ],
        }

    def history(self, now_ms: int) -> dict[str, list[Any]]:
        """The same numbers for each second of the last ten minutes, as a tick then gave them."""
        now = now_ms // 1000
        self._forget(now)
        first = now - KEPT_S
        tokens, requests, nano = [], [], []
        for second in range(first - MINUTE_S, now):
            found = self._seconds.get(second)
            tokens.append(0 if found is None else found.tokens)
            requests.append(0 if found is None else found.requests)
            nano.append(0 if found is None else found.nano)
        places = range(MINUTE_S, MINUTE_S + KEPT_S)
        return {
            "at_s": list(range(first + 1, now + 1)),
            "tokens_per_s": [
                round(sum(tokens[i - SPEED_S + 1 : i + 1]) / SPEED_S, 1) for i in places
            ],
            "requests_per_s": [
                round(sum(requests[i - SPEED_S + 1 : i + 1]) / SPEED_S, 2) for i in places
            ],
            "spend_nano_per_min": [sum(nano[i - MINUTE_S + 1 : i + 1]) for i in places],
            "in_flight": [
                None if (found := self._seconds.get(second)) is None else found.in_flight
                for second in range(first + 1, now + 1)
            ],
        }

    def degradations(self, now_ms: int) -> dict[str, Any]:
        """Who was given what in the place of what within the window, the latest first."""
        since_ms = now_ms - KEPT_S * 1000
        for key in [key for key, step in self._steps.items() if step.at_ms < since_ms]:
            del self._steps[key]
        latest = sorted(self._steps.items(), key=lambda each: -each[1].at_ms)
        return {
            "total": sum(step.count for step in self._steps.values()),
            "degradations": [
                {
                    "tenant": tenant,
                    "model_requested": asked,
                    "model": served,
                    "step": step,
                    "count": found.count,
                    "at": rfc3339(found.at_ms * 1_000_000),
                }
                for (tenant, asked, served, step), found in latest[:STEPS_SHOWN]
            ],
        }

    def _sum(self, last: int, seconds: int) -> Second:
        total = Second()
        for at in range(last - seconds + 1, last + 1):
            found = self._seconds.get(at)
            if found is None:
                continue
            total.requests += found.requests
            total.tokens += found.tokens
            total.nano += found.nano
            total.errors += found.errors
            for model, (tokens, nano) in found.models.items():
                sums = total.models.setdefault(model, [0, 0])
                sums[0] += tokens
                sums[1] += nano
        return total

    def _forget(self, now: int) -> None:
        oldest = now - KEPT_S - MINUTE_S
        for second in [each for each in self._seconds if each < oldest]:
            del self._seconds[second]
