"""One exchange and its attempts: what was asked for, what was sent where, and how it ended."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf

from metering.caps import AdmittedBy, Cap, Scope
from metering.meter import Meter
from metering.tenants import Principal
from proxy.reply import Reply
from routing.fallback import Outcome
from routing.policy import Option


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of an exchange before anything is sent. Labels come from the client."""

    exchange_id: str
    request_id: str
    principal: Principal
    proxy_id: str
    occurred_at: int
    model_requested: str
    stream: bool
    user: str | None = None
    feature: str | None = None
    session: str | None = None
    run: str | None = None
    step: int | None = None
    client_retry_count: int | None = None
    caps: tuple[Cap, ...] = ()
    """What it stands under, the same object for the same caps; the tenant's first."""
    stops: tuple[Scope, ...] = ()
    """The scopes it runs in, beside the tenant, that can be paused or killed."""
    target_latency_ms: int | None = None
    """How fast its answer is to be."""
    credit_target_ms: int | None = None
    """How fast it has to be for its whole price."""
    deadline_s: float | None = None
    """How long it may take in all, from its arrival on."""
    is_deadline_own: bool = False
    """Whether its client set that end, and not the configuration."""
    explained: str | None = None
    """Why its upstream was chosen, where it asked for that and may know."""
    cache_status: str | None = None
    """How it stands to answers that are kept: `miss` or `bypass`."""

    def left_s(self, now_ns: int) -> float:
        """Seconds until its deadline; without end where it has none."""
        if self.deadline_s is None:
            return inf
        return self.deadline_s - max(0, now_ns - self.occurred_at) / 1e9


@dataclass(frozen=True, slots=True)
class Promise:
    """How fast an answer was to be, since when, and what it costs less when it was not."""

    target_ms: int
    asked_at: int
    credit_ppm: int = 0
    credit_target_ms: int | None = None
    """The time that was promised; None where nothing is credited."""


@dataclass(slots=True)
class Attempt:
    """One send to one upstream, filled in as it goes. Times are UTC nanoseconds."""

    number: int
    event_id: str
    option: Option
    vendor: str
    meter: Meter
    started_at: int
    fallback_reason: str | None = None
    retry_count: int = 0
    """How often this exchange has been at the same upstream before."""
    degrade_step: str | None = None
    degrade_shadow: str | None = None
    admitted_by: AdmittedBy = AdmittedBy.CAPS
    max_tokens: int | None = None
    """What a choice was bounded by, where that is not the client's own limit."""
    upstream_label: str | None = None
    """What metrics call its upstream, where the model's name is the client's own word."""
    is_inference: bool = True
    """Whether a model answers it; other calls are counted as calls only."""
    is_sent: bool = False
    first_byte_at: int | None = None
    ended_at: int | None = None
    http_status: int | None = None
    upstream_request_id: str | None = None
    retry_after_s: float | None = None
    used_up_s: float | None = None
    """How long the next request would be in vain: this one was the last of its limit."""
    outcome: Outcome | None = None
    client_disconnected: bool = False
    promise: Promise | None = None
    reply: Reply = field(default_factory=Reply)

    def mark_sent(self) -> None:
        """The request is on its way: from here on the upstream may be working for us."""
        self.is_sent = True

    @property
    def waited_ms(self) -> int | None:
        """What the client waited for from this upstream: the first byte of a stream, the end of a
        whole answer; None where nothing came."""
        until = self.first_byte_at
        return None if until is None else elapsed_ms(until - self.started_at)

    @property
    def is_in_time(self) -> bool | None:
        """Whether the promise was kept, by what the client has waited in all; None without one, and
        where it got no answer."""
        if self.promise is None or self.first_byte_at is None:
            return None
        return elapsed_ms(self.first_byte_at - self.promise.asked_at) <= self.promise.target_ms

    @property
    def earns_credit(self) -> bool:
        """Whether it came later than was promised, and than it was asked for: a request may waive a
        credit, and cannot make one up."""
        promise, came_at = self.promise, self.first_byte_at
        if promise is None or promise.credit_target_ms is None or came_at is None:
            return False
        return elapsed_ms(came_at - promise.asked_at) > max(
            promise.target_ms, promise.credit_target_ms
        )


def promise_of(facts: Facts, credit_ppm: int) -> Promise | None:
    """How fast the answers of this exchange are to be."""
    target_ms = facts.target_latency_ms
    if target_ms is None:
        return None
    return Promise(target_ms, facts.occurred_at, credit_ppm, facts.credit_target_ms)


def elapsed_ms(duration_ns: int) -> int:
    """A wall clock may jump back; a latency is never negative."""
    return max(0, duration_ns) // 1_000_000
