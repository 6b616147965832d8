"""From a sum to the exchanges behind it, and to everything of one."""

from __future__ import annotations

from dataclasses import replace

import pytest
from fixtures_ledger import NOVEMBER_NS, book, make_event, new_id

from metering.settlement.analytics import HOUR_NS, Question, cursor_of
from metering.settlement.ledger import analytics_exchanges
from metering.settlement.ledger.analytics import usage
from metering.settlement.ledger.analytics_exchanges import Wanted, exchange, exchanges
from metering.settlement.ledger.analytics_rollup import update_analytics
from metering.settlement.ledger.store import Ledger

RANGE = Question(NOVEMBER_NS - 30 * 24 * HOUR_NS, NOVEMBER_NS + 30 * 24 * HOUR_NS)


def booked(ledger: Ledger) -> list[str]:
    """Twelve exchanges, an hour apart; every fourth fell back, and a tenth of them is globex'."""
    ids = [new_id() for _ in range(12)]
    for number, exchange_id in enumerate(ids):
        facts = {
            "exchange_id": exchange_id,
            "request_id": f"req-{number}",
            "occurred_at": NOVEMBER_NS + number * HOUR_NS,
            "tenant": "globex" if number == 7 else "acme",
        }
        events = [make_event(**facts, http_status=200, finish_reason="stop", ttft_ms=12)]
        if number % 4 == 0:
            failed = {"status": "error", "reason_code": "upstream_error", "units": {}}
            events = [
                make_event(**facts, **failed, model_upstream="cheap-1", http_status=500),
                replace(events[0], attempt=2),
            ]
        book(ledger, events)
    update_analytics(ledger)
    return ids


def test_a_drill_down_ends_at_the_events(ledger: Ledger) -> None:
    """Month, day, hour, exchanges, exchange: each says what the one above it says."""
    ids = booked(ledger)
    month = usage(ledger, replace(RANGE, interval="month"))["data"]
    hours = usage(ledger, replace(RANGE, interval="hour"))["data"]
    hour = Question(NOVEMBER_NS + 4 * HOUR_NS, NOVEMBER_NS + 5 * HOUR_NS)

    (row,) = exchanges(ledger, Wanted(hour))["data"]
    whole = exchange(ledger, ids[4])

    assert sum(each["sell_nano"] for each in month) == sum(each["sell_nano"] for each in hours)
    assert (row["exchange_id"], row["attempts"], row["http_status"]) == (ids[4], 2, 200)
    assert (row["model"], row["status"], row["finish_reason"]) == ("gpt-4o", "success", "stop")
    assert row["sell_nano"] == usage(ledger, hour)["totals"]["sell_nano"] == 5_500_000
    assert whole is not None
    assert [each["status"] for each in whole["events"]] == ["error", "success"]
    amounts = {each["unit"]: each["sell_usd"] for each in whole["events"][1]["amounts"]}
    assert amounts == {"input_uncached": "0.002500000", "output_text": "0.003000000"}
    assert whole["events"][1]["event"]["ttft_ms"] == 12
    assert exchange(ledger, "nobody") is None


def test_pages_have_each_exchange_once_and_the_newest_first(ledger: Ledger) -> None:
    ids, seen, cursor = booked(ledger), [], None
    while True:
        page = exchanges(ledger, Wanted(replace(RANGE, limit=5, after=cursor)))
        seen += [row["exchange_id"] for row in page["data"]]
        if (cursor := page["next_cursor"]) is None:
            break

    assert seen == ids[::-1]
    with pytest.raises(ValueError, match="cursor"):
        exchanges(ledger, Wanted(replace(RANGE, after="nonsense")))


def test_what_is_rare_is_looked_for_in_parts(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The newest hours that have it first; whatever the size of a page, no exchange is missed."""
    ids = booked(ledger)
    monkeypatch.setattr(analytics_exchanges, "RARE", 1)
    asked = replace(RANGE, start_ns=NOVEMBER_NS, filters={"model": ("gpt-4o",)})
    for limit in (1, 2, 5, 12):
        seen, cursor = [], None
        while True:
            page = exchanges(ledger, Wanted(replace(asked, limit=limit, after=cursor)))
            seen += [ids.index(row["exchange_id"]) for row in page["data"]]
            if (cursor := page["next_cursor"]) is None:
                break
        assert seen == list(range(11, -1, -1))
    with pytest.raises(ValueError, match="cursor"):
        exchanges(ledger, Wanted(replace(asked, after=cursor_of(["a", "b", "c"]))))


@pytest.mark.parametrize("rare", [1, 10**9], ids=["by what sums say", "by an index"])
def test_any_attempt_is_enough_to_be_found(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch, rare: int
) -> None:
    """Whichever way it is looked for."""
    ids = booked(ledger)
    monkeypatch.setattr(analytics_exchanges, "RARE", rare)

    def found(request: str | None = None, **filters: str) -> list[int]:
        asked = replace(RANGE, filters={name: (value,) for name, value in filters.items()})
        rows = exchanges(ledger, Wanted(asked, request))["data"]
        return [ids.index(row["exchange_id"]) for row in rows]

    assert found(status="error") == [8, 4, 0]
    assert found(model="cheap-1", status="success") == []
    assert found(tenant="globex") == [7]
    assert found(tenant="globex", model="gpt-4o") == [7]
    assert found("req-3") == [3]
    assert found("req-3", tenant="globex") == []
