"""A reload of the configuration, asked for from the console."""

from __future__ import annotations

from metering.clock import now_ms
from proxy.admin.errors import Conflict
from proxy.admin.routes import BASE, Answer, Call, Role, Route
from proxy.reload_asked import NobodyServesError, ReloadFailedError, ask_reload, report_body

TIMEOUT_S = 30.0


async def reload(call: Call) -> Answer:
    """Read the file again. 200 with the report also where the last good one stays in use."""
    console = call.console
    try:
        report = await console.in_thread(ask_reload, console.settings.data_dir, TIMEOUT_S)
    except (NobodyServesError, ReloadFailedError) as error:
        raise Conflict(f"{error}.") from None
    everywhere = call.body.get("all", False) and report.ok
    if everywhere:
        word = f"{now_ms()}:{report.sha256[:16]}"
        await console.redis.set(console.keys.announced, word)
    body = {**report_body(report), "announced": everywhere}
    after = {"ok": report.ok, "generation": report.generation, "applied": report.applied}
    return Answer(body, target="config", after=after)


ROUTES = (
    Route(
        "POST",
        f"{BASE}/reload",
        Role.ADMIN,
        reload,
        summary="Read the configuration again, as `weir reload` does",
        tag="console",
        body={
            "type": "object",
            "additionalProperties": False,
            "properties": {"all": {"type": "boolean", "description": "Tell other machines, too"}},
        },
        audit="config.reload",
    ),
)
