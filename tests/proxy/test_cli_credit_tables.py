"""Grants and balances as tables."""

from __future__ import annotations

from io import StringIO

from rich.console import Console, RenderableType

from proxy.cli_credit_tables import balances_table, grant_page, grants_table

GRANT = {
    "id": "g",
    "tenant": "acme",
    "kind": "paid",
    "priority": 100,
    "usd": "5.000000",
    "left_usd": "4.000000",
    "drawn_usd": "1.000000",
    "from": "2026-11-01T00:00:00Z",
    "expires": None,
}


def shown(table: RenderableType) -> str:
    out = StringIO()
    Console(file=out, width=120).print(table)
    return out.getvalue()


def test_a_grant_without_an_end_never_expires() -> None:
    assert shown(grants_table([GRANT])).split()[-1] == "never"
    assert shown(grants_table([])) == "Nobody was granted anything.\n"


def test_a_balance_is_a_line() -> None:
    names = ("left_usd", "granted_usd", "spent_usd", "expired_usd")
    row = {"tenant": "acme", **{name: str(count) for count, name in enumerate(names)}}

    assert shown(balances_table([row])).splitlines()[1].split() == ["acme", "0", "1", "2", "3"]


def test_a_grant_that_nothing_became_of_says_so() -> None:
    assert "Nothing became of it yet." in shown(grant_page({**GRANT, "entries": []}))
