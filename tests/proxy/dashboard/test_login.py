"""Into the dashboard and out of it."""

from __future__ import annotations

import dataclasses

from fixtures_console import Desk

FROM_PAGE = {"Sec_Fetch_Site": "same-origin", "x_weir_csrf": "1"}


async def _cookie(desk: Desk, role: str = "admin") -> str:
    said = await desk.ask(
        "POST", "/dashboard/login", {"key": desk.keys[role]}, role=None, **FROM_PAGE
    )
    assert said.status == 200, said.raw
    return str(said.headers["Set-Cookie"])


async def test_a_key_becomes_a_cookie_with_its_role(desk: Desk) -> None:
    """Hidden from scripts, never sent for another page, gone after a working day; no key in it."""
    cookie = await _cookie(desk, "viewer")
    who = await desk.ask("GET", "/admin/v1/whoami", role=None, Cookie=cookie.partition(";")[0])

    assert "HttpOnly" in cookie and "SameSite=Strict" in cookie and "Max-Age=43200" in cookie
    assert desk.keys["viewer"] not in cookie
    assert who.body == {"id": "viewer", "role": "viewer", "by_session": True}


async def test_the_record_of_a_login_names_who_it_was(desk: Desk) -> None:
    """Their key and its role, though the route is for anybody."""
    await _cookie(desk, "billing")

    said = await desk.ask("GET", "/admin/v1/audit?action=session.begin&limit=1")

    assert [(each["who"], each["role"]) for each in said.body["data"]] == [("billing", "billing")]


async def test_a_wrong_key_or_another_page_gets_no_cookie(desk: Desk) -> None:
    """Nor a body that is more than a key."""
    wrong = await desk.ask("POST", "/dashboard/login", {"key": "nonsense"}, role=None, **FROM_PAGE)
    elsewhere = await desk.ask(
        "POST",
        "/dashboard/login",
        {"key": desk.keys["admin"]},
        role=None,
        Sec_Fetch_Site="cross-site",
    )
    more = await desk.ask("POST", "/dashboard/login", {"key": "x", "role": "admin"}, role=None)

    assert (wrong.status, wrong.code) == (401, "invalid_admin_key")
    assert (elsewhere.status, elsewhere.code) == (403, "cross_site")
    assert more.status == 400
    assert not any("Set-Cookie" in said.headers for said in (wrong, elsewhere, more))


async def test_a_logout_ends_it_and_so_does_the_end_of_the_key(desk: Desk) -> None:
    """The cookie opens nothing afterwards, whoever kept a copy of it."""
    first = (await _cookie(desk)).partition(";")[0]
    second = (await _cookie(desk, "viewer")).partition(";")[0]

    out = await desk.ask("POST", "/dashboard/logout", role=None, Cookie=first, **FROM_PAGE)
    left = [each for each in desk.console.settings.admin_keys if each.id != "viewer"]
    desk.console.settings = dataclasses.replace(desk.console.settings, admin_keys=tuple(left))
    after = [
        await desk.ask("GET", "/admin/v1/whoami", role=None, Cookie=each)
        for each in (first, second)
    ]

    assert out.status == 204
    assert "Max-Age=0" in out.headers["Set-Cookie"]
    assert [said.status for said in after] == [401, 401]
