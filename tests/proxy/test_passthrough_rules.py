"""Terms: what is held, and the prices that follow from it."""

from __future__ import annotations

import pytest

from metering.prices import PriceBook
from proxy.passthrough_paths import ROWS, Row, Spend
from proxy.passthrough_rules import Passthrough, Terms, flat_name, free_name


def row(name: str) -> Row:
    return next(each for each in ROWS if each.name == name)


IMAGES, BATCHES = row("POST images/generations"), row("POST batches")
FILES = row("POST files")


@pytest.mark.parametrize(
    ("terms", "images", "batches"),
    [
        (Passthrough("p"), None, None),
        (Passthrough("p", hold_nano=5), 5, None),
        (Passthrough("p", hold_nano=5, terms={"batches": Terms(7)}), 5, 7),
        (Passthrough("p", hold_nano=5, terms={"images": Terms(0)}), 0, None),
        (Passthrough("p", terms={"images": Terms(None, 3)}), None, None),
    ],
)
def test_holds(terms: Passthrough, images: int | None, batches: int | None) -> None:
    """A hold for all covers what its answer tells; what comes later needs one of its own."""
    assert (terms.hold_of(IMAGES), terms.hold_of(BATCHES)) == (images, batches)
    assert terms.hold_of(FILES) == 0


def test_nothing_that_is_held_is_free() -> None:
    """Whatever has a hold has a flat price, in the unit of its rows."""
    terms = Passthrough("p", hold_nano=5, terms={"batches": Terms(7), "videos": Terms(9, 2)})
    book = PriceBook(terms.price_rules())

    for each in ROWS:
        name = flat_name(each.family)
        found = book.find(provider="p", model=name, public_name=name)
        if each.spend is not Spend.NOTHING and terms.hold_of(each) is not None:
            assert found is not None
            rate = found.sell.rates_pico[each.unit or "api_call"]
            assert 0 < rate <= (terms.hold_of(each) or 0) * 1000


def test_what_is_free_costs_nothing() -> None:
    """Reading and deleting is rated at zero, not left unpriced."""
    name = free_name("files")
    found = PriceBook(Passthrough("p").price_rules()).find(
        provider="p", model=name, public_name=name
    )

    assert found is not None
    assert found.sell.total_nano({"api_call": 1}) == 0
