"""What was used, and what it left over."""

from __future__ import annotations

from typing import Any

import pytest
from fixtures_ledger import NOVEMBER_NS, book, make_event

from metering.settlement.ledger.store import Ledger
from metering.settlement.ledger.usage_report import Asked, usage_report

DAY_NS = 86_400_000_000_000


def test_requests_are_exchanges_not_attempts(ledger: Ledger) -> None:
    first = make_event(exchange_id="x1", billable=False, units={"input_uncached": 500})
    second = make_event(exchange_id="x1", attempt=2)
    fallback = make_event(exchange_id="x1", attempt=3, model_upstream="cheap-1")
    book(ledger, [first, second, fallback, make_event(tenant="zeta")])

    report = usage_report(ledger, Asked("acme"), pending=4)

    assert report is not None
    assert [(row["model"], row["requests"]) for row in report["rows"]] == [
        ("cheap-1", 1),
        ("gpt-4o", 0),
    ]
    assert report["rows"][1]["units"] == {"input_uncached": 1_000, "output_text": 200}
    assert report["rows"][1]["cost_nano"] == 5_500_000 + 2_500_000
    assert report["rows"][1]["admission_nano"] == 5_500_000
    assert report["totals"]["requests"] == 1
    assert report["settled_through"] == "2026-11-16T00:00:00.000001Z"
    assert report["pending"] == 4


def test_an_exchange_counts_where_it_was_tried_last(ledger: Ledger) -> None:
    """Rows sum to the total, whatever was tried before, in whatever order it was settled."""
    events = []
    for number in range(6):
        exchange = f"x{number}"
        events += [
            make_event(exchange_id=exchange, attempt=attempt + 1, model_upstream=f"cheap-{model}")
            for attempt, model in enumerate(range(number % 3, 3))
        ]
    correction = make_event(kind="correction", corrects="e0", model_upstream="cheap-1")
    book(ledger, [*reversed(events), correction])

    report = usage_report(ledger)

    assert report is not None
    assert [row["requests"] for row in report["rows"]] == [0, 0, 6]
    assert report["totals"]["requests"] == 6


def test_a_model_that_only_failed_has_no_row(ledger: Ledger) -> None:
    """Attempts without units and cost leave no row, unless they were the exchange's last."""
    failed = {"billable": False, "units": {}}
    book(
        ledger,
        [
            make_event(exchange_id="x1", **failed),
            make_event(exchange_id="x1", attempt=2, model_upstream="cheap-1"),
            make_event(exchange_id="x2", model_upstream="cheap-2", **failed),
        ],
    )

    report = usage_report(ledger)

    assert report is not None
    rows = [(row["model"], row["requests"]) for row in report["rows"]]
    assert rows == [("cheap-1", 1), ("cheap-2", 1)]
    assert report["totals"]["requests"] == 2


def test_unpriced_events_are_counted(ledger: Ledger) -> None:
    """Served without a price: in the units, billed nothing, and said."""
    unpriced = {"cost_version": None, "sell_version": None, "model_upstream": "new"}
    book(ledger, [make_event(), make_event(**unpriced), make_event(tenant="zeta", **unpriced)])

    counts = [
        report["totals"]["unpriced"]
        for tenant in (None, "acme", "zeta")
        if (report := usage_report(ledger, Asked(tenant)))
    ]

    assert counts == [2, 1, 1]


def test_settled_through_is_when_the_newest_attempt_was_over(ledger: Ledger) -> None:
    """A long answer that began early may be the last to end."""
    second = 1_000_000_000
    long = make_event(occurred_at=NOVEMBER_NS, completed_at=NOVEMBER_NS + 90 * second)
    short = make_event(occurred_at=NOVEMBER_NS + second, completed_at=NOVEMBER_NS + 2 * second)
    book(ledger, [long, short])

    found = [
        report["settled_through"]
        for t in (None, "acme")
        if (report := usage_report(ledger, Asked(t)))
    ]

    assert found == ["2026-11-16T00:01:30.000000Z"] * 2


def test_usage_of_all_tenants_counts_other_units_and_since(ledger: Ledger) -> None:
    old = make_event(occurred_at=NOVEMBER_NS - DAY_NS)
    book(ledger, [old, make_event(tenant="zeta", units={"second": 2, "image": 1})])

    report = usage_report(ledger, Asked(since_ns=NOVEMBER_NS))

    assert report is not None
    assert [row["tenant"] for row in report["rows"]] == ["zeta"]
    assert report["totals"]["units"] == {"second": 2, "image": 1}


def test_an_unknown_tenant_is_none(ledger: Ledger) -> None:
    assert usage_report(ledger, Asked("nobody")) is None


def test_an_empty_ledger_has_an_empty_report(ledger: Ledger) -> None:
    report = usage_report(ledger)

    assert report is not None
    assert report["rows"] == []
    assert report["settled_through"] is None


