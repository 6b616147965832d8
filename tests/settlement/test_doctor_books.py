"""What is trouble with the ledger and what is made from it, and where a note becomes trouble."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from metering.settlement import doctor_books as books
from metering.settlement.doctor_facts import (
    Asked,
    Behind,
    Book,
    Compared,
    Facts,
    Finding,
    Late,
    Level,
    Place,
    StripeHours,
    Undelivered,
    Unknown,
)

AWAY = Unknown("not asked here")
NOW = 1_000 * 86_400 * 10**9
S = 10**9
FACTS = Facts(Asked(None, "2026-11", 0, 1, NOW), Place("config.yaml"), *[AWAY] * 13)
BOOK = Book("ledger.db", "0011", "0011", "id", "", 5, NOW - 30 * S)
WELL = Behind(0, None, 0, None, "", 0, ())
QUIET = StripeHours(0, None, {}, 0, 3)
RUN = Compared("openai", 4, "2026-11-01", "2026-11-08", NOW - 60 * S, (), {"count": 2}, 0, False)


def _judged(
    judge: Callable[[Facts], Iterator[Finding]], **facts: Any
) -> list[tuple[Level, str, str]]:
    return [(each.level, each.said, each.todo) for each in judge(replace(FACTS, **facts))]


@pytest.mark.parametrize(
    ("changes", "level", "said"),
    [
        ({}, Level.OK, "ledger.db has 5 events, the last 30 s ago, migration 0011"),
        ({"revision": "0009"}, Level.TROUBLE, "at migration 0009, this version wants 0011"),
        ({"revision": "0019"}, Level.TROUBLE, "at migration 0019, this version knows 0011"),
        ({"refuses": "disk full"}, Level.TROUBLE, "takes no writes: disk full"),
    ],
)
def test_the_ledger(changes: dict[str, Any], level: Level, said: str) -> None:
    """Too old, too new, read-only."""
    [found] = _judged(books.ledger, book=replace(BOOK, **changes))

    assert (found[0], said in found[1]) == (level, True)


def test_a_ledger_that_cannot_be_read_is_trouble() -> None:
    [(level, said, _)] = _judged(books.ledger)

    assert (level, said) == (Level.TROUBLE, "the ledger cannot be read: not asked here")


@pytest.mark.parametrize(("age_s", "level"), [(10, Level.NOTE), (121, Level.TROUBLE)])
def test_rollups_may_be_two_minutes_late(age_s: int, level: Level) -> None:
    behind = replace(WELL, unrolled=7, unrolled_since_ns=NOW - age_s * S)

    assert _judged(books.rollups, behind=behind)[0][0] is level


def test_dead_letters_name_their_reason() -> None:
    """They are trouble until somebody has dealt with them; conflicts stand for ever."""
    dead, conflict = _judged(
        books.dead_letters, behind=replace(WELL, dead=2, dead_reason="no JSON", conflicts=1)
    )

    assert (dead[0], "the newest: no JSON" in dead[1]) == (Level.TROUBLE, True)
    assert conflict[0] is Level.NOTE


def test_price_versions_that_are_gone() -> None:
    [(level, said, _)] = _judged(books.price_versions, behind=replace(WELL, missing_prices=("ab",)))

    assert (level, said.endswith(": ab")) == (Level.TROUBLE, True)


def test_alerts_have_ten_minutes() -> None:
    """A sink that is late is named, and how often it was tried."""
    new, old = Undelivered("log", 1, NOW - 5 * S, 1), Undelivered("webhook-1", 3, NOW - 700 * S, 9)

    assert _judged(books.alerts, alerts=(new,)) == [(Level.OK, "1 alert on the way", "")]
    [(level, said, _)] = _judged(books.alerts, alerts=(new, old))
    assert (level, said) == (
        Level.TROUBLE,
        "3 alerts not at sink 'webhook-1' for 11 min (9 attempts)",
    )


def test_stripe_is_asked_about_only_where_it_is_told() -> None:
    place = replace(FACTS.place, has_stripe=True)
    hours = StripeHours(2, NOW - 4 * 3_600 * S, {"too_old": 1}, 1, 9, ("beta",))

    assert _judged(books.stripe, stripe=hours)[0][0] is Level.OK
    assert _judged(books.stripe, stripe=QUIET, place=place) == [
        (Level.OK, "Stripe has taken 3 hours, none waits", "")
    ]
    found = _judged(books.stripe, stripe=hours, place=place)
    assert [level for level, _, _ in found] == [Level.NOTE, *[Level.TROUBLE] * 3]
    assert "beta" in found[0][1]
    assert "weir stripe carry" in found[1][2]


@pytest.mark.parametrize(
    ("changes", "level"),
    [
        ({}, Level.OK),
        ({"over": ("gpt-4o",)}, Level.TROUBLE),
        ({"over": ("gpt-4o",), "applied": True}, Level.OK),
        ({"ran_at": NOW - 9 * 86_400 * S}, Level.NOTE),
    ],
)
def test_comparisons(changes: dict[str, Any], level: Level) -> None:
    """Too far off and not booked is trouble; too old is a note."""
    place = replace(FACTS.place, compared=("openai",))
    found = _judged(books.reconciliation, comparisons=(replace(RUN, **changes),), place=place)

    assert [each[0] for each in found] == [level]


def test_a_provider_that_was_never_compared() -> None:
    place = replace(FACTS.place, compared=("openai",))

    [(level, said, todo)] = _judged(books.reconciliation, comparisons=(), place=place)

    assert (level, "never compared" in said) == (Level.NOTE, True)
    assert todo == "`weir reconcile run --provider openai`"


def test_late_events_are_worth_knowing() -> None:
    [(level, said, _)] = _judged(books.late, late=(Late("acme", "2026-10", 2),))

    assert (level, said) == (Level.NOTE, "2 events of acme came after 2026-10 was closed")
