"""What a batch object tells of what was used, and which price that has."""

from __future__ import annotations

from typing import Any

import pytest
from batch_samples import OVER, USAGE
from fixtures_door import rule
from fixtures_ledger import make_event
from passthrough_samples import passing_settings

from metering.money import AMOUNT_NANO_MAX
from metering.prices import PriceRule
from proxy.batch_pricing import Ended, price_of, read_ended, settle

NOT_OVER: dict[str, Any] = {
    "no object": [OVER],
    "under way": {**OVER, "status": "in_progress"},
    "cancelling": {**OVER, "status": "cancelling"},
    "failed": {**OVER, "status": "failed"},
    "no usage": {**OVER, "usage": None},
    "no model": {**OVER, "model": None},
    "odd id": {**OVER, "id": "../x"},
    "no count": {**OVER, "usage": {**USAGE, "input_tokens": -1}},
    "text": {**OVER, "usage": {**USAGE, "output_tokens": "many"}},
    "nothing for something": {**OVER, "usage": {"input_tokens": 0, "output_tokens": 0}},
    "nothing told": {**OVER, "usage": {}, "request_counts": {"completed": 0}},
}


@pytest.mark.parametrize("batch", NOT_OVER.values(), ids=NOT_OVER)
def test_what_is_not_booked(batch: object) -> None:
    """What is not over, does not tell, or cannot be believed leaves the flat amount."""
    assert read_ended(batch) is None


def test_a_batch_that_used_nothing() -> None:
    """Zero is believed of a batch none of whose requests was answered."""
    nothing = {"input_tokens": 0, "output_tokens": 0, "total_tokens": 0}
    batch = {**OVER, "status": "expired", "usage": nothing, "request_counts": {"completed": 0}}

    assert read_ended(batch) == Ended("batch_1", OVER["model"], {}, 0, 1)


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        ((rule("up-m"),), "up-m"),
        ((rule("up-m-2026-08-07"),), "up-m-2026-08-07"),
        ((rule("up-*"),), "up-m"),
        ((PriceRule("up-m", 0, 0, has_token_rates=False),), None),
    ],
    ids=["as it is configured", "as it is called there", "glob", "no rates for tokens"],
)
def test_which_price(rules: tuple[PriceRule, ...], expected: str | None) -> None:
    """The configured model, with or without the version's date, else the name as it was told."""
    found = passing_settings("", rules=rules)
    ended = read_ended(OVER)
    assert ended is not None

    place = price_of(found.models, found.prices, "one", ended)

    assert (place and place[0].model) == expected


def test_more_than_anything_costs() -> None:
    """Absurd usage is not booked."""
    found = passing_settings("", rules=(rule("up-m", "1000000"),))
    ended = Ended("batch_1", "up-m", {"input_uncached": 2**52}, 1, 1)
    place = price_of(found.models, found.prices, "one", ended)
    assert place is not None

    made = settle(make_event(), ended, *place, now=2**61, proxy_id="p-0")

    assert place[1].sell.total_nano(ended.units) > AMOUNT_NANO_MAX
    assert made is None