def test_margins_by_whatever_stands_in_an_event(ledger: Ledger) -> None:
    """Sold less what it cost, failed attempts included; the worst first, and every row in the
    totals, also those that are not shown."""
    failed = make_event(
        exchange_id="x1", feature="search", billable=False, units={"input_uncached": 9_000}
    )
    served = make_event(exchange_id="x1", attempt=2, feature="search")
    book(ledger, [failed, served, make_event(feature="chat"), make_event(tenant="zeta")])

    report = usage_report(ledger, Asked(by=("feature",), sort="margin"))
    worst = usage_report(ledger, Asked(by=("feature",), sort="margin", limit=1))

    assert report is not None and worst is not None
    margins = [(row["feature"], row["margin_nano"], row["requests"]) for row in report["rows"]]
    assert margins[0][0] == "search"
    assert margins == sorted(margins, key=lambda row: row[1])
    for row in (*report["rows"], report["totals"]):
        assert row["margin_nano"] == row["admission_nano"] - row["cost_nano"]
        assert row["margin_ppm"] == row["margin_nano"] * 1_000_000 // row["admission_nano"]
    assert sum(row["margin_nano"] for row in report["rows"]) == report["totals"]["margin_nano"]
    assert (worst["rows"], worst["more"]) == (report["rows"][:1], 2)
    assert worst["totals"] == report["totals"]


def test_nothing_sold_has_no_share(ledger: Ledger) -> None:
    book(ledger, [make_event(billable=False)])

    [row] = _rows(usage_report(ledger))

    assert (row["margin_ppm"], row["margin_nano"]) == (None, -row["cost_nano"])


def test_a_row_for_each_request(ledger: Ledger) -> None:
    """Its attempts together, the newest request first or the one that lost most; the total is that
    of all of them."""
    events = [
        make_event(
            exchange_id=f"x{number}",
            request_id=f"req_{number}",
            occurred_at=NOVEMBER_NS + number * DAY_NS,
            units={"input_uncached": 1_000 * (number % 3 + 1)},
            model_upstream=f"m{number % 2}",
        )
        for number in range(5)
    ]
    later = NOVEMBER_NS + DAY_NS + 5
    again = make_event(
        exchange_id="x1", request_id="req_1", attempt=2, model_upstream="m0", occurred_at=later
    )
    book(ledger, [*events, again])

    newest = usage_report(ledger, Asked(by=("request", "tenant")))
    worst = usage_report(ledger, Asked(by=("request",), sort="margin", limit=2))
    costly = usage_report(ledger, Asked(by=("request", "model"), sort="cost"))

    assert newest is not None and worst is not None and costly is not None
    assert [row["request"] for row in newest["rows"]] == [f"req_{n}" for n in (4, 3, 2, 1, 0)]
    assert newest["rows"][0]["at"].startswith("2026-11-")
    assert {row["tenant"] for row in newest["rows"]} == {"acme"}
    assert [row["requests"] for row in newest["rows"]] == [1] * 5
    assert (len(worst["rows"]), worst["more"]) == (2, 3)
    assert worst["totals"] == newest["totals"]
    assert worst["totals"]["requests"] == 5
    assert [row["margin_nano"] for row in worst["rows"]] == sorted(
        row["margin_nano"] for row in newest["rows"]
    )[:2]
    tried = {(row["request"], row["model"]): row["requests"] for row in costly["rows"]}
    assert (tried["req_1", "m1"], tried["req_1", "m0"]) == (0, 1)


def test_requests_of_one_name_are_kept_apart(ledger: Ledger) -> None:
    """Senders from outside name their own."""
    book(
        ledger,
        [
            make_event(exchange_id="x1", request_id="job"),
            make_event(exchange_id="x2", request_id="job", tenant="zeta"),
        ],
    )

    assert len(_rows(usage_report(ledger, Asked(by=("request",))))) == 2


def _rows(report: dict[str, Any] | None) -> list[dict[str, Any]]:
    assert report is not None
    found: list[dict[str, Any]] = report["rows"]
    return found


@pytest.mark.parametrize("sort", ["name", "requests", "cost", "charged", "margin"])
def test_rows_are_sorted(ledger: Ledger, sort: str) -> None:
    """What is largest first, of margins the smallest; what is equal by name."""
    for number, count in enumerate((2, 1, 3)):
        name = f"m{number}"
        book(
            ledger,
            [make_event(model_upstream=name, cost_nano=1_000_000 * count) for _ in range(count)],
        )

    rows = _rows(usage_report(ledger, Asked(by=("model",), sort=sort)))

    key = {"cost": "cost_nano", "charged": "admission_nano", "margin": "margin_nano"}.get(
        sort, sort
    )
    if sort == "name":
        assert [row["model"] for row in rows] == ["m0", "m1", "m2"]
    else:
        found = [row[key] for row in rows]
        assert found == sorted(found, reverse=sort != "margin")
