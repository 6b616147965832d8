"""What a batch at a provider has used, by its object, and the events that say so. Pure.

Rules: what cannot be believed is not read; what is billed at another price than that of batches
says so; every id is made from those of the flat amount's event and the batch, so that whoever does
this again does the same.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from metering.batch_notes import Made
from metering.caps import Vector
from metering.events import Kind, Reason, Status, UsageEvent, encode
from metering.ids import derived_id
from metering.money import AMOUNT_NANO_MAX
from metering.price_variants import TierChoice
from metering.prices import Price, PriceBook
from metering.recovery import reversal
from metering.usage import TOKEN_CLASSES, is_count
from proxy.passthrough_paths import ID
from proxy.passthrough_usage import read_usage
from routing.upstreams import Model, Upstream

BATCH = "batch"
"""The service tier of what is in a batch, and the `correction_reason` of what takes its flat amount
back."""

ENDED = frozenset({"completed", "expired", "cancelled"})
"""States of a batch in which nothing more is used. One that `failed` was never begun."""

_ENDED_AT = ("completed_at", "expired_at", "cancelled_at", "finished_at")
_DATED = re.compile(r"-\d{4}-\d\d-\d\d$")
"""OpenAI names the version of a model that ran a batch: `gpt-5-2025-08-07`."""


@dataclass(frozen=True, slots=True)
class Ended:
    """A batch that is over, as its provider tells it."""

    id: str
    model: str
    units: Mapping[str, int]
    calls: int
    ended_at_s: int
    suspect: str | None = None


def read_ended(batch: object) -> Ended | None:
    """What a batch has used; None while it is under way, and where it does not tell."""
    if not isinstance(batch, dict) or batch.get("status") not in ENDED:
        return None
    name, model = batch.get("id"), batch.get("model")
    if not isinstance(name, str) or not ID.fullmatch(name):
        return None
    if not isinstance(model, str) or not 0 < len(model) <= 256 or not model.isprintable():
        return None
    calls = _calls(batch.get("request_counts"))
    usage = read_usage(batch.get("usage"))
    if not usage.is_told and (usage.suspect or calls != 0 or not _is_nothing(batch.get("usage"))):
        return None  # zero is believed only where no request was answered
    times = [batch.get(field) for field in _ENDED_AT]
    ended_at = next((int(each) for each in times if is_count(each) and each), 0)
    return Ended(name, model, usage.units, 1 if calls is None else calls, ended_at, usage.suspect)


def _is_nothing(usage: object) -> bool:
    """Whether it is told, and is told to be nothing."""
    return isinstance(usage, dict) and usage.get("input_tokens", usage.get("prompt_tokens")) == 0


def _calls(counts: object) -> int | None:
    """How many of its requests were answered, where it is told."""
    completed = counts.get("completed") if isinstance(counts, dict) else None
    return int(completed) if is_count(completed) else None  # type: ignore[arg-type] # is_count: an int


def price_of(
    models: Mapping[str, Model], prices: PriceBook, provider: str, ended: Ended
) -> tuple[Upstream, Price] | None:
    """The model that ran the batch, as it is configured or as it is called there, and its price;
    None where that has no rate for what was used."""
    names = dict.fromkeys((ended.model, _DATED.sub("", ended.model)))
    known = [
        upstream
        for name in names
        for model in models.values()
        for upstream in model.upstreams
        if (upstream.provider, upstream.model) == (provider, name)
    ]
    for upstream in (*known, *(Upstream(provider, name, name) for name in names)):
        price = prices.find(
            provider=provider, model=upstream.model, public_name=upstream.public_name
        )
        if price is not None and all(
            unit in rates.rates_pico for unit in ended.units for rates in (price.sell, price.cost)
        ):
            return upstream, price
    return None


def settle(
    flat: UsageEvent, ended: Ended, upstream: Upstream, price: Price, *, now: int, proxy_id: str
) -> Made | None:
    """What takes the place of the flat amount; None where it comes to more than anything can."""
    name = f"{flat.provider}/{ended.id}"
    exchange_id = derived_id(flat.exchange_id, f"{BATCH}:{name}")
    units = {unit: count for unit, count in ended.units.items() if count}
    if ended.calls:
        units |= {"api_call": ended.calls, "inference": ended.calls}
    choice = TierChoice(None, "batches have no price of their own: billed at the list price")
    if price.takes_tier(BATCH):
        choice = price.choose_tier(reported=BATCH, asked=None)
    priced = price.at(units, tier=choice.tier, region=upstream.region)
    sell_nano, cost_nano = priced.sell.total_nano(units), priced.cost.total_nano(units)
    if max(sell_nano, cost_nano) > AMOUNT_NANO_MAX:
        return None
    ended_at = max(flat.occurred_at, min(now, ended.ended_at_s * 10**9 or now))
    used = replace(
        flat,
        kind=Kind.USAGE,
        event_id=derived_id(exchange_id, BATCH),
        exchange_id=exchange_id,
        attempt=0,  # the request was counted when the batch was begun
        upstream_request_id=ended.id,
        occurred_at=ended_at,
        completed_at=ended_at,
        model_requested=upstream.public_name,
        model_public=upstream.public_name,
        model_upstream=upstream.model,
        model_answered=ended.model,
        region=upstream.region,
        service_tier=BATCH,
        price_tier=choice.tier,
        units=units,
        counted={},
        usage_source="provider",
        usage_suspect=ended.suspect or choice.doubt,
        cost_version=priced.cost.version,
        sell_version=priced.sell.version,
        cost_nano=cost_nano,
        admission_nano=sell_nano,
        latency_ms=0,
        ttft_ms=None,
        status=Status.SUCCESS,
        billable=True,
        reason_code=Reason.SERVED,
        emitted_at=now,
        proxy_id=proxy_id,
        spool_seq=None,
        spool_events=None,
    )
    tokens = sum(count for unit, count in units.items() if unit in TOKEN_CLASSES)
    events = encode(used), encode(_back(flat, now=now, proxy_id=proxy_id))
    return Made(Vector(nano=sell_nano, tokens=tokens), events)


def _back(flat: UsageEvent, *, now: int, proxy_id: str) -> UsageEvent:
    """What takes the flat amount back."""
    return replace(
        reversal(flat),
        event_id=derived_id(flat.event_id, BATCH),
        correction_reason=BATCH,
        emitted_at=now,
        proxy_id=proxy_id,
        spool_seq=None,
        spool_events=None,
    )
