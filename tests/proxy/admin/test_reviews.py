"""The review queue and dead letters through the admin API."""

from __future__ import annotations

from fixtures_console import Desk
from fixtures_ledger import KEYS, PRICES, book, make_event

from metering.caps import Scope, ScopeKind
from metering.events import encode
from metering.flags import Flag, FlagKind, put_up
from metering.settlement.entries import Entry
from metering.settlement.ledger import tables
from metering.settlement.ledger.reviews import Item, begin_item, take_steps
from metering.settlement.ledger.store import insert_rows
from metering.settlement.velocity import Cause, Finding
from metering.tolerances import Mode, Step

NOW = 1_793_491_200_000_000_000


async def test_a_decision_is_made_once(desk: Desk) -> None:
    """It is written with who and why; the same again is fine, another one is a conflict."""
    item = Item(
        id=0,
        shard=desk.console.keys.shard("acme"),
        tenant="acme",
        api_key_id="",
        mode=Mode.ENFORCE,
        since_min=NOW // 60_000_000_000,
        finding=Finding(Cause.SPEND, 20 * 10**9, 2 * 10**9, 4 * 10**9, "recent"),
        created_at=NOW,
        steps={},
        decisions=(),
    )
    ledger = desk.console.ledger()
    assert begin_item(ledger, item)
    take_steps(ledger, 1, choose=lambda _: (Step.PAUSE,), now_ns=NOW)
    flag = Flag(FlagKind.PAUSED, Scope(ScopeKind.TENANT), "anomaly", "review item 1", 1)
    await put_up(desk.console.redis.execute_command, desk.console.keys, "acme", flag)
    state = desk.console.keys.state("acme")
    ours = await desk.console.redis.hget(state, "paused")
    await desk.console.redis.hset(state, "review:1:pause_set", ours)
    [row] = (await desk.get("/admin/v1/reviews"))["data"]
    path = f"/admin/v1/reviews/{row['id']}/decide"
    body = {"verdict": "approve", "reason": "a launch"}
    decided = await desk.ask("POST", path, body)
    again = await desk.ask("POST", path, body)
    other = await desk.ask("POST", path, {"verdict": "keep", "reason": "no"})

    assert (row["waits"], row["seen_usd"], row["seen_nano"]) == (True, "20.000000000", 20 * 10**9)
    assert decided.status == 200 and not decided.body["left_to_worker"]
    assert [each["by"] for each in decided.body["decisions"]] == ["admin"]
    assert (again.body["was_new"], other.code) == (False, "conflict")
    assert (await desk.get("/admin/v1/tenants/acme/flags"))["data"] == []


async def test_dead_letters_are_booked_or_closed(desk: Desk) -> None:
    """A mended one is booked once; one that is closed says why, and stays."""
    ledger = desk.console.ledger()
    with ledger.write() as connection:
        rows = [{"version": v, "body": body, "stored_at": 1} for v, body in PRICES.items()]
        insert_rows(connection, tables.price_body, rows)
    shard = KEYS.shard("acme")
    book(ledger, [Entry(shard, f"{n}-0", b"not json", "other") for n in (1, 2)])
    first, second = (await desk.get("/admin/v1/dead-letters"))["data"]
    shown = await desk.get(f"/admin/v1/dead-letters/{first['id']}", role="billing")
    refused = await desk.ask("POST", f"/admin/v1/dead-letters/{first['id']}/replay", {})
    mended = {"mended": encode(make_event()).decode(), "force": True}
    booked = await desk.ask("POST", f"/admin/v1/dead-letters/{first['id']}/replay", mended)
    closed = await desk.ask(
        "POST", f"/admin/v1/dead-letters/{second['id']}/close", {"reason": "a test"}, role="billing"
    )
    again = await desk.ask(
        "POST", f"/admin/v1/dead-letters/{second['id']}/close", {"reason": "a test"}
    )

    assert (shown["raw"], refused.code) == ("not json", "conflict")
    assert (booked.body["outcome"], again.code) == ("booked", "conflict")
    assert closed.body["resolved_by"] == "billing"
    assert (await desk.get("/admin/v1/dead-letters"))["data"] == []
    assert len((await desk.get("/admin/v1/dead-letters?all=true"))["data"]) == 2
