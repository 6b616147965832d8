"""One reader for all browsers: reads while somebody looks, and tells each what is new to it.

Rules:
- Only the newest of each kind of message is kept. A browser that is slow misses some ticks and
  never holds up another, nor does anything grow while it sleeps.
- A browser that comes, or comes back, is given everything that stands now, the last ten minutes
  included; there is nothing to resume from.
- A stream ends after a few minutes and the browser comes again by itself, so that a key or session
  that was revoked does not look on.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import orjson

from metering.background import spawn
from metering.clock import monotonic_s

TURN_S = 1.0
KEEPALIVE_S = 10.0
STREAM_S = 300.0
LINGER_S = 20.0
"""The reader goes on so long after the last browser left: a page that is loaded again finds it."""
VIEWERS_MAX = 200
"""Browsers that one console serves; its port takes a few more connections than that."""


class Source(Protocol):
    """What is read; each turn publishes by kind, and raises when it cannot be read."""

    async def begin(self, publish: Publish) -> None:
        """Read what there is, once somebody looks."""

    async def turn(self, publish: Publish) -> None:
        """Read what is new."""

    def greeting(self) -> tuple[str, Any] | None:
        """What a browser needs first, if it has been read."""


Publish = Callable[[str, Any], None]


@dataclass(slots=True)
class LiveHub:
    """The reader and its browsers."""

    source: Source
    log: Any
    turn_s: float = TURN_S
    pause: Callable[[float], Awaitable[None]] = asyncio.sleep
    viewers: int = 0
    _latest: dict[str, tuple[int, bytes]] = field(default_factory=dict)
    _version: int = 0
    _news: asyncio.Event = field(default_factory=asyncio.Event)
    _reader: asyncio.Task[None] | None = None
    _left_s: float = 0.0
    _calls: int = 0
    _has_begun: bool = False

    def publish(self, kind: str, body: Any) -> None:
        """The newest of its kind, for all; what stands already is not said again."""
        encoded = orjson.dumps(body)
        before = self._latest.get(kind)
        if before is not None and before[1] == encoded:
            return
        self._version += 1
        self._latest[kind] = (self._version, encoded)
        self._news.set()
        self._news = asyncio.Event()

    @property
    def is_full(self) -> bool:
        """Whether one more would be too many."""
        return self.viewers >= VIEWERS_MAX

    async def stream(self, *, for_s: float = STREAM_S) -> AsyncIterator[bytes]:
        """The server-sent events of one browser, for so long."""
        self.viewers += 1
        if self._reader is None or self._reader.done():
            self._reader = spawn(self._read(), name="live-reader")
        try:
            until_s = monotonic_s() + for_s
            yield b"retry: 1500\n\n"
            greeting = self.source.greeting() if self._has_begun else None
            if greeting is not None:
                yield _message(greeting[0], self._version, orjson.dumps(greeting[1]))
            seen = 0
            calls = self._calls
            while monotonic_s() < until_s and calls == self._calls:
                news = self._news
                fresh = sorted(
                    (version, kind, body)
                    for kind, (version, body) in self._latest.items()
                    if version > seen
                )
                for version, kind, body in fresh:
                    seen = version
                    if kind != "history" or greeting is None:
                        yield _message(kind, version, body)
                try:
                    async with asyncio.timeout(KEEPALIVE_S):
                        await news.wait()
                except TimeoutError:
                    yield b": still here\n\n"
        finally:
            self.viewers -= 1
            self._left_s = monotonic_s()

    def hang_up(self) -> None:
        """End every stream; browsers come again by themselves."""
        self._calls += 1
        self._news.set()

    async def close(self) -> None:
        """Stop reading, and end what is still told."""
        self.hang_up()
        if self._reader is not None:
            self._reader.cancel()
            await asyncio.wait([self._reader])
            self._reader = None

    async def _read(self) -> None:
        self._left_s = monotonic_s()
        while self.viewers or monotonic_s() - self._left_s < LINGER_S:
            try:
                await (self.source.turn if self._has_begun else self.source.begin)(self.publish)
                self._has_begun = True
                self._latest.pop("away", None)
            except asyncio.CancelledError:
                raise
            except Exception as error:  # noqa: BLE001 - the top of a task, which goes on looking
                self._has_begun = False
                if "away" not in self._latest:
                    self.log.warning("live_cannot_read", cause=repr(error))
                self.publish("away", {"what": "redis", "cause": type(error).__name__})
            await self.pause(self.turn_s)
        # whoever comes next is not to be shown what stood when the last one left
        self._latest.clear()
        self._has_begun = False


def _message(kind: str, version: int, body: bytes) -> bytes:
    return b"event: %b\nid: %d\ndata: %b\n\n" % (kind.encode(), version, body)
