"""Invoices, statements, margins, prices and alerts through the admin API."""

from __future__ import annotations

from fixtures_console import Desk
from fixtures_ledger import NOVEMBER_NS, book, make_event

from metering.events import UsageEvent
from metering.settlement.ledger.outbox import put_alerts

ONE = "/admin/v1/invoices/acme/2026-10"


def _october() -> UsageEvent:
    at = NOVEMBER_NS - 30 * 86_400 * 10**9
    return make_event(occurred_at=at, completed_at=at + 1)


async def test_a_month_becomes_an_invoice(desk: Desk) -> None:
    """Shown before it is issued, issued once, shown in each format, led back to its events."""
    book(desk.console.ledger(), [_october(), _october()])
    draft = await desk.get(ONE)
    issue, wish = "/admin/v1/invoices/issue", {"month": "2026-10"}
    issued = await desk.ask("POST", issue, wish, role="billing")
    again = await desk.ask("POST", issue, {**wish, "force": True}, role="billing")
    formats = {
        how: await desk.ask("GET", f"{ONE}?format={how}", role="viewer")
        for how in ("html", "csv", "focus", "pdf")
    }
    events = await desk.get(f"{ONE}/lines/1/events")

    assert draft["total_nano"] == 2 * (500 * 5_000 + 200 * 15_000)
    assert [each["is_new"] for each in again.body["issued"]] == [False]
    [row] = (await desk.get("/admin/v1/invoices?tenant=acme"))["data"]
    assert issued.body["failed"] == {}
    assert (row["number"], row["total_nano"]) == (issued.body["issued"][0]["number"], 11_000_000)
    assert {how: said.status for how, said in formats.items()} == dict.fromkeys(formats, 200)
    assert formats["pdf"].raw.startswith(b"%PDF")
    assert "script" not in formats["html"].headers["Content-Security-Policy"]
    assert "attachment" in formats["csv"].headers["Content-Disposition"]
    assert len(events["events"]) == 2


async def test_who_may_see_what_things_cost(desk: Desk) -> None:
    """Costs and margins are for billing and admin; a viewer sees what tenants pay."""
    book(desk.console.ledger(), [_october()])
    found = await desk.get("/admin/v1/margins?month=2026-10", role="billing")
    seen = (await desk.get("/admin/v1/upstreams", role="viewer"))["data"]
    whole = (await desk.get("/admin/v1/upstreams", role="billing"))["data"]

    assert found["totals"]["requests"] == 1
    for path in ("margins", "prices", "prices/review", "prices/diff", "prices/history"):
        assert (await desk.ask("GET", f"/admin/v1/{path}", role="viewer")).status == 403
    assert all(name not in row for row in seen for name in ("drift", "margin_ratio"))
    assert all("drift" in row for row in whole)


async def test_alerts_come_the_newest_first(desk: Desk) -> None:
    """A page at a time, and of one kind where that is asked for."""
    alerts = [(f"cap:{n}", {"n": n}) for n in range(3)] + [("backlog:x", {"n": 9})]
    with desk.console.ledger().write() as connection:
        put_alerts(connection, alerts, 1_793_491_200_000_000_000)
    first = await desk.get("/admin/v1/alerts?limit=2&kind=cap")
    rest = await desk.get(f"/admin/v1/alerts?limit=2&kind=cap&cursor={first['next_cursor']}")

    assert [row["key"] for row in first["data"] + rest["data"]] == ["cap:2", "cap:1", "cap:0"]
    assert rest["next_cursor"] is None
