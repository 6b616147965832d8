"""Reports say what the ledger holds, to the nano."""

from __future__ import annotations

import os
import subprocess
import sys

import orjson
from fixtures_ledger import BOOK, NOVEMBER_NS, book, make_event

from metering.settlement.ledger.queries import invoice_report, usage_report
from metering.settlement.ledger.store import Ledger

DAY_NS = 86_400_000_000_000


def test_requests_are_exchanges_not_attempts(ledger: Ledger) -> None:
    first = make_event(exchange_id="x1", billable=False, units={"input_uncached": 500})
    second = make_event(exchange_id="x1", attempt=2)
    fallback = make_event(exchange_id="x1", attempt=3, model_upstream="cheap-1")
    book(ledger, [first, second, fallback, make_event(tenant="zeta")])

    report = usage_report(ledger, "acme", pending=4)

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
        if (report := usage_report(ledger, tenant))
    ]

    assert counts == [2, 1, 1]


def test_settled_through_is_when_the_newest_attempt_was_over(ledger: Ledger) -> None:
    """A long answer that began early may be the last to end."""
    second = 1_000_000_000
    long = make_event(occurred_at=NOVEMBER_NS, completed_at=NOVEMBER_NS + 90 * second)
    short = make_event(occurred_at=NOVEMBER_NS + second, completed_at=NOVEMBER_NS + 2 * second)
    book(ledger, [long, short])

    found = [
        report["settled_through"] for t in (None, "acme") if (report := usage_report(ledger, t))
    ]

    assert found == ["2026-11-16T00:01:30.000000Z"] * 2


def test_usage_of_all_tenants_counts_other_units_and_since(ledger: Ledger) -> None:
    old = make_event(occurred_at=NOVEMBER_NS - DAY_NS)
    book(ledger, [old, make_event(tenant="zeta", units={"second": 2, "image": 1})])

    report = usage_report(ledger, since_ns=NOVEMBER_NS)

    assert report is not None
    assert [row["tenant"] for row in report["rows"]] == ["zeta"]
    assert report["totals"]["units"] == {"second": 2, "image": 1}


def test_an_unknown_tenant_is_none(ledger: Ledger) -> None:
    assert usage_report(ledger, "nobody") is None
    assert invoice_report(ledger, "nobody", "2026-11") is None


def test_an_empty_ledger_has_an_empty_report(ledger: Ledger) -> None:
    report = usage_report(ledger)

    assert report is not None
    assert report["rows"] == []
    assert report["settled_through"] is None


def test_an_invoice_is_its_events_to_the_nano(ledger: Ledger) -> None:
    events = [
        make_event(model_upstream="cheap-1", units={"output_text": n, "input_uncached": 7})
        for n in range(1, 40)
    ]
    book(ledger, events)

    report = invoice_report(ledger, "acme", "2026-11")

    assert report is not None
    assert report.event_count == 39
    assert report.invoice["total_nano"] == sum(event.admission_nano for event in events)
    line = report.invoice["lines"][1]
    assert line == {
        "kind": "usage",
        "project": "default",
        "model": "cheap-1",
        "unit": "output_text",
        "quantity": sum(range(1, 40)),
        "rate_pico": 2_221,
        "amount_nano": line["amount_nano"],
        "price_version": BOOK.sell_version,
    }
    assert abs(line["amount_nano"] * 1_000 - line["quantity"] * 2_221) <= 500 * 39


def test_the_worked_example_costs_0_0055_usd(ledger: Ledger) -> None:
    book(ledger, [make_event(units={"input_uncached": 500, "output_text": 200})])

    report = invoice_report(ledger, "acme", "2026-11")

    assert report is not None
    assert report.invoice["total_nano"] == 5_500_000
    assert report.invoice["total"] == "0.01"


def test_only_billable_events_of_the_month_and_tenant_are_billed(ledger: Ledger) -> None:
    november = 1_793_491_200_000_000_000
    december = november + 30 * DAY_NS
    book(
        ledger,
        [
            make_event(occurred_at=november),
            make_event(occurred_at=december - 1),
            make_event(occurred_at=november - 1),
            make_event(occurred_at=december),
            make_event(billable=False),
            make_event(tenant="zeta"),
        ],
    )

    totals = {
        period: report.invoice["total_nano"]
        for period in ("2026-10", "2026-11", "2026-12", "2027-01")
        if (report := invoice_report(ledger, "acme", period))
    }

    assert totals == {
        "2026-10": 5_500_000,
        "2026-11": 11_000_000,
        "2026-12": 5_500_000,
        "2027-01": 0,
    }


def test_a_month_of_corrections_has_a_negative_total(ledger: Ledger) -> None:
    minus = {"input_uncached": -5_000, "output_text": -2_000}
    book(ledger, [make_event(kind="correction", corrects="e0", units=minus)])

    report = invoice_report(ledger, "acme", "2026-11")

    assert report is not None
    assert {line["kind"] for line in report.invoice["lines"]} == {"adjustment"}
    assert report.invoice["total_nano"] == -55_000_000
    assert report.invoice["total"] == "-0.06"


def test_what_stands_beside_the_invoice_is_not_in_its_hash(ledger: Ledger) -> None:
    book(ledger, [make_event()])

    one = invoice_report(ledger, "acme", "2026-11", pending=0)
    other = invoice_report(ledger, "acme", "2026-11", pending=7)

    assert one is not None
    assert other is not None
    assert one.sha256 == other.sha256
    assert (one.pending, other.pending) == (0, 7)
    assert orjson.loads(one.body) == one.invoice


def test_zone_locale_and_hash_seed_leave_the_bytes_alone(ledger: Ledger, ledger_url: str) -> None:
    book(ledger, [make_event(project=name) for name in ("b", "a")])
    code = (
        "import sys; from metering.settlement.ledger.store import open_ledger\n"
        "from metering.settlement.ledger.queries import invoice_report\n"
        f"ledger = open_ledger({ledger_url!r})\n"
        "print(invoice_report(ledger, 'acme', '2026-11').sha256)"
    )

    hashes = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "TZ": zone, "PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
        ).stdout
        for zone, seed in (("UTC", "0"), ("Pacific/Kiritimati", "7"))
    }

    assert len(hashes) == 1
