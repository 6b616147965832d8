"""Credit given and taken away through the admin API."""

from __future__ import annotations

from fixtures_console import Desk

ALL = "/admin/v1/credits"
WISH = {
    "id": "gr-1",
    "tenant": "acme",
    "amount_usd": "12.345678901",
    "expires_at": "2030-01-01T00:00:00Z",
}


async def test_the_life_of_a_grant(desk: Desk) -> None:
    """Given once however often it is asked for, to the nano; what is left is taken away once."""
    made = await desk.ask("POST", ALL, WISH, role="billing")
    again = await desk.ask("POST", ALL, WISH, role="billing")
    other = await desk.ask("POST", ALL, {**WISH, "amount_usd": 1}, role="billing")
    balance = (await desk.get("/admin/v1/credit-balances?tenant=acme"))["data"]
    gone = await desk.ask("POST", f"{ALL}/gr-1/void", {}, role="billing")
    after = await desk.get(f"{ALL}/gr-1", role="viewer")

    assert (made.status, again.status, other.code) == (201, 200, "conflict")
    assert (made.body["amount_usd"], made.body["amount_nano"]) == ("12.345678901", 12_345_678_901)
    assert [row["left_nano"] for row in balance] == [12_345_678_901]
    assert (gone.body["taken_nano"], after["left_nano"]) == (12_345_678_901, 0)
    assert [(each["kind"], each["amount_nano"]) for each in after["entries"]] == [
        ("take", -12_345_678_901)
    ]


async def test_what_is_no_grant_is_refused(desk: Desk) -> None:
    """By the name of the field."""
    for change, field in (
        ({"amount_usd": "-1"}, "amount_usd"),
        ({"amount_usd": 0}, "amount_usd"),
        ({"amount_usd": "1e3"}, "amount_usd"),
        ({"kind": "paid"}, "reference"),
        ({"expires_at": "tomorrow"}, "expires_at"),
    ):
        said = await desk.ask("POST", ALL, {**WISH, **change})
        assert (said.status, said.body["error"]["param"]) == (400, field)
    assert (await desk.ask("POST", ALL, {**WISH, "tenant": "none"})).code == "not_found"
