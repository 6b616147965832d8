"""Rating at published prices."""

from __future__ import annotations

from typing import Any

import pytest
from fixtures_ledger import BOOK, CARDS, COST, SELL, make_event

from metering.prices import RatesByModel
from metering.settlement.rating import RateCards, UnitAmount, rate, versions_needed

COST_CARD = RatesByModel(COST, version=BOOK.cost_version)
SELL_CARD = RatesByModel(SELL, version=BOOK.sell_version)


def test_500_in_and_200_out_at_the_old_gpt_4o_rates_come_to_0_0055_usd() -> None:
    event = make_event(units={"input_uncached": 500, "output_text": 200})

    rated = rate(event, COST_CARD, SELL_CARD)

    assert rated.sell_nano == rated.cost_nano == 5_500_000
    assert rated.amounts["input_uncached"] == UnitAmount(500, 5_000_000, 2_500_000, 2_500_000)
    assert rated.amounts["output_text"] == UnitAmount(200, 15_000_000, 3_000_000, 3_000_000)


def test_each_unit_is_rounded_half_even_once() -> None:
    """At 333 and 1777 pico cost: 1 x 333 = 0.333, 3 x 1777 = 5.331 nano; sell 416 and 2221."""
    event = make_event(model_upstream="cheap-1", units={"input_uncached": 1, "output_text": 3})

    rated = rate(event, COST_CARD, SELL_CARD)

    assert rated.cost_nano == 0 + 5
    assert rated.sell_nano == 0 + 7


def test_what_is_not_billable_sells_for_nothing_and_costs_what_it_cost() -> None:
    rated = rate(make_event(billable=False), COST_CARD, SELL_CARD)

    assert (rated.sell_nano, rated.cost_nano) == (0, 5_500_000)
    assert rated.unpriced == ()


def test_what_is_not_billable_waits_for_no_sell_price() -> None:
    event = make_event(billable=False, sell_version="ffffffffffff")

    assert versions_needed(event) == (BOOK.cost_version,)


def test_a_difference_to_the_event_is_a_value() -> None:
    rated = rate(make_event(admission_nano=5_000_000, cost_nano=5_500_001), COST_CARD, SELL_CARD)

    assert rated.differs
    assert rated.sell_difference_nano == 500_000
    assert rated.cost_difference_nano == -1


def test_an_unknown_model_is_unpriced_and_never_silently_free() -> None:
    rated = rate(make_event(model_upstream="x", model_requested="x"), COST_CARD, SELL_CARD)

    assert rated.unpriced == ("input_uncached", "output_text")
    assert rated.amounts["output_text"].sell_rate_pico is None


def test_a_unit_without_a_rate_that_is_no_token_is_a_plain_count() -> None:
    rated = rate(make_event(units={"second": 3, "input_uncached": 1}), COST_CARD, SELL_CARD)

    assert rated.unpriced == ()
    assert rated.sell_nano == 5_000


def test_ten_api_calls_at_a_cent_are_ten_cents() -> None:
    event = make_event(model_upstream="cheap-1", units={"api_call": 10})

    assert rate(event, COST_CARD, SELL_CARD).cost_nano == 100_000_000


def test_an_absurd_amount_is_refused() -> None:
    event = make_event(units={"output_text": 2**53 - 1}, admission_nano=0)

    with pytest.raises(ValueError, match="not usage"):
        rate(event, COST_CARD, SELL_CARD)


def test_cards_answer_as_rate_does() -> None:
    event = make_event(units={"input_cache_read": 7, "output_reasoning": 11})

    assert CARDS.rate(event) == rate(event, COST_CARD, SELL_CARD)


def test_cards_name_the_versions_they_lack() -> None:
    event = make_event()

    assert RateCards().missing(event) == (BOOK.cost_version, BOOK.sell_version)


def test_a_credit_is_a_unit_of_its_own_that_is_taken_off() -> None:
    """What was late is rated in full, less what the event says; the cost stays."""
    rated = rate(make_event(sla_credit_nano=550_001), COST_CARD, SELL_CARD)

    assert rated.sell_nano == 5_500_000 - 550_001
    assert rated.cost_nano == 5_500_000
    assert rated.amounts["sla_credit"] == UnitAmount(550_001, -1_000, -550_001, 0)


@pytest.mark.parametrize(
    "changes",
    [
        {"sla_credit_nano": 5_500_001},
        {"sla_credit_nano": -1},
        {"sla_credit_nano": 1, "units": {"sla_credit": 1, "input_uncached": 500}},
    ],
)
def test_a_credit_that_cannot_be_is_refused(changes: dict[str, Any]) -> None:
    """More than the sale, less than nothing, or written among the units."""
    with pytest.raises(ValueError, match="is none"):
        rate(make_event(admission_nano=0, cost_nano=0, **changes), COST_CARD, SELL_CARD)


def test_what_is_not_billable_has_no_credit() -> None:
    """There is no sale to take it off from."""
    assert rate(make_event(billable=False, sla_credit_nano=7), COST_CARD, SELL_CARD).sell_nano == 0
