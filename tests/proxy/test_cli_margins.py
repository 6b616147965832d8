"""`weir margins`: from a bill to what was really earned, over a real ledger."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from fixtures_ledger import book, make_event, new_ledger

from metering.settlement.ledger.store import open_ledger
from proxy.cli import weir

FIRST_NS = 1_793_491_200_000_000_000
COSTS = """start_time,amount_value,amount_currency,line_item,project_id
1793491200,0.008,usd,"gpt-4o-2024-08-06, input",proj_1
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """One call of acme on the first of November and a cent of its plan; the provider charges more
    than we thought."""
    path = tmp_path / "config.yaml"
    path.write_text(
        "data_dir: .\n"
        "providers: {openai: {type: openai, api_key: '${NO_KEY}', reconcile: {}}}\n"
        "plans: [{id: gold, charges: [{id: fee, kind: flat, amount: 0.01}]}]\n"
        "tenants: [{id: acme, plan: [{id: gold, from: 2026-01-01}]}]\n"
    )
    ledger = new_ledger(tmp_path)
    book(
        ledger,
        [make_event(occurred_at=FIRST_NS + 5, model_answered="gpt-4o-2024-08-06", feature="chat")],
    )
    ledger.close()
    file = tmp_path / "costs.csv"
    file.write_text(COSTS)
    os.utime(file, ns=(FIRST_NS + 10**15, FIRST_NS + 10**15))
    return path


def _weir(config: Path, *words: str) -> Result:
    return CliRunner().invoke(weir, [*words, "--config", str(config)], catch_exceptions=False)


def _margins(config: Path, by: str) -> dict[str, object]:
    found = _weir(config, "margins", "--month", "2026-11", "--by", by, "--json")
    assert found.exit_code == 0, found.output
    body: dict[str, object] = json.loads(found.stdout)
    return body


def test_before_and_after_a_comparison(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the provider charges counts from the comparison on; booking it changes no total."""
    monkeypatch.setattr("proxy.cli_reconciling.now_ns", lambda: FIRST_NS + 10**16)
    monkeypatch.setattr("proxy.cli_reconcile._days", lambda *_: ("2026-11-01", "2026-11-02"))
    before = _margins(config, "tenant")
    file = str(config.parent / "costs.csv")
    _weir(config, "reconcile", "import", file, "--provider", "openai")
    _weir(config, "reconcile", "run")
    compared = _margins(config, "model")
    shown = _weir(config, "margins", "--month", "2026-11")
    _weir(config, "reconcile", "apply", "1", "--by", "ann", "--reason", "as billed")
    after = _margins(config, "tenant")

    [acme] = before["rows"]
    assert (before["not_compared"], before["drifting"]) == (["openai"], [])
    assert (acme["sold_nano"], acme["cost_nano"]) == (15_500_000, 5_500_000)
    assert [(row["name"], row["open_nano"]) for row in compared["rows"]] == [
        ("(plans)", 0),
        ("gpt-4o", 2_500_000),
    ]
    assert compared["totals"]["capture_ppm"] == 1_937_500
    assert [each["model"] for each in compared["drifting"]] == ["gpt-4o-2024-08-06"]
    assert "too far from what their provider charges" in shown.stdout
    [acme] = after["rows"]
    assert (acme["cost_nano"], acme["open_nano"]) == (8_000_000, 0)
    assert after["totals"]["margin_nano"] == compared["totals"]["margin_nano"] == 7_500_000


def test_by_feature_and_project(config: Path) -> None:
    """Each sums to the same."""
    by_feature, by_project = _margins(config, "feature"), _margins(config, "project")
    ledger = open_ledger(f"sqlite:///{config.parent / 'ledger.db'}")
    book(ledger, [make_event(occurred_at=FIRST_NS + 9, feature=None)])
    ledger.close()

    assert [row["name"] for row in by_feature["rows"]] == ["(plans)", "chat"]
    assert by_feature["totals"] == by_project["totals"]
    assert "(none)" in _weir(config, "margins", "--month", "2026-11", "--by", "feature").stdout
    assert _weir(config, "margins", "--month", "2026").exit_code == 2
