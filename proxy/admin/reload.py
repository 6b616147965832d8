"""A reload of the configuration, asked for from the console."""

from __future__ import annotations

from metering.clock import now_ms
from proxy.admin.errors import Conflict
from proxy.admin.routes import BASE, Answer, Call, Role, Route
from proxy.reload_asked import NobodyServesError, ReloadFailedError, ask_reload, report_body

TIMEOUT_S = 30.0


async def reload(call: Call) -> Answer:
    """Read the file again. 200 with the report also where the last good one stays in use."""
    console, is_asked_of_all = call.console, call.body.get("all", False)
    try:
        report = await console.in_thread(ask_reload, console.settings.data_dir, TIMEOUT_S)
        if console.read_again is not None and report.ok:
            await console.read_again("asked for")
    except NobodyServesError as error:
        if console.read_again is None:
            raise Conflict(f"{error}.") from None
        # The proxies are elsewhere, so what can be done for them is to tell them.
        report, is_asked_of_all = await console.read_again("asked for"), True
    except ReloadFailedError as error:
        raise Conflict(f"{error}.") from None
    everywhere = is_asked_of_all and report.ok
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
        summary="Read the configuration again, as `weir reload` does; `weir console` tells all",
        tag="console",
        body={
            "type": "object",
            "additionalProperties": False,
            "properties": {"all": {"type": "boolean", "description": "Tell other machines, too"}},
        },
        audit="config.reload",
    ),
)
