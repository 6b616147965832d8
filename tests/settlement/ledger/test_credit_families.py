"""What is paid for together: corrections and ratings of an event, in whatever order they came."""

from __future__ import annotations

from dataclasses import replace

from fixtures_ledger import BOOK, KEYS, NOVEMBER_NS, NOW_NS, book, make_event

from metering.events import Kind
from metering.prices import PriceBook
from metering.settlement.credits import Grant
from metering.settlement.ledger.credit_books import add_grant, balance_of
from metering.settlement.ledger.credit_draws import draw_credits
from metering.settlement.ledger.credit_families import Family
from metering.settlement.ledger.rerate_books import Asked, apply
from metering.settlement.ledger.store import Ledger
from metering.settlement.ledger.verify import verify
from metering.settlement.rerating import eras_of

PRICE = make_event().admission_nano
GPT, CHEAP = BOOK.rules
HALF = PriceBook((replace(GPT, multiplier_ppm=500_000), CHEAP))


def _rerate(ledger: Ledger, prices: PriceBook) -> None:
    apply(
        ledger,
        KEYS,
        Asked(0, 2**63 - 1),
        eras_of(prices),
        bodies=prices.bodies,
        by="ann",
        reason="wrong",
        now_ns=NOW_NS,
    )


def _spent(ledger: Ledger) -> int:
    draw_credits(ledger, [KEYS.shard("acme")], now_ns=NOW_NS)
    return balance_of(ledger, "acme", NOVEMBER_NS).spent_nano


def test_what_is_rated_down_goes_back_to_the_grant(ledger: Ledger) -> None:
    """And is drawn again when it is rated up: grants pay what the event comes to by now."""
    add_grant(ledger, Grant("g", "acme", "paid", 1, 10 * PRICE, 0, None, "manual", ""), NOW_NS)
    event = make_event()
    book(ledger, [event])
    assert _spent(ledger) == PRICE

    _rerate(ledger, HALF)
    assert _spent(ledger) == PRICE // 2
    _rerate(ledger, BOOK)
    assert _spent(ledger) == PRICE
    _rerate(ledger, HALF)
    undone = {unit: -count for unit, count in event.units.items()}
    book(ledger, [make_event(kind=Kind.CORRECTION, corrects=event.event_id, units=undone)])
    _rerate(ledger, HALF)

    assert _spent(ledger) == 0
    assert verify(ledger) == []


def test_a_family_is_summed_by_its_place_in_the_chain() -> None:
    """What came later does not count yet."""
    assert [Family("e", [(3, 10), (5, -4), (9, 1)]).before(seq) for seq in (3, 5, 9, 10)] == [
        0,
        10,
        6,
        7,
    ]
