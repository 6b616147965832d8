"""Into the dashboard and out of it: an admin key for a cookie, so that no page keeps the key."""

from __future__ import annotations

from proxy.admin.asked import COOKIE
from proxy.admin.routes import Answer, Call, Role, Route
from proxy.admin.who import SESSION_S

_BODY = {
    "type": "object",
    "properties": {"key": {"type": "string", "minLength": 1, "maxLength": 512}},
    "required": ["key"],
    "additionalProperties": False,
}
_WHO = {
    "type": "object",
    "properties": {"id": {"type": "string"}, "role": {"enum": ["viewer", "billing", "admin"]}},
}


async def log_in(call: Call) -> Answer:
    """A session for the key in the body; a wrong one is a 401 and counts against its address."""
    who, token = await call.console.begin_session(call.body["key"], call.request.remote or "")
    cookie = _cookie(call, token, int(SESSION_S))
    return Answer(
        {"id": who.id, "role": who.role},
        headers={"Set-Cookie": cookie},
        target=f"admin_key:{who.id}",
        who=who,
    )


async def log_out(call: Call) -> Answer:
    """End the session of the cookie, here and in the browser."""
    token = call.request.cookies.get(COOKIE)
    if token is not None:
        call.console.sessions.end(token)
    return Answer(
        status=204, headers={"Set-Cookie": _cookie(call, "", 0)}, target=f"admin_key:{call.who.id}"
    )


def _cookie(call: Call, value: str, lives_s: int) -> str:
    """Sent back to this console only, never by another page's doing, and hidden from scripts."""
    secure = "; Secure" if call.request.secure else ""
    return f"{COOKIE}={value}; Path=/; Max-Age={lives_s}; HttpOnly; SameSite=Strict{secure}"


ROUTES = (
    Route(
        "POST",
        "/dashboard/login",
        Role.ANYBODY,
        log_in,
        summary="Begin a session with an admin key",
        tag="dashboard",
        body=_BODY,
        answer=_WHO,
        audit="session.begin",
    ),
    Route(
        "POST",
        "/dashboard/logout",
        Role.VIEWER,
        log_out,
        summary="End the session",
        tag="dashboard",
        audit="session.end",
    ),
)
