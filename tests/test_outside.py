"""Usage from outside, with the real program behind it: the events, and the library's example."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
import time
import urllib.request
from contextlib import closing
from pathlib import Path
from typing import Any

import orjson
import psutil
import pytest
from fixtures_needs import need
from fixtures_weir import ROOT, Weir, environment, serving
from fixtures_worker import Site

from metering.caps import Hold, Scope, ScopeKind
from metering.clock import now_ns
from metering.events import encode
from metering.prices import PriceBook, PriceRule
from metering.redis_caps import RedisCaps
from metering.redis_connect import open_runner
from metering.redis_events import publish_prices
from metering.settlement.ledger.store import open_ledger
from metering.settlement.redis_windows import rebuild_windows
from metering.tenant_caps import caps_under
from metering.tenants import ApiKey, Principal, SpendLimits, Tenant
from proxy.embedded_redis import redis_url
from proxy.event_booking import book
from proxy.event_items import Item

pytestmark = pytest.mark.xdist_group("weir")

CONFIG = """
server: {host: 127.0.0.1}
providers: {simulator: {type: simulator}}
models: {demo: {upstreams: [{provider: simulator, model: demo-mini}]}}
pricing:
  rules:
    - {model: "demo*", input_rate: 0.000005, output_rate: 0.000015}
    - {model: web_search, unit_rates: {custom: 0.01}}
tenants:
  - {id: acme, name: Acme, limits: {tenant: {daily_cap: 100}}, keys: [{id: k, mint: true}]}
"""


def post(weir: Weir, items: list[dict[str, Any]]) -> Any:
    request = urllib.request.Request(
        f"{weir.url}/v1/events",
        data=orjson.dumps(items),
        headers={"Authorization": f"Bearer {weir.key}", "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        return orjson.loads(answer.read())


def booked(weir: Weir, count: int, kind: str) -> list[tuple[Any, ...]]:
    """The events of that kind in the ledger, once there are so many."""
    deadline = time.monotonic() + 20
    while True:
        with closing(
            sqlite3.connect(f"file:{weir.data_dir / 'ledger.db'}?mode=ro", uri=True)
        ) as db:
            query = "SELECT request_id, admission_nano FROM usage_event WHERE kind = ?"
            rows = db.execute(query, (kind,)).fetchall()
        if len(rows) >= count:
            return rows
        assert time.monotonic() < deadline, rows
        time.sleep(0.1)


def kill(weir: Weir) -> None:
    """Everything at once, the embedded Redis too."""
    family = [psutil.Process(weir.process.pid)]
    family += family[0].children(recursive=True)
    for process in family:
        process.send_signal(signal.SIGKILL)
    psutil.wait_procs(family, timeout=10)
    weir.process.wait(10)


async def windows(site: Site, scope: str) -> dict[bytes, bytes]:
    found = await site.redis.hgetall(scope)
    return {name: value for name, value in found.items() if name.startswith(b"24h:")}


async def test_windows_can_be_rebuilt_from_reported_usage(site: Site) -> None:
    """What the caps counted of events from outside is what the ledger says, in every dimension."""
    tenant = Tenant("acme", "Acme", SpendLimits())
    key = ApiKey("k", "", "default")
    prices = PriceBook((PriceRule("gpt-4o", 5_000_000, 15_000_000),))
    shard, tenant_scope = site.keys.shard("acme"), site.keys.scope("acme", Scope(ScopeKind.TENANT))
    async with open_runner(site.redis_url, timeout_ms=5_000) as link:
        await link.wait_up(5)
        await publish_prices(link, site.keys, {prices.cost_version: prices.body(sell=False)})
        await publish_prices(link, site.keys, {prices.sell_version: prices.body(sell=True)})
        caps = RedisCaps(link, site.keys)
        for number in range(5):
            item = Item(
                0, f"e-{number}", "", "m", {"output_text": 100, "second": 2}, model="gpt-4o"
            )
            made = book(item, Principal(tenant, key), {}, prices, now_ns=now_ns(), proxy_id="p")
            hold = Hold("acme", made.exchange_id, caps_under(tenant, ()))
            await caps.commit(hold, made.actual, [encode(made.event)])
    counted = await windows(site, tenant_scope)

    await site.work()
    await site.redis.delete(tenant_scope, site.keys.epoch(shard))
    with closing(open_ledger(site.ledger_url)) as ledger:
        await rebuild_windows(ledger, site.redis, site.keys)

    assert int(counted[b"24h:n"]) == 5 * 100 * 15_000
    assert await windows(site, tenant_scope) == counted
    assert site.findings() == []


@pytest.mark.slow(60)
@pytest.mark.timeout(60)
def test_what_was_answered_survives_a_kill(tmp_path: Path) -> None:
    """After the 200 the whole installation may die: each event is in the ledger, once."""
    need("redis-server")
    config = tmp_path / "config.yaml"
    config.write_text(CONFIG)
    items = [{"id": f"e-{number}", "meter": "web_search", "value": 1} for number in range(300)]

    with serving(tmp_path, config=config) as weir:
        first = post(weir, items)
        kill(weir)
    with serving(tmp_path, config=config) as weir:
        again = post(weir, items)
        rows = booked(weir, 300, "custom")
        spent = weir.json("limits", "--tenant", "acme")
        verified = weir.run("ledger", "verify")

    assert (first["accepted"], again["accepted"], again["duplicates"]) == (300, 0, 300)
    assert sorted(rows) == sorted((f"e-{number}", 10_000_000) for number in range(300))
    [cap] = spent["caps"]
    assert (cap["usd"]["spent"], cap["requests"]["spent"]) == ("3.000000", 0)
    assert verified.returncode == 0, verified.stdout


@pytest.mark.slow(40)
@pytest.mark.timeout(40)
def test_the_example_of_the_library_runs(weir: Weir, tmp_path: Path) -> None:
    """Against the Redis of a running `weir serve`, whose worker settles what it metered."""
    example = [sys.executable, str(ROOT / "examples" / "meter_any_call.py")]
    words = ["--redis", redis_url(weir.data_dir), "--data-dir", str(tmp_path), "--calls", "3"]

    done = subprocess.run(
        [*example, *words],
        capture_output=True,
        text=True,
        timeout=30,
        env=environment(),
        check=False,
    )

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("metered: ") == 3
    deadline = time.monotonic() + 20
    while True:
        usage = weir.json("usage", "--tenant", "acme")
        if usage["totals"]["requests"] == 3:
            break
        assert time.monotonic() < deadline, usage
        time.sleep(0.1)
