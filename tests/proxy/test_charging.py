"""What an attempt comes to under the conditions of its price, here and in the worker."""

from __future__ import annotations

from dataclasses import replace

import pytest
from fixtures_door import rule, tenant
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from price_samples import VARIANTS

from metering.caps import Hold, Vector
from metering.events import decode
from metering.ids import uuid7
from metering.meter import Meter
from metering.price_variants import Overlay, Variants
from metering.prices import PriceBook, PriceRule, RatesByModel
from metering.recovery import LostHold, recovery
from metering.settlement.rating import RateCards
from metering.tenants import Principal
from metering.tokenizer import tokenizer_for
from metering.usage import ReportedUsage
from proxy.attempts import Attempt, Facts
from proxy.billing import bill, checkpoint
from proxy.charging import charge
from proxy.reply import Reply
from routing.fallback import Outcome
from routing.policy import Option
from routing.upstreams import Upstream

COUNTS = st.integers(0, 1500)
TIERS = st.sampled_from([None, "auto", "default", "flex", "PRIORITY", "scale"])
RATES = st.integers(0, 10**7)
RULES = st.builds(
    PriceRule,
    model=st.just("m"),
    input_rate_pico=RATES,
    output_rate_pico=RATES,
    class_rates_pico=st.dictionaries(
        st.sampled_from(["input_cache_read", "output_reasoning", "web_search"]), RATES
    ),
    multiplier_ppm=st.integers(1, 5_000_000),
    variants=st.none() | VARIANTS,
    usual_tier=st.sampled_from([None, "flex"]),
)
REPORTS = st.builds(
    ReportedUsage,
    input=st.none() | st.fixed_dictionaries({"input_uncached": COUNTS, "input_cache_read": COUNTS}),
    output=st.none() | st.fixed_dictionaries({"output_text": COUNTS, "output_reasoning": COUNTS}),
    tools=st.none() | st.just({"web_search": 3}),
)


def attempt(
    made: PriceRule,
    report: ReportedUsage,
    *,
    outcome: Outcome | None = Outcome.SERVED,
    tiers: tuple[str | None, str | None] = (None, None),
    region: str | None = None,
) -> tuple[Attempt, RateCards]:
    """An attempt under this rule, and the cards of a worker that knows no more than its book."""
    book, cards = PriceBook((made,)), RateCards()
    for sell in (False, True):
        version = book.sell_version if sell else book.cost_version
        cards.add(RatesByModel(book.body(sell=sell), version=version))
    asked, reported = tiers
    found = Attempt(
        number=1,
        event_id=uuid7(1, bytes(10)),
        option=Option(
            Upstream("p", "m", "m", region=region),
            book.find(provider="p", model="m", public_name="m"),
            Vector(),
            asked_tier=asked,
        ),
        vendor="openai",
        meter=Meter(tokenizer_for("gpt-4o"), 10),
        started_at=0,
        reply=Reply(service_tier=reported),
    )
    found.is_sent, found.http_status, found.outcome = True, 200, outcome
    found.meter.report(report)
    return found, cards


def facts() -> Facts:
    key = tenant().keys[0]
    return Facts(
        uuid7(1, bytes(10)), "r", Principal(tenant(), key), "p-0", 10**18, "m", stream=True
    )


@examples(max_examples=50)  # each makes a book and four events
@given(
    RULES,
    REPORTS,
    st.tuples(TIERS, TIERS),
    st.sampled_from([None, "eu", "mars"]),
    st.sampled_from([Outcome.SERVED, Outcome.CLIENT_GONE, Outcome.SERVER_ERROR, None]),
    st.booleans(),
)
def test_the_worker_comes_to_the_same_nano(
    made: PriceRule,
    report: ReportedUsage,
    tiers: tuple[str | None, str | None],
    region: str | None,
    outcome: Outcome | None,
    has_delivered: bool,
) -> None:
    """Whatever was asked for, reported, counted or recovered: from the event and the book alone."""
    found, cards = attempt(made, report, outcome=outcome, tiers=tiers, region=region)
    if has_delivered:
        found.first_byte_at = 1
        found.meter.text((0, "content"), "Hello world " * 5)
    noted = checkpoint(facts(), [found], now_ns=10**18)
    lost = LostHold(Hold("acme", facts().exchange_id, ()), "p-0", "", 1, checkpoint=noted)
    recovered = recovery(lost)

    bodies = [
        *bill(facts(), [found], emitted_at=10**18, spool_seq=None).events,
        *recovered.events,
        *recovered.reversals,
    ]

    for each in map(decode, bodies):
        rated = cards.rate(each)
        assert (rated.sell_difference_nano, rated.cost_difference_nano) == (0, 0)


REPORT = ReportedUsage(input={"input_uncached": 10}, output={"output_text": 5})


@pytest.mark.parametrize(
    ("rates", "suspect"), [({}, "without a price: 3 web_search"), ({"web_search": 10**10}, None)]
)
def test_a_use_of_a_tool_without_a_price_is_named(
    rates: dict[str, int], suspect: str | None
) -> None:
    """With one it is billed: three at a cent."""
    made = replace(rule("m"), class_rates_pico=rates)
    usual, _ = attempt(made, REPORT)
    found, cards = attempt(made, replace(REPORT, tools={"web_search": 3}))

    charged = charge(found)

    assert charged.usage.suspect == suspect
    assert charged.sell_nano - charge(usual).sell_nano == (30_000_000 if rates else 0)
    (event,) = bill(facts(), [found], emitted_at=10**18, spool_seq=None).events
    assert cards.rate(decode(event)).unpriced == (() if rates else ("web_search",))


def test_a_doubt_about_the_usage_goes_before_one_about_its_price() -> None:
    """There is one field for both."""
    flex = Variants(tiers={"flex": Overlay(None, 500_000, 500_000)})
    found, _ = attempt(
        rule("m", variants=flex), replace(REPORT, doubt="odd"), tiers=(None, "scale")
    )

    assert charge(found).usage.suspect == "odd"


@pytest.mark.parametrize(("reported", "billable"), [({"input_uncached": 100}, True), (None, False)])
def test_an_answer_that_was_filtered(reported: dict[str, int] | None, billable: bool) -> None:
    """What its upstream bills it reports; where it reports nothing, nothing is billed."""
    usage = ReportedUsage(input=reported, output=None)
    found, _ = attempt(rule("*"), usage, outcome=Outcome.CONTENT_POLICY)

    charged = charge(found)

    assert (charged.reason, charged.billable) == ("filtered", billable)
    assert charged.sell_nano == (100_000 if billable else 0)
    found.http_status = 400
    assert charge(found).reason == "upstream_refused"
