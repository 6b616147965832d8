"""`weir usage` over time and `weir requests`: from a month to one request, over a real ledger."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from fixtures_ledger import NOVEMBER_NS, book, make_event, new_id, new_ledger

from metering.settlement.ledger.analytics_rollup import update_analytics
from proxy.cli import weir

SINCE = ("--since", "2026-11-01", "--until", "2026-12-01")
EXCHANGE = new_id()


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Three requests, summed: two of acme on the 16th, one of globex the day before."""
    path = tmp_path / "config.yaml"
    path.write_text("data_dir: .\ntenants: [{id: acme}]\n")
    ledger = new_ledger(tmp_path)
    failed = {"status": "error", "reason_code": "upstream_error"}
    events = [
        make_event(exchange_id=EXCHANGE, latency_ms=200, user="ann"),
        make_event(**failed, model_upstream="cheap-1"),
        make_event(tenant="globex", occurred_at=NOVEMBER_NS - 86_400 * 10**9),
    ]
    book(ledger, events)
    update_analytics(ledger)
    ledger.close()
    return path


def run(config: Path, *words: str) -> Result:
    return CliRunner().invoke(weir, [*words, "--config", str(config)])


def test_usage_over_time_from_a_month_to_a_request(config: Path) -> None:
    days = run(config, "usage", *SINCE, "--interval", "day", "--by", "tenant")
    where = ("--where", "model=cheap-1", "--tenant", "acme")
    told = json.loads(run(config, "usage", *SINCE, *where, "--by", "reason", "--json").stdout)
    listed = json.loads(run(config, "requests", *SINCE, "--where", "user=ann", "--json").stdout)
    one = run(config, "requests", EXCHANGE)

    assert "2026-11-15T00:00  globex" in days.stdout
    assert "Total" in days.stdout
    assert [row["reason"] for row in told["data"]] == ["upstream_error"]
    assert told["totals"]["errors"] == 1
    assert [row["exchange_id"] for row in listed["data"]] == [EXCHANGE]
    assert "input_uncached" in one.stdout and "0.002500000" in one.stdout
    assert run(config, "requests", *SINCE, "--limit", "1").stdout.count("raise --limit") == 1


def test_csv_has_every_row(config: Path) -> None:
    result = run(config, "usage", *SINCE, "--interval", "day", "--by", "tenant,model", "--csv")

    rows = list(csv.DictReader(io.StringIO(result.stdout)))
    assert [row["tenant"] for row in rows] == ["globex", "acme", "acme"]
    assert all(row["cost_usd"] for row in rows)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("usage", *SINCE, "--by", "colour"), "'colour' is no dimension"),
        (("usage", *SINCE, "--where", "model"), "is not like model=gpt-4o"),
        (("usage", "--since", "2026-12-01", "--until", "2026-11-01"), "from must be before to"),
        (("usage", "--until", "soon"), "neither RFC 3339"),
        (("usage", *SINCE, "--sort", "luck"), "sort: 'luck'"),
    ],
)
def test_what_cannot_be_asked_is_wrong_usage(
    config: Path, words: tuple[str, ...], said: str
) -> None:
    result = run(config, *words)

    assert result.exit_code == 2
    assert said in result.stderr


def test_an_exchange_that_is_not_there(config: Path) -> None:
    assert run(config, "requests", "nobody").exit_code == 3


def test_sums_are_made_again(config: Path) -> None:
    assert run(config, "ledger", "rebuild-analytics").stdout == "3 events summed\n"
    assert run(config, "ledger", "verify").exit_code == 0
