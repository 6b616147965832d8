"""The HTTP server around the application, where aiohttp answers by itself without asking it.

A request that is no HTTP, or that no route can take (`OPTIONS *`, an unknown `Expect`), never
reaches a handler. It gets the same JSON as every refusal here: no quoted input, no server version.
What is HTTP and still a trick is refused here, too: a `Host` that is none, a target that names
another host.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from typing import Any, cast

from aiohttp import HttpVersion10, HttpVersion11, web
from aiohttp.http_exceptions import BadHttpMethod, LineTooLong
from aiohttp.http_parser import HttpRequestParser, HttpRequestParserPy
from aiohttp.web_protocol import ERROR

from proxy.client_connection import ClientConnection, Patience
from proxy.crowd import Crowd
from proxy.errors import (
    ApiError,
    BrokenRequest,
    InternalError,
    InvalidRequest,
    MethodNotAllowed,
    Overloaded,
    PathNotFound,
)
from proxy.ingress import fresh_request_id, refusal
from proxy.tls_accept import TlsAcceptor

_UNREADABLE = ERROR._replace(version=HttpVersion11)
"""What aiohttp puts in place of a request it could not parse; its own would make us answer in
HTTP/1.0."""


_HOST = re.compile(
    r"(?:[A-Za-z0-9_](?:[A-Za-z0-9._-]{0,252}[A-Za-z0-9_.])?|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?"
)
"""A name or an address, and a port: no path, no user, no list, which others might read as one."""

_NAMES = "/v1/models/"
"""What follows is a name, which may be percent-encoded. The router decodes everything, and what is
in front of us may not, so any other path is written plainly."""

_HEALTH_PATHS = frozenset({"/healthz", "/readyz"})


class Runner(web.AppRunner):
    """aiohttp's runner with our server in it; with `tls` it is given plain sockets all the same.

    `_make_server` is private, and the only such hook here: the public ways to give an application
    to a server of one's own are deprecated. tests/proxy/test_server.py notices if it goes.
    """

    def __init__(
        self,
        app: web.Application,
        *,
        shutdown_timeout: float,
        patience: Patience,
        crowd: Crowd,
        tls: ssl.SSLContext | None = None,
        **options: Any,
    ) -> None:
        if HttpRequestParser is HttpRequestParserPy:
            raise RuntimeError(
                "aiohttp's parser in C is missing, and its other one is not for strangers: install "
                "aiohttp from a wheel, and unset AIOHTTP_NO_EXTENSIONS"
            )
        super().__init__(app, shutdown_timeout=shutdown_timeout, **options)
        self.tls = tls
        self.crowd = crowd
        self._options = {**options, "patience": patience, "crowd": crowd}

    def renew_tls(self, tls: ssl.SSLContext) -> None:
        """Show this to clients from the next handshake on; only for one that has shown another."""
        assert self.tls is not None, "its sockets speak plain HTTP"
        self.tls = tls
        if isinstance(self.server, _Server):
            self.server.tls = tls

    async def _make_server(self) -> web.Server:
        return _Server(await super()._make_server(), self._options, self.tls)


class _Server(web.Server):
    """The application's server, with our request handler for each connection."""

    def __init__(
        self, made: web.Server, options: dict[str, Any], tls: ssl.SSLContext | None
    ) -> None:
        self._answer = made.request_handler
        self._make = made.request_factory
        connection = dict(options)
        super().__init__(
            self._handle,
            request_factory=self._request,
            handler_cancellation=connection.pop("handler_cancellation", False),
        )
        self._connection_options = connection
        self.tls = tls
        self._handshakes: set[asyncio.Task[None]] = set()

    def __call__(self) -> web.RequestHandler:
        """A connection was accepted."""
        loop = asyncio.get_running_loop()
        connection = _RequestHandler(self, loop=loop, **self._connection_options)
        if self.tls is None:
            return connection
        acceptor = TlsAcceptor(connection, self.tls, self._handshakes)
        return cast("web.RequestHandler", acceptor)  # any protocol will do for the event loop

    def pre_shutdown(self) -> None:
        """Close what is idle, and what has yet to finish its handshake."""
        super().pre_shutdown()
        for handshake in list(self._handshakes):
            handshake.cancel()

    def _request(self, message: Any, *rest: Any) -> web.BaseRequest:
        if message is ERROR:
            message = _UNREADABLE
        elif message.version < HttpVersion10:  # a request line without one; we speak no 0.9
            message = message._replace(version=HttpVersion11)
        return self._make(message, *rest)

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        suspected = _suspicion(request)
        if suspected is not None:
            return refusal(suspected, fresh_request_id())
        try:
            return await self._answer(request)
        except web.HTTPException as error:
            return refusal(_refused(error), fresh_request_id())


class _RequestHandler(ClientConnection):
    """One client's connection, and what is said on it when no handler says anything."""

    __slots__ = ()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """The answer when there is no handler's; the connection is closed after it.

        `message`, and the text of `exc` for a request that cannot be parsed, quote what the client
        sent, which may be a key or a prompt: neither is sent or logged.
        """
        request_id = fresh_request_id()
        error: ApiError
        if status < 500:
            error = _unreadable(exc)
        else:
            self.log_exception("request %s failed", request_id, exc_info=exc)
            error = InternalError(f"The gateway failed; its log has the cause under {request_id}.")
        if request.writer.output_size > 0:
            raise ConnectionError("the answer has begun; there is no room for a refusal")
        response = refusal(error, request_id)
        response.force_close()
        return response


def _suspicion(request: web.BaseRequest) -> ApiError | None:
    """Why a request goes to no handler although it can be read."""
    hosts = request.headers.getall("Host", [])
    if any(not _HOST.fullmatch(host) for host in hosts) or len(hosts) > 1:
        return BrokenRequest("The header `Host` must be one name or address, and maybe a port.")
    codings = request.headers.getall("Transfer-Encoding", ["chunked"])
    if len(codings) > 1 or codings[0].lower() != "chunked":
        return BrokenRequest("The header `Transfer-Encoding` can only be `chunked`.")
    connection = request.protocol
    assert isinstance(connection, ClientConnection)
    if connection.is_for_health_only and request.raw_path not in _HEALTH_PATHS:
        return Overloaded("Too many connections are open.")
    path = request.raw_path.partition("?")[0]
    if (
        not path.startswith("/")
        or "#" in request.raw_path
        or ("%" in path and not path.startswith(_NAMES))
    ):
        return PathNotFound("There is nothing at this request target.")
    return None


def _unreadable(error: BaseException | None) -> ApiError:
    if isinstance(error, LineTooLong):
        return InvalidRequest("The request line, a header, or all headers together are too long.")
    if isinstance(error, BadHttpMethod):  # TLS sent to this port looks like that, too
        return InvalidRequest("This is not HTTP, or not a method that HTTP knows.")
    return InvalidRequest("This is not a valid HTTP/1.1 request.")


def _refused(error: web.HTTPException) -> ApiError:
    """What aiohttp's router refuses before a handler is found."""
    match error.status:
        case 404:
            return PathNotFound("There is nothing at this request target.")
        case 405:
            return MethodNotAllowed("This method is not allowed here.")
        case 417:
            return InvalidRequest("The header `Expect` can only be `100-continue`.")
        case _:
            return InvalidRequest("This request cannot be served.")
