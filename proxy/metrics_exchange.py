"""From what happens at the door to counters: a few calls per exchange, none per chunk. Pure.

Labels that could be a client's word are looked up: what is not configured counts as `other`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from metering.usage import TOKEN_CLASSES
from proxy import metrics_catalogue as catalogue
from proxy.attempts import Attempt, Charge, Facts
from proxy.errors import ApiError
from proxy.metrics import Metrics
from routing.fallback import Outcome

OTHER = "other"

TENANTS_MAX = 1_000
"""So many tenants have series of their own, in the order of their names; the rest shares one."""


def _codes(kind: type[ApiError] = ApiError) -> Iterator[str]:
    yield kind.code or kind.type
    for each in kind.__subclasses__():
        yield from _codes(each)


_CODES = frozenset(_codes())
_CLASSES = {number: f"{number}xx" for number in range(1, 6)}
_TOKENS = frozenset(TOKEN_CLASSES)
_INTERNAL = "internal"
"""The outcome of an exchange that failed by a fault of ours."""


class ExchangeMetrics:
    """Counts exchanges and answers. `tenants` is empty when tenants are not to be named."""

    def __init__(
        self,
        metrics: Metrics | None = None,
        *,
        models: Collection[str] = (),
        tenants: Collection[str] = (),
    ) -> None:
        self.metrics = Metrics() if metrics is None else metrics
        self._models = frozenset(models)
        self._has_tenants = bool(tenants)
        self._tenants = frozenset(sorted(tenants)[:TENANTS_MAX])

    def answered(self, status: int) -> None:
        """A chat request got this status; 499 when its client did not wait for it."""
        self.metrics.add(catalogue.REQUESTS, _CLASSES.get(status // 100, OTHER))

    def refused(self, code: str) -> None:
        """It got an error of ours."""
        self.metrics.add(catalogue.REFUSALS, code if code in _CODES else OTHER)

    def stalled(self) -> None:
        """A client took nothing for too long."""
        self.metrics.add(catalogue.WRITE_STALLS)

    def replayed(self, records: int) -> None:
        """Redis has taken so many commits that had to wait on disk."""
        self.metrics.add(catalogue.SPOOL_REPLAYED, by=records)

    def exchange(
        self,
        facts: Facts,
        attempts: Sequence[Attempt],
        charges: Sequence[Charge],
        *,
        degraded: str | None,
    ) -> None:
        """An exchange has ended, with these attempts and what they come to."""
        add, observe = self.metrics.add, self.metrics.observe
        model = facts.model_requested if facts.model_requested in self._models else OTHER
        sell_nano = tokens = 0
        for attempt, charged in zip(attempts, charges, strict=True):
            self._attempt(attempt, charged)
            sell_nano += charged.sell_nano
            tokens += charged.tokens
        last = attempts[-1]
        add(catalogue.EXCHANGES, model, last.outcome or _INTERNAL)
        add(catalogue.SELL, model, by=sell_nano)
        if degraded is not None:
            add(catalogue.DEGRADATIONS, model, degraded)
        if last.ended_at is not None:
            took_ns = max(0, last.ended_at - facts.occurred_at)
            observe(catalogue.DURATION, model, value=took_ns / 1e9)
        if self._has_tenants:
            name = facts.principal.tenant.id
            tenant = name if name in self._tenants else OTHER
            add(catalogue.TENANT_EXCHANGES, tenant)
            add(catalogue.TENANT_TOKENS, tenant, by=tokens)
            add(catalogue.TENANT_SELL, tenant, by=sell_nano)

    def _attempt(self, attempt: Attempt, charged: Charge) -> None:
        add = self.metrics.add
        upstream = attempt.option.upstream.label
        add(catalogue.ATTEMPTS, upstream, attempt.outcome or _INTERNAL)
        if attempt.fallback_reason is not None:
            add(catalogue.FALLBACKS, upstream, attempt.fallback_reason)
        if charged.billable:
            add(catalogue.COST, upstream, by=charged.cost_nano)
            for unit, count in charged.units.items():
                if unit in _TOKENS:
                    add(catalogue.TOKENS, upstream, unit, by=count)
        if attempt.first_byte_at is not None and attempt.outcome is not Outcome.CLIENT_GONE:
            waited_ns = max(0, attempt.first_byte_at - attempt.started_at)
            self.metrics.observe(catalogue.TTFT, upstream, value=waited_ns / 1e9)
