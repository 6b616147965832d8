"""One inference call that the library meters: what it counted, and what that comes to.

Rules are those of the proxy: the provider's numbers win over ours where they can be believed; what
was delivered is billed, however the call ended; a call that ended badly before anything was sent is
not billed at all, and one that was sent is billed at least for its input.

Pure but for the clock it is given.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from metering.caps import DenialReason, Scope, Vector
from metering.events import RECOVERED, Reason, Status, UsageEvent, encode
from metering.ids import derived_id
from metering.meter import Meter
from metering.price_variants import USUAL_CHOICE, TierChoice
from metering.prices import Price
from metering.recovery import encode_checkpoint, encode_facts
from metering.tenant_caps import Labels
from metering.usage import TOKEN_CLASSES, ReportedUsage

CONTENT = (0, "content")
"""The channel of a call with one answer."""


class CallStoppedError(Exception):
    """Somebody paused or killed the tenant, or a scope of the call, while it ran: end it. What was
    counted is billed."""

    def __init__(self, reason: DenialReason, scope: Scope | None) -> None:
        who = "its tenant" if scope is None else f"{scope.kind} {scope.id}"
        super().__init__(f"{who} was {reason.value} while the call ran")
        self.reason, self.scope = reason, scope


class Ending(StrEnum):
    """How a call ended, as far as billing goes."""

    SERVED = "served"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class CallFacts:
    """What is known of a call before it is made."""

    exchange_id: str
    event_id: str
    tenant: str
    project: str
    key_id: str
    labels: Labels
    step: int | None
    vendor: str
    provider: str
    model: str
    price: Price | None
    tokenizer: str
    input_tokens: int
    occurred_at: int
    owner: str
    region: str | None = None
    asked_tier: str | None = None
    """The service tier that the model is asked for."""

    @property
    def upstream(self) -> str:
        """Where it goes, as records of holds name it."""
        return f"{self.provider}/{self.model}"

    def hold_facts(self) -> bytes:
        """What the hold's record says of it, for whoever has to recover it."""
        units = {"input_uncached": self.input_tokens}
        price, choice = self.price_of(units)
        cost_nano = price.cost.total_nano(units) if price else 0
        labels = {
            "request_id": self.exchange_id,
            "project": self.project,
            "api_key_id": self.key_id,
            "occurred_at": self.occurred_at,
            "model_requested": self.model,
            "stream": False,
            "step": self.step,
            **self.labels._asdict(),
        }
        versions = (None, None) if price is None else (price.cost.version, price.sell.version)
        names = (self.vendor, self.provider, self.model, self.model, self.tokenizer)
        more = (self.region, choice.tier) if self.region or choice.tier else ()
        return encode_facts(labels, [(*names, *versions, self.input_tokens, cost_nano, *more)])

    def price_of(
        self, units: Mapping[str, int], reported_tier: str | None = None
    ) -> tuple[Price | None, TierChoice]:
        """The price that holds for these units, and the service tier it is of."""
        if self.price is None:
            return None, USUAL_CHOICE
        choice = self.price.choose_tier(reported=reported_tier, asked=self.asked_tier)
        return self.price.at(units, tier=choice.tier, region=self.region), choice


