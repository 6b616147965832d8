"""What an attempt is billed, and why: pure, from the attempt and its meter."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from metering.events import Reason, Status
from metering.money import PPM, divide_half_even
from metering.price_variants import ANYWHERE, FAST, USUAL_CHOICE, TierChoice, is_standard
from metering.prices import Price
from metering.usage import INPUT_CLASSES, TOKEN_CLASSES, MeteredUsage
from proxy.attempts import Attempt
from proxy.price_asks import FEE_UNITS
from routing.fallback import REFUSALS, Outcome


@dataclass(frozen=True, slots=True)
class Charge:
    """What an attempt comes to: nano-USD and tokens, zero unless billable."""

    usage: MeteredUsage
    units: dict[str, int]
    sell_nano: int
    cost_nano: int
    tokens: int
    billable: bool
    reason: Reason
    status: Status
    sla_met: bool | None = None
    sla_credit_nano: int = 0
    """What was taken off `sell_nano` because the answer was late."""
    price_tier: str | None = None
    """The service tier of the price rule."""


_BILLED = {
    Outcome.SERVED: Reason.SERVED,
    Outcome.TRUNCATED: Reason.PARTIAL,
    Outcome.UNTRANSLATED: Reason.PARTIAL,
    Outcome.CLIENT_GONE: Reason.PARTIAL,
    Outcome.EXHAUSTED: Reason.STOPPED_AT_CAP,
    Outcome.STOPPED: Reason.STOPPED_BY_FLAG,
}
"""Outcomes that are billed for what was metered, once the request is out and was not refused."""

_STATUS = {
    Outcome.SERVED: Status.SUCCESS,
    Outcome.TRUNCATED: Status.TRUNCATED,
    Outcome.UNTRANSLATED: Status.TRUNCATED,
    Outcome.CLIENT_GONE: Status.CANCELLED,
    Outcome.EXHAUSTED: Status.STOPPED,
    Outcome.STOPPED: Status.STOPPED,
}


def charge(attempt: Attempt) -> Charge:
    """What to bill for an attempt.

    Served, truncated, stopped and abandoned attempts are billed for what was metered; the last two
    at least for their input, which the upstream has read. What failed before the first byte, and
    what the upstream answered with an error, is not; an answer that was filtered is as reported.
    """
    return _charge(attempt, attempt.outcome, attempt.meter.final())


def charge_now(attempt: Attempt) -> Charge:
    """What to bill for an attempt if our process ends here, in the middle of it.

    What the client has had is billed like a stream that broke. Where it has had nothing, that was
    our doing: the tenant is billed nothing, and what the upstream has read is a cost of ours.
    """
    usage = attempt.meter.so_far()
    if attempt.outcome is not None or not attempt.is_sent:
        return _charge(attempt, attempt.outcome, usage)
    charged = _charge(attempt, Outcome.TRUNCATED, usage)
    if not charged.billable:
        return replace(charged, status=Status.ERROR)
    if attempt.first_byte_at is not None:
        return charged
    tokens = {unit: count for unit, count in usage.units.items() if unit in INPUT_CLASSES}
    price, _ = price_of(attempt, tokens)
    return replace(
        charged,
        units=tokens,
        sell_nano=0,
        cost_nano=price.cost.total_nano(tokens) if price else 0,
        tokens=sum(tokens.values()),
        billable=False,
        reason=Reason.RECOVERED_UNCONFIRMED,
        status=Status.ERROR,
    )


def _charge(attempt: Attempt, outcome: Outcome | None, usage: MeteredUsage) -> Charge:
    reason, is_billed = _reason(attempt, outcome)
    status = Status.ERROR if outcome is None else _STATUS.get(outcome, Status.ERROR)
    if not is_billed:
        return Charge(usage, {}, 0, 0, 0, billable=False, reason=reason, status=status)
    tokens = {unit: count for unit, count in usage.units.items() if count}
    units = {**tokens, "api_call": 1}
    if outcome is Outcome.SERVED and attempt.is_inference:
        units["inference"] = 1
    price, choice = price_of(attempt, units)
    doubt = choice.doubt or _unpriced_region(attempt) or _unpriced_tools(price, tokens)
    if doubt is not None:
        usage = replace(usage, suspect=usage.suspect or doubt)
    sell_nano = price.sell.total_nano(units) if price else 0
    sla_met = attempt.is_in_time if outcome is Outcome.SERVED else None
    credit_nano = _credit_nano(attempt, sell_nano) if sla_met is False else 0
    return Charge(
        usage=usage,
        units=units,
        sell_nano=sell_nano - credit_nano,
        cost_nano=price.cost.total_nano(units) if price else 0,
        tokens=sum([count for unit, count in tokens.items() if unit in TOKEN_CLASSES]),
        billable=True,
        reason=reason,
        status=status,
        sla_met=sla_met,
        sla_credit_nano=credit_nano,
        price_tier=choice.tier,
    )


def price_of(attempt: Attempt, units: Mapping[str, int]) -> tuple[Price | None, TierChoice]:
    """The price that holds for these units of an attempt, and the service tier it is of."""
    option, reported = attempt.option, tier_told(attempt)
    price, asked = option.price, option.asked_tier
    if price is None:
        return None, USUAL_CHOICE
    choice = USUAL_CHOICE
    if reported != "default" and not (reported is asked is price.usual_tier is None):
        choice = price.choose_tier(reported=reported, asked=asked)
    return price.at(units, tier=choice.tier, region=region_of(attempt)), choice


def tier_told(attempt: Attempt) -> str | None:
    """The service tier by which it was served, as the provider says it. Anthropic tells how fast it
    was beside a tier that does not know of that."""
    tier, speed = attempt.reply.service_tier, attempt.meter.reported_speed
    if speed is None:
        return tier
    if speed == FAST:
        return FAST
    is_open = speed == "" and attempt.option.asked_tier == FAST and is_standard(tier)
    return None if is_open else tier


def region_of(attempt: Attempt) -> str | None:
    """Where it was served: what the provider says, else what was asked for, else where its upstream
    stands."""
    return attempt.meter.reported_region or attempt.option.region


def _unpriced_region(attempt: Attempt) -> str | None:
    """That the provider says it was served where it may cost more, and there is no price for it."""
    told, price = attempt.meter.reported_region, attempt.option.price
    if told is None or told == ANYWHERE or price is None or price.prices_region(told):
        return None
    return f"the region `{told}` has no price"


def _unpriced_tools(price: Price | None, units: Mapping[str, int]) -> str | None:
    """What was used of the provider's tools and has no price, in words."""
    if price is None or FEE_UNITS.isdisjoint(units):
        return None
    lacking = [
        f"{count} {unit}"
        for unit, count in units.items()
        if unit in FEE_UNITS and unit not in price.sell.rates_pico
    ]
    return f"without a price: {', '.join(lacking)}" if lacking else None


def _credit_nano(attempt: Attempt, sell_nano: int) -> int:
    if attempt.promise is None or not attempt.earns_credit:
        return 0
    return divide_half_even(sell_nano * attempt.promise.credit_ppm, PPM)


def _reason(attempt: Attempt, outcome: Outcome | None) -> tuple[Reason, bool]:
    """Why an attempt is billed or not, and whether it is."""
    if not attempt.is_sent:
        return Reason.NOT_SENT, False
    if outcome is None:
        return Reason.INTERNAL_ERROR, False
    if outcome is Outcome.CONTENT_POLICY and attempt.http_status == 200:
        # it was an answer; what its provider does not bill it does not report
        return Reason.FILTERED, attempt.meter.reported_input is not None
    if outcome in REFUSALS:
        return Reason.UPSTREAM_REFUSED, False
    if outcome not in _BILLED or (attempt.http_status or 200) // 100 != 2:
        return Reason.UPSTREAM_ERROR, False
    return _BILLED[outcome], True
