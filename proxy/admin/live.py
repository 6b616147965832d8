"""`GET /admin/v1/live`: what happens now, as server-sent events.

One reader for all browsers, with a connection of its own to Redis; it rests while nobody looks.
"""

from __future__ import annotations

import contextlib
from typing import Any

from metering.caps import CapsUnavailableError
from metering.redis_connect import open_runner
from proxy.admin.errors import LedgerUnavailable, TooManyViewers
from proxy.admin.opened import Console
from proxy.admin.routes import BASE, Answer, Call, Role, Route
from proxy.dashboard.live_alerts import latest_alerts
from proxy.dashboard.live_hub import LiveHub
from proxy.dashboard.live_source import LiveSource

TIMEOUT_MS = 2_000
"""Nobody waits for these numbers but people, and Redis serves requests first."""


async def live(call: Call) -> Answer:
    """The stream of one browser; TooManyViewers where enough of them look."""
    hub = await opened(call.console)
    if hub.is_full:
        raise TooManyViewers("So many browsers look at this console that no more are served.")
    return Answer(
        stream=hub.stream(),
        content_type="text/event-stream",
        headers={"X-Accel-Buffering": "no"},
    )


async def opened(console: Console) -> LiveHub:
    """The one hub of a console."""
    if console.live is None:
        url = console.settings.redis.url
        assert url is not None, "the supervisor fills in the embedded one"
        link = open_runner(url.reveal(), timeout_ms=TIMEOUT_MS, name="weir-console-live")

        async def alerts() -> list[dict[str, Any]]:
            try:
                return await console.ask(latest_alerts)
            except LedgerUnavailable:  # the settlement worker makes it after the first start
                return []

        source = LiveSource(link, console.keys, lambda: console.settings, alerts)
        console.live = LiveHub(source, console.log)
        await console.closing.enter_async_context(link)
        with contextlib.suppress(CapsUnavailableError):  # the page says so, and it is tried again
            await link.wait_up(TIMEOUT_MS / 1000)
        console.closing.push_async_callback(console.live.close)
    return console.live


ROUTES = (
    Route(
        "GET",
        f"{BASE}/live",
        Role.VIEWER,
        live,
        summary="What happens now: a stream of server-sent events",
        tag="console",
    ),
)
