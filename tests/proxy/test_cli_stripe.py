"""`weir stripe`, over a real ledger and a Stripe on a socket."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from fake_stripe import KEY
from fixtures_ledger import new_ledger
from fixtures_stripe import HOUR, Bench

from metering.clock import now_ns
from metering.stripe_settings import StripeMode
from proxy.cli import weir

DAY = 24 * HOUR


@pytest.fixture
def raw_bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    """A ledger with usage of three hours ago, and a file that tells it to Stripe."""
    bench = Bench(new_ledger(tmp_path), StripeMode.RAW)
    bench.clock.now_ns = now_ns()
    monkeypatch.setenv("STRIPE_API_KEY", KEY)
    (tmp_path / "config.yaml").write_text(
        f"""data_dir: .
stripe:
  api_key: "${{STRIPE_API_KEY}}"
  since: 2026-01-01
  mode: raw
  api_base: {bench.settings.api_base}
  meters:
    - {{meter: llm-tokens, event_name: llm_tokens}}
    - {{meter: api-calls, event_name: api_calls}}
tenants: [{{id: acme, stripe_customer: cus_acme}}, {{id: beta, stripe_customer: cus_beta}}]
"""
    )
    monkeypatch.chdir(tmp_path)
    bench.use(occurred_at=bench.clock() - 3 * HOUR)
    yield bench
    bench.stripe.stop()
    bench.ledger.close()


def _run(*words: str) -> Result:
    return CliRunner().invoke(weir, ["stripe", *words], catch_exceptions=False)


def test_sync_tells_stripe_and_status_shows_it(raw_bench: Bench) -> None:
    synced = _run("sync")
    shown = json.loads(_run("status", "--json").stdout)

    assert synced.exit_code == 0, synced.output
    assert "requests: 2 taken" in synced.stdout
    assert raw_bench.have() == raw_bench.want()
    assert [(row["event_name"], row["ledger"], row["stripe"]) for row in shown["meters"]] == [
        ("api_calls", 1, 1),
        ("llm_tokens", 700, 700),
    ]
    assert "llm_tokens" in _run("status").stdout


def test_what_is_held_can_be_told_once_it_is_mended(raw_bench: Bench) -> None:
    raw_bench.stripe.customers.discard("cus_acme")
    refused = _run("sync")
    raw_bench.stripe.customers.add("cus_acme")

    told = _run("sync", "--held")

    assert (refused.exit_code, told.exit_code) == (1, 0)
    assert raw_bench.have() == raw_bench.want()


def test_verify_only_looks_unless_it_is_to_repair(raw_bench: Bench) -> None:
    """A raw meter that lacks what it took gets it by a person's word."""
    raw_bench.stripe.trouble = lambda number: "rejects" if number <= 2 else None
    raw_bench.clock.now_ns -= 2 * HOUR
    raw_bench.turn()

    looked = _run("verify")
    told = json.loads(_run("verify", "--json").stdout)
    before = list(raw_bench.stripe.applied)
    _run("verify", "--repair")

    assert looked.exit_code == 1, looked.output
    assert "2 differ" in looked.stdout
    assert [each["seen"] for each in told["differences"]] == [0, 0]
    assert before == []
    assert raw_bench.have() == raw_bench.want()
    assert _run("verify").exit_code == 0


@pytest.mark.parametrize("writes_off", [False, True])
def test_what_is_too_late_is_carried_or_written_off(raw_bench: Bench, writes_off: bool) -> None:
    _run("sync")
    raw_bench.use(occurred_at=raw_bench.clock() - 36 * DAY)
    late = _run("sync")

    option = ["--write-off"] if writes_off else []
    carried = _run("carry", "--tenant", "acme", "--by", "anna", *option)
    after = _run("sync")

    assert (late.exit_code, after.exit_code) == (1, 0), after.output
    assert "2 hours" in carried.stdout
    assert raw_bench.have()["cus_acme", "llm_tokens"] == (700 if writes_off else 1_400)
    raw_bench.use(occurred_at=raw_bench.clock() - 36 * DAY)  # and what comes after that
    assert _run("sync").exit_code == 1


def test_without_a_section_there_is_nothing_to_sync(raw_bench: Bench, tmp_path: Path) -> None:
    del raw_bench
    (tmp_path / "config.yaml").write_text("data_dir: .\n")

    assert _run("sync").exit_code == 3
    assert "no section stripe" in _run("status").stdout
