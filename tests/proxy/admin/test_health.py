"""The console's answer to whatever starts it again if there is none."""

from __future__ import annotations

from dataclasses import replace

from fixtures_console import Desk


async def test_it_answers_without_a_key_and_without_a_ledger(desk: Desk) -> None:
    """A database that is away is no reason to start the console again."""
    desk.console.settings = replace(desk.console.settings, ledger_url="sqlite:////nowhere/l.db")
    said = await desk.ask("GET", "/healthz", role=None)

    assert (said.status, said.body) == (200, {"status": "ok"})
