"""aiohttp's client behind the transport's seam: the reference that the contract is held against."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import aiohttp

from proxy.transport import Call, Fault, TransportError


class AiohttpTransport:
    """aiohttp's client behind the seam; make it inside a running loop."""

    def __init__(self) -> None:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=30),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
            skip_auto_headers=("User-Agent", "Accept", "Content-Type"),
            timeout=aiohttp.ClientTimeout(total=None),
        )

    async def send(self, call: Call, on_sent: Callable[[], None] = lambda: None) -> AiohttpAnswer:
        """Send the call; see `Transport`."""
        try:
            response = await self._session.request(
                call.method,
                call.url,
                data=call.body or (b"" if call.method == "POST" else None),
                headers=call.headers,
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(
                    total=call.max_answer_s,
                    sock_connect=call.connect_timeout_s,
                    sock_read=call.timeout_s,
                ),
            )
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise _mapped(error) from error
        on_sent()
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
