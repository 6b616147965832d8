"""The only HTTP client towards models: sends a request, hands out the answer's bytes.

A seam: everything above sees `Transport` and `Answer`, and one contract suite holds every
implementation to them. Rules: redirects are never followed (a redirect would carry the key away),
bodies are asked for and passed on unencoded, cookies are not kept, the environment's proxy
settings are not read, and every failure of the library below becomes one `TransportError`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

import aiohttp

IDLE_CONNECTION_S = 60.0
"""How long an unused connection is kept; most load balancers close theirs after 60 to 75 s."""


class Fault(StrEnum):
    """What went wrong between us and the upstream."""

    UNREACHABLE = "unreachable"
    """No connection, so nothing was sent."""
    TIMEOUT = "timeout"
    BROKEN = "broken"
    """The connection broke after the request went out; the upstream may have worked."""
    NONSENSE = "nonsense"
    """Not HTTP, or a body that breaks its own framing."""
    TOO_LARGE = "too_large"


class TransportError(Exception):
    """An upstream could not be talked to; `fault` says how, the message is for our log only."""

    def __init__(self, fault: Fault, detail: str) -> None:
        super().__init__(f"{fault}: {detail}")
        self.fault = fault


@dataclass(frozen=True, slots=True)
class Call:
    """One POST to an upstream. `timeout_s` bounds each silence, not the whole answer."""

    url: str
    headers: Mapping[str, str]
    body: bytes
    timeout_s: float
    connect_timeout_s: float


class Answer(Protocol):
    """An upstream's answer: status and headers at once, the body as it comes."""

    status: int

    def header(self, name: str) -> str | None:
        """The first header of that name, in any case, or None."""
        ...

    async def chunk(self) -> bytes:
        """The next bytes of the body, b"" at its end; TransportError when it breaks off."""
        ...

    async def read(self, limit: int) -> bytes:
        """The whole body; TransportError beyond `limit` bytes or when it breaks off."""
        ...

    def close(self) -> None:
        """Done with it: the connection is kept if the body was read to its end, else closed."""
        ...


class Transport(Protocol):
    """Something that can send a `Call`."""

    async def send(self, call: Call) -> Answer:
        """The answer once its status and headers are there; TransportError otherwise."""
        ...

    async def close(self) -> None:
        """Close every connection."""
        ...


class AiohttpTransport:
    """aiohttp's client behind the seam; make it inside a running loop."""

    def __init__(self) -> None:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=IDLE_CONNECTION_S),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
            skip_auto_headers=("User-Agent", "Accept", "Content-Type"),
            timeout=aiohttp.ClientTimeout(total=None),
        )

    async def send(self, call: Call) -> AiohttpAnswer:
        """POST the call; see `Transport`."""
        try:
            response = await self._session.post(
                call.url,
                data=call.body,
                headers=call.headers,
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(
                    total=None, sock_connect=call.connect_timeout_s, sock_read=call.timeout_s
                ),
            )
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise _mapped(error) from error
        return AiohttpAnswer(response)

    async def close(self) -> None:
        """Close every connection."""
        await self._session.close()


class AiohttpAnswer:
    """An aiohttp response behind the seam."""

    __slots__ = ("_response", "status")

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response
        self.status = response.status

    def header(self, name: str) -> str | None:
        """The first header of that name, or None."""
        return self._response.headers.get(name)

    async def chunk(self) -> bytes:
        """The next bytes, b"" at the end."""
        try:
            return await self._response.content.readany()
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise _mapped(error) from error

    async def read(self, limit: int) -> bytes:
        """The whole body, at most `limit` bytes."""
        parts: list[bytes] = []
        size = 0
        while part := await self.chunk():
            size += len(part)
            if size > limit:
                raise TransportError(Fault.TOO_LARGE, f"the body is over {limit} bytes")
            parts.append(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def close(self) -> None:
        """Give the connection back if the body was read to its end, else close it."""
        self._response.release()


def _mapped(error: Exception) -> TransportError:
    """One place from aiohttp's exceptions to ours, most specific first.

    A malformed answer surfaces as ClientResponseError with status 400 (measured on 3.14): it is
    the upstream's nonsense, never the client's bad request.
    """
    # the library's message may quote the upstream's bytes, which may be an answer's text
    detail = type(error).__name__
    if isinstance(error, OSError) and error.strerror:
        detail = f"{detail}: {error.strerror}"
    if isinstance(error, aiohttp.ConnectionTimeoutError | aiohttp.ClientConnectorError):
        return TransportError(Fault.UNREACHABLE, detail)
    if isinstance(error, asyncio.TimeoutError):
        return TransportError(Fault.TIMEOUT, detail)
    if isinstance(error, aiohttp.ClientResponseError | aiohttp.InvalidURL):
        return TransportError(Fault.NONSENSE, detail)
    if isinstance(error, aiohttp.ClientPayloadError | aiohttp.ClientConnectionError | OSError):
        return TransportError(Fault.BROKEN, detail)
    return TransportError(Fault.NONSENSE, detail)
