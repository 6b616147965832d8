"""Usage and exchanges through the admin API."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from typing import Any

import pytest
from fixtures_console import Desk
from fixtures_ledger import NOVEMBER_NS, book, make_event

from metering.settlement.ledger.analytics_rollup import update_analytics

RANGE = "from=2026-11-01T00:00:00Z&to=2026-12-01T00:00:00Z"


@pytest.fixture
def booked(desk: Desk) -> str:
    """Three exchanges of two tenants; the id of the first."""
    events = [
        make_event(ttft_ms=20, latency_ms=200, user="ann"),
        make_event(tenant="globex", feature="=1+1", occurred_at=NOVEMBER_NS - 86_400 * 10**9),
        make_event(tenant="globex", status="error", reason_code="upstream_error"),
    ]
    book(desk.console.ledger(), events)
    update_analytics(desk.console.ledger())
    return events[0].exchange_id


async def test_from_a_month_to_an_exchange(desk: Desk, booked: str) -> None:
    """Rows, filters and pages of the sums; then the exchanges; then one of them."""
    month = await desk.get(f"/admin/v1/usage?{RANGE}&interval=month&by=tenant&sort=sell&limit=1")
    rest = await desk.get(
        f"/admin/v1/usage?{RANGE}&interval=month&by=tenant&sort=sell&limit=1"
        f"&cursor={month['next_cursor']}"
    )
    user = await desk.get(f"/admin/v1/usage?{RANGE}&user=ann&by=session")
    listed = await desk.get(f"/admin/v1/exchanges?{RANGE}&tenant=acme")
    one = await desk.get(f"/admin/v1/exchanges/{booked}")

    assert [each["tenant"] for each in (*month["data"], *rest["data"])] == ["globex", "acme"]
    assert month["data"][0]["start"] == "2026-11-01T00:00:00.000000Z"
    assert (month["totals"]["requests"], month["totals"]["error_rate"]) == (3, 0.333333)
    assert (month["source"], month["behind"], rest["next_cursor"]) == ("rollup", 0, None)
    assert (user["source"], user["totals"]["requests"]) == ("events", 1)
    assert [each["exchange_id"] for each in listed["data"]] == [booked]
    assert one["sell_usd"] == "0.005500000" == one["events"][0]["sell_usd"]


async def test_a_viewer_sees_what_was_sold_and_no_cost(desk: Desk, booked: str) -> None:
    """Nor anything to guess it from: not in an order, not in a file."""
    paths = (f"usage?{RANGE}&by=model", f"exchanges?{RANGE}", f"exchanges/{booked}")
    for path in paths:
        told = await desk.get(f"/admin/v1/{path}", role="viewer")
        names = set(_names(told))
        assert "sell_nano" in names
        assert not [name for name in names if name.startswith(("cost_", "margin_"))]
    by_cost = await desk.ask("GET", f"/admin/v1/usage?{RANGE}&sort=cost", role="viewer")
    text = await desk.ask("GET", f"/admin/v1/usage?{RANGE}&format=csv", role="viewer")
    assert (by_cost.status, by_cost.body["error"]["param"]) == (400, "sort")
    assert b"sell_usd" in text.raw and b"cost" not in text.raw


def _names(told: Any) -> Iterator[str]:
    """Every name in it, at any depth."""
    if isinstance(told, dict):
        yield from told
        told = list(told.values())
    if isinstance(told, list):
        for each in told:
            yield from _names(each)


async def test_csv_has_every_row_and_no_formula(desk: Desk, booked: str) -> None:
    path = f"/admin/v1/usage?{RANGE}&interval=day&by=tenant,feature&format=csv&limit=1"
    said = await desk.ask("GET", path)
    rows = list(csv.DictReader(io.StringIO(said.raw.decode())))

    assert said.headers["Content-Type"].startswith("text/csv")
    assert [row["tenant"] for row in rows] == ["globex", "acme", "globex"]
    assert rows[0]["feature"] == "'=1+1"
    assert sum(int(row["tokens"]) for row in rows) == 2100


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("by=colour", "by"),
        ("from=yesterday", "from"),
        ("cursor=x", "cursor"),
        ("from=2026-11-02T00:00:00Z&to=2026-11-01T00:00:00Z", "from"),
    ],
)
async def test_what_cannot_be_asked_is_refused_by_name(desk: Desk, query: str, param: str) -> None:
    said = await desk.ask("GET", f"/admin/v1/usage?{query}")

    assert said.status == 400
    assert said.body["error"]["param"] == param
    assert (await desk.ask("GET", "/admin/v1/exchanges/nobody")).status == 404
