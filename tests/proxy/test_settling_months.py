"""The end of a month, as the job and both commands do it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import orjson
import pytest
from config_samples import loaded
from fixtures_ledger import book, make_event, new_ledger
from fixtures_redis import RedisServer
from redis import Redis

from metering.settlement.ledger.invoice_books import all_issued
from metering.settlement.ledger.plan_books import closed_statement
from metering.settlement.ledger.store import Ledger
from proxy.settings import Settings, redis_keys
from proxy.settling_months import AWAY, close_all, issue_all, unsettled

CONFIG = """\
data_dir: .
redis: {url: "unix://%s", prefix: month-ends-%s}
plans:
  - {id: calls, effective_from: 2020-10-01, charges: [{id: all, kind: per_request, rate: 0.01}]}
tenants:
  - {id: acme, plan: [{id: calls, from: 2020-10-01}]}
  - {id: idle}
"""
MONTH = "2026-11"
NOW = int(datetime(2026, 12, 1, 2, tzinfo=UTC).timestamp()) * 10**9


@pytest.fixture
def settings(tmp_path: Path, redis_server: RedisServer) -> Settings:
    return loaded(tmp_path, CONFIG % (redis_server.path, tmp_path.name.strip("_"))).settings


@pytest.fixture
def books(tmp_path: Path) -> Iterator[Ledger]:
    with closing(new_ledger(tmp_path)) as ledger:
        book(ledger, [make_event(), make_event(tenant="free")])
        yield ledger


def test_closing_and_issuing_agree_on_everybody(books: Ledger, settings: Settings) -> None:
    """Whoever used something or has a plan; who did neither is not sent an empty page."""
    closed = close_all(books, settings, MONTH, now_ns=NOW)
    before = all_issued(books)
    made = issue_all(books, settings, MONTH, now_ns=NOW)

    assert (sorted(closed.closed), before) == (["acme", "free"], [])
    assert sorted(made.issued) == ["acme", "free"]
    for name, found in made.issued.items():
        assert found.document["total_nano"] == closed.closed[name].body["total_nano"]
    again = issue_all(books, settings, MONTH, now_ns=NOW)
    assert not any(each.is_new for each in again.issued.values())


def test_one_that_is_named(books: Ledger, settings: Settings) -> None:
    assert sorted(issue_all(books, settings, MONTH, tenant="free", now_ns=NOW).issued) == ["free"]
    assert issue_all(books, settings, MONTH, tenant="idle", now_ns=NOW).issued == {}
    with pytest.raises(LookupError, match="no tenant 'nobody'"):
        issue_all(books, settings, MONTH, tenant="nobody", now_ns=NOW)


def test_two_that_would_have_one_number(books: Ledger, settings: Settings) -> None:
    """What stops one tenant does not stop the next."""
    alike = replace(settings, invoicing=replace(settings.invoicing, number_format="{period}"))

    made = issue_all(books, alike, MONTH, now_ns=NOW)

    assert (list(made.issued), list(made.failed)) == (["acme"], ["free"])
    assert "invoices.number_format" in made.failed["free"]


def test_a_stop_is_heeded_between_two(books: Ledger, settings: Settings) -> None:
    made = issue_all(books, settings, MONTH, now_ns=NOW, is_over=lambda: True)

    assert (made.left, closed_statement(books, "acme", MONTH)) == (("acme", "free"), None)


def test_streams_and_spools_are_looked_at(
    books: Ledger, settings: Settings, redis_server: RedisServer
) -> None:
    """Of Redis, and of this machine's disk."""
    keys = redis_keys(settings)
    border_ms = (NOW - 3_600 * 10**9) // 1_000_000
    with closing(Redis(unix_socket_path=redis_server.path)) as redis:
        assert unsettled(settings, books, MONTH, NOW) is None
        redis.xadd(keys.stream(3), {"e": "{}"}, id=f"{border_ms - 1}-0")
        spool = {"records": 2, "bytes": 9, "oldest_s": 7_200}
        redis.hset(keys.proxies, "p-1", orjson.dumps({"at_ms": NOW // 10**6, "spool": spool}))

        assert unsettled(settings, books, MONTH, NOW) == (
            "1 event waits for the ledger, the oldest since 2026-12-01T00:59:59Z; "
            "2 commits in the spool of proxy p-1"
        )


def test_redis_is_away(books: Ledger, tmp_path: Path) -> None:
    """Then nobody knows."""
    gone = loaded(tmp_path, f'data_dir: .\nredis: {{url: "unix://{tmp_path}/none"}}\n').settings

    assert unsettled(gone, books, MONTH, NOW) == AWAY
