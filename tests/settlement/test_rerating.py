"""What another book makes of an event that is booked."""

from __future__ import annotations

from dataclasses import replace

from fixtures_ledger import BOOK, CARDS, NOVEMBER_NS, make_event

from metering.events import UsageEvent, decode
from metering.price_variants import ContextTier, Overlay, Variants
from metering.prices import PriceBook
from metering.settlement.rerating import (
    Change,
    Standing,
    Unpriced,
    booking,
    era_at,
    eras_of,
    original_of,
    rerate,
    stand,
)

GPT, CHEAP = BOOK.rules
TWICE = PriceBook((replace(GPT, multiplier_ppm=2_000_000), CHEAP))
CONDITIONS = Variants(
    context=(ContextTier(400, Overlay(None, 2_000_000, 2_000_000)),),
    tiers={"flex": Overlay(None, 500_000, 500_000)},
)
TIERED = PriceBook((replace(GPT, variants=CONDITIONS), CHEAP))


def _stands(event: UsageEvent) -> Standing:
    rated = CARDS.rate(event)
    return stand(event, rated.amounts, is_unpriced=bool(rated.unpriced))


def test_the_same_book_changes_nothing() -> None:
    """Nor does it for what takes an event back."""
    event = make_event()
    back = replace(event, units={unit: -n for unit, n in event.units.items()})

    assert [rerate(_stands(each), eras_of(BOOK)[0]) for each in (event, back)] == [None, None]


def test_an_adjustment_says_what_it_is_of() -> None:
    """It stands where its event stands, counts nothing in caps, and has the difference by unit."""
    event = make_event(feature="chat")
    change = rerate(_stands(event), eras_of(TWICE)[0])
    assert isinstance(change, Change)

    made = booking(change, 3)
    found = decode(made.arrival.body)

    assert original_of(found) == event.event_id
    assert (found.occurred_at, found.feature) == (event.occurred_at, "chat")
    assert (found.kind, found.attempt, found.admission_nano) == ("adjustment", 0, 0)
    assert (made.rated.sell_nano, made.rated.cost_nano) == (5_500_000, 0)
    assert {unit: each.quantity for unit, each in made.rated.amounts.items()} == {
        "input_uncached": 0,
        "output_text": 0,
    }
    assert not made.rated.differs
    assert (booking(change, 3).arrival.body, original_of(event)) == (made.arrival.body, None)


def test_conditions_of_the_other_book_hold() -> None:
    """Long prompts and the tier that the provider reported are rated by its conditions."""
    factors = {}
    for tier in (None, "default", "flex"):
        change = rerate(_stands(make_event(service_tier=tier)), eras_of(TIERED)[0])
        factors[tier] = 0 if change is None else change.sell_nano  # type: ignore[union-attr]

    assert factors == {None: 5_500_000, "default": 5_500_000, "flex": 0}  # twice, and a half of it


def test_what_lacks_a_rate_is_told() -> None:
    """A side that is left alone needs none."""
    [era] = eras_of(PriceBook((replace(GPT, model="other"),)))
    standing = _stands(make_event())

    assert rerate(standing, era) == Unpriced(standing, ("input_uncached", "output_text"))
    assert rerate(standing, replace(era, cost=None, sell=None)) is None


def test_one_side_may_stay() -> None:
    """With the cost's book alone nobody is billed anything, and the version of sell stays."""
    [era] = eras_of(PriceBook((replace(GPT, input_rate_pico=1),)))

    change = rerate(_stands(make_event()), replace(era, sell=None))

    assert isinstance(change, Change)
    assert (change.sell_nano, change.cost_nano) == (0, -2_499_999 - 1)
    assert change.sell_version == BOOK.sell_version
    assert change.cost_version != BOOK.cost_version


def test_an_era_is_that_of_the_time() -> None:
    """The newest that has begun; before all of them the first."""
    dated = replace(
        BOOK, effective_from_ns=5, others=(replace(TWICE, effective_from_ns=NOVEMBER_NS),)
    )
    eras = eras_of(dated)

    found = [era_at(eras, at).effective_from_ns for at in (0, 5, NOVEMBER_NS - 1, NOVEMBER_NS)]

    assert found == [5, 5, 5, NOVEMBER_NS]
