"""`weir plans` and the invoice of a tenant with a plan, over a real ledger."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from fixtures_ledger import book, make_event, new_ledger

from metering.settlement.ledger.store import open_ledger
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
  - id: big
    minimum: 100
    trial_days: 3
    charges:
      - {id: base, kind: flat, amount: 49}
      - id: all
        kind: graduated
        meter: llm-tokens
        included: 1000
        tiers: [{up_to: 5000, rate: 0.00001}, {rate: 0.000005, flat: 1}]
      - {id: packs, kind: package, meter: api-calls, amount: 2, size: 5, add_on: true}
    coupons: [{id: launch, percent: 20, months: 3, charges: [base]}]
"""
OCTOBER_NS = 1_601_510_400_000_000_000


@pytest.fixture
def config(tmp_path: Path) -> Iterator[Path]:
    """Ten calls of acme in October, as in the worked example; no Redis runs."""
    path = tmp_path / "config.yaml"
    tenants = "tenants: [{id: acme, plan: [{id: worked, from: 2020-10-01}]}, {id: free}]"
    path.write_text(f"data_dir: .\n{PLANS}{tenants}\n")
    ledger = new_ledger(tmp_path)
    calls = [("model-a", 100, 50)] * 5 + [("model-b", 400, 200)] * 5
    book(
        ledger,
        [
            make_event(
                model_upstream=model,
                cost_version=None,
                sell_version=None,
                occurred_at=OCTOBER_NS + n,
                completed_at=OCTOBER_NS + n + 1,
                units={"input_uncached": read, "output_text": written, "api_call": 1},
            )
            for n, (model, read, written) in enumerate(calls)
        ],
    )
    ledger.close()
    return path


def run(config: Path, *words: str) -> Result:
    return CliRunner().invoke(weir, [*words, "--config", str(config)], env={"WEIR_CONFIG": None})


def test_the_invoice_of_the_worked_example(config: Path) -> None:
    """Calls and tokens by model and type, to the cent, and how each was made."""
    body = json.loads(
        run(config, "invoice", "--tenant", "acme", "--period", "2020-10", "--json").stdout
    )

    assert [
        (line["component"], line["model"], line["unit"], line["quantity"], line["cents"])
        for line in body["lines"]
    ] == [
        ("calls", "", "api_call", 10, 10),
        ("tokens", "model-a", "input_uncached", 500, 1),
        ("tokens", "model-a", "output_text", 250, 0),
        ("tokens", "model-b", "input_uncached", 2000, 1),
        ("tokens", "model-b", "output_text", 1000, 1),
    ]
    assert (body["total"], body["total_nano"], body["closed_at"]) == ("0.13", 130_000_000, None)
    assert body["settled_through"].startswith("2020-10-01")


def test_the_invoice_for_people(config: Path) -> None:
    """The formula stands on the line."""
    text = run(config, "invoice", "--tenant", "acme", "--period", "2020-10").stdout

    assert "2,000 x 0.000005 USD" in text
    assert "0.13 USD" in text


def test_the_invoice_of_a_tenant_without_a_plan_is_as_it_was(config: Path) -> None:
    """Nothing of plans in it."""
    body = json.loads(run(config, "invoice", "--tenant", "free", "--json").stdout)

    assert "terms" not in body


def test_closing_a_month(config: Path) -> None:
    """It needs the streams to be empty, or to be forced; a repeat says so."""
    refused = run(config, "plans", "close", "--month", "2020-10")
    first = run(config, "plans", "close", "--month", "2020-10", "--force", "--json")
    second = run(config, "plans", "close", "--month", "2020-10", "--force")
    invoice = run(config, "invoice", "--tenant", "acme", "--period", "2020-10", "--json")

    assert (refused.exit_code, "Redis is away" in refused.stderr) == (1, True)
    (row,) = json.loads(first.stdout)["closed"]
    assert (row["tenant"], row["total"], row["is_new"]) == ("acme", "0.13", True)
    assert "was closed already" in second.stdout
    assert json.loads(invoice.stdout)["sha256"] == row["sha256"]
    assert run(config, "ledger", "verify").exit_code == 0


def test_a_month_to_come_is_not_closed(config: Path) -> None:
    """Exit 1, with the reason."""
    result = run(config, "plans", "close", "--month", "2099-01", "--force")

    assert (result.exit_code, "after its end" in result.stderr) == (1, True)


def test_a_changed_plan_is_not_closed_by(config: Path) -> None:
    """The terms of a closed month are kept; others need a day of their own."""
    run(config, "plans", "close", "--month", "2020-10", "--force")
    changed = config.read_text().replace("kind: per_request, rate: 0.01", "kind: flat, amount: 1")
    config.write_text(
        changed.replace("{id: free}", "{id: free, plan: [{id: worked, from: 2020-10-02}]}")
    )

    result = run(config, "plans", "close", "--month", "2020-10", "--force")

    assert result.exit_code == 1
    assert "acme: 0.13 USD, was closed already" in result.stdout
    assert "plan 'worked' from 2020-10-01 is in the ledger with other terms" in result.stderr


def test_plans_are_listed_and_shown(config: Path) -> None:
    """Versions with who has them, and each charge in words."""
    rows = json.loads(run(config, "plans", "list", "--json").stdout)["plans"]
    shown = run(config, "plans", "show", "big").stdout

    assert [(row["plan"], row["tenants"], row["kept_in"]) for row in rows] == [
        ("big", [], ["file"]),
        ("worked", ["acme"], ["file"]),
    ]
    for words in (
        "49.00 USD",
        "1,000 included",
        "up to 5,000: 0.00001 USD each",
        "all above: 0.000005 USD each and 1.00 USD",
        "packs (add-on)",
        "At least 100.00 USD a month.",
        "Coupon launch: 20 % off base, for 3 months.",
    ):
        assert words in shown
    assert run(config, "plans", "show", "none").exit_code == 3
    body = json.loads(run(config, "plans", "show", "big", "--json").stdout)
    assert (body["plan"]["id"], len(body["version"])) == ("big", 12)


def test_a_preview_of_another_plan(config: Path) -> None:
    """What the same usage would come to: after the trial 28 of 31 days of fee and minimum."""
    words = ("plans", "preview", "--tenant", "acme", "--month", "2020-10")

    own = json.loads(run(config, *words, "--json").stdout)
    other = json.loads(run(config, *words, "--plan", "big", "--json").stdout)

    assert own["total"] == "0.13"
    assert other["total_nano"] == (100_000_000_000 * 28 * 2 + 31) // 62
    assert [line["component"] for line in other["lines"]][-2:] == ["base", "minimum"]
    assert "Minimum" in run(config, *words, "--plan", "big").stdout


def test_who_has_no_plan_has_no_preview(config: Path) -> None:
    """Exit 3, and how to try one."""
    result = run(config, "plans", "preview", "--tenant", "free")

    assert (result.exit_code, "--plan" in result.stderr) == (3, True)


def test_a_ledger_from_before_plans_is_told(config: Path) -> None:
    """The worker brings a ledger up to date, not a report; the invoice goes on as it was."""
    ledger = open_ledger(f"sqlite:///{config.parent / 'ledger.db'}")
    with ledger.write() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '0007'")
    ledger.close()

    preview = run(config, "plans", "preview", "--tenant", "acme")
    invoice = run(config, "invoice", "--tenant", "acme", "--period", "2020-10", "--json")

    assert (preview.exit_code, "older version" in preview.stderr) == (1, True)
    assert invoice.exit_code == 0
