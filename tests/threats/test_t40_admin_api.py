"""T-40 to T-44 on the admin API: every route has its authorisation, and nobody gets round it."""

from __future__ import annotations

import io
import re

import pytest
from fixtures_console import Desk
from raw_http import one

from proxy.admin import catalogue
from proxy.admin.asked import BODY_BYTES_MAX, COOKIE, CSRF
from proxy.admin.routes import SAFE, Role, Route
from proxy.admin.who import WRONG_MAX

OPEN_TO_ALL = {
    ("GET", "/"),
    ("GET", "/admin/v1/"),
    ("GET", "/healthz"),
    ("GET", "/admin/v1/openapi.json"),
    ("GET", "/admin/v1/page.css"),
}
"""What holds no data of an installation; anything under /dashboard is looked at there."""

ROUTES = catalogue.routes()
GUARDED = [route for route in ROUTES if route.role is not Role.ANYBODY]


def _path(route: Route) -> str:
    """An address of it; what is named there need not exist: who asks is looked at first."""
    path = re.sub(r"\{\w+\}", "x1", route.path)
    wanted = [f"{each.name}=1" for each in route.query if each.required]
    return f"{path}?{'&'.join(wanted)}" if wanted else path


def test_t41_only_these_are_open_to_all() -> None:
    """A route that asks for no role is one that was looked at and is in this list."""
    found = {
        (route.method, route.path)
        for route in ROUTES
        if route.role is Role.ANYBODY and not route.path.startswith("/dashboard")
    }

    assert found == OPEN_TO_ALL


def test_t41_every_change_is_audited_and_closed_to_viewers() -> None:
    """A route that changes something says what it is called, and no viewer may use it."""
    changing = [route for route in GUARDED if route.method not in SAFE]

    assert [route.path for route in changing if not route.audit] == []
    assert {route.path for route in changing if route.role is Role.VIEWER} <= {"/dashboard/logout"}
    bodies = [route.body or {"$ref": ""} for route in changing]
    loose = [each for each in bodies if each.get("additionalProperties", True) is not False]
    assert [each for each in loose if "$ref" not in each] == []


async def test_t41_no_route_answers_without_its_role(desk: Desk) -> None:
    """No key, a tenant's key and each lower role: 401, 401, 403, before anything is looked at."""
    lower = {Role.BILLING: ["viewer"], Role.ADMIN: ["viewer", "billing"]}
    wrong = []
    for route in GUARDED:
        at = f"{route.method} {_path(route)}"
        said = await desk.ask(route.method, _path(route), role=None)
        wrong += [] if (said.status, said.code) == (401, "invalid_admin_key") else [at]
        for role in lower.get(route.role, []):
            said = await desk.ask(route.method, _path(route), role=role)
            wrong += [] if (said.status, said.code) == (403, "role_too_low") else [f"{role} {at}"]

    assert wrong == []


async def test_t41_a_tenants_key_opens_nothing(desk: Desk) -> None:
    """The key of a client is no admin key, however it is sent."""
    raw = "sk-weir-000000000000-" + "a" * 43
    for headers in ({"Authorization": f"Bearer {raw}"}, {"x_api_key": desk.keys["admin"]}):
        said = await desk.ask("GET", "/admin/v1/tenants", role=None, **headers)
        assert said.status == 401
    said = await desk.ask("GET", f"/admin/v1/tenants?key={desk.keys['admin']}", role=None)
    assert said.status == 401


@pytest.mark.parametrize(
    "host", ["x/?", "x/#a", "user@x/?", "[::1]/?x", "a b", "x,y", ""], ids=repr
)
async def test_t40_a_host_that_is_none_is_refused(desk: Desk, host: str) -> None:
    """It is a 400 and no handler is asked, whatever stands in it."""
    request = (
        f"GET /admin/v1/whoami HTTP/1.1\r\nHost: {host}\r\n"
        f"Authorization: Bearer {desk.keys['admin']}\r\n\r\n"
    )
    said = await one(desk.url, request.encode())

    assert (said.status, b"admin" in said.body) == (400, False)


