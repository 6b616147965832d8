"""Asks a provider what was used of it and what it cost, page by page.

Rules: the admin key goes to the provider's address and nowhere else (no redirects), and is in no
message. What is busy or broken is asked again, as late as it says; what is refused is not. Nothing
is kept of an answer that did not come to its end: half an export would look like a gap.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import aiohttp

from metering.settlement.exports import anthropic, openai
from metering.settlement.exports.rows import (
    COST,
    USAGE,
    CostRow,
    Export,
    ExportError,
    UsageRow,
    read_json,
)

VENDORS: dict[str, ModuleType] = {"openai": openai, "anthropic": anthropic}
"""Who can be asked, by the type of the provider."""

TRIES_MAX = 5
WAIT_MAX_S = 120.0
"""Longest that one wait for a busy provider may be; it asks for a minute, usually."""
PAGES_MAX = 1_000
PAGE_BYTES_MAX = 64 << 20
_TIMEOUT = aiohttp.ClientTimeout(total=60)


class FetchError(Exception):
    """The provider did not tell; the message says what it answered, and what to do."""


@dataclass(frozen=True, slots=True)
class Source:
    """Whom to ask and how: `type` is among `VENDORS`, `proxy` what aiohttp takes as one."""

    type: str
    admin_key: str = field(repr=False)
    address: str = ""
    proxy: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def url(self) -> str:
        """Where its API is."""
        return (self.address or str(VENDORS[self.type].ADDRESS)).rstrip("/")


@dataclass(frozen=True, slots=True)
class Fetched:
    """One export, and the hash of all the bytes that it came in."""

    export: Export
    sha256: str


async def fetch(
    source: Source,
    since: str,
    until: str,
    *,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> list[Fetched]:
    """Usage and costs from a day to before another. FetchError or ExportError: nothing is kept."""
    vendor = VENDORS[source.type]
    async with aiohttp.ClientSession(timeout=_TIMEOUT) as session:
        pages = _Pages(session, source, sleep)
        usage: list[UsageRow] = []
        for path in vendor.USAGE_PATHS:
            first = vendor.query(path, since, until, limit=vendor.USAGE_DAYS)
            for page in await pages.read(path, first):
                usage += vendor.read_usage(page, path)
        used = Fetched(Export(USAGE, since, until, tuple(usage)), pages.digest())
        costs: list[CostRow] = []
        for path in vendor.COST_PATHS:
            first = vendor.query(path, since, until, limit=vendor.COST_DAYS)
            for page in await pages.read(path, first):
                costs += vendor.read_costs(page)
    return [used, Fetched(Export(COST, since, until, (), tuple(costs)), pages.digest())]


class _Pages:
    """The pages of one source, one after another."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        source: Source,
        sleep: Callable[[float], Awaitable[None]],
    ) -> None:
        self._session = session
        self._source = source
        self._sleep = sleep
        self._hash = hashlib.sha256()

    def digest(self) -> str:
        """The hash of what was read since the last time."""
        found, self._hash = self._hash.hexdigest(), hashlib.sha256()
        return found

    async def read(self, path: str, first: Sequence[tuple[str, str]]) -> list[dict[str, Any]]:
        """All pages of a path."""
        pages: list[dict[str, Any]] = []
        seen: set[str] = set()
        more: list[tuple[str, str]] = []
        while len(pages) < PAGES_MAX:
            body = await self._get(path, [*first, *more])
            self._hash.update(body)
            page = read_json(body)
            pages.append(page)
            if not page.get("has_more"):
                return pages
            after = page.get("next_page")
            if not isinstance(after, str) or not after or after in seen:
                raise ExportError(f"{path} says that there is more, and not where")
            seen.add(after)
            more = [("page", after)]
        raise ExportError(f"{path} has more than {PAGES_MAX} pages: ask for fewer days")

    async def _get(self, path: str, query: Sequence[tuple[str, str]]) -> bytes:
        wait_s, said = 1.0, ""
        for n in range(TRIES_MAX):
            try:
                status, after, body = await self._ask(path, query)
            except (TimeoutError, aiohttp.ClientError, OSError) as error:
                said, after = f"was not reached: {type(error).__name__}", None
            else:
                if status == 200:
                    return body
                said = f"answered {status}"
                if status != 429 and status < 500:
                    raise FetchError(f"{path} {said}{_advice(status)}")
            if n < TRIES_MAX - 1:
                await self._sleep(_wait_s(after, wait_s))
            wait_s *= 2
        raise FetchError(f"{path} {said}, {TRIES_MAX} times: try again later")

    async def _ask(
        self, path: str, query: Sequence[tuple[str, str]]
    ) -> tuple[int, str | None, bytes]:
        source = self._source
        headers = {
            **VENDORS[source.type].headers(source.admin_key),
            "accept": "application/json",
            "user-agent": "tokenweir",
        }
        async with self._session.get(
            f"{source.url}{path}",
            params=list(query),
            headers=headers,
            allow_redirects=False,
            **source.proxy,
        ) as answer:
            body = bytearray()
            if answer.status == 200:
                async for part in answer.content.iter_chunked(1 << 16):
                    body += part
                    if len(body) > PAGE_BYTES_MAX:
                        raise ExportError(
                            f"a page of {path} has more than {PAGE_BYTES_MAX >> 20} MiB"
                        )
            return answer.status, answer.headers.get("retry-after"), bytes(body)


def _wait_s(after: str | None, usual_s: float) -> float:
    """As long as was asked for, within bounds."""
    try:
        asked_s = float(after) if after is not None else usual_s
    except ValueError:  # a date: it is minutes at most
        asked_s = 60.0
    return min(max(asked_s, 0.0), WAIT_MAX_S)


def _advice(status: int) -> str:
    if status in (401, 403):
        return (
            ": it takes an admin key (`providers.NAME.reconcile.admin_key`), which no key for "
            "requests is"
        )
    return ""
