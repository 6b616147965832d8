"""What happens right now, folded out of usage events as they come: tokens/s, spend/min, errors.

Rules:
- An event counts in the second in which it came into its stream (Redis' clock), and only there: a
  stream of a minute shows when it ends. Speeds are means over `SPEED_S`, money and errors are sums
  over the last `MINUTE_S` as they stand, so that nothing is extrapolated and no float is money.
- A request is an exchange, whatever it took to serve it. It failed when its last attempt did, or
  broke off in the middle; that a client left, or that a cap ended it, is no failure.
- What was used long before it came (reported from outside, replayed after an outage) is not now:
  it counts in the ledger, and here not at all. The same goes for corrections.

Pure: the time is an argument. One fold serves however many look at it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from metering.events import Kind, Status, UsageEvent, served_model
from metering.usage import TOKEN_CLASSES

SPEED_S = 10
"""Tokens and requests per second are means over so many: shorter ones jump with every answer."""

MINUTE_S = 60

LATE_MS = 300_000
"""What ended longer ago than this when it came is no news."""

DEGRADATIONS_KEPT = 20

_FAILED = (Status.ERROR, Status.TRUNCATED)


@dataclass(frozen=True, slots=True)
class Rate:
    """What one model, or one tenant, does; `spend_nano` and the counts are of the last minute."""

    name: str
    tokens_per_s: float
    spend_nano: int
    requests: int
    errors: int


@dataclass(frozen=True, slots=True)
class Degraded:
    """A request that was served by something cheaper, near a cap."""

    at_ms: int
    tenant: str
    model_requested: str
    model: str
    step: str


@dataclass(frozen=True, slots=True)
class Tick:
    """One picture. `spend_nano`, `requests` and `errors` are of the last minute."""

    at_ms: int
    tokens_per_s: float
    requests_per_s: float
    spend_nano: int
    requests: int
    errors: int
    models: tuple[Rate, ...]
    """The dearest first."""
    tenants: tuple[Rate, ...]
    degradations: tuple[Degraded, ...]
    """The newest first; not only of the last minute."""


@dataclass(slots=True)
class _Sum:
    tokens: int = 0
    spend_nano: int = 0


@dataclass(slots=True)
class _Exchange:
    """A request of this second, as far as its attempts have come."""

    model: str
    tenant: str
    failed: bool


@dataclass(slots=True)
class _Second:
    models: dict[str, _Sum] = field(default_factory=dict)
    tenants: dict[str, _Sum] = field(default_factory=dict)
    exchanges: dict[str, _Exchange] = field(default_factory=dict)


def is_news(kind: str, completed_at: int, at_ms: int) -> bool:
    """Whether an event that came then, and whose work ended at `completed_at` (ns), is of now."""
    return kind in (Kind.USAGE, Kind.CUSTOM) and at_ms - completed_at // 1_000_000 <= LATE_MS


class LiveRates:
    """Takes events in about the order in which they came, and gives pictures of the last minute.

    Events older than what is kept are passed over, so a reader may begin with a minute's tail.
    """

    def __init__(self) -> None:
        self._seconds: dict[int, _Second] = {}
        self._degraded: deque[Degraded] = deque(maxlen=DEGRADATIONS_KEPT)
        self._newest_s = 0

    def feed(self, event: UsageEvent, at_ms: int) -> None:
        """Count an event; `at_ms` is when it came, the first half of its stream id."""
        if not is_news(event.kind, event.completed_at, at_ms):
            return
        second_s = at_ms // 1000
        if second_s <= self._newest_s - MINUTE_S:
            return
        if second_s > self._newest_s:
            self._forget(second_s)
        second = self._seconds.setdefault(second_s, _Second())
        if event.degrade_step is not None and event.exchange_id not in second.exchanges:
            self._degraded.append(
                Degraded(
                    at_ms,
                    event.tenant,
                    event.model_requested,
                    served_model(event),
                    event.degrade_step,
                )
            )
        self._count(second, event)

    def tick(self, now_ms: int) -> Tick:
        """The picture at this moment, by the same clock as the events' times."""
        now_s = now_ms // 1000
        minute = self._between(now_s - MINUTE_S, now_s)
        recent = self._between(now_s - SPEED_S, now_s)
        exchanges = [each for second in minute for each in second.exchanges.values()]
        sums = [each for second in minute for each in second.tenants.values()]
        fast = [each for second in recent for each in second.tenants.values()]
        return Tick(
            at_ms=now_ms,
            tokens_per_s=sum(each.tokens for each in fast) / SPEED_S,
            requests_per_s=sum(len(second.exchanges) for second in recent) / SPEED_S,
            spend_nano=sum(each.spend_nano for each in sums),
            requests=len(exchanges),
            errors=sum(each.failed for each in exchanges),
            models=_rates(minute, recent, lambda second: second.models, lambda each: each.model),
            tenants=_rates(minute, recent, lambda second: second.tenants, lambda each: each.tenant),
            degradations=tuple(reversed(self._degraded)),
        )

    def _count(self, second: _Second, event: UsageEvent) -> None:
        model = served_model(event)
        tokens = sum(event.units.get(name, 0) for name in TOKEN_CLASSES)
        for sums, name in ((second.models, model), (second.tenants, event.tenant)):
            total = sums.setdefault(name, _Sum())
            total.tokens += tokens
            total.spend_nano += event.admission_nano
        # attempts of an exchange come together and in order: the last one says how it ended
        second.exchanges[event.exchange_id] = _Exchange(
            model, event.tenant, event.status in _FAILED
        )

    def _between(self, after_s: int, until_s: int) -> list[_Second]:
        """The seconds in (after_s, until_s]; one that the events' clock is ahead by counts too."""
        until_s = max(until_s, self._newest_s)
        return [each for at, each in self._seconds.items() if after_s < at <= until_s]

    def _forget(self, newest_s: int) -> None:
        self._newest_s = newest_s
        for second_s in [each for each in self._seconds if each <= newest_s - MINUTE_S]:
            del self._seconds[second_s]


def _rates(
    minute: Iterable[_Second],
    recent: Iterable[_Second],
    sums_of: Callable[[_Second], dict[str, _Sum]],
    name_of: Callable[[_Exchange], str],
) -> tuple[Rate, ...]:
    """By name, the dearest first."""
    tokens: dict[str, int] = {}
    spend: dict[str, int] = {}
    requests: dict[str, int] = {}
    errors: dict[str, int] = {}
    for second in recent:
        for name, each in sums_of(second).items():
            tokens[name] = tokens.get(name, 0) + each.tokens
    for second in minute:
        for name, each in sums_of(second).items():
            spend[name] = spend.get(name, 0) + each.spend_nano
        for exchange in second.exchanges.values():
            name = name_of(exchange)
            requests[name] = requests.get(name, 0) + 1
            errors[name] = errors.get(name, 0) + exchange.failed
    return tuple(
        sorted(
            (
                Rate(
                    name,
                    tokens.get(name, 0) / SPEED_S,
                    nano,
                    requests.get(name, 0),
                    errors.get(name, 0),
                )
                for name, nano in spend.items()
            ),
            key=lambda rate: (-rate.spend_nano, rate.name),
        )
    )
