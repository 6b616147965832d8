"""What the ledger says for a comparison of its own, on both databases."""

from __future__ import annotations

from dataclasses import replace

from fixtures_ledger import NOVEMBER_NS, book, make_entry, make_event
from fixtures_stripe import HOUR, Bench

from metering.events import Kind
from metering.settlement.internal import Fate, InStream
from metering.settlement.ledger.internal_sums import (
    billed,
    events_of,
    fates,
    hour_text,
    hourly,
    stripe_hours,
)
from metering.settlement.ledger.plan_books import Terms
from metering.settlement.ledger.rollups import update_rollups
from metering.settlement.ledger.store import Ledger

PLACE = ("acme", "2026-11-16T00")


def test_hours_of_events_and_of_rollups(ledger: Ledger) -> None:
    """What is not rolled up yet is left out of both, and counted; a correction takes back."""
    event = make_event()
    book(ledger, [event, make_event(occurred_at=NOVEMBER_NS + HOUR)])
    update_rollups(ledger)
    book(ledger, [make_event(), make_event(tenant="beta")])
    before = hourly(ledger, "2026-11")
    back = make_event(
        kind=Kind.CORRECTION,
        corrects=event.event_id,
        units={name: -n for name, n in event.units.items()},
        exchange_id=event.exchange_id,
    )
    book(ledger, [back])
    update_rollups(ledger)

    events, rolled, behind = hourly(ledger, "2026-11")

    assert before[0] == before[1]
    assert before[0][PLACE] == (1, 5_500_000, 5_500_000)
    assert before[2] == {"acme": 1, "beta": 1}
    assert (events, behind) == (rolled, {})
    assert events[PLACE] == (1, 5_500_000, 5_500_000)
    assert len(events_of(ledger, PLACE, limit=9)) == 3
    assert hour_text(NOVEMBER_NS) == PLACE[1]


def test_fates(ledger: Ledger) -> None:
    """Booked, in conflict, or nowhere."""
    event = make_event()
    other = make_entry(replace(event, project="other"))
    first = make_entry(event)
    book(ledger, [first, other])

    def entry(digest: str, event_id: str) -> InStream:
        return InStream(event_id, "acme", digest, "shard 1, 1-0", is_settled=True)

    asked = [entry(first.digest, event.event_id), entry(other.digest, event.event_id)]
    found = fates(ledger, [*asked, entry("none", "gone")])

    assert [fate for _, fate in found] == [
        Fate(first.digest, is_set_aside=False),
        Fate(first.digest, is_set_aside=True),
        Fate(),
    ]


def test_an_invoice_at_list_prices(ledger: Ledger) -> None:
    book(ledger, [make_event(), make_event(billable=False, units={})])

    [(tenant, found)] = billed(ledger, "2026-11", ["acme"], lambda _: Terms())

    assert (tenant, found.total_nano, found.due_nano, found.there) == (
        "acme",
        5_500_000,
        5_500_000,
        1,
    )


def test_hours_for_stripe(raw: Bench) -> None:
    """By the rollups, beside what was told."""
    raw.use()
    update_rollups(raw.ledger)
    before = stripe_hours(raw.ledger, raw.settings, "2026-11")
    raw.turn()

    after = stripe_hours(raw.ledger, raw.settings, "2026-11")

    assert [(each.meter, each.ledger, each.wanted, each.acked) for each in before] == [
        ("api_calls", 1, None, 0),
        ("llm_tokens", 700, None, 0),
    ]
    assert [(each.ledger, each.wanted, each.acked) for each in after] == [
        (1, 1, 1),
        (700, 700, 700),
    ]
