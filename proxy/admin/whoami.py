"""`GET /admin/v1/whoami`: which key was sent, and what it may."""

from __future__ import annotations

from proxy.admin.routes import BASE, Answer, Call, Role, Route


async def whoami(call: Call) -> Answer:
    """The caller's own id and role."""
    who = call.who
    return Answer({"id": who.id, "role": who.role, "by_session": who.by_session})


ROUTES = (
    Route(
        "GET",
        f"{BASE}/whoami",
        Role.VIEWER,
        whoami,
        summary="Which admin key was sent, and its role",
        tag="console",
        answer={
            "type": "object",
            "properties": {
                "id": {"type": "string"},
                "role": {"enum": ["viewer", "billing", "admin"]},
                "by_session": {"type": "boolean"},
            },
        },
    ),
)
