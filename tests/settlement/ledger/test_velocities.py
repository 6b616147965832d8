"""Spend by minute, kept up beside the chain."""

from __future__ import annotations

from typing import Any

import pytest
from fixtures_ledger import KEYS, NOVEMBER_NS, book, make_event
from sqlalchemy import delete, select

from metering.events import Kind
from metering.settlement.ledger import tables, velocities
from metering.settlement.ledger.rollups import update_rollups
from metering.settlement.ledger.store import Ledger
from metering.settlement.ledger.velocities import (
    MINUTE_NS,
    forget_minutes,
    highest_minute,
    history_of,
    minutes_of,
    sum_minutes,
)
from metering.settlement.velocity import TENANT, Minute

SHARD = KEYS.shard("acme")
NOW = NOVEMBER_NS // MINUTE_NS
SINCE = 1_793_491_200_000 // 60_000
"""When the entries of the samples were committed."""

PRICE = 5_500_000
"""Of an event of 500 + 200 tokens, in nano-USD."""


def _at(minute: int, **changes: Any) -> Any:
    return make_event(
        completed_at=minute * MINUTE_NS + 1, occurred_at=minute * MINUTE_NS, **changes
    )


def _sum(ledger: Ledger) -> int:
    return sum_minutes(ledger, range(KEYS.shards), since_min=SINCE)


def _minutes(ledger: Ledger, after: int = NOW - 100, through: int = NOW) -> Any:
    return minutes_of(ledger, [SHARD], after=after, through=through)


def test_every_event_counts_once(ledger: Ledger) -> None:
    """However often it is settled, and however often it is looked at."""
    event = make_event(completed_at=NOW * MINUTE_NS)
    book(ledger, [event, make_event(completed_at=NOW * MINUTE_NS, api_key_id="k2")])
    assert _sum(ledger) == 2
    book(ledger, [event])
    assert _sum(ledger) == 0

    assert _minutes(ledger) == {"acme": [(NOW, {"k1": Minute(PRICE, 1), "k2": Minute(PRICE, 1)})]}


def test_a_late_event_goes_where_it_belongs(ledger: Ledger) -> None:
    """And one that no baseline remembers goes nowhere."""
    for minute in (NOW, NOW - 5, SINCE - 1):
        book(ledger, [_at(minute)])
        _sum(ledger)

    assert [minute for minute, _ in _minutes(ledger)["acme"]] == [NOW - 5, NOW]
    assert len(_minutes(ledger, 0)["acme"]) == 2
    assert [minute for minute, _ in _minutes(ledger, NOW - 5)["acme"]] == [NOW]


def test_a_correction_takes_a_request_back(ledger: Ledger) -> None:
    """With its money, in the minute in which it is made."""
    event = make_event(completed_at=NOW * MINUTE_NS)
    units = {name: -quantity for name, quantity in event.units.items()}
    back = make_event(
        kind=Kind.CORRECTION, corrects=event.event_id, units=units, completed_at=NOW * MINUTE_NS
    )
    book(ledger, [event, back])
    _sum(ledger)

    assert _minutes(ledger) == {"acme": [(NOW, {"k1": Minute(0, 0)})]}


def test_large_shards_are_summed_in_parts(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each part in a transaction of its own."""
    monkeypatch.setattr(velocities, "CHUNK", 2)
    book(ledger, [_at(NOW) for _ in range(5)])

    assert _sum(ledger) == 5
    assert _minutes(ledger) == {"acme": [(NOW, {"k1": Minute(5 * PRICE, 5)})]}


def test_what_is_thrown_away_is_summed_again(ledger: Ledger) -> None:
    """It is derived: without its watermark a shard begins anew."""
    book(ledger, [_at(NOW), _at(NOW - 1)])
    _sum(ledger)
    before = _minutes(ledger)
    with ledger.write() as connection:
        connection.execute(delete(tables.velocity))
        connection.execute(delete(tables.velocity_watermark))
    sum_minutes(ledger, [SHARD], since_min=SINCE)

    assert _minutes(ledger) == before


def test_old_minutes_are_forgotten(ledger: Ledger) -> None:
    """So the table holds a day, not a year."""
    book(ledger, [_at(NOW), _at(NOW - 50)])
    _sum(ledger)
    forget_minutes(ledger, [SHARD], before_min=NOW - 49)

    with ledger.read() as connection:
        assert connection.execute(select(tables.velocity.c.minute)).scalars().all() == [NOW]


def test_the_dearest_minute_of_a_tenant_or_key(ledger: Ledger) -> None:
    """A tenant's minute is that of all its keys together."""
    events = [_at(NOW - 2), _at(NOW - 1), _at(NOW - 1, api_key_id="k2"), _at(NOW - 30)]
    book(ledger, [*events, _at(NOW - 30), _at(NOW - 30)])
    _sum(ledger)

    def highest(key: str, since: int = NOW - 10) -> Minute:
        return highest_minute(ledger, SHARD, "acme", key=key, since=since)

    assert highest("") == Minute(2 * PRICE, 2)
    assert highest("k1") == Minute(PRICE, 1)
    assert highest("k1", since=NOW - 40) == Minute(3 * PRICE, 3)
    assert highest("k9") == Minute()


def test_history_is_that_of_hours_which_are_over(ledger: Ledger) -> None:
    """By key and for the tenant as a whole; this hour and what is older than two weeks is not."""
    hour = NOW // 60
    for back in (0, 1, 24, 24, 14 * 24, 16 * 24):
        book(ledger, [_at((hour - back) * 60, api_key_id="k2" if back == 1 else "k1")])
    update_rollups(ledger)

    hours = history_of(ledger, "acme", now_min=NOW).hours
    assert hours == {
        TENANT: {hour - 1: PRICE, hour - 24: 2 * PRICE, hour - 14 * 24: PRICE},
        "k1": {hour - 24: 2 * PRICE, hour - 14 * 24: PRICE},
        "k2": {hour - 1: PRICE},
    }
