"""A real ledger for tests, prices to rate with, and events as proxies write them."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, text

from metering.events import UsageEvent, encode, payload_hash
from metering.ids import uuid7
from metering.prices import PriceBook, PriceRule, RatesByModel
from metering.redis_keys import RedisKeys
from metering.settlement.batches import Batch, BatchReport, Booking
from metering.settlement.entries import Arrival, Entry, Malformed, read_entry
from metering.settlement.ledger.store import Ledger, open_ledger
from metering.settlement.ledger.writer import write_batch
from metering.settlement.rating import RateCards

NOW_NS = 1_790_000_000_000_000_000
NOVEMBER_NS = 1_793_491_200_000_000_000 + 15 * 86_400_000_000_000
"""The middle of 2026-11."""

BOOK = PriceBook(
    rules=(
        PriceRule(model="gpt-4o", input_rate_pico=5_000_000, output_rate_pico=15_000_000),
        PriceRule(
            model="cheap-*",
            input_rate_pico=333,
            output_rate_pico=1_777,
            class_rates_pico={"api_call": 10_000_000_000},
            multiplier_ppm=1_250_000,
        ),
    )
)
COST, SELL = BOOK.body(sell=False), BOOK.body(sell=True)
CARDS = RateCards()
CARDS.add(RatesByModel(COST, version=BOOK.cost_version))
CARDS.add(RatesByModel(SELL, version=BOOK.sell_version))
PRICES = {BOOK.cost_version: COST, BOOK.sell_version: SELL}
KEYS = RedisKeys()

_ids = itertools.count(1)


def new_id() -> str:
    number = next(_ids)
    return uuid7(1_793_491_200_000 + number, number.to_bytes(10, "big"))


def make_event(**changes: Any) -> UsageEvent:
    """A served attempt of 500 + 200 tokens, with the totals a proxy would write."""
    event = UsageEvent(
        event_id=new_id(),
        exchange_id=new_id(),
        tenant="acme",
        project="default",
        api_key_id="k1",
        request_id="req-1",
        occurred_at=NOVEMBER_NS,
        completed_at=NOVEMBER_NS + 1_000,
        emitted_at=NOVEMBER_NS + 2_000,
        provider="openai",
        model_requested="gpt-4o",
        model_upstream="gpt-4o",
        units={"input_uncached": 500, "output_text": 200},
        cost_version=BOOK.cost_version,
        sell_version=BOOK.sell_version,
    )
    changes = {"model_requested": changes.get("model_upstream", "gpt-4o"), **changes}
    event = replace(event, **changes)
    if not CARDS.missing(event) and not {"admission_nano", "cost_nano"} & changes.keys():
        rated = CARDS.rate(event)
        event = replace(event, admission_nano=rated.sell_nano, cost_nano=rated.cost_nano)
    return event


def make_entry(event: UsageEvent, stream_id: str = "1793491200000-0") -> Entry:
    body = encode(event)
    return Entry(KEYS.shard(event.tenant), stream_id, body, payload_hash(body))


def book(ledger: Ledger, events: Iterable[UsageEvent | Entry]) -> BatchReport:
    """Settle these as one batch, as the worker does."""
    entries = [make_entry(one) if isinstance(one, UsageEvent) else one for one in events]
    bookings, malformed = [], []
    for one in map(read_entry, entries):
        match one:
            case Arrival():
                bookings.append(Booking(one, CARDS.rate(one.event)))
            case Malformed():
                malformed.append(one)
    return write_batch(ledger, Batch(bookings, malformed), prices=PRICES, now_ns=NOW_NS)


def new_ledger(folder: Path) -> Ledger:
    ledger = open_ledger(f"sqlite:///{folder / 'ledger.db'}")
    ledger.migrate()
    return ledger


@pytest.fixture(params=["sqlite", "postgresql"])
def ledger_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where an empty ledger of the test's own is, on each of the databases."""
    if request.param == "postgresql":
        return str(request.getfixturevalue("postgres_url"))
    new_ledger(tmp_path).close()
    return f"sqlite:///{tmp_path / 'ledger.db'}"


@pytest.fixture
def ledger(ledger_url: str) -> Iterator[Ledger]:
    """That ledger, open."""
    opened = open_ledger(ledger_url)
    yield opened
    opened.close()


def allow_changes(connection: Connection, *tables: str) -> None:
    """Take away the triggers that keep these tables append-only, as a forger would."""
    for table in tables:
        of = f" ON {table}" if connection.dialect.name == "postgresql" else ""
        if table == "usage_event":
            connection.execute(text(f"DROP TRIGGER usage_event_moved{of}"))
        if of:
            connection.execute(text(f"DROP TRIGGER {table}_append_only{of}"))
            continue
        for verb in ("update", "delete"):
            connection.execute(text(f"DROP TRIGGER {table}_no_{verb}"))
