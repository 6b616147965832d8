"""From what happens at the door to counters: a few calls per exchange, none per chunk. Pure.

Labels that could be a client's word are looked up: what is not configured counts as `other`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from functools import cache

from metering.caps import Cap, CapState, Denial, DenialReason, Reservation, ScopeKind
from metering.usage import TOKEN_CLASSES
from proxy import metrics_catalogue as catalogue
from proxy.attempts import Attempt, Facts
from proxy.charging import Charge
from proxy.degraded import NOTHING, Steps
from proxy.errors import ApiError, ScopeKilled, ScopePaused
from proxy.limit_words import dimension_of, window_kind
from proxy.metrics import Metrics
from routing.cost_to_serve import Decision, Verdict
from routing.fallback import Outcome

OTHER = "other"

TENANTS_MAX = 1_000
"""So many tenants have series of their own, in the order of their names; the rest shares one."""


def _codes(kind: type[ApiError] = ApiError) -> Iterator[str]:
    yield kind.code or kind.type
    if kind in (ScopePaused, ScopeKilled):
        yield from (
            f"{scope}_{'paused' if kind is ScopePaused else 'killed'}" for scope in ScopeKind
        )
    for each in kind.__subclasses__():
        yield from _codes(each)


_REQUESTS = catalogue.REQUESTS.name
_EXCHANGES = catalogue.EXCHANGES.name
_ATTEMPTS = catalogue.ATTEMPTS.name
_TOKENS_BILLED = catalogue.TOKENS.name
_SELL = catalogue.SELL.name
_COST = catalogue.COST.name
_TENANT_EXCHANGES = catalogue.TENANT_EXCHANGES.name
_TENANT_TOKENS = catalogue.TENANT_TOKENS.name
_TENANT_SELL = catalogue.TENANT_SELL.name
_REMAINING = catalogue.TENANT_REMAINING.name


@cache
def _codes_known() -> frozenset[str]:
    """Asked for first when all of them are there, whichever modules they stand in."""
    return frozenset(_codes())


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
        """A request got this status; 499 when its client did not wait for it."""
        self.metrics.counters[_REQUESTS, _CLASSES.get(status // 100, OTHER)] += 1

    def refused(self, code: str) -> None:
        """It got an error of ours."""
        self.metrics.add(catalogue.REFUSALS, code if code in _codes_known() else OTHER)

    def admission(self, caps: Sequence[Cap], answer: Reservation | Denial, *, tenant: str) -> None:
        """What the caps said: which refused, which in shadow would have refused, and what is left
        of the tenant's own."""
        if isinstance(answer, Reservation):
            if tenant in self._tenants:
                self._remaining(tenant, answer.states)
            for place in answer.shadowed:
                cap = caps[place]
                self.metrics.add(catalogue.SHADOW_DENIALS, cap.scope.kind, window_kind(cap.window))
        elif answer.state is not None:
            cap = answer.state.cap
            labels = (cap.scope.kind, window_kind(cap.window), dimension_of(answer))
            self.metrics.add(catalogue.DENIALS, *labels)
        elif answer.reason is not DenialReason.REBUILDING:
            kind = ScopeKind.TENANT if answer.scope is None else answer.scope.kind
            self.metrics.add(catalogue.DENIALS, kind, "none", answer.reason)

    def _remaining(self, tenant: str, states: Sequence[CapState]) -> None:
        for state in states:
            limit_nano = state.cap.limit.nano
            if limit_nano is not None and state.cap.scope.kind is ScopeKind.TENANT:
                left_nano = limit_nano - state.spent.nano - state.held.nano
                key = (_REMAINING, tenant, window_kind(state.cap.window))
                self.metrics.gauges[key] = max(0, left_nano)

    def stalled(self) -> None:
        """A client took nothing for too long."""
        self.metrics.add(catalogue.WRITE_STALLS)

    def replayed(self, records: int) -> None:
        """Redis has taken so many commits that had to wait on disk."""
        self.metrics.add(catalogue.SPOOL_REPLAYED, by=records)

    def recovered(self) -> None:
        """An exchange of an earlier run was recorded that nobody else knew of."""
        self.metrics.add(catalogue.RECOVERED)

    def exchange(
        self,
        facts: Facts,
        attempts: Sequence[Attempt],
        charges: Sequence[Charge],
        *,
        steps: Steps = NOTHING,
    ) -> None:
        """An exchange has ended, with these attempts and what they come to."""
        counters, observe = self.metrics.counters, self.metrics.observe
        model = facts.model_requested if facts.model_requested in self._models else OTHER
        sell_nano = tokens = 0
        for attempt, charged in zip(attempts, charges, strict=True):
            self._attempt(attempt, charged)
            sell_nano += charged.sell_nano
            tokens += charged.tokens
            if charged.sla_met is not None:
                self.metrics.add(catalogue.SLA, model, "yes" if charged.sla_met else "no")
        last = attempts[-1]
        counters[_EXCHANGES, model, last.outcome or _INTERNAL] += 1
        counters[_SELL, model] += sell_nano
        if steps.taken is not None:
            self.metrics.add(catalogue.DEGRADATIONS, model, steps.taken.reason)
        if steps.would is not None:
            self.metrics.add(catalogue.SHADOW_DEGRADATIONS, model)
        if steps.skipped:
            self.metrics.add(catalogue.DEGRADATIONS_SKIPPED, model)
        if last.ended_at is not None:
            took_ns = max(0, last.ended_at - facts.occurred_at)
            observe(catalogue.DURATION, model, value=took_ns / 1e9)
        if self._has_tenants:
            name = facts.principal.tenant.id
            tenant = name if name in self._tenants else OTHER
            counters[_TENANT_EXCHANGES, tenant] += 1
            counters[_TENANT_TOKENS, tenant] += tokens
            counters[_TENANT_SELL, tenant] += sell_nano

    def unpaid(self, upstream: str) -> None:
        """An upstream was not asked once more because its budget for that was used up."""
        self.metrics.add(catalogue.RETRIES_UNPAID, upstream)

    def late(self, facts: Facts) -> None:
        """An exchange was ended at its deadline."""
        model = facts.model_requested if facts.model_requested in self._models else OTHER
        self.metrics.add(catalogue.DEADLINES, model)

    def means(self, facts: Facts, *, is_clamped: bool, overrun_nano: int) -> None:
        """It was cut to its means, or came to more than was held for it."""
        model = facts.model_requested if facts.model_requested in self._models else OTHER
        if is_clamped:
            self.metrics.add(catalogue.CLAMPED, model)
        if overrun_nano:
            self.metrics.add(catalogue.OVERRUN, model, by=overrun_nano)

    def margin(self, model: str, decision: Decision, *, is_shadow: bool) -> None:
        """Its margin was looked at before it ran."""
        if decision.verdict is Verdict.ALLOW:
            return
        verdict = f"would_{decision.verdict}" if is_shadow else str(decision.verdict)
        self.metrics.add(catalogue.MARGINS, model if model in self._models else OTHER, verdict)

    def cached(self, result: str) -> None:
        """What came of looking for an answer that was kept."""
        self.metrics.add(catalogue.CACHE_ANSWERS, result)

    def stored(self, result: str, *, size: int = 0, evicted: int = 0) -> None:
        """What came of keeping one."""
        self.metrics.add(catalogue.CACHE_STORED, result)
        if size:
            self.metrics.add(catalogue.CACHE_STORED_BYTES, by=size)
        if evicted:
            self.metrics.add(catalogue.CACHE_EVICTED, by=evicted)

    def repeated(self, result: str) -> None:
        """What came of a request with a key of its client's."""
        self.metrics.add(catalogue.REPEATS_ASKED, result)

    def metered(self, decision: str) -> None:
        """Somebody has asked what would become of a request."""
        self.metrics.add(catalogue.METERED, decision)

    def _attempt(self, attempt: Attempt, charged: Charge) -> None:
        counters = self.metrics.counters
        upstream = attempt.upstream_label or attempt.option.upstream.label
        counters[_ATTEMPTS, upstream, attempt.outcome or _INTERNAL] += 1
        if attempt.retry_count:
            self.metrics.add(catalogue.RETRIES, upstream, attempt.fallback_reason or OTHER)
        elif attempt.fallback_reason is not None:
            self.metrics.add(catalogue.FALLBACKS, upstream, attempt.fallback_reason)
        if charged.billable:
            counters[_COST, upstream] += charged.cost_nano
            for unit, count in charged.units.items():
                if unit in _TOKENS:
                    counters[_TOKENS_BILLED, upstream, unit] += count
        if attempt.first_byte_at is not None and attempt.outcome is not Outcome.CLIENT_GONE:
            waited_ns = max(0, attempt.first_byte_at - attempt.started_at)
            self.metrics.observe(catalogue.TTFT, upstream, value=waited_ns / 1e9)
        if attempt.outcome is Outcome.SERVED and attempt.ended_at is not None:
            took_ns = max(0, attempt.ended_at - attempt.started_at)
            self.metrics.observe(catalogue.UPSTREAM_SECONDS, upstream, value=took_ns / 1e9)
