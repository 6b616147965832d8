"""What of an answer's output is held, when more has to be, and what it may be cut to. Pure.

A hold is the price of the input and of so many output tokens, each at the dearest rate of its
side. A stream goes on while the output that is held covers what was counted; half a slice before
that is used up, more is asked for. Input beyond what was held takes its room from the output.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from metering.caps import Candidate, Cap, CapMode, Elastic, Vector
from metering.money import AMOUNT_NANO_MAX, divide_up, hold_nano
from metering.prices import Rates
from metering.usage import input_total
from proxy.chat import ChatRequest
from routing.policy import NOTHING_SPENT, Option

NEVER = 1 << 62
"""More tokens than there will be."""

SLICES_PART = 8
"""Of a slice, the part that must be left under the caps for a hold to grow at all: at the very edge
streams would otherwise ask again for every token that others give back."""


def elastic(rates: Rates | None, *, input_tokens: int, tokens_min: int) -> Elastic:
    """What stays of a hold when its output shrinks: the input, and the rate of what is added."""
    nano = rates.hold_nano(input_tokens=input_tokens, output_tokens=0) if rates else 0
    base = Vector(min(nano, AMOUNT_NANO_MAX), input_tokens, 1)
    return Elastic(base, rates.output_rate_pico if rates else 0, tokens_min)


def holding(part: Elastic, output_tokens: int) -> Vector:
    """The hold for so much output."""
    nano = min(part.base.nano + hold_nano(output_tokens, part.rate_pico), AMOUNT_NANO_MAX)
    return Vector(nano, part.base.tokens + output_tokens, part.base.requests)


def output_of(part: Elastic, held: Vector) -> int:
    """How much output this hold covers, in tokens and in money."""
    tokens = max(0, held.tokens - part.base.tokens)
    if part.rate_pico:
        tokens = min(tokens, max(0, held.nano - part.base.nano) * 1000 // part.rate_pico)
    return tokens


def part_of(option: Option) -> Elastic:
    """What of the hold for this option does not depend on the output; its `tokens_min` says
    nothing."""
    return option.elastic or elastic(option.rates, input_tokens=option.prompt_tokens, tokens_min=0)


def covered(option: Option, held: Vector) -> int:
    """The output there that this hold covers, of what was planned."""
    if held is option.hold and held.nano < AMOUNT_NANO_MAX:  # as nearly always: made to cover it
        return option.output_tokens
    return min(option.output_tokens, output_of(part_of(option), held))


def clamp(
    option: Option, held: Vector, request: ChatRequest, *, is_whole: bool = False
) -> int | None:
    """What each choice may say at most with this hold; None where it covers all that was planned,
    and for a stream, whose hold grows. With `is_whole` its upstream is known to send no streams."""
    if (request.stream and not is_whole) or (
        tokens := covered(option, held)
    ) >= option.output_tokens:
        return None
    return max(1, tokens // request.candidates)


def is_bounded(caps: Sequence[Cap]) -> bool:
    """Whether output has to be held: some cap refuses by money or tokens."""
    for cap in caps:  # not any(): asked for every request
        limit = cap.limit
        if cap.mode is CapMode.ENFORCE and (limit.nano is not None or limit.tokens is not None):
            return True
    return False


@dataclass(frozen=True, slots=True)
class BilledAt:
    """What decides on the rates of a stream beside its length: a price that has others than the
    list price, the service tier that was asked for, the region."""

    price: Rates
    tier: str | None
    region: str | None

    def rates(self, units: Mapping[str, int]) -> Rates:
        """Those for an input of these units."""
        return self.price.at(units, tier=self.tier, region=self.region)


def billed_at(option: Option) -> BilledAt | None:
    """None where the length of the input changes nothing."""
    price = option.price
    if price is None or price.sell.variants is None or not price.sell.variants.borders:
        return None
    tier = price.choose_tier(reported=None, asked=option.asked_tier).tier
    return BilledAt(price.sell, tier, option.region)


def dearer_of(one: Rates, other: Rates) -> Rates:
    """The dearer rate of each unit, with the fees of the first."""
    found = one.rates_pico
    if all(other.rates_pico[unit] <= rate for unit, rate in found.items()):
        return one
    rates = {unit: max(rate, other.rates_pico[unit]) for unit, rate in found.items()}
    return Rates(rates, one.version, fees_nano=one.fees_nano)


@dataclass(slots=True)
class Allowance:
    """The output of one stream that is held. `limit_tokens` is what the client itself asked for at
    most, over all choices (None: no limit): there the upstream should end by itself."""

    part: Elastic
    held_tokens: int
    slice_tokens: int
    limit_tokens: int | None = None
    is_bounded: bool = True
    rates: Rates | None = None
    spent: Vector = NOTHING_SPENT
    """What is held beside it, for what came before."""
    billed_at: BilledAt | None = None
    """Where what is read may change the rates; None where it cannot."""

    @property
    def _has_all(self) -> bool:
        return self.limit_tokens is not None and self.held_tokens >= self.limit_tokens

    @property
    def _has_nearly_all(self) -> bool:
        """A prompt of a few tokens more than were counted is nothing to ask Redis about: most
        answers end before their limit."""
        spare = self.slice_tokens // SLICES_PART
        return self.limit_tokens is not None and self.held_tokens + spare >= self.limit_tokens

    @property
    def asks_at(self) -> int:
        """From this much output on, more is asked for."""
        if not self.is_bounded:
            return NEVER
        early = 0 if self._has_nearly_all else self.slice_tokens // 2
        return max(self.ends_at - early, 1)

    @property
    def ends_at(self) -> int:
        """With this much output nothing is left; a stream that was held up to its own limit may
        reach it, for then it ends by itself."""
        if not self.is_bounded:
            return NEVER
        return self.held_tokens + self._has_all

    @property
    def counted_tokens(self) -> int:
        """What a count of ours may come to in the place of a report that cannot be true: what is
        held, but never more than the client has asked for."""
        limit = self.limit_tokens
        return self.held_tokens if limit is None else min(self.held_tokens, limit)

    def more(self, upstream: str, output_tokens: int) -> Candidate:
        """The hold to ask for: a slice more, or as much of it as fits."""
        used = max(self.held_tokens, output_tokens)
        part = divide_up(self.slice_tokens, SLICES_PART)
        return Candidate(
            upstream,
            holding(self.part, used + self.slice_tokens),
            elastic=Elastic(self.part.base, self.part.rate_pico, used + part),
        )

    def grown(self, held: Vector) -> None:
        """This much is held now."""
        self.held_tokens = max(self.held_tokens, output_of(self.part, held))

    def has_read(self, units: Mapping[str, int]) -> None:
        """The upstream says what it has read: where that is more than was held for the input, less
        is held for the output. Where it is not, nothing is won: it may yet report more. Beyond a
        border between two prices all of the output, what was said already too, has the dearer."""
        if not self.is_bounded:
            return
        part, rates = self.part, self.rates
        if rates is not None and self.billed_at is not None:
            self.rates = rates = dearer_of(rates, self.billed_at.rates(units))
        base, rate_pico = part.base, rates.output_rate_pico if rates else 0
        nano = self.spent.nano + (rates.total_nano(units) + rates.fees_nano if rates else 0)
        tokens = self.spent.tokens + input_total(units)
        nano = max(base.nano, min(nano, AMOUNT_NANO_MAX))
        if nano == base.nano and tokens <= base.tokens and rate_pico <= part.rate_pico:
            return
        held = holding(part, self.held_tokens)
        dearer = replace(base, nano=nano, tokens=max(base.tokens, tokens))
        self.part = replace(part, base=dearer, rate_pico=max(part.rate_pico, rate_pico))
        self.held_tokens = output_of(self.part, held)


def allowance(
    option: Option, held: Vector, request: ChatRequest, *, size: int, caps: Sequence[Cap]
) -> Allowance:
    """What a stream there begins with, to grow by slices of this size."""
    limit = option.changes.max_tokens or request.output_limit
    return Allowance(
        part_of(option),
        covered(option, held),
        size,
        limit_tokens=limit and limit * request.candidates,
        is_bounded=is_bounded(caps),
        rates=option.rates,
        spent=option.spent,
        billed_at=billed_at(option),
    )
