"""Applications under a fault run: they ask, read to the end, and write down how it ended."""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import orjson

KINDS = (("steady", True), ("steady", True), ("long", True), ("quick", False), ("flaky", True))
PATIENCE_S = 45.0


@dataclass
class Load:
    """So many clients at once, each asking again and again until `stop`."""

    url: str
    keys: dict[str, str]
    journal: Path
    seed: int
    clients: int
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    asked: int = 0
    counts: dict[str, int] = field(default_factory=dict)

    async def run(self) -> None:
        timeout = aiohttp.ClientTimeout(total=PATIENCE_S, sock_connect=5)
        connector = aiohttp.TCPConnector(limit=0, force_close=False)
        with self.journal.open("ab", buffering=0) as file:
            self._file = file
            async with aiohttp.ClientSession(timeout=timeout, connector=connector) as session:
                await asyncio.gather(*(self._client(session, at) for at in range(self.clients)))

    async def _client(self, session: aiohttp.ClientSession, number: int) -> None:
        choose = random.Random(f"{self.seed}-{number}")
        while not self.stop.is_set():
            self.asked += 1
            ref = f"s{self.seed}-{self.asked}"
            model, streams = choose.choice(KINDS)
            tenant = choose.choice(sorted(self.keys))
            started = time.monotonic()
            outcome, code, tokens = await self._ask(session, ref, model, streams, tenant)
            line = {
                "ref": ref,
                "tenant": tenant,
                "model": model,
                "outcome": outcome,
                "code": code,
                "tokens": tokens,
                "duration_s": round(time.monotonic() - started, 3),
            }
            self.counts[outcome] = self.counts.get(outcome, 0) + 1
            self._file.write(orjson.dumps(line) + b"\n")
            if outcome in {"refused", "unreachable"}:
                await asyncio.sleep(0.2 + choose.random() / 5)
            else:
                await asyncio.sleep(choose.random() / 20)

    async def _ask(
        self, session: aiohttp.ClientSession, ref: str, model: str, streams: bool, tenant: str
    ) -> tuple[str, str | None, int]:
        body = {
            "model": model,
            "stream": streams,
            "max_tokens": 512,
            "messages": [{"role": "user", "content": f"Answer with words. {ref}"}],
        }
        headers = {"Authorization": f"Bearer {self.keys[tenant]}", "x-weir-session": ref}
        status = 0
        try:
            async with session.post(
                f"{self.url}/v1/chat/completions", json=body, headers=headers
            ) as response:
                status = response.status
                if status != 200:
                    is_upstream = response.headers.get("x-weir-error-source") == "upstream"
                    code = _code(await response.read())
                    return ("relayed" if is_upstream else "refused"), code, 0
                if not streams:
                    answer = orjson.loads(await response.read())
                    return "complete", None, answer["usage"]["completion_tokens"]
                return await _read_stream(response)
        except TimeoutError:
            return "hung", None, 0
        except aiohttp.ClientConnectorError:
            return "unreachable", None, 0
        except (aiohttp.ClientError, ConnectionError) as error:
            return ("cut" if status else "unreachable"), type(error).__name__, 0


async def _read_stream(response: aiohttp.ClientResponse) -> tuple[str, str | None, int]:
    tokens = 0
    async for line in response.content:
        if not line.startswith(b"data: "):
            continue
        if line.startswith(b"data: [DONE]"):
            await response.read()
            return "complete", None, tokens
        event = orjson.loads(line[6:])
        if "error" in event:
            return "cut", str(event["error"].get("code") or event["error"].get("type")), tokens
        tokens += sum(1 for choice in event["choices"] if choice["delta"].get("content"))
    return "cut", "ended without [DONE]", tokens


def _code(body: bytes) -> str:
    try:
        error = orjson.loads(body)["error"]
        return str(error.get("code") or error.get("type"))
    except (ValueError, KeyError, TypeError):
        return "not our error body"
