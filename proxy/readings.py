"""What attempts that were billed say of their upstreams: how fast it streamed, what it cost, and
whether the provider's count is ours.

The provider's count is compared with ours at the same prices. What no count of ours can know is no
drift: which tokens came from a cache, and reasoning that is reported and not shown.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from metering.events import Status
from metering.money import PICO_PER_NANO
from metering.usage import (
    INPUT_CLASSES,
    OUTPUT_CLASSES,
    OUTPUT_REASONING,
    MeteredUsage,
)
from proxy import metrics_catalogue as catalogue
from proxy.attempts import Attempt
from proxy.charging import Charge
from proxy.door import Door

SPEED_TOKENS_MIN = 16
"""Shorter streams say nothing of speed: they come in one packet or two."""
SPEED_NS_MIN = 20_000_000
_SIDE = {**dict.fromkeys(INPUT_CLASSES, 0), **dict.fromkeys(OUTPUT_CLASSES, 1)}


def observe(
    door: Door, attempts: Sequence[Attempt], charges: Sequence[Charge], now_s: float
) -> None:
    """Note what those of these attempts that were billed say."""
    for attempt, charged in zip(attempts, charges, strict=True):
        option = attempt.option
        if not charged.billable or option.price is None:
            continue
        label, compared, speed = option.upstream.label, None, None
        if charged.status is Status.SUCCESS:
            usage = charged.usage
            counted = _totals(usage.counted)
            if usage.source == "provider":
                compared = compare(usage, counted, option.price.cost.rates_pico)
            if not door.history.is_whole(label):
                speed = tokens_per_s(attempt, counted[1])
        if speed is not None:
            door.metrics.metrics.observe(catalogue.UPSTREAM_SPEED, label, value=speed)
        door.history.billed(
            label,
            now_s,
            cost_nano=charged.cost_nano,
            sold_nano=charged.sell_nano,
            held_nano=option.hold.nano,
            compared=compared,
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


def compare(
    usage: MeteredUsage, counted: tuple[int, int], rates_pico: Mapping[str, int]
) -> tuple[int, int] | None:
    """What the provider's count costs, and by how much that is more than ours (`counted`: input and
    output), negative for less; None where nothing was reported of the prompt.

    At base rates, whatever tier was billed: it is the counts that are compared, and their ratio.
    """
    tokens, cost_pico = [0, 0], [0, 0]
    for unit, count in usage.units.items():
        side = _SIDE.get(unit)
        if side is not None:
            tokens[side] += count
            cost_pico[side] += count * rates_pico.get(unit, 0)
    if not tokens[0]:
        return None
    hidden = 0 if OUTPUT_REASONING in usage.counted else usage.units.get(OUTPUT_REASONING, 0)
    more_pico = cost_pico[0] * (tokens[0] - counted[0]) // tokens[0]
    if tokens[1]:
        more_pico += cost_pico[1] * (tokens[1] - hidden - counted[1]) // tokens[1]
    return (cost_pico[0] + cost_pico[1]) // PICO_PER_NANO, more_pico // PICO_PER_NANO


def _totals(units: Mapping[str, int]) -> tuple[int, int]:
    """Tokens of input and of output, in one walk: every exchange is read."""
    tokens = [0, 0]
    for unit, count in units.items():
        side = _SIDE.get(unit)
        if side is not None:
            tokens[side] += count
    return tokens[0], tokens[1]
