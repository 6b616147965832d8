"""The dashboard in a real Chromium, against a served console: people, their keys and their eyes."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from dashboard_samples import THOUSAND, stand_in
from fixtures_dashboard import NASTY, Board

pytestmark = [pytest.mark.slow(30), pytest.mark.timeout(60)]

SCREENS = ("now", "history", "exchanges", "tenants", "reviews", "invoices", "upstreams", "audit")


@pytest.fixture
def page(chromium: Any, board: Board) -> Iterator[Any]:
    """A tab that is logged in as admin; what it complains of is the test's failure."""
    yield from _tab(chromium, board)


def _tab(chromium: Any, board: Board, role: str = "admin", **look: Any) -> Iterator[Any]:
    size = {"width": 1280, "height": 800}
    context = chromium.new_context(viewport=size, storage_state=board.sessions.get(role), **look)
    tab = context.new_page()
    said: list[str] = []
    tab.on("console", lambda message: said.append(f"{message.type}: {message.text}"))
    tab.on("pageerror", lambda error: said.append(f"thrown: {error}"))
    stand_in(tab)
    if role in board.sessions:
        tab.goto(f"{board.url}/dashboard")
    else:
        tab.goto(f"{board.url}/dashboard/login")
        tab.fill("#key", board.keys[role])
        tab.keyboard.press("Enter")
        tab.wait_for_url("**/dashboard")
        board.sessions[role] = context.storage_state()
    tab.wait_for_selector("nav a")
    yield tab
    faults = [each for each in said if not each.startswith(("debug", "info", "log", "verbose"))]
    context.close()
    assert faults == []


def _until(tab: Any, script: str) -> None:
    """Until this is true in the page. (Playwright's own way evaluates text, which our policy
    forbids.)"""
    deadline = time.monotonic() + 15
    while not tab.evaluate(script):
        assert time.monotonic() < deadline, (script, tab.inner_text("body"))
        tab.wait_for_timeout(50)


def _spend_until(board: Board, tab: Any, script: str) -> None:
    """Somebody spends, each half second, until the page shows it."""
    deadline = time.monotonic() + 15
    while not tab.evaluate(script):
        assert time.monotonic() < deadline, tab.inner_text("body")
        board.spend(degrade_step="cap_80", model_public="small", model_requested="big")
        tab.wait_for_timeout(300)


def test_a_wrong_key_is_refused_in_words(chromium: Any, board: Board) -> None:
    """Nobody is let in, the page says why, and the key is not kept in the field's place."""
    context = chromium.new_context()
    tab = context.new_page()
    tab.goto(f"{board.url}/dashboard")
    tab.wait_for_url("**/dashboard/login")
    tab.fill("#key", "weir_admin_wrong")
    tab.keyboard.press("Enter")
    _until(tab, "document.getElementById('said').textContent !== ''")

    assert "not an admin key" in tab.inner_text("#said")
    assert context.cookies() == []
    context.close()


def test_what_is_spent_shows_within_seconds(page: Any, board: Board) -> None:
    """A tick, the model, the tenant's cap and the step down reach a page that is open."""
    _spend_until(board, page, "document.querySelectorAll('.models li').length > 0")
    page.wait_for_selector(".steps li")

    assert "Live" in page.inner_text(".link-state")
    assert "gpt-4o" in page.inner_text(".models")
    assert "big" in page.inner_text(".steps")
    assert "acme" in page.inner_text(".caps")
    assert page.query_selector(".tile canvas") is not None


def test_a_cookie_is_all_that_stays(page: Any, board: Board) -> None:
    """Hidden from scripts and from other sites; after the logout it opens nothing."""
    [cookie] = page.context.cookies()
    assert cookie["httpOnly"] and cookie["sameSite"] == "Strict"
    assert page.evaluate("document.cookie") == ""
    assert board.keys["admin"] not in page.evaluate(
        "JSON.stringify({...localStorage, ...sessionStorage})"
    )

    page.get_by_role("button", name="Log out").click()
    page.wait_for_url("**/dashboard/login")
    board.sessions.clear()
    page.context.add_cookies([cookie])
    answer = page.request.get(f"{board.url}/admin/v1/whoami")

    assert answer.status == 401


