"""What analytics are read from is held against the events."""

from __future__ import annotations

import pytest
from fixtures_ledger import book, make_event
from sqlalchemy import text

from metering.settlement.ledger.analytics_rollup import update_analytics
from metering.settlement.ledger.store import Ledger
from metering.settlement.ledger.verify import verify


@pytest.mark.parametrize(
    ("change", "finding"),
    [
        (
            "UPDATE usage_day SET sell_nano = sell_nano + 1",
            "usage_day, level tenant of tenant acme",
        ),
        ("UPDATE usage_hour SET attempts = attempts - 1", "usage_hour, level upstream: (1, "),
        (
            "DELETE FROM usage_hour",
            "usage_hour, level full of tenant globex: (0, 0, 0), events (1, ",
        ),
        ("UPDATE usage_day_times SET ttft = ttft + 1", "times are of different numbers"),
    ],
)
def test_sums_that_were_changed_are_found(ledger: Ledger, change: str, finding: str) -> None:
    book(ledger, [make_event(ttft_ms=5), make_event(tenant="globex")])
    update_analytics(ledger)
    book(ledger, [make_event()])  # not summed yet, and no finding
    whole = verify(ledger)

    with ledger.write() as connection:
        connection.execute(text(change))

    assert whole == []
    assert any(each.startswith(finding) for each in verify(ledger))
