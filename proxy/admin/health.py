"""`GET /healthz`: whether this process answers, for whatever starts it again if it does not."""

from __future__ import annotations

from proxy.admin.routes import Answer, Call, Role, Route


async def healthz(call: Call) -> Answer:
    """It does. The ledger and Redis are not asked: their absence is no reason to start anew."""
    return Answer({"status": "ok"})


ROUTES = (
    Route(
        "GET",
        "/healthz",
        Role.ANYBODY,
        healthz,
        summary="Whether the console answers",
        tag="console",
        answer={"type": "object", "properties": {"status": {"const": "ok"}}},
    ),
)
