"""What the dashboard's live page is made of, read from Redis and, for alerts, from the ledger."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from metering.redis_connect import RedisRunner
from metering.redis_keys import RedisKeys
from proxy.dashboard import live_upstreams
from proxy.dashboard.live_caps import CapsSweep
from proxy.dashboard.live_events import Found, StreamTail, in_flight
from proxy.dashboard.live_hub import Publish
from proxy.dashboard.live_window import LiveWindow
from proxy.settings import Settings

CAPS_EVERY = 2
SLOW_EVERY = 5
"""Turns between two looks at upstreams and alerts, which change slowly and cost more."""

Alerts = Callable[[], Awaitable[list[dict[str, Any]]]]


class LiveSource:
    """Reads by turns; `alerts` asks the ledger, in a thread of somebody else's."""

    def __init__(
        self, link: RedisRunner, keys: RedisKeys, settings: Callable[[], Settings], alerts: Alerts
    ) -> None:
        self._link, self._keys, self._settings, self._alerts = link, keys, settings, alerts
        self._tail = StreamTail(link, keys)
        self._caps = CapsSweep(link, keys)
        self._window: LiveWindow | None = None
        self._now_ms = 0
        self._turns = 0
        self._active: dict[str, None] = {}

    def greeting(self) -> tuple[str, Any] | None:
        """The last ten minutes, once they are known."""
        if self._window is None:
            return None
        return "history", self._window.history(self._now_ms)

    async def begin(self, publish: Publish) -> None:
        """Fill the window from what the streams still have."""
        self._now_ms = await self._clock_ms()
        window = LiveWindow()
        self._feed(window, await self._tail.begin(self._now_ms))
        self._window, self._turns = window, 0
        publish("history", window.history(self._now_ms))
        await self._publish(window, publish)

    async def turn(self, publish: Publish) -> None:
        """What came in the last second."""
        assert self._window is not None, "begin comes first"
        self._now_ms = await self._clock_ms()
        self._feed(self._window, await self._tail.read())
        await self._publish(self._window, publish)

    async def _publish(self, window: LiveWindow, publish: Publish) -> None:
        turn, now_ms = self._turns, self._now_ms
        self._turns += 1
        open_now = await in_flight(self._link, self._keys, now_ms)
        publish("tick", {**window.tick(now_ms, open_now), "skipped": self._tail.skipped})
        publish("degradation", window.degradations(now_ms))
        settings = self._settings()
        if turn % CAPS_EVERY == 0:
            active, self._active = list(self._active), {}
            publish("caps", await self._caps.turn(settings.tenants, active))
        if turn % SLOW_EVERY == 0:
            publish(
                "upstreams", await live_upstreams.look(self._link, self._keys, settings, now_ms)
            )
            publish("alert", {"alerts": await self._alerts()})

    def _feed(self, window: LiveWindow, found: Found) -> None:
        for at_ms, event in found:
            tenant = window.feed(at_ms, event)
            if tenant is not None:
                self._active.pop(tenant, None)
                self._active[tenant] = None

    async def _clock_ms(self) -> int:
        seconds, microseconds = await self._link.call("TIME")
        return int(seconds) * 1000 + int(microseconds) // 1000
