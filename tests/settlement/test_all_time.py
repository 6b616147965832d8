"""Sums over all time: made once, and added to, they are those of the database."""

from __future__ import annotations

import random

import pytest
from fixtures_ledger import KEYS, book, make_event
from sqlalchemy import event as sql_event

from metering.events import RECOVERED, UsageEvent, encode, payload_hash
from metering.recovery import reversal
from metering.settlement.all_time import SERIES, AllTime
from metering.settlement.entries import Entry
from metering.settlement.ledger.spending import Sum, chain_length, spent_by_bucket
from metering.settlement.ledger.store import Ledger

SHARD = KEYS.shard("acme")
NOW = 1_795_000_000_000


def settle(ledger: Ledger, event: UsageEvent, number: int) -> None:
    body = encode(event)
    book(ledger, [Entry(SHARD, f"{NOW + number}-0", body, payload_hash(body))])


def kept(ledger: Ledger, times: AllTime, tenants: tuple[str, ...] = ("acme",)) -> list[Sum]:
    with ledger.read() as connection:
        seq = chain_length(connection, SHARD)
        return list(times.spent(connection, SHARD, tenants, now_ms=NOW, through_seq=seq))


def summed(ledger: Ledger) -> list[Sum]:
    """Anew, both parts of the answer together."""
    total = [0, 0, 0]
    with ledger.read() as connection:
        for row in spent_by_bucket(connection, SHARD, SERIES, ["acme"], now_ms=NOW):
            total = [one + more for one, more in zip(total, row.amounts, strict=True)]
    nano, tokens, requests = total
    return [Sum("acme", "", 0, (nano, tokens, requests))] if any(total) else []


@pytest.mark.slow(20)
@pytest.mark.parametrize("seed", range(3))
def test_what_is_added_comes_to_the_same(ledger: Ledger, seed: int) -> None:
    """Events, recovered ones, and corrections before and after them, in any order and looked at
    at any time."""
    dice = random.Random(seed)
    events: list[UsageEvent] = []
    for _ in range(6):
        made = make_event(usage_source=dice.choice(["provider", RECOVERED]))
        events += [made] if dice.random() < 0.4 else [made, reversal(made)]
    dice.shuffle(events)
    times = AllTime()

    for number, event in enumerate(events):
        settle(ledger, event, number)
        if dice.random() < 0.5:
            assert kept(ledger, times) == summed(ledger)

    assert kept(ledger, times) == summed(ledger)
    assert kept(ledger, times) == summed(ledger)


def test_a_second_look_sums_nothing_that_it_knows(ledger: Ledger) -> None:
    """Nothing new: no sum is made. A tenant that it has not seen is summed from the beginning."""
    times, asked = AllTime(), []
    for number in range(3):
        settle(ledger, make_event(), number)
    assert kept(ledger, times, ("nobody",)) == []
    first = kept(ledger, times)

    def note(_connection: object, _cursor: object, statement: str, *_rest: object) -> None:
        asked.append(statement)

    sql_event.listen(ledger._engine, "before_cursor_execute", note)
    second = kept(ledger, times)
    sql_event.remove(ledger._engine, "before_cursor_execute", note)

    assert second == first == summed(ledger)
    assert asked and not [each for each in asked if "sum(" in each]


def test_another_ledger_is_summed_anew(ledger: Ledger) -> None:
    """An older copy of the ledger has other events at the same places."""
    times = AllTime()
    times._marks[SHARD] = 1, "an event that was lost"
    times._sums[SHARD] = {"acme": (9, 9, 9)}
    settle(ledger, make_event(), 0)

    assert kept(ledger, times) == summed(ledger)
