"""What another book makes of an event that is booked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from fixtures_ledger import BOOK, CARDS, NOVEMBER_NS, make_event

from metering.events import UsageEvent, decode
from metering.price_variants import ContextTier, Overlay, Variants
from metering.prices import PriceBook
from metering.settlement.rating import SLA_CREDIT, UnitAmount, rate
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


def test_a_late_answer_has_its_share_again_after_prices_in_between() -> None:
    """Three nano-USD off are one and none at other prices; back at its own they are three."""
    event = make_event(sla_credit_nano=3)
    first = _stands(event)
    cheap, free = (
        PriceBook((replace(GPT, multiplier_ppm=factor), CHEAP)) for factor in (400_000, 0)
    )
    adjustments: list[tuple[UsageEvent, Mapping[str, UnitAmount]]] = []
    for book in (cheap, free, BOOK):
        standing = stand(event, first.amounts, is_unpriced=False, adjustments=adjustments)
        change = rerate(standing, eras_of(book)[0])
        assert isinstance(change, Change)
        adjustments.append((decode(booking(change, 0).arrival.body), change.amounts))

    last = stand(event, first.amounts, is_unpriced=False, adjustments=adjustments)

    assert (last.sell_nano, last.amounts[SLA_CREDIT].sell_nano) == (first.sell_nano, -3)


def test_what_becomes_free_has_the_rate_zero() -> None:
    """A call had a price and the other book names none: without a rate it would be on no line."""
    called = PriceBook((replace(GPT, class_rates_pico={"api_call": 2_000_000}), CHEAP))
    era = eras_of(called)[0]
    event = make_event(
        units={"input_uncached": 10, "api_call": 1}, sell_version=called.sell_version
    )
    assert era.sell is not None
    rated = rate(event, era.cost, era.sell)

    change = rerate(stand(event, rated.amounts, is_unpriced=False), eras_of(BOOK)[0])

    assert isinstance(change, Change)
    found = change.amounts["api_call"]
    assert (found.sell_rate_pico, found.sell_nano) == (0, -rated.amounts["api_call"].sell_nano)


def test_the_book_that_an_event_was_booked_by_makes_the_same_of_it() -> None:
    """Also at a service tier that this book does not have: at its list prices, as it was booked."""
    dearer = Variants(tiers={"priority": Overlay(None, 2_000_000, 2_000_000)})
    book = PriceBook((replace(GPT, variants=dearer), CHEAP))
    era = eras_of(book)[0]
    assert era.sell is not None
    event = make_event(
        price_tier="gone", cost_version=book.cost_version, sell_version=book.sell_version
    )
    rated = rate(event, era.cost, era.sell)

    assert rerate(stand(event, rated.amounts, is_unpriced=False), era) is None
