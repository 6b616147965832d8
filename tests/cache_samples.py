"""A door that keeps answers, and what tests ask of it."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import aiohttp
from fixtures_door import KEY, RunningDoor, settings

from proxy.cache_rules import CacheSettings
from proxy.settings import Settings

ON = CacheSettings(enabled=True)


def keeping(url: str, cache: CacheSettings = ON, **fields: Any) -> Settings:
    """Settings of a door in front of one upstream, which keeps what it says."""
    return replace(settings({"one": url}, **fields), cache=cache)


async def ask(
    door: RunningDoor,
    *,
    path: str = "/v1/chat/completions",
    headers: dict[str, str] | None = None,
    key: str = KEY,
    **fields: Any,
) -> aiohttp.ClientResponse:
    """A request with headers, its answer read to the end."""
    payload: dict[str, Any] = {"model": "m", **fields}
    if "input" not in fields and "prompt" not in fields:
        payload.setdefault("messages", [{"role": "user", "content": "hi"}])
    answer = await door.http.post(
        f"{door.url}{path}",
        json=payload,
        headers={"Authorization": f"Bearer {key}", **(headers or {})},
    )
    await answer.read()
    door.answers.append(answer)
    return answer


async def settled(door: RunningDoor, size: int = 1) -> None:
    """Wait until so many answers are kept, which happens beside the path."""
    entries = door.door.replies.entries  # type: ignore[attr-defined] # it is one of memory
    async with asyncio.timeout(5):
        while len(entries) < size:
            await asyncio.sleep(0)
