"""`cost_to_serve` and `sla` of the file to their rules, and what is absurd in them. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal

from metering.money import format_short, rate_pico_per_token, to_ppm
from metering.prices import PriceBook
from proxy.config_cost_shape import CostToServeShape, SlaShape
from proxy.config_decode import Findings
from proxy.config_yaml import Path
from routing.cost_to_serve import CostRules, Load, Mode, estimate, keeps_margin
from routing.history import NOTHING_KNOWN
from routing.upstreams import Model

SECTION = "cost_to_serve"

_BASE_MAX = Decimal("0.001")
"""1000 USD per million tokens: more was meant per million."""
_FACTOR_MAX = 100
_PROBE = Load(input_tokens=1_000, output_tokens=1_000)


def build_cost_rules(written: CostToServeShape | None, findings: Findings) -> CostRules:
    """The rules; without the section margins are not looked at."""
    if written is None:
        return CostRules()
    base = written.base_cost_per_token
    if not 0 <= base <= _BASE_MAX:
        findings.fault(
            (SECTION, "base_cost_per_token"),
            f"{base} is not a cost of one token in USD",
            "0.000002 is 2 USD per million tokens",
        )
        base = Decimal(0)
    for name, least in (("latency_penalty_multiplier", 0), ("failure_buffer", 1)):
        value = getattr(written, name)
        if not least <= value <= _FACTOR_MAX:
            findings.fault((SECTION, name), f"must be from {least} to {_FACTOR_MAX}, not {value}")
            return CostRules()
    if written.margin_threshold == 1:
        findings.fault(
            (SECTION, "margin_threshold"),
            "nothing that costs anything has a margin of 1",
            "35 % is 0.35",
        )
    exact = _Exact(findings)
    return CostRules(
        base_rate_pico=exact("base_cost_per_token", base, rate_pico_per_token),
        latency_penalty_ppm=exact("latency_penalty_multiplier", written.latency_penalty_multiplier),
        failure_buffer_ppm=exact("failure_buffer", written.failure_buffer),
        margin_threshold_ppm=exact("margin_threshold", written.margin_threshold),
        throttle_window_ms=written.throttle_window_ms,
        max_requests_per_window=written.max_requests_per_window,
        mode=Mode(written.mode),
    )


class _Exact:
    """Numbers of the section as integers; one that is finer than its unit is a fault."""

    def __init__(self, findings: Findings) -> None:
        self._findings = findings

    def __call__(
        self, name: str, value: Decimal, convert: Callable[[Decimal], int] = to_ppm
    ) -> int:
        try:
            return convert(value)
        except ValueError as error:
            self._findings.fault((SECTION, name), str(error))
            return 0


def build_credit_ppm(written: SlaShape, findings: Findings) -> int:
    """`sla.credit_share` in parts per million."""
    try:
        return to_ppm(written.credit_share)
    except ValueError as error:
        findings.fault(("sla", "credit_share"), str(error))
        return 0


def check_margins(
    rules: CostRules, models: Mapping[str, Model], prices: PriceBook, findings: Findings
) -> None:
    """A model whose price can never keep the margin is throttled from its first request on."""
    if rules.mode is Mode.OFF:
        return
    for name, model in models.items():
        for index, upstream in enumerate(model.upstreams):
            price = prices.find(
                provider=upstream.provider, model=upstream.model, public_name=upstream.public_name
            )
            best = estimate(rules, price, _PROBE, NOTHING_KNOWN)
            if keeps_margin(rules, best):
                continue
            path: Path = ("models", name, "upstreams", index, "model")
            findings.warn(
                path,
                f"{upstream.label} sells 1000 tokens in and out for "
                f"${format_short(best.sell_nano or 0)}, and they cost "
                f"${format_short(best.cost_nano)} to serve: never within "
                f"{SECTION}.margin_threshold, so its requests are throttled",
                "raise the multiplier of its rule in pricing.rules, or lower margin_threshold",
            )
