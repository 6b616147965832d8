"""Whose an item is, and what it costs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from fixtures_door import rule, tenant

from metering.caps import ScopeKind
from metering.money import PPM
from metering.price_variants import Overlay, Variants
from metering.prices import PriceBook, PriceRule
from metering.tenants import Principal, Tenant
from proxy.event_booking import Booked, book
from proxy.event_items import Item, ItemError, exchange_of

NOW_NS = 1_790_000_000 * 10**9
SEARCH = PriceRule(
    "web_search",
    0,
    0,
    class_rates_pico={"custom": 10_000_000_000},
    multiplier_ppm=1_500_000,
    has_token_rates=False,
)
PRICES = PriceBook((rule("gpt-4o"), SEARCH))
ACME = replace(tenant(), projects={"default": "", "web": ""})
GLOBEX = Tenant("globex", "Globex", tenant(None).limits, projects={"lab": "Lab"})


def booked(
    *, acts: bool = False, pins: dict[ScopeKind, str] | None = None, **fields: Any
) -> Booked:
    units = fields.pop("units", {"custom": 3})
    prices = fields.pop("prices", PRICES)
    item = Item(
        **{"index": 4, "id": "e-1", "source": "", "meter": "web_search", "units": units} | fields
    )
    key = replace(ACME.keys[0], pins=pins or {}, act_for=frozenset({"globex"} if acts else set()))
    return book(
        item,
        Principal(ACME, key),
        {"acme": ACME, "globex": GLOBEX},
        prices,
        now_ns=NOW_NS,
        proxy_id="p-0",
    )


def test_a_meter_that_is_priced_by_another_unit_is_not_free() -> None:
    """Twelve of a meter that is sold by the second: whoever reports it so would never be billed. A
    unit beside one that has its price is a plain count."""
    gpu = PriceRule("gpu", 0, 0, class_rates_pico={"second": 4}, has_token_rates=False)
    book_of = PriceBook((gpu, rule("gpt-4o"), SEARCH))

    with pytest.raises(ItemError, match="`gpu` is priced by second, and not by custom") as refused:
        booked(prices=book_of, meter="gpu", units={"custom": 12})
    beside = booked(prices=book_of, meter="gpu", units={"second": 12, "api_call": 1})
    plain = booked(prices=book_of, meter="gpt-4o", units={"custom": 1})

    assert (refused.value.code, refused.value.param) == ("unit_not_priced", "value")
    assert beside.is_unpriced
    assert plain.is_unpriced


def test_a_priced_meter_is_rated_on_both_sides() -> None:
    """Three searches at one cent cost three, and sell for half as much again."""
    made = booked(run="r1", occurred_at=NOW_NS - 5)

    assert (made.event.cost_nano, made.event.admission_nano) == (30_000_000, 45_000_000)
    assert (made.actual.nano, made.actual.tokens, made.actual.requests) == (45_000_000, 0, 0)
    assert (made.event.kind, made.event.attempt, made.event.units) == ("custom", 0, {"custom": 3})
    assert (made.event.occurred_at, made.event.emitted_at) == (NOW_NS - 5, NOW_NS)
    assert made.event.run == "r1"
    assert made.exchange_id == exchange_of("acme", "", "e-1")
    assert not made.is_unpriced


def test_tokens_are_counted_and_priced_by_their_model() -> None:
    """A bulk upload of usage from elsewhere fills the windows of tokens, too."""
    made = booked(meter="llm-tokens", model="gpt-4o", units={"output_text": 1_000})

    assert (made.actual.nano, made.actual.tokens) == (4_000_000, 1_000)


def test_a_unit_without_a_price_is_a_plain_count() -> None:
    """It is said so, and it costs nothing."""
    made = booked(meter="fax", units={"custom": 1})

    assert (made.is_unpriced, made.actual.nano, made.event.cost_version) == (True, 0, None)


def test_a_token_is_never_free_for_want_of_a_price() -> None:
    """A tenant with a cap in money is refused; for one without, it is unpriced."""
    tokens = {"meter": "llm-tokens", "model": "other", "units": {"input_uncached": 5}}

    with pytest.raises(ItemError) as refused:
        booked(**tokens)

    assert refused.value.code == "model_not_priced"
    assert booked(acts=True, tenant="globex", **tokens).is_unpriced


def test_a_token_of_a_meter_that_prices_none_is_refused() -> None:
    """A rule without token rates has no price of zero for them."""
    with pytest.raises(ItemError, match="has no price for input_uncached"):
        booked(acts=True, tenant="globex", model="web_search", units={"input_uncached": 5})


def test_only_a_key_that_may_act_for_a_tenant_reports_for_it() -> None:
    """It is booked there, in a project of that tenant, under the key's own id."""
    made = booked(acts=True, tenant="globex", project="lab")

    assert (made.event.tenant, made.event.project, made.event.api_key_id) == ("globex", "lab", "k1")
    assert made.exchange_id == exchange_of("globex", "", "e-1") != exchange_of("acme", "", "e-1")


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"tenant": "globex"}, "tenant_mismatch"),
        ({"tenant": "nobody", "acts": True}, "tenant_mismatch"),
        ({"tenant": "globex", "acts": True, "project": "web"}, "invalid_dimension"),
        ({"project": "web"}, "label_pinned"),
        ({"feature": "chat", "pins": {ScopeKind.FEATURE: "search"}}, "label_pinned"),
        ({"user": "bob", "pins": {ScopeKind.USER: "alice"}}, "label_pinned"),
    ],
)
def test_nobody_reports_as_somebody_else(fields: dict[str, Any], code: str) -> None:
    """Tenant, project and pins are the key's."""
    with pytest.raises(ItemError) as refused:
        booked(**fields)

    assert refused.value.code == code


def test_a_pin_is_taken_where_nothing_is_said() -> None:
    """As for a request with this key."""
    assert booked(pins={ScopeKind.FEATURE: "search"}).event.feature == "search"


def test_what_costs_more_than_there_is_is_refused() -> None:
    """Ten billion dollars for one item are a slip."""
    with pytest.raises(ItemError) as refused:
        booked(units={"custom": 10**9})

    assert refused.value.code == "amount_too_large"


CONDITIONS = Variants(
    tiers={"batch": Overlay(None, 500_000, 500_000), "priority": Overlay(None, 2 * PPM, 2 * PPM)},
    regions={"eu": Overlay(None, 1_100_000, 1_100_000)},
)


@pytest.mark.parametrize(
    ("fields", "nano", "tier"),
    [
        ({}, 4_000_000, None),
        ({"service_tier": "default"}, 4_000_000, None),
        ({"service_tier": "Batch"}, 2_000_000, "batch"),
        ({"service_tier": "batch", "region": "eu"}, 2_200_000, "batch"),
        ({"service_tier": "turbo"}, 8_000_000, "priority"),
    ],
)
def test_tokens_are_priced_at_the_tier_that_is_reported(
    fields: dict[str, Any], nano: int, tier: str | None
) -> None:
    """As an answer's would be; one without a price at the dearest, and doubted."""
    prices = PriceBook((rule("gpt-4o", variants=CONDITIONS),))

    made = booked(prices=prices, model="gpt-4o", units={"output_text": 1_000}, **fields)

    assert (made.event.admission_nano, made.event.price_tier) == (nano, tier)
    assert made.event.service_tier == fields.get("service_tier")
    assert (made.event.usage_suspect is not None) == (fields.get("service_tier") == "turbo")
