"""Neighbours that have to agree, and how their differences are told."""

from __future__ import annotations

from metering.settlement.internal import (
    IDS_MAX,
    AtStripe,
    Between,
    Billed,
    Books,
    Fate,
    InStream,
)


def _entry(number: int, *, is_settled: bool = True) -> InStream:
    return InStream(f"e{number}", "acme", "hash", f"shard 3, {number}-0", is_settled)


def test_what_became_of_each_event_of_a_stream() -> None:
    """Booked, waiting, set aside, lost, or booked as something else."""
    books = Books()
    books.stream(
        [
            (_entry(1), Fate("hash")),
            (_entry(2, is_settled=False), Fate()),
            (_entry(3), Fate("other", is_set_aside=True)),
            (_entry(4), Fate()),
        ]
    )
    books.stream([(_entry(5), Fate()), (_entry(6, is_settled=False), Fate("other"))])

    [row] = books.rows
    assert (row.in_stream, row.waiting, row.set_aside) == (6, 2, 1)
    [lost] = books.differences
    assert lost.ids == ("e4 (shard 3, 4-0)", "e5 (shard 3, 5-0)")


def test_many_ids_are_a_number() -> None:
    """Twenty are named."""
    books = Books()
    books.stream([(_entry(n), Fate()) for n in range(IDS_MAX + 7)])
    wrong = books.rollups({("beta", "h"): (1, 2, 3)}, {}, {})
    for place in wrong:
        books.name_events(place, [str(n) for n in range(IDS_MAX + 2)])

    assert [(len(each.ids), each.more) for each in books.differences] == [(20, 7), (20, 2)]


def test_hours_are_summed_and_compared() -> None:
    books = Books()

    wrong = books.rollups(
        {("acme", "h1"): (1, 10, 5), ("acme", "h2"): (1, 10, 5)},
        {("acme", "h1"): (1, 10, 5), ("acme", "h2"): (1, 9, 5)},
        {"acme": 4},
    )

    [row] = books.rows
    assert wrong == [("acme", "h2")]
    assert (row.ledger, row.rollup, row.unrolled) == ((2, 20, 10), (2, 19, 10), 4)


def test_statements() -> None:
    """Amount, number and digest of its events."""
    books = Books()
    books.statement("even", Billed(5, 5, 1, 1, is_closed=True))
    books.statement("dear", Billed(6, 5, 1, 1, is_closed=False))
    books.statement("less", Billed(5, 5, 2, 1, is_closed=True))
    books.statement("other", Billed(5, 5, 1, 1, is_closed=True, same_events=False))

    assert [(each.tenant, each.said) for each in books.differences] == [
        ("dear", "invoiced 6 nano-USD, booked 5"),
        ("less", "the statement is made of 2 events, there are 1"),
        ("other", "the statement is made of other events"),
    ]


def test_hours_at_stripe() -> None:
    """What waits is no difference; what is held, or shown otherwise, is."""
    books = Books()
    books.stripe(
        [
            AtStripe("acme", "m", "h1", ledger=9, wanted=9, acked=9, seen=9),
            AtStripe("acme", "m", "h2", ledger=9, wanted=7, acked=7, seen=None),
            AtStripe("acme", "m", "h3", ledger=9, wanted=9, acked=9, seen=8),
            AtStripe("acme", "m", "h4", ledger=9, wanted=9, acked=0, seen=None, is_held=True),
        ]
    )

    [row] = books.rows
    assert (row.stripe_hours, row.stripe_waiting) == (4, 1)
    assert [(each.between, each.ids) for each in books.differences] == [
        (Between.STRIPE, ("m h3",)),
        (Between.STRIPE, ("m h4",)),
    ]
    assert len(row.body()["differences"]) == 2
