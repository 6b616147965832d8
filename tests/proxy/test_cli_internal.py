"""`weir reconcile internal`: each difference is made for real, and named with its ids."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import closing
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from fake_stripe import KEY
from fixtures_ledger import allow_changes, book, make_event, new_ledger
from fixtures_stripe import Bench
from fixtures_worker import Site
from sqlalchemy import text

from metering.plans import Assignment, Plan
from metering.settlement.invoices import period_bounds_ns
from metering.settlement.ledger.plan_books import Terms, close_month
from metering.settlement.ledger.store import open_ledger
from metering.stripe_settings import StripeMode
from proxy.cli import weir

MONTH = "2026-11"
TERMS = Terms((Plan("gold", "Gold"),), (Assignment("gold", date(2026, 1, 1)),))


def run(path: Path, *words: str) -> Result:
    return CliRunner().invoke(
        weir, ["reconcile", "internal", *words, "--config", str(path)], catch_exceptions=False
    )


async def compare(path: Path, *words: str) -> dict[str, Any]:
    found = await asyncio.to_thread(run, path, "--month", MONTH, "--json", *words)
    body: dict[str, Any] = json.loads(found.stdout)
    assert found.exit_code == (0 if body["ok"] else 1)
    return body


def differences(body: dict[str, Any]) -> list[tuple[str, str]]:
    return [
        (each["between"], each["said"]) for row in body["tenants"] for each in row["differences"]
    ]


@pytest.fixture
async def config(site: Site, tmp_path: Path) -> Path:
    """Three events of two tenants, settled; another of acme waits."""
    await site.publish_prices()
    await site.commit(make_event(), make_event(), make_event(tenant="beta"))
    await site.work()
    await site.commit(make_event())
    path = tmp_path / "config.yaml"
    path.write_text(
        f"data_dir: {tmp_path}\n"
        f"redis: {{url: '{site.redis_url}', prefix: '{site.keys.prefix}'}}\n"
        f"tenants: [{{id: acme}}, {{id: beta}}]\n"
    )
    return path


async def test_what_agrees(config: Path) -> None:
    """Every number is there, and what is on its way is no difference."""
    body = await compare(config)

    assert body["ok"]
    acme, beta = body["tenants"]
    assert acme["stream"] == {"events": 3, "waiting": 1, "set_aside": 0}
    assert acme["ledger"] == {"attempts": 2, "sold_nano": 11_000_000, "cost_nano": 11_000_000}
    assert acme["rollup"]["sold_nano"] == acme["invoice"]["total_nano"] == 11_000_000
    assert beta["ledger"]["attempts"] == 1
    assert [row["tenant"] for row in (await compare(config, "--tenant", "beta"))["tenants"]] == [
        "beta"
    ]


async def test_an_event_that_was_settled_and_is_not_there(config: Path, site: Site) -> None:
    """It is named with its place in the stream."""
    with closing(open_ledger(site.ledger_url)) as ledger, ledger.write() as connection:
        allow_changes(connection, "usage_event")
        lost = connection.execute(text("SELECT min(event_id) FROM usage_event")).scalar_one()
        connection.execute(text("DELETE FROM usage_event WHERE event_id = :lost"), {"lost": lost})

    body = await compare(config)

    found = [each for row in body["tenants"] for each in row["differences"]]
    [gone] = [each for each in found if each["between"] == "stream-ledger"]
    assert lost in gone["ids"][0]
    assert "shard " in gone["ids"][0]
    assert "ledger-rollup" in {each["between"] for each in found}


async def test_dead_letters_and_conflicts_are_set_aside(config: Path, site: Site) -> None:
    twice = make_event()
    await site.commit(twice, make_event(event_id=twice.event_id, project="other"))
    await site.work()

    body = await compare(config)

    assert body["ok"]
    assert body["tenants"][0]["stream"]["set_aside"] == 1


async def test_a_rollup_that_was_changed(config: Path, site: Site) -> None:
    """The hour and its events are named."""
    with closing(open_ledger(site.ledger_url)) as ledger, ledger.write() as connection:
        connection.execute(
            text("UPDATE rollup SET sell_nano = sell_nano + 1 WHERE unit = 'output_text'")
        )

    body = await compare(config)
    shown = await asyncio.to_thread(run, config, "--month", MONTH)

    assert {between for between, _ in differences(body)} == {"ledger-rollup"}
    [acme] = body["tenants"][0]["differences"]
    assert acme["said"].startswith("hour 2026-11-16T00: events (2, 11000000, 11000000), rollup (2,")
    assert len(acme["ids"]) == 2
    assert acme["ids"][0] in shown.stdout


async def test_a_statement_that_is_not_what_the_events_say(config: Path, site: Site) -> None:
    """A closed month agrees; late events are on the next one; a forged event shows."""
    _, end_ns = period_bounds_ns(MONTH)
    with closing(open_ledger(site.ledger_url)) as ledger:
        close_month(ledger, "acme", MONTH, TERMS, now_ns=end_ns + 10**13)
    closed = await compare(config)
    await site.work()  # what waited
    late = await compare(config)
    with closing(open_ledger(site.ledger_url)) as ledger, ledger.write() as connection:
        allow_changes(connection, "usage_event")
        connection.execute(text("DELETE FROM usage_event WHERE tenant = 'acme'"))
        connection.execute(text("DELETE FROM rollup WHERE tenant = 'acme'"))

    gone = await compare(config)

    assert (closed["ok"], late["ok"]) == (True, True)
    assert closed["tenants"][0]["invoice"] == {"total_nano": 11_000_000, "is_closed": True}
    assert ("ledger-statement", "the statement is made of 2 events, there are 0") in differences(
        gone
    )


async def test_an_open_month_is_what_its_plan_says(config: Path) -> None:
    """The fee beside the list prices, in the invoice and in what is due alike."""
    plans = "plans: [{id: gold, charges: [{id: fee, kind: flat, amount: 2}]}]\n"
    text = config.read_text().replace(
        "{id: acme}", "{id: acme, plan: [{id: gold, from: 2026-01-01}]}"
    )
    config.write_text(plans + text)

    body = await compare(config)

    assert body["ok"]
    assert body["tenants"][0]["invoice"] == {"total_nano": 2_011_000_000, "is_closed": False}


async def test_without_redis_the_rest_is_compared(config: Path, site: Site) -> None:
    config.write_text(config.read_text().replace(site.redis_url, "unix:///run/none.sock"))

    body = await compare(config)

    assert body["ok"]
    assert "none.sock" in body["streams_unread"]


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    bench = Bench(new_ledger(tmp_path), StripeMode.RAW)
    monkeypatch.setenv("STRIPE_API_KEY", KEY)
    (tmp_path / "config.yaml").write_text(
        "data_dir: .\n"
        "stripe:\n"
        '  api_key: "${STRIPE_API_KEY}"\n'
        "  since: 2026-01-01\n"
        "  mode: raw\n"
        f"  api_base: {bench.settings.api_base}\n"
        "  meters: [{meter: llm-tokens, event_name: llm_tokens}]\n"
        "tenants: [{id: acme, stripe_customer: cus_acme}]\n"
    )
    yield bench
    bench.stripe.stop()
    bench.ledger.close()


async def test_stripe_has_something_else(told: Bench, tmp_path: Path) -> None:
    """What waits is no difference, what it shows otherwise is, by its hour."""
    told.use()
    told.turn()
    sent = await compare(tmp_path / "config.yaml")
    book(told.ledger, [make_event()])
    told.want()
    waiting = await compare(tmp_path / "config.yaml")
    with told.ledger.write() as connection:
        connection.execute(text("UPDATE stripe_hour SET seen = acked + 1"))

    off = await compare(tmp_path / "config.yaml")

    assert sent["ok"]
    assert waiting["ok"]
    assert waiting["tenants"][0]["stripe"]["waiting"] >= 1
    assert "Stripe took 700 and shows 701" in {said for _, said in differences(off)}
    [differs] = off["tenants"][0]["differences"]
    assert differs["ids"] == ["llm_tokens 2026-11-16T00"]


def test_a_month_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("data_dir: .\n")

    assert run(tmp_path / "config.yaml", "--month", "x").exit_code == 2
