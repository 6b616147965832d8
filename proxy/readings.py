"""What attempts that were billed say of their upstreams: how fast it streamed, what it cost, and
whether the provider's count is ours.

The provider's count is compared with ours at the same prices. What no count of ours can know is no
drift: which tokens came from a cache, and reasoning that is reported and not shown.
"""

from __future__ import annotations

from collections.abc import Sequence

from metering.events import Status
from metering.prices import Price
from metering.usage import (
    INPUT_CLASSES,
    OUTPUT_CLASSES,
    OUTPUT_REASONING,
    MeteredUsage,
    input_total,
    output_total,
)
from proxy import metrics_catalogue as catalogue
from proxy.attempts import Attempt
from proxy.charging import Charge
from proxy.door import Door

SPEED_TOKENS_MIN = 16
"""Shorter streams say nothing of speed: they come in one packet or two."""
SPEED_NS_MIN = 20_000_000


def observe(
    door: Door, attempts: Sequence[Attempt], charges: Sequence[Charge], now_s: float
) -> None:
    """Note what those of these attempts that were billed say."""
    history = door.history
    for attempt, charged in zip(attempts, charges, strict=True):
        option, usage = attempt.option, charged.usage
        if not charged.billable or option.price is None:
            continue
        is_served = charged.status is Status.SUCCESS
        label = option.upstream.label
        is_compared = is_served and usage.source == "provider"
        speed = None
        if is_served and not history.is_whole(label):
            speed = tokens_per_s(attempt, output_total(usage.counted))
        if speed is not None:
            door.metrics.metrics.observe(catalogue.UPSTREAM_SPEED, label, value=speed)
        history.billed(
            label,
            now_s,
            cost_nano=charged.cost_nano,
            sold_nano=charged.sell_nano,
            held_nano=option.hold.nano,
            unexplained_nano=unexplained_nano(usage, option.price) if is_compared else None,
            tokens_per_s=speed,
        )


def tokens_per_s(attempt: Attempt, tokens: int) -> int | None:
    """How fast an answer came after its first token; None of one that was too short to tell, and of
    one in one piece, which has its first byte at its end."""
    first_at, ended_at = attempt.first_byte_at, attempt.ended_at
    if tokens < SPEED_TOKENS_MIN or first_at is None or ended_at is None:
        return None
    took_ns = ended_at - first_at
    return (tokens - 1) * 1_000_000_000 // took_ns if took_ns >= SPEED_NS_MIN else None


def unexplained_nano(usage: MeteredUsage, price: Price) -> int | None:
    """By how much the provider's count costs more than ours, negative for less; None where one of
    the two says nothing."""
    reported, counted = usage.units, usage.counted
    input_tokens, output_tokens = input_total(reported), output_total(reported)
    if not input_tokens:
        return None
    cost = price.cost
    found = cost.total_nano({each: reported[each] for each in INPUT_CLASSES if each in reported})
    found = found * (input_tokens - input_total(counted)) // input_tokens
    if output_tokens:
        hidden = 0 if counted.get(OUTPUT_REASONING) else reported.get(OUTPUT_REASONING, 0)
        more = output_tokens - hidden - output_total(counted)
        paid = {each: reported[each] for each in OUTPUT_CLASSES if each in reported}
        found += cost.total_nano(paid) * more // output_tokens
    return found
