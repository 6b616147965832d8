"""`pricing` of the file to a price book, with the slips that make a bill wrong caught here.

The commonest is USD per million tokens typed into a field that is per token: a rate over
1000 USD per million tokens is refused, and the message says which key was meant.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

from metering.money import PPM, to_ppm
from metering.price_eras import DatedRule, book_at
from metering.prices import PriceBook, PriceRule
from metering.usage import OTHER_UNITS
from proxy.config_decode import Findings, suggest
from proxy.config_price_variants import (
    TOKEN_KEYS,
    build_variants,
    check_no_variants,
    tool_fees,
    usual_tier,
)
from proxy.config_prices_shape import RuleShape
from proxy.config_rates import checked_pico, checked_unit_pico
from proxy.config_shape import FileShape
from proxy.config_yaml import Path

MULTIPLIER_MAX = 1000

_OF_EXCHANGES = ("api_call", "inference")
"""Units that every exchange with a model makes, which no hold has room for."""

RULES: Path = ("pricing", "rules")


def build_prices(
    shape: FileShape,
    findings: Findings,
    *,
    now_ns: int = 0,
    listed: Callable[[], Sequence[DatedRule]] = lambda: (),
) -> PriceBook:
    """The price book in force at `now_ns`, with those before and after it.

    A rule with a fault stays in it, at zero, so that its models do not seem unpriced besides.
    `listed` are the list prices of the models that are served.
    """
    pricing = shape.pricing
    if pricing.currency != "USD":
        findings.fault(
            ("pricing", "currency"), f"currency {pricing.currency!r} is not supported", "use USD"
        )
    usual_ns = _effective_from_ns(pricing.effective_from, ("pricing", "effective_from"), findings)
    rules: list[DatedRule] = []
    written: dict[tuple[str, str | None, int], int] = {}
    for index, rule in enumerate(pricing.rules):
        path = (*RULES, index)
        _check_names(shape, rule, path, findings)
        at = (*path, "effective_from")
        since_ns = usual_ns
        if rule.effective_from is not None:
            since_ns = _effective_from_ns(rule.effective_from, at, findings)
        first = written.setdefault((rule.model, rule.provider, since_ns), index)
        if first != index and rule.model:
            findings.warn(path, f"never used: rule [{first}] is for the same model", "remove one")
        rules.append(DatedRule(since_ns, replace(_price_rule(rule, path, findings), place=index)))
    prices = listed() if pricing.list_prices else ()
    return book_at(rules, prices, usual_ns=usual_ns, now_ns=now_ns)


def _check_names(shape: FileShape, rule: RuleShape, path: Path, findings: Findings) -> None:
    if not rule.model:
        findings.fault((*path, "model"), "must not be empty")
    served = {*shape.models, *(each.model for it in shape.models.values() for each in it.upstreams)}
    if not _has_token_rates(rule) and (
        any(sign in rule.model for sign in "*?[") or rule.model in served
    ):
        findings.fault(
            (*path, "model"),
            "a rule without token rates is for one meter, and for no model that is served here",
            "name the meter, or give input and output rates",
        )
    if rule.provider is not None and rule.provider not in shape.providers:
        at, message = (*path, "provider"), f"unknown provider {rule.provider!r}"
        if shape.providers:
            findings.fault(at, message, suggest(rule.provider, shape.providers))
        else:  # a published template has prices and no providers
            findings.warn(at, message, "add it to `providers`")


def _price_rule(rule: RuleShape, path: Path, findings: Findings) -> PriceRule:
    of_units = {**_unit_rates(rule, path, findings), **tool_fees(rule, path, findings)}
    multiplier_ppm = _multiplier_ppm(rule, (*path, "multiplier"), findings) or 0
    if not _has_token_rates(rule):
        check_no_variants(rule, path, findings)
        return PriceRule(
            model=rule.model,
            provider=rule.provider,
            input_rate_pico=0,
            output_rate_pico=0,
            class_rates_pico=of_units,
            multiplier_ppm=multiplier_ppm,
            has_token_rates=False,
        )
    rates = {side: _rate_pico(rule, side, path, findings) for side in _SIDES}
    of_classes = {
        unit: rate for side, unit in TOKEN_KEYS.items() if (rate := rates[side]) is not None
    }
    return PriceRule(
        model=rule.model,
        provider=rule.provider,
        input_rate_pico=rates["input"] or 0,
        output_rate_pico=rates["output"] or 0,
        class_rates_pico={**of_classes, **of_units},
        multiplier_ppm=multiplier_ppm,
        variants=build_variants(rule, path, findings),
        usual_tier=usual_tier(rule, path, findings),
    )


_SIDES = ("input", "output", *TOKEN_KEYS)


def _has_token_rates(rule: RuleShape) -> bool:
    """Whether the rule is meant for tokens, too: with `unit_rates` it need not be."""
    keys = [f"{side}_{form}" for side in _SIDES for form in ("rate", "per_mtok")]
    return rule.unit_rates is None or any(getattr(rule, key) is not None for key in keys)


def _unit_rates(rule: RuleShape, path: Path, findings: Findings) -> dict[str, int]:
    """The prices of what is no token, in pico-USD per unit."""
    found: dict[str, int] = {}
    for unit in OTHER_UNITS if rule.unit_rates is not None else ():
        rate: Decimal | None = getattr(rule.unit_rates, unit)
        at = (*path, "unit_rates", unit)
        if rate is None:
            continue
        if unit in _OF_EXCHANGES and _has_token_rates(rule):
            findings.fault(
                at,
                "a call to a model is billed by its tokens, and no hold has room for more",
                "put it into a rule of its own, without token rates",
            )
        elif (pico := checked_unit_pico(rate, at, findings, is_free=rule.free)) is not None:
            found[unit] = pico
    return found


def _rate_pico(rule: RuleShape, side: str, path: Path, findings: Findings) -> int | None:
    """One rate in pico-USD per token from whichever form it was written in; None if not at all."""
    rate_key, mtok_key = f"{side}_rate", f"{side}_per_mtok"
    per_token: Decimal | None = getattr(rule, rate_key)
    per_mtok: Decimal | None = getattr(rule, mtok_key)
    if per_token is not None and per_mtok is not None:
        findings.fault(
            (*path, mtok_key), f"{rate_key} gives the same rate already", "keep one of the two"
        )
        return None
    if per_token is None and per_mtok is None:
        broken = any(findings.is_broken((*path, key)) for key in (rate_key, mtok_key))
        if side in TOKEN_KEYS or broken:
            return None
        if not rule.free:
            findings.fault(path, f"{rate_key} or {mtok_key} is missing")
            return None
        return 0
    written, key = (per_token, rate_key) if per_mtok is None else (per_mtok, mtok_key)
    assert written is not None
    return checked_pico(written, (*path, key), findings, is_free=rule.free)


def _multiplier_ppm(rule: RuleShape, path: Path, findings: Findings) -> int | None:
    multiplier = rule.multiplier
    if multiplier < 0 or (multiplier == 0 and not rule.free):
        findings.fault(path, "must be more than zero", "say `free: true` for no charge")
        return None
    if multiplier > MULTIPLIER_MAX:
        findings.fault(path, f"must be at most {MULTIPLIER_MAX}", "20 % on top of the cost is 1.2")
        return None
    try:
        return to_ppm(multiplier)
    except ValueError as error:
        findings.fault(path, f"{error} (1/{PPM})")
        return None


def _effective_from_ns(text: str | None, path: Path, findings: Findings) -> int:
    if text is None:
        return 0
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        findings.fault(
            path,
            f"{text!r} is neither a date nor an RFC 3339 time",
            "write 2026-01-31 or 2026-01-31T00:00:00Z",
        )
        return 0
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    since_epoch = moment - datetime.combine(date(1970, 1, 1), datetime.min.time(), UTC)
    found = since_epoch // timedelta(microseconds=1) * 1_000
    if found < 0:
        findings.fault(path, f"{text!r} is before 1970", "leave it out: the rule holds since ever")
    return max(found, 0)
