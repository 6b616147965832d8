"""Rollups are sums that can be made again."""

from __future__ import annotations

from fixtures_ledger import book, make_event
from sqlalchemy import func, select

from metering.settlement.ledger import tables
from metering.settlement.ledger.rollups import rebuild_rollups, update_rollups
from metering.settlement.ledger.spending import measures
from metering.settlement.ledger.store import Ledger
from metering.settlement.ledger.usage_report import usage_report
from metering.settlement.ledger.verify import verify


def _rows(ledger: Ledger, table: str) -> list:
    with ledger.read() as connection:
        return list(connection.execute(select(tables.metadata.tables[table])).all())


def test_rollups_are_the_same_rebuilt(ledger: Ledger) -> None:
    for number in range(3):
        book(ledger, [make_event(units={"second": number + 1}, latency_ms=5), make_event()])
        update_rollups(ledger)
    before = sorted(_rows(ledger, "rollup"))

    count = rebuild_rollups(ledger)

    assert count == 6
    assert sorted(_rows(ledger, "rollup")) == before
    with ledger.read() as connection:
        sell = select(func.sum(tables.rollup.c.sell_nano))
        assert connection.execute(sell).scalar() == 3 * 5_500_000


def test_images_that_were_made_are_tokens_everywhere(ledger: Ledger) -> None:
    """In their column, in rollups, reports and the sums that caps are compared with; at the output
    rate where the price has none for them, and by a schema that older workers wait for."""
    units = {"input_uncached": 500, "output_text": 3, "output_image": 1290}
    event = make_event(units=units)

    report = book(ledger, [event])
    update_rollups(ledger)

    (row,) = _rows(ledger, "usage_event")
    found = usage_report(ledger)
    assert report.differences == ()
    assert (row.q_output_image, row.q_other, row.unpriced) == (1290, None, False)
    assert (row.schema_version, row.sell_nano) == (2, 2_500_000 + 1293 * 15_000)
    assert {each.unit: each.quantity for each in _rows(ledger, "rollup")} == {
        **units,
        "attempt": 1,
    }
    assert found is not None
    assert found["rows"][0]["units"] == units
    with ledger.read() as connection:
        _, tokens, _ = measures(tables.usage_event, sign=1)
        assert connection.execute(select(tokens)).scalar() == 1793
    assert verify(ledger) == []


def test_a_row_is_one_unit_of_one_hour(ledger: Ledger) -> None:
    book(ledger, [make_event(feature="chat"), make_event(feature="chat", project="other")])

    update_rollups(ledger)

    rows = {(row.project, row.unit): row for row in _rows(ledger, "rollup")}
    assert len(rows) == 2 * 3
    output = rows["default", "output_text"]
    assert (output.quantity, output.sell_nano, output.cost_nano) == (200, 3_000_000, 3_000_000)
    assert (output.feature, output.model_version, output.billable) == ("chat", "", True)
    assert rows["default", "attempt"].quantity == 1
    assert update_rollups(ledger) == 0
