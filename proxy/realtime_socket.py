"""The WebSocket to a provider: the one place that uses aiohttp's client towards models.

Rules: the address is the provider's, the way out is `egress`, certificates are always verified,
redirects are not followed and there are no cookies, as for every other call.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping
from urllib.parse import urlencode, urlsplit

import aiohttp

from proxy.egress import proxy_for
from proxy.settings import Egress, Provider
from proxy.tls import TlsFileError, upstream_context
from proxy.transport import Fault, TransportError
from proxy.wire.openai_chat.errors import classify_status
from routing.fallback import Outcome

MESSAGE_BYTES_MAX = 16 * 1024 * 1024
"""One message: OpenAI takes 15 MiB of audio in one event."""

CLOSE_S = 2.0

_NOT_SENT = frozenset({"accept", "accept-encoding", "content-type"})


class RefusedError(Exception):
    """The provider answered the handshake with something else."""

    def __init__(self, status: int) -> None:
        super().__init__(f"status {status}")
        self.status = status
        self.outcome: Outcome = classify_status(status, b"")


async def _stay(
    request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
) -> aiohttp.ClientResponse:
    """Follow no redirect, which aiohttp does for sockets and cannot be told not to."""
    response = await handler(request)
    if 300 <= response.status < 400:
        response.close()
        raise RefusedError(response.status)
    return response


@contextlib.asynccontextmanager
async def connected(
    egress: Egress, provider: Provider, query: Mapping[str, str], headers: Mapping[str, str]
) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
    """A session with the provider; RefusedError or TransportError where none is to be had."""
    url = f"{provider.base_url}/realtime?{urlencode(query)}"
    host = urlsplit(url).hostname or ""
    is_tls = url.startswith("https:")
    forward = proxy_for(egress, host)
    if forward is not None and not is_tls:
        why = "a session without TLS would show its key to `egress.proxy`"
        raise TransportError(Fault.UNREACHABLE, why)
    try:
        tls = upstream_context(provider.ca_file or egress.ca_file) if is_tls else True
    except TlsFileError as error:
        raise TransportError(Fault.UNREACHABLE, f"`ca_file` {error}") from error
    way = None if forward is None else f"http://{forward.host}:{forward.port}"
    known = forward.authorization if forward is not None else None
    async with aiohttp.ClientSession(
        cookie_jar=aiohttp.DummyCookieJar(),
        trust_env=False,
        skip_auto_headers=("User-Agent",),
        middlewares=(_stay,),
        timeout=aiohttp.ClientTimeout(
            total=None, sock_connect=provider.connect_timeout_s, sock_read=provider.timeout_s
        ),
    ) as http:
        try:
            socket = await http.ws_connect(
                url,
                headers={k: v for k, v in headers.items() if k.lower() not in _NOT_SENT},
                protocols=("realtime",),
                max_msg_size=MESSAGE_BYTES_MAX,
                timeout=aiohttp.ClientWSTimeout(ws_close=CLOSE_S),
                ssl=tls,
                proxy=way,
                proxy_headers={"Proxy-Authorization": known.reveal()} if known else None,
            )
        except aiohttp.WSServerHandshakeError as error:
            raise RefusedError(error.status) from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            # the library's message may quote what it was sent
            raise TransportError(Fault.UNREACHABLE, type(error).__name__) from error
        async with socket:
            yield socket
