"""One reader for all browsers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import orjson
import pytest

from proxy import telemetry
from proxy.dashboard import live_hub
from proxy.dashboard.live_hub import LiveHub, Publish


class ScriptedSource:
    """Publishes a number each turn; `broken` turns raise."""

    def __init__(self) -> None:
        self.begun = self.turns = 0
        self.is_broken = False

    async def begin(self, publish: Publish) -> None:
        if self.is_broken:
            raise ConnectionError("Redis is away")
        self.begun += 1
        publish("tick", {"n": 0})

    async def turn(self, publish: Publish) -> None:
        if self.is_broken:
            raise ConnectionError("Redis is away")
        self.turns += 1
        publish("tick", {"n": self.turns})
        publish("caps", {"same": True})

    def greeting(self) -> tuple[str, Any] | None:
        return ("history", {"turns": self.turns}) if self.begun else None


@pytest.fixture
async def source() -> ScriptedSource:
    return ScriptedSource()


@pytest.fixture
async def hub(source: ScriptedSource) -> AsyncIterator[LiveHub]:
    opened = LiveHub(source, telemetry.logger("test"), turn_s=0.001)
    yield opened
    await opened.close()


def _read(part: bytes) -> tuple[str, Any]:
    lines = part.decode().splitlines()
    return lines[0].removeprefix("event: "), orjson.loads(lines[2].removeprefix("data: "))


async def _next(stream: Any, kind: str) -> Any:
    async for part in stream:
        if part.startswith(b"event: ") and (found := _read(part))[0] == kind:
            return found[1]
    raise AssertionError(f"the stream ended without {kind}")


async def test_browsers_share_one_reader(hub: LiveHub, source: ScriptedSource) -> None:
    """The second one begins nothing, and is given the past and all that stands at once."""
    async with aclosing(hub.stream()) as first, aclosing(hub.stream()) as second:
        await _next(first, "caps")
        await _next(second, "history")
        await _next(second, "caps")

        assert source.begun == 1
        assert hub.viewers == 2

    assert hub.viewers == 0


async def test_a_slow_browser_misses_ticks_and_holds_up_nobody(
    hub: LiveHub, source: ScriptedSource
) -> None:
    """While it does not read, the other goes on; afterwards it is given the newest tick alone."""
    async with aclosing(hub.stream()) as slow, aclosing(hub.stream()) as fast:
        before = await _next(slow, "tick")
        while (await _next(fast, "tick"))["n"] < 20:
            pass
        after = await _next(slow, "tick")

    assert before["n"] < 20 <= after["n"]


async def test_what_cannot_be_read_is_told_and_comes_back(
    hub: LiveHub, source: ScriptedSource
) -> None:
    """Redis away is a message and not an end; when it is back the window is filled anew."""
    async with aclosing(hub.stream()) as stream:
        await _next(stream, "tick")
        source.is_broken = True
        away = await _next(stream, "away")
        source.is_broken = False
        back = await _next(stream, "tick")

    assert away == {"what": "redis", "cause": "ConnectionError"}
    assert "n" in back
    assert source.begun == 2


async def test_nobody_looks_and_nothing_is_read(
    hub: LiveHub, source: ScriptedSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reader ends with the last browser, after a moment in which a page may be loaded again."""
    monkeypatch.setattr(live_hub, "LINGER_S", 0.0)
    async with aclosing(hub.stream()) as stream:
        await _next(stream, "tick")
    reader = hub._reader
    assert reader is not None
    await asyncio.wait_for(asyncio.shield(reader), 5)
    turns = source.turns
    async with aclosing(hub.stream()) as again:
        await _next(again, "tick")

    assert reader.done()
    assert source.begun == 2
    assert source.turns >= turns


async def test_a_stream_ends_by_itself(hub: LiveHub) -> None:
    """So that who may look is asked again: the browser comes back with its cookie."""
    parts = [part async for part in hub.stream(for_s=0.05)]

    assert parts[0] == b"retry: 1500\n\n"
    assert hub.viewers == 0