def test_a_session_that_is_over_leads_back_to_where_it_was(chromium: Any, board: Board) -> None:
    """Whoever logs in again sees the screen, with its filters, that they had."""
    context = chromium.new_context()
    tab = context.new_page()
    for _ in range(2):
        tab.goto(f"{board.url}/dashboard#/exchanges?range=7d&tenant=acme")
        tab.wait_for_url("**/dashboard/login#/exchanges?range=7d&tenant=acme")
        tab.fill("#key", board.keys["admin"])
        tab.keyboard.press("Enter")
        tab.wait_for_url("**/dashboard#/exchanges?range=7d&tenant=acme")
        tab.wait_for_selector("#screen h1")
        context.clear_cookies()
        tab.goto("about:blank")
    context.close()


def test_a_key_that_is_shown_once_is_not_lost_to_a_habit(page: Any, board: Board) -> None:
    """The first Esc asks, because nothing brings the key back; the second one closes."""
    page.route("**/admin/v1/tenants/tenant-0001**", _of_one_tenant)
    page.goto(f"{board.url}/dashboard#/tenants/tenant-0001")
    page.get_by_role("button", name="New key").click()
    page.keyboard.press("Enter")
    page.wait_for_selector(".secret input")
    page.keyboard.press("Escape")
    page.wait_for_timeout(100)
    assert "has not been copied" in page.inner_text("dialog .note")
    assert page.input_value(".secret input") == "sk-weir-once"

    page.keyboard.press("Escape")
    page.wait_for_selector("dialog", state="detached")


def _of_one_tenant(route: Any) -> None:
    tenant = {"id": "tenant-0001", "name": "One", "source": "registry", "daily_cap_usd": None}
    answers: dict[str, Any] = {"keys": {"data": []}, "caps": {"caps": []}}
    body = answers.get(route.request.url.split("?")[0].rsplit("/", 1)[1], tenant)
    if route.request.method == "POST":
        body = {"key": "sk-weir-once"}
    route.fulfill(content_type="application/json", body=json.dumps(body))


def test_a_case_is_decided_with_a_reason(page: Any, board: Board) -> None:
    """One dialog, one decision; what was never paused cannot be kept paused."""
    asked: list[Any] = []

    def decided(route: Any) -> None:
        asked.append((urlsplit(route.request.url).path, route.request.post_data_json))
        route.fulfill(content_type="application/json", body="{}")

    page.route("**/admin/v1/reviews/1/decide", decided)
    page.goto(f"{board.url}/dashboard#/reviews")
    page.get_by_role("button", name="Let it go on").click()
    assert page.get_by_role("button", name="Keep it paused").count() == 0
    page.keyboard.type("a launch")
    page.keyboard.press("Enter")
    page.wait_for_selector(".toast")

    assert asked == [
        ("/admin/v1/reviews/1/decide", {"verdict": "approve", "reason": "a launch"}),
    ]


def test_names_with_html_do_no_harm(page: Any, board: Board) -> None:
    """A tenant that is named like a tag is shown as it is named, on every screen."""
    board.spend(model_upstream=NASTY, model_public=NASTY, degrade_step=NASTY)
    _until(page, "document.querySelector('.models').textContent.includes('<img')")
    for screen in ("tenants", "history", "exchanges", "reviews", "audit", "invoices"):
        page.goto(f"{board.url}/dashboard#/{screen}")
        _until(page, "document.querySelector('#screen').textContent.includes('<img')")

    assert page.title() != "taken"
    assert page.query_selector("img[onerror]") is None


