"""Sends what `weir demo` asks to a running proxy, at a rate, and counts what comes of it.

Shell: a client like anybody's. It knows nothing of the proxy but its address and keys.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace

import aiohttp

from metering.clock import monotonic_s
from proxy.demo_load import Ask

AT_ONCE_MAX = 64
"""Requests under way; a machine that answers slower than it is asked is asked less."""

TIMEOUT_S = 60.0

_READ_BYTES = 16_384


@dataclass(slots=True)
class Drive:
    """What has happened so far."""

    sent: int = 0
    under_way: int = 0
    served: int = 0
    degraded: int = 0
    from_cache: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    """By `tenant: where the limit is`."""
    failed: Counter[str] = field(default_factory=Counter)
    left: int = 0


async def drive(
    url: str,
    *,
    keys: Mapping[str, str],
    models: Mapping[str, str],
    asks: Iterator[Ask],
    rate: float,
    seconds: float | None,
    tell: Callable[[Drive], None],
    into: Drive,
) -> None:
    """Ask at `rate` requests a second, for so long or until it is cancelled.

    `keys` are by `tenant.key`; `models` says what is asked for in the place of the demonstration's.
    `tell` is called once for each request. What is under way at the end is waited for.
    """
    room = asyncio.Semaphore(AT_ONCE_MAX)
    began = monotonic_s()
    connector = aiohttp.TCPConnector(limit=AT_ONCE_MAX)
    timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
    async with (
        aiohttp.ClientSession(url, connector=connector, timeout=timeout) as client,
        asyncio.TaskGroup() as group,
    ):
        for number, ask in enumerate(asks):
            after_s = number / rate
            if seconds is not None and after_s >= seconds:
                break
            await asyncio.sleep(max(0.0, began + after_s - monotonic_s()))
            await room.acquire()
            into.sent += 1
            into.under_way += 1
            body = {**ask.body, "model": models[str(ask.body["model"])]}
            group.create_task(_one(client, keys[ask.key], replace(ask, body=body), into, room))
            tell(into)
    tell(into)


async def _one(
    client: aiohttp.ClientSession, key: str, ask: Ask, drive: Drive, room: asyncio.Semaphore
) -> None:
    headers = {"authorization": f"Bearer {key}", **ask.headers}
    try:
        async with client.post(ask.path, json=dict(ask.body), headers=headers) as answer:
            read = 0
            async for chunk in answer.content.iter_chunked(_READ_BYTES):
                read += len(chunk)
                if ask.leave_after is not None and read >= ask.leave_after:
                    drive.left += 1
                    answer.close()
                    return
            _count(drive, ask, answer)
    except (aiohttp.ClientError, TimeoutError) as error:
        drive.failed[type(error).__name__] += 1
    finally:
        drive.under_way -= 1
        room.release()


def _count(drive: Drive, ask: Ask, answer: aiohttp.ClientResponse) -> None:
    tenant = ask.key.partition(".")[0]
    if answer.status < 400:
        drive.served += 1
        drive.degraded += "x-weir-degraded" in answer.headers
        drive.from_cache += answer.headers.get("x-weir-cache") == "hit"
    elif source := answer.headers.get("x-weir-limit-source"):
        drive.refused[f"{tenant}: {source}"] += 1
    else:
        drive.failed[f"status {answer.status}"] += 1


def summary(drive: Drive) -> dict[str, object]:
    """The counts, for programs."""
    return {
        "sent": drive.sent,
        "served": drive.served,
        "degraded": drive.degraded,
        "from_cache": drive.from_cache,
        "left": drive.left,
        "refused": dict(sorted(drive.refused.items())),
        "failed": dict(sorted(drive.failed.items())),
    }


def line(drive: Drive) -> str:
    """The counts in one line."""
    parts = [
        f"{drive.sent:,} sent",
        f"{drive.under_way} under way",
        f"{drive.served:,} served ({drive.degraded:,} degraded, {drive.from_cache:,} from cache)",
        f"{drive.refused.total():,} refused at caps",
        f"{drive.failed.total():,} failed",
    ]
    return ", ".join(parts)
