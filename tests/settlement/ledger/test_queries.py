"""Reports say what the ledger holds, to the nano."""

from __future__ import annotations

import os
import subprocess
import sys

import orjson
from fixtures_ledger import BOOK, book, make_event

from metering.settlement.ledger.queries import invoice_report
from metering.settlement.ledger.store import Ledger

DAY_NS = 86_400_000_000_000


def test_an_unknown_tenant_has_no_invoice(ledger: Ledger) -> None:
    assert invoice_report(ledger, "nobody", "2026-11") is None


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