async def test_t40_a_strangers_name_for_this_machine_is_refused(desk: Desk) -> None:
    """A page whose name leads to loopback for a moment reads nothing (DNS rebinding)."""
    request = (
        "GET /admin/v1/whoami HTTP/1.1\r\nHost: rebound.example\r\n"
        f"Authorization: Bearer {desk.keys['admin']}\r\n\r\n"
    )

    assert (await one(desk.url, request.encode())).status == 421


@pytest.mark.parametrize(
    ("method", "path", "body", "field"),
    [
        ("POST", "/admin/v1/tenants/t/keys", {"role": "admin"}, "role"),
        ("POST", "/admin/v1/tenants/t/keys", {"tenant_id": "acme"}, "tenant_id"),
        ("POST", "/admin/v1/tenants/t/keys", {"models": ["big"]}, "models"),
        ("POST", "/admin/v1/tenants/t/keys", {"sha256": "ab" * 32}, "sha256"),
        ("POST", "/admin/v1/tenants", {"id": "n", "allowed_routes": ["*"]}, "allowed_routes"),
        ("POST", "/admin/v1/admin-keys", {"id": "n", "role": "viewer", "sha256": "x"}, "sha256"),
        ("POST", "/admin/v1/admin-keys", {"id": "n", "role": "root"}, "role"),
        ("GET", "/admin/v1/tenants?role=admin", None, "role"),
    ],
)
async def test_t42_unknown_fields_are_refused_by_name(
    desk: Desk, method: str, path: str, body: object, field: str
) -> None:
    """Nothing is passed over that its sender might believe in."""
    await desk.ask("POST", "/admin/v1/tenants", {"id": "t"})
    said = await desk.ask(method, path, body)

    assert (said.status, said.code) == (400, "field_refused")
    assert field in said.body["error"]["message"]


async def test_t42_nobody_widens_their_own_rights(desk: Desk) -> None:
    """Only an admin makes or ends admin keys, none its own; what is made may what was asked."""
    for role in ("viewer", "billing"):
        body = {"id": "mine", "role": "admin"}
        assert (await desk.ask("POST", "/admin/v1/admin-keys", body, role=role)).status == 403
    made = await desk.ask("POST", "/admin/v1/admin-keys", {"id": "second", "role": "viewer"})
    desk.keys["second"] = made.body["key"]

    assert (await desk.get("/admin/v1/whoami", role="second"))["role"] == "viewer"
    assert (await desk.ask("POST", "/admin/v1/tenants", {"id": "x"}, role="second")).status == 403
    assert (await desk.ask("DELETE", "/admin/v1/admin-keys/admin")).code == "read_only"
    assert (await desk.ask("DELETE", "/admin/v1/admin-keys/second")).status == 200
    assert (await desk.ask("GET", "/admin/v1/whoami", role="second")).status == 401


async def test_t44_a_revoked_key_ends_its_sessions(desk: Desk) -> None:
    """The next request with its cookie is a 401, though the session's time is not over."""
    made = await desk.ask("POST", "/admin/v1/admin-keys", {"id": "gone", "role": "viewer"})
    _, token = await desk.console.begin_session(made.body["key"], "127.0.0.1")
    cookie = {"Cookie": f"{COOKIE}={token}"}
    before = await desk.ask("GET", "/admin/v1/whoami", role=None, **cookie)
    await desk.ask("DELETE", "/admin/v1/admin-keys/gone")
    after = await desk.ask("GET", "/admin/v1/whoami", role=None, **cookie)

    assert (before.status, before.body["by_session"], after.status) == (200, True, 401)


