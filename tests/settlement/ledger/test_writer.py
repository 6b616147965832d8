"""One batch, one transaction."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import orjson
import pytest
from fixtures_ledger import KEYS, PRICES, book, make_entry, make_event, new_ledger
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import func, select

from metering.seq_ranges import SeqRanges
from metering.settlement.entries import Entry
from metering.settlement.ledger import tables
from metering.settlement.ledger.queries import invoice_report
from metering.settlement.ledger.rollups import update_rollups
from metering.settlement.ledger.standing import confirmed_spool, price_bodies, settled_positions
from metering.settlement.ledger.store import Ledger
from metering.settlement.ledger.usage_report import usage_report
from metering.settlement.ledger.verify import verify


def _rows(ledger: Ledger, table: str) -> list:
    with ledger.read() as connection:
        return list(connection.execute(select(tables.metadata.tables[table])).all())


def test_a_batch_books_each_new_event_once(ledger: Ledger) -> None:
    event, other = make_event(), make_event(tenant="zeta")

    first = book(ledger, [event, event, other])
    second = book(ledger, [other, event])

    assert (first.settled, first.repeats) == (2, 1)
    assert (second.settled, second.repeats) == (0, 2)
    assert len(_rows(ledger, "usage_event")) == 2
    assert len(_rows(ledger, "txn")) == 2  # a batch of repeats leaves none
    assert verify(ledger) == []


def test_the_same_id_with_another_body_is_kept_beside_and_reported(ledger: Ledger) -> None:
    event = make_event()

    book(ledger, [event])
    report = book(ledger, [replace(event, latency_ms=9)] * 2)

    assert report.conflicts == 2
    (conflict,) = _rows(ledger, "event_conflict")
    assert conflict.event_id == event.event_id
    assert orjson.loads(conflict.payload)["latency_ms"] == 9
    (alert,) = _rows(ledger, "outbox")
    assert alert.key.startswith(f"event_conflict:{event.event_id}:")
    assert _rows(ledger, "usage_event")[0].latency_ms == 0


def test_poison_is_kept_with_its_reason_and_stops_nothing(ledger: Ledger) -> None:
    poison = Entry(3, "7-0", b"\xff{", "00")

    report = book(ledger, [poison, make_event()])
    book(ledger, [poison])

    assert (report.malformed, report.settled) == (1, 1)
    (dead,) = _rows(ledger, "dead_letter")
    assert (dead.shard, dead.stream_id, dead.raw) == (3, "7-0", b"\xff{")
    assert "hash" in dead.reason


def test_a_rating_that_differs_is_booked_ours_and_reported(ledger: Ledger) -> None:
    report = book(ledger, [make_event(admission_nano=1, cost_nano=2)])

    (row,) = _rows(ledger, "usage_event")
    assert (row.sell_nano, row.cost_nano) == (5_500_000, 5_500_000)
    assert (row.admission_nano, row.event_cost_nano) == (1, 2)
    assert report.differences[0].sell_nano == 5_499_999
    (alert,) = _rows(ledger, "outbox")
    assert orjson.loads(alert.body)["kind"] == "rating_difference"


def test_an_unpriced_event_is_booked_and_reported(ledger: Ledger) -> None:
    report = book(ledger, [make_event(model_upstream="x", model_requested="x")])

    assert (report.settled, report.unpriced) == (1, 1)
    assert _rows(ledger, "usage_event")[0].unpriced
    assert _rows(ledger, "outbox")[0].key.startswith("unpriced:")


def test_an_empty_batch_is_nothing(ledger: Ledger) -> None:
    assert book(ledger, []).settled == 0
    assert _rows(ledger, "watermark") == []


def test_a_correction_posts_the_other_way(ledger: Ledger) -> None:
    event = make_event()
    undo = make_event(
        kind="correction",
        corrects=event.event_id,
        units={unit: -quantity for unit, quantity in event.units.items()},
    )

    book(ledger, [undo])
    book(ledger, [event])

    assert {row.amount_nano for row in _rows(ledger, "balance")} == {0}
    assert verify(ledger) == []


def test_free_usage_has_a_transaction_without_postings(ledger: Ledger) -> None:
    book(ledger, [make_event(units={})])

    assert len(_rows(ledger, "txn")) == 1
    assert _rows(ledger, "posting") == []
    assert verify(ledger) == []


def test_the_watermark_counts_and_never_goes_back(ledger: Ledger) -> None:
    event = make_event()
    shard = KEYS.shard("acme")

    book(ledger, [make_entry(event, "20-5")])
    book(ledger, [make_entry(event, "20-4"), make_entry(make_event(), "3-9")])

    assert settled_positions(ledger) == {shard: (20, 5)}
    (row,) = _rows(ledger, "watermark")
    assert (row.events, row.repeats, row.occurred_at) == (2, 1, event.occurred_at)


def test_prices_used_are_kept_with_the_books(ledger: Ledger) -> None:
    book(ledger, [make_event()])

    assert price_bodies(ledger, PRICES) == PRICES


def test_confirmed_sequences_are_ranges_over_all_shards(ledger: Ledger) -> None:
    """Holes stay holes until the event that fills them is in the ledger, a repeat counts too."""
    filling = make_event(proxy_id="p", spool_seq=10)
    book(ledger, [make_event(proxy_id="p", spool_seq=9), make_event(proxy_id="q", spool_seq=1)])
    book(ledger, [make_event(proxy_id="p", spool_seq=11, tenant="other")])
    before = confirmed_spool(ledger)

    book(ledger, [filling])
    book(ledger, [filling])

    assert before == {"p": "9-9,11-11", "q": "1-1"}
    assert confirmed_spool(ledger, ["p"]) == {"p": "9-11"}


def test_ranges_beyond_the_bound_are_forgotten_and_told(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is forgotten is not confirmed: its proxy keeps it, and the log says so."""
    monkeypatch.setattr(SeqRanges, "newest", lambda self: SeqRanges(self.ranges[-2:]))

    report = book(ledger, [make_event(proxy_id="p", spool_seq=seq) for seq in (1, 3, 5)])

    assert report.ranges_forgotten == 1
    assert confirmed_spool(ledger) == {"p": "3-3,5-5"}


