"""The dashboard's paths on a served console."""

from __future__ import annotations

import re

from fixtures_console import Desk

from proxy.dashboard.assets import FOREVER, POLICY


async def test_pages_are_for_anybody_and_hold_nothing(desk: Desk) -> None:
    """Without a key there is a page, with the policy; asked again it is not sent again."""
    page = await desk.ask("GET", "/dashboard", role=None)
    again = await desk.ask("GET", "/dashboard", role=None, If_None_Match=page.headers["ETag"])

    assert page.status == 200
    assert page.headers["Content-Security-Policy"] == POLICY
    assert page.headers["X-Content-Type-Options"] == "nosniff"
    assert page.headers["Cache-Control"] == "no-cache"
    assert b"acme" not in page.raw
    assert (again.status, again.raw) == (304, b"")


async def test_files_may_be_kept_for_ever(desk: Desk) -> None:
    """Under the address of their version; under another they are not found."""
    page = await desk.ask("GET", "/dashboard/login", role=None)
    found = re.search(rb'src="(/dashboard/assets/\w+/js/login\.js)"', page.raw)
    assert found is not None
    path = found[1].decode()

    script = await desk.ask("GET", path, role=None)
    other = await desk.ask("GET", re.sub(r"assets/\w+", "assets/0000", path), role=None)
    outside = await desk.ask(
        "GET", path.replace("js/login.js", "js/..%2f..%2fassets.py"), role=None
    )

    assert script.status == 200
    assert script.headers["Content-Type"].startswith("text/javascript")
    assert script.headers["Cache-Control"] == FOREVER
    assert (other.status, outside.status) == (404, 404)


async def test_guessed_addresses_lead_there(desk: Desk) -> None:
    """The port itself and a slash too many."""
    for path in ("/", "/dashboard/"):
        async with desk.client.get(desk.url + path, allow_redirects=False) as answer:
            assert (answer.status, answer.headers["Location"]) == (308, "/dashboard")