@dataclass(slots=True)
class MeteredCall:
    """What `async with meter(...)` gives: feed it the answer, tell it what the provider said."""

    facts: CallFacts
    meter: Meter
    clock_ns: Callable[[], int]
    is_sent: bool = False
    first_byte_at: int | None = None
    is_told: bool = False
    finish_reason: str | None = None
    upstream_request_id: str | None = None
    service_tier: str | None = None
    """The one that the provider reports; it decides on the price before the one that was asked."""
    stop: CallStoppedError | None = field(default=None, repr=False)
    """Set by the renewals of its hold."""

    def sent(self) -> None:
        """The request is out: whatever happens, its input is billed from here on."""
        self.is_sent = True

    def feed(self, text: str, *, choice: int = 0) -> None:
        """Count `text` as the next characters of the answer; CallStoppedError to end the call."""
        self.meter.text(CONTENT if choice == 0 else (choice, "content"), text)
        self.is_sent = self.is_told = True
        if self.first_byte_at is None:
            self.first_byte_at = self.clock_ns()
        if self.stop is not None:
            raise self.stop

    def usage(
        self,
        *,
        input: Mapping[str, int] | None = None,  # noqa: A002 - what the two sides are called
        output: Mapping[str, int] | None = None,
    ) -> None:
        """What the provider reports, by token class (`metering.usage`); a side it is silent about
        stays ours. Totals replace what was reported before."""
        self.meter.report(ReportedUsage(input=input, output=output))
        self.is_sent = self.is_told = True

    @property
    def output_tokens(self) -> int:
        """What was counted of the answer so far."""
        return self.meter.output_tokens

    def is_billed(self, ending: Ending) -> bool:
        """Whether there is anything to record: nothing is, of what failed before it was sent."""
        return ending is Ending.SERVED or self.is_sent

    def bill(self, ending: Ending) -> tuple[Vector, bytes]:
        """What the call comes to, and its event."""
        actual, event = self._charge(ending)
        return actual, encode(event)

    def checkpoint(self) -> bytes:
        """What to record should our process end here."""
        actual, event = self._charge(Ending.FAILED)
        event.event_id = derived_id(event.event_id, RECOVERED)
        event.usage_source = RECOVERED
        return encode_checkpoint(actual, [encode(event)])

    def _charge(self, ending: Ending) -> tuple[Vector, UsageEvent]:
        facts, now_ns = self.facts, self.clock_ns()
        usage = self.meter.so_far()
        tokens = {unit: count for unit, count in usage.units.items() if count}
        units = {**tokens, "api_call": 1}
        if ending is Ending.SERVED:
            units["inference"] = 1
        price, choice = facts.price_of(units, self.service_tier)
        sell_nano = price.sell.total_nano(units) if price else 0
        event = UsageEvent(
            event_id=facts.event_id,
            exchange_id=facts.exchange_id,
            tenant=facts.tenant,
            project=facts.project,
            api_key_id=facts.key_id,
            request_id=facts.exchange_id,
            upstream_request_id=self.upstream_request_id,
            occurred_at=facts.occurred_at,
            completed_at=now_ns,
            emitted_at=now_ns,
            step=facts.step,
            vendor=facts.vendor,
            provider=facts.provider,
            model_requested=facts.model,
            model_public=facts.model,
            model_upstream=facts.model,
            region=facts.region,
            service_tier=self.service_tier,
            price_tier=choice.tier,
            units=units,
            usage_source=usage.source,
            tokenizer=usage.tokenizer,
            counted=usage.counted,
            usage_suspect=usage.suspect or choice.doubt,
            cost_version=price.cost.version if price else None,
            sell_version=price.sell.version if price else None,
            cost_nano=price.cost.total_nano(units) if price else 0,
            admission_nano=sell_nano,
            latency_ms=max(0, now_ns - facts.occurred_at) // 1_000_000,
            ttft_ms=self.first_byte_at and _ms(self.first_byte_at - facts.occurred_at),
            status=_STATUS[ending] if self.is_told or ending is Ending.SERVED else Status.ERROR,
            finish_reason=self.finish_reason,
            reason_code=Reason.SERVED if ending is Ending.SERVED else Reason.PARTIAL,
            proxy_id=facts.owner,
            **facts.labels._asdict(),
        )
        total = sum(count for unit, count in tokens.items() if unit in TOKEN_CLASSES)
        return Vector(nano=sell_nano, tokens=total, requests=1), event


_STATUS = {
    Ending.SERVED: Status.SUCCESS,
    Ending.FAILED: Status.TRUNCATED,
    Ending.CANCELLED: Status.CANCELLED,
}


def _ms(duration_ns: int) -> int:
    """A wall clock may jump back; a latency is never negative."""
    return max(0, duration_ns) // 1_000_000
