"""`weir invoice --format` and `weir invoices`, over a real ledger."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from fixtures_ledger import book, make_event, new_ledger
from invoice_samples import worked_events

from metering.settlement.ledger.store import open_ledger
from metering.settlement.ledger.verify import verify
from proxy.cli import weir

PLANS = """
plans:
  - id: worked
    name: Worked example
    effective_from: 2020-10-01
    charges:
      - {id: calls, kind: per_request, rate: 0.01}
      - id: tokens
        kind: matrix
        cells:
          - {model: model-a, type: input, rate: 0.00001}
          - {model: model-a, type: output, rate: 0.00002}
          - {model: model-b, type: input, rate: 0.000005}
          - {model: model-b, type: output, rate: 0.00001}
"""

OCTOBER_NS = 1_601_510_400_000_000_000
"""The beginning of October 2020, a month that is over."""

TENANTS = """
invoices: {issuer: {name: Weir Works}, footer: Thank you.}
tenants:
  - {id: acme, plan: [{id: worked, from: 2020-10-01}], billing: {name: Acme Ltd, address: Athens}}
  - {id: free}
"""


@pytest.fixture
def config(tmp_path: Path) -> Iterator[Path]:
    """The worked example of acme, and two events of a tenant without a plan; no Redis runs."""
    path = tmp_path / "config.yaml"
    path.write_text(f"data_dir: .\n{PLANS}{TENANTS}")
    ledger = new_ledger(tmp_path)
    book(ledger, [_in_2020(each, n) for n, each in enumerate(worked_events())])
    book(ledger, [_in_2020(make_event(tenant="free"), n) for n in range(2)])
    ledger.close()
    return path


def _in_2020(event, second: int):  # type: ignore[no-untyped-def]
    from dataclasses import replace

    at = OCTOBER_NS + second * 10**9
    return replace(event, occurred_at=at, completed_at=at + 1, emitted_at=at + 2)


def run(config: Path, *words: str) -> Result:
    return CliRunner().invoke(weir, [*words, "--config", str(config)], env={"WEIR_CONFIG": None})


ACME = ("--tenant", "acme", "--month", "2020-10")
ISSUE = ("invoices", "issue", "--month", "2020-10", "--force")


def test_a_month_is_issued_for_everybody_with_usage(config: Path) -> None:
    """Under a plan or not; a repeat says so, and the books hold."""
    first, again = run(config, *ISSUE, "--json"), run(config, *ISSUE)
    ledger = open_ledger(f"sqlite:///{config.parent / 'ledger.db'}")

    body = json.loads(first.stdout)
    assert [(row["number"], row["total"], row["is_new"]) for row in body["issued"]] == [
        ("acme-2020-10", "0.14", True),
        ("free-2020-10", "0.01", True),
    ]
    assert "acme-2020-10: acme, 0.14 USD, was issued already" in again.stdout
    assert verify(ledger) == []
    ledger.close()


def test_nothing_is_issued_while_events_wait(config: Path) -> None:
    """Redis is away here, so nobody knows."""
    refused = run(config, *ISSUE[:-1])

    assert (refused.exit_code, "not issued: Redis is away" in refused.stderr) == (1, True)


def test_a_month_that_goes_on_is_said_for_each(config: Path) -> None:
    result = run(config, "invoices", "issue", "--month", "2200-01", "--force", "--tenant", "acme")

    assert (result.exit_code, "acme: 2200-01 can be closed" in result.stderr) == (1, True)


def test_each_format(config: Path, tmp_path: Path) -> None:
    """To a file or to standard output; what was issued has its number."""
    run(config, *ISSUE)
    found = {}
    for how in ("json", "csv", "html", "pdf", "focus"):
        out = tmp_path / f"invoice.{how}"
        result = run(config, "invoice", *ACME, "--format", how, "--out", str(out))
        assert (result.exit_code, result.stdout) == (0, "")
        found[how] = out.read_bytes()
        assert run(config, "invoice", *ACME, "--format", how).stdout_bytes == found[how]

    document = json.loads(found["json"])
    assert (document["number"], document["total"]) == ("acme-2020-10", "0.14")
    assert document["customer"]["address"] == ["Athens"]
    assert b"Acme Ltd" in found["html"]
    assert found["pdf"].startswith(b"%PDF-")
    assert found["csv"].count(b"acme-2020-10") == 6
    assert b"AI and Machine Learning" in found["focus"]
    assert not list(tmp_path.glob(".invoice*"))


def test_before_its_issue_it_is_provisional(config: Path) -> None:
    document = json.loads(run(config, "invoice", *ACME, "--format", "json").stdout)
    page = run(config, "invoice", *ACME, "--format", "table").stdout
    simple = run(config, "invoice", *ACME, "--simple").stdout

    assert (document["status"], document["number"]) == ("provisional", None)
    assert "Provisional invoice acme, 2020-10" in page
    assert "model-a, input tokens" in page
    assert "model-a, input tokens" not in simple
    assert "not issued yet" in simple


def test_events_of_a_line(config: Path, tmp_path: Path) -> None:
    """As a table, as CSV and as JSON: they sum to the line."""
    words = ("invoices", "events", *ACME, "--line")
    body = json.loads(run(config, *words, "2", "--json").stdout)
    rows = list(csv.DictReader(io.StringIO(run(config, *words, "1", "--format", "csv").stdout)))
    table = run(config, *words, "1").stdout
    out = tmp_path / "events.csv"
    run(config, *words, "1", "--out", str(out))

    assert body["sum_nano"] == body["line"]["amount_nano"] == 10_000_000
    assert sum(each["quantity"] for each in body["events"]) == body["line"]["quantity"] == 1_000
    assert [row["request_id"] for row in rows] == [f"req-{n}" for n in range(10)]
    assert "10 events" in table
    assert "0.100000000" in table
    assert out.read_text().count("req-") == 10


@pytest.mark.parametrize(
    ("words", "exit_code", "says"),
    [
        (("invoices", "events", *ACME, "--line", "9"), 1, "has 5 lines, and none is 9"),
        (("invoice", "--tenant", "nobody", "--format", "json"), 3, "no tenant 'nobody'"),
        (("invoice", *ACME, "--out", "x"), 2, "--out needs a --format"),
        (("invoice", *ACME, "--json", "--format", "pdf"), 2, "without --format"),
        (("invoice", *ACME, "--format", "csv", "--out", "/nowhere/x"), 1, "cannot write"),
        (("invoices", "correct", *ACME, "--reason", "x"), 1, "no invoice of acme for 2020-10"),
        ((*ISSUE, "--tenant", "nobody"), 1, "no tenant 'nobody'"),
    ],
)
def test_slips(config: Path, words: tuple[str, ...], exit_code: int, says: str) -> None:
    result = run(config, *words)

    assert (result.exit_code, says in result.stderr) == (exit_code, True), result.stderr


def test_a_correction_replaces_and_is_listed(config: Path) -> None:
    run(config, *ISSUE)
    config.write_text(config.read_text().replace("address: Athens", "address: Sparta"))

    made = run(config, "invoices", "correct", *ACME, "--reason", "they moved")
    listed = json.loads(run(config, "invoices", "list", "--json").stdout)["invoices"]
    table = run(config, "invoices", "list", "--tenant", "acme").stdout
    page = run(config, "invoice", *ACME, "--format", "html").stdout

    assert made.stdout.strip() == "acme-2020-10-C1 replaces acme-2020-10"
    assert [row["number"] for row in listed] == [
        "acme-2020-10",
        "free-2020-10",
        "acme-2020-10-C1",
    ]
    assert "acme-2020-10-C1" in table
    assert "free" not in table
    assert "Corrected invoice" in page
    assert "Sparta" in page


def test_no_pdf_for_letters_that_no_font_has(config: Path) -> None:
    config.write_text(config.read_text().replace("Acme Ltd", "漢字"))
    result = run(config, "invoice", *ACME, "--format", "pdf")

    assert result.exit_code == 1
    assert "no PDF was made" in result.stderr
    assert "invoices.fonts" in result.stderr


def test_the_report_of_a_planned_month_counts_what_the_plan_leaves(config: Path) -> None:
    """Nothing of the worked example has a list price, and all of it is charged."""
    body = json.loads(run(config, "invoice", *ACME, "--json").stdout)

    assert (body["unpriced"], body["total"]) == (0, "0.14")


def test_an_empty_list(config: Path) -> None:
    assert run(config, "invoices", "list").stdout.strip() == "no invoices were issued"


def test_the_plain_report_shows_what_credit_pays(config: Path) -> None:
    """Without --format, too: each grant that paid, and what is left to pay."""
    granted = run(
        config, "credits", "grant", "--tenant", "acme", "--usd", "0.05", "--kind", "paid",
        "--from", "2020-10-01T00:00:00Z", "--id", "po-1", "--reference", "PO 1",
    )  # fmt: skip
    before = json.loads(run(config, "invoice", *ACME, "--json").stdout)
    run(config, *ISSUE)

    shown = run(config, "invoice", *ACME)

    document = json.loads(run(config, "invoice", *ACME, "--format", "json").stdout)
    assert granted.exit_code == 0
    assert (before["credits"], before["due"]) == (document["credits"], document["due"])
    assert document["credits_nano"] == 50_000_000
    rows = [line.split() for line in shown.stdout.splitlines()]
    assert ["Prepaid", "credit,", "PO", "1", "-0.05"] in rows
    assert ["Amount", "due", document["due"], "USD"] in rows