def test_every_screen_opens_by_key_and_in_both_colours(page: Any, board: Board) -> None:
    """1 to 8 lead to the screens, ? explains, Tab reaches what is shown; there are two themes."""
    for number, screen in enumerate(SCREENS, start=1):
        page.keyboard.press(str(number))
        page.wait_for_url(re.compile(rf"#/{screen}"))
        page.wait_for_selector("#screen h1", state="attached")
    page.keyboard.press("?")
    page.wait_for_selector("dialog[open]")
    page.keyboard.press("Escape")
    page.wait_for_selector("dialog", state="detached")
    page.keyboard.press("4")
    page.wait_for_selector("tbody tr")
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.type") == "search"
    grounds = {}
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        grounds[scheme] = page.evaluate("getComputedStyle(document.body).backgroundColor")

    page.keyboard.press("Tab")
    focused = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")

    assert grounds["light"] != grounds["dark"]
    assert focused == "solid"


def test_a_thousand_tenants_are_found_at_once(page: Any, board: Board) -> None:
    """All are read, fifty are drawn, and typing narrows them between two frames."""
    page.goto(f"{board.url}/dashboard#/tenants")
    _until(page, f"document.querySelector('.screen-head').textContent.includes('{THOUSAND:,}')")
    assert page.locator("tbody tr").count() == 50

    took_ms = page.evaluate(
        """() => {
            const box = document.querySelector('[data-search]');
            const began = performance.now();
            box.value = 'tenant-0777';
            box.dispatchEvent(new Event('input'));
            return performance.now() - began;
        }"""
    )

    assert page.locator("tbody tr").count() == 1
    assert took_ms < 500


def test_history_leads_down_to_the_money_of_one_exchange(page: Any, board: Board) -> None:
    """From a month by model to a tenant's exchanges, to the lines that make up an amount."""
    page.goto(f"{board.url}/dashboard#/history?range=30d&by=model")
    page.wait_for_selector(".chart-card canvas")
    page.get_by_role("button", name="gpt-4o", exact=True).click()
    page.wait_for_url("**model=gpt-4o**")
    page.wait_for_selector(".chart-card canvas")
    page.get_by_role("link", name="Exchanges").last.click()
    page.locator("tbody a").first.click()
    page.wait_for_selector(".money")

    text = page.inner_text("#screen")
    assert "$0.003250000" in text and "$0.001250000" in text and "$0.002000000" in text


def test_a_viewer_is_shown_nothing_that_it_may_not_do(chromium: Any, board: Board) -> None:
    """No cost, no margin and no way to make a tenant."""
    for tab in _tab(chromium, board, "viewer"):
        tab.goto(f"{board.url}/dashboard#/history")
        tab.wait_for_selector(".chart-card canvas")
        assert "Margin" not in tab.inner_text("#screen")
        tab.goto(f"{board.url}/dashboard#/tenants")
        tab.wait_for_selector("tbody tr")
        assert tab.get_by_role("button", name="New tenant").count() == 0
        assert tab.get_by_role("link", name="Audit").count() == 0


def test_nothing_is_wider_than_a_telephone(page: Any, board: Board) -> None:
    """At 360 pixels no screen has to be pushed sideways."""
    page.set_viewport_size({"width": 360, "height": 740})
    wide = {}
    for screen in SCREENS:
        page.goto(f"{board.url}/dashboard#/{screen}")
        page.wait_for_selector("#screen .card")
        page.wait_for_timeout(150)
        width = page.evaluate("document.documentElement.scrollWidth")
        wide |= {screen: width} if width > 360 else {}

    assert wide == {}


def test_a_console_that_goes_is_told_and_comes_back(page: Any, board: Board) -> None:
    """Offline the page says that it stands still; back online it is live again by itself."""
    page.wait_for_selector(".link-state[data-state=live]")
    page.evaluate("window.dispatchEvent(new Event('online'))")
    page.wait_for_selector(".link-state[data-state=live]")
    board.run(_end_streams(board))
    page.wait_for_selector(".link-state[data-state=waiting]", state="attached")

    page.wait_for_selector(".link-state[data-state=live]")


async def _end_streams(board: Board) -> None:
    hub = board.console.live
    assert hub is not None
    hub.hang_up()