async def test_t35_a_session_changes_nothing_for_another_page(desk: Desk) -> None:
    """With a cookie a change needs our header and our origin; another page's form has neither."""
    _, token = await desk.console.begin_session(desk.keys["admin"], "127.0.0.1")
    cookie = {"Cookie": f"{COOKIE}={token}", "role": None}
    ours = {"Origin": desk.url}
    csrf = {CSRF: "1"}

    async def post(**headers: str) -> int:
        body = {"id": f"n{len(headers)}"}
        return (await desk.ask("POST", "/admin/v1/tenants", body, **cookie, **headers)).status

    assert await post() == 403
    assert await post(**ours) == 403
    assert await post(**csrf) == 403
    assert await post(**csrf, Origin="http://evil.example") == 403
    assert await post(**csrf, Origin="null") == 403
    assert await post(**csrf, **{"Sec-Fetch-Site": "cross-site"}) == 403
    assert await post(**csrf, **ours) == 201


async def test_t35_a_form_is_no_json(desk: Desk) -> None:
    """A body is taken as JSON or not at all, and nothing of it is guessed."""
    for kind in ("text/plain", "application/x-www-form-urlencoded"):
        said = await desk.ask("POST", "/admin/v1/tenants", {"id": "n"}, Content_Type=kind)
        assert said.status == 400
    options = await desk.ask("OPTIONS", "/admin/v1/tenants", role=None, Origin="null")
    assert options.status == 405
    assert "Access-Control-Allow-Origin" not in options.headers
    assert options.headers["X-Frame-Options"] == "DENY"


async def test_bodies_are_bounded_and_read_strictly(desk: Desk) -> None:
    """Too long, too deep, twice the same name, no JSON: refused before anything is built of it."""
    key = {"Authorization": f"Bearer {desk.keys['admin']}", "Content-Type": "application/json"}
    wanted = {
        b" " * (BODY_BYTES_MAX + 1): 413,
        b"[" * 500 + b"]" * 500: 400,
        b'{"id": "a", "id": "b"}': 400,
        b'{"id": NaN}': 400,
        b'{"id": "\\ud800"}': 400,
        b"": 400,
        b"[]": 400,
    }
    for raw, status in wanted.items():
        url = f"{desk.url}/admin/v1/tenants"
        async with desk.client.post(url, data=io.BytesIO(raw), headers=key) as said:
            assert said.status == status, raw[:20]


async def test_wrong_keys_silence_an_address(desk: Desk) -> None:
    """After so many, right ones as well: else the answer would tell which guess was right."""
    wrong = {"Authorization": "Bearer weir_admin_guess"}
    statuses = [
        (await desk.ask("GET", "/admin/v1/whoami", role=None, **wrong)).status
        for _ in range(WRONG_MAX + 1)
    ]
    right = await desk.ask("GET", "/admin/v1/whoami")

    assert statuses == [401] * WRONG_MAX + [429]
    assert (right.status, right.code) == (429, "too_many_logins")
    assert int(right.headers["Retry-After"]) > 0


async def test_no_secret_is_kept_or_said_again(desk: Desk) -> None:
    """Raw keys and hashes stand in no list, no audit record and no refusal."""
    await desk.ask("POST", "/admin/v1/tenants", {"id": "t"})
    key = (await desk.ask("POST", "/admin/v1/tenants/t/keys", {"id": "k"})).body["key"]
    admin = (await desk.ask("POST", "/admin/v1/admin-keys", {"id": "n", "role": "viewer"})).body[
        "key"
    ]
    said = b""
    for path in ("tenants", "tenants/t", "tenants/t/keys", "admin-keys", "audit?limit=50"):
        said += (await desk.ask("GET", f"/admin/v1/{path}")).raw
    said += (await desk.ask("POST", "/admin/v1/admin-keys", {"id": admin, "role": "x"})).raw[:0]

    for raw in (key, admin, *desk.keys.values()):
        assert raw.encode() not in said
    assert b"sha256" not in said
