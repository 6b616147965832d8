"""By which price a request is billed: what was told, else flat, else marked as unpriced."""

from __future__ import annotations

from typing import Any

import pytest
from fixtures_door import rule
from hypothesis import given
from hypothesis import strategies as st

from metering.prices import PriceBook, PriceRule
from metering.usage import TOKEN_CLASSES
from proxy.passthrough_paths import ROWS, Row
from proxy.passthrough_prices import tariff
from proxy.passthrough_rules import Passthrough, Terms
from proxy.passthrough_usage import Usage
from routing.upstreams import Upstream

MODEL = Upstream("p", "m", "m")
FLAT = Passthrough("p", hold_nano=7_000_000).price_rules()
PER_IMAGE = PriceRule("m", 0, 0, class_rates_pico={"image": 10**10}, has_token_rates=False)
PER_CALL = PriceRule("m", 0, 0, class_rates_pico={"api_call": 10**9}, has_token_rates=False)


def row(name: str) -> Row:
    return next(each for each in ROWS if each.name == name)


IMAGES, SPEECH = row("POST images/generations"), row("POST audio/speech")
TOLD = Usage({"input_uncached": 10, "output_text": 20})

CASES: dict[str, tuple[Row, tuple[PriceRule, ...], Usage, str, dict[str, int]]] = {
    "tokens_by_model": (IMAGES, (rule("m"), *FLAT), TOLD, "m", {**TOLD.units, "image": 3}),
    "tokens_no_rate": (IMAGES, (PER_CALL, *FLAT), TOLD, "path:images", {"image": 3}),
    "mute_flat": (IMAGES, (rule("m"), *FLAT), Usage(), "path:images", {"image": 3}),
    "mute_per_image": (IMAGES, (PER_IMAGE, *FLAT), Usage(), "m", {"image": 3}),
    "mute_per_call": (SPEECH, (PER_CALL, *FLAT), Usage(), "m", {}),
    "speech_flat": (SPEECH, FLAT, Usage(), "path:audio", {}),
    "glob_of_tokens": (SPEECH, (rule("*"), *FLAT), Usage(), "path:audio", {}),
    "nothing_at_all": (SPEECH, (), TOLD, "m", dict(TOLD.units)),
    "later_is_flat": (
        row("POST batches"),
        (rule("m"), *Passthrough("p", terms={"batches": Terms(5)}).price_rules()),
        TOLD,
        "path:batches",
        {},
    ),
    "later_is_no_call": (row("POST batches"), (PER_CALL,), TOLD, "m", {}),
    "free": (row("GET files/{own}"), (rule("*"), *FLAT), TOLD, "path:files:free", {}),
}


@pytest.mark.parametrize(("asked", "rules", "usage", "name", "units"), CASES.values(), ids=CASES)
def test_cases(
    asked: Row, rules: tuple[PriceRule, ...], usage: Usage, name: str, units: dict[str, int]
) -> None:
    """The name that is billed, and the units."""
    found = tariff(PriceBook(rules), asked, provider="p", model=MODEL, count=3).billing(usage)

    assert (found.upstream.model, dict(found.units)) == (name, units)


def test_images_that_came_are_billed() -> None:
    """Not those that were asked for, where the answer brings others."""
    found = tariff(PriceBook(FLAT), IMAGES, provider="p", model=None, count=3).billing(images=2)

    assert found.units == {"image": 2}


units = st.dictionaries(
    st.sampled_from([*TOKEN_CLASSES, "second", "image"]), st.integers(1, 1000), max_size=4
)


@given(
    st.sampled_from(ROWS),
    st.lists(st.sampled_from([rule("m"), rule("*"), PER_IMAGE, PER_CALL, *FLAT]), max_size=4),
    units,
)
def test_whatever_is_billed_has_a_rate(asked: Row, rules: list[Any], told: dict[str, int]) -> None:
    """A token is never billed by a price without a rate for it, which would raise in the ledger."""
    found = tariff(PriceBook(tuple(rules)), asked, provider="p", model=MODEL).billing(Usage(told))

    if found.price is not None:
        found.price.sell.total_nano({**found.units, "api_call": 1})
        found.price.cost.total_nano({**found.units, "api_call": 1})
