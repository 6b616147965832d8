"""A connection through a forward proxy: CONNECT, then nothing of the proxy's in between.

Upstreams without TLS are tunnelled to as well: with requests in absolute form an error page of the
proxy's would look like the upstream's answer, and the proxy would see every key.
"""

from __future__ import annotations

import asyncio

from proxy.settings import ForwardProxy
from proxy.transport import Fault, TransportError

REPLY_BYTES_MAX = 16 * 1024


async def open_tunnel(forward: ForwardProxy, host: str, port: int) -> asyncio.Transport:
    """A transport whose other end is `host`; TransportError when the proxy will not.

    OSError when the proxy cannot be reached. Bounded in time by the caller.
    """
    transport, greeting = await asyncio.get_running_loop().create_connection(
        _Greeting, forward.host, forward.port
    )
    try:
        transport.write(_connect(forward, host, port))
        await greeting.answered
    except BaseException:
        transport.abort()
        raise
    return transport


def _connect(forward: ForwardProxy, host: str, port: int) -> bytes:
    there = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    lines = [f"CONNECT {there} HTTP/1.1", f"Host: {there}", "User-Agent: tokenweir"]
    if forward.authorization is not None:
        lines.append(f"Proxy-Authorization: {forward.authorization.reveal()}")
    return "\r\n".join([*lines, "", ""]).encode("ascii")


class _Greeting(asyncio.Protocol):
    """Reads the proxy's answer to CONNECT, which must end where the tunnel begins."""

    def __init__(self) -> None:
        self.answered: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._read = b""

    def data_received(self, data: bytes) -> None:
        """Bytes of the answer."""
        self._read += data
        head, end, rest = self._read.partition(b"\r\n\r\n")
        if not end:
            if len(self._read) > REPLY_BYTES_MAX:
                self._refuse("sent headers without end")
            return
        version, _, status = head.split(b"\r\n", 1)[0].partition(b" ")
        code = status[:3].decode("latin-1")
        if not version.startswith(b"HTTP/1.") or not code.isdigit():
            self._refuse("does not speak HTTP")
        elif not code.startswith("2"):
            hint = "; check the credentials in `egress.proxy`" if code == "407" else ""
            self._refuse(f"answered {code}{hint}")
        elif rest:
            self._refuse("sent more than its answer")
        elif not self.answered.done():
            self.answered.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        """The proxy hung up."""
        self._refuse("closed the connection")

    def _refuse(self, why: str) -> None:
        if not self.answered.done():
            self.answered.set_exception(
                TransportError(Fault.UNREACHABLE, f"the proxy of `egress.proxy` {why}")
            )