def _books_of(batches: list) -> tuple:
    """Everything there is to say about a ledger with these batches, but for its order."""
    with TemporaryDirectory() as folder, closing(new_ledger(Path(folder))) as ledger:
        for batch in batches:
            book(ledger, batch)
        update_rollups(ledger)
        invoices = [invoice_report(ledger, tenant, "2026-11") for tenant in ("acme", "zeta")]
        return (
            [(one.body, one.event_digest) for one in invoices if one is not None],
            usage_report(ledger),
            sorted((row.tenant, row.account, row.amount_nano) for row in _rows(ledger, "balance")),
            sorted(_rows(ledger, "rollup")),
            verify(ledger),
        )


_events = st.lists(
    st.builds(
        lambda tenant, model, project, units, billable: make_event(
            tenant=tenant,
            model_upstream=model,
            project=project,
            units=units,
            billable=billable,
        ),
        tenant=st.sampled_from(["acme", "zeta"]),
        model=st.sampled_from(["gpt-4o", "cheap-1"]),
        project=st.sampled_from(["a", "b"]),
        units=st.dictionaries(
            st.sampled_from(["input_uncached", "output_text", "api_call"]), st.integers(0, 9_999)
        ),
        billable=st.booleans(),
    ),
    max_size=12,
)


@settings(
    max_examples=12,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
@given(events=_events, cut=st.integers(1, 5), random=st.randoms())
def test_shuffling_repeating_and_cutting_changes_no_number(events: list, cut: int, random) -> None:
    """The same events in any order, in any batches, any number of times: the same books."""
    again = events + [event for event in events if random.random() < 0.5]
    random.shuffle(again)
    orders = ([events], [again[i : i + cut] for i in range(0, len(again), cut)])

    one, other = map(_books_of, orders)

    assert one == other
    assert one[-1] == []


@pytest.mark.parametrize("table", ["txn", "posting"])
def test_every_transaction_read_back_sums_to_zero(ledger: Ledger, table: str) -> None:
    book(ledger, [make_event(tenant=f"t{n}", units={"output_text": n}) for n in range(20)])

    with ledger.read() as connection:
        sums = connection.execute(
            select(func.sum(tables.posting.c.amount_nano)).group_by(tables.posting.c.txn_id)
        ).scalars()
        assert set(sums) == {0}
    assert _rows(ledger, table)
