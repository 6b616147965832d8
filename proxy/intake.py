"""Reads a request's body, which its sender may make long, slow, compressed or broken.

Rules: what its headers alone rule out is refused unread; nothing is unpacked; a body over its bound
is given up at the first byte too many, and so is one for which all bodies together leave no memory;
who sends too slowly is told so, and not waited for.
"""

from __future__ import annotations

import asyncio

from aiohttp import web
from aiohttp.streams import StreamReader

from proxy.client_connection import BYTES_PER_S_MIN, Patience
from proxy.crowd import BodyShare
from proxy.errors import (
    BodyTooLarge,
    BrokenRequest,
    Overloaded,
    RequestTimeout,
    UnsupportedEncoding,
)

BYTES_PER_S_LATE = 64 * 1024
"""What a body has to come at, once it has taken `Patience.body_s`."""

_MIB = 1024 * 1024


async def read_body(
    request: web.BaseRequest, *, limit_mb: int, patience: Patience, share: BodyShare
) -> bytes:
    """The body, whole; raises the refusal when it cannot be had. `share` counts what has come."""
    encodings = request.headers.getall("Content-Encoding", [])
    if any(encoding.lower() != "identity" for encoding in encodings):
        raise UnsupportedEncoding("Send the body uncompressed: Content-Encoding is not accepted.")
    if (request.content_length or 0) > limit_mb * _MIB:
        raise _too_large(limit_mb)
    content = request.content
    try:
        if content.is_eof():  # all of it is here: nobody has to be waited for, and no timer set
            return _whole(content.read_nowait(), limit_mb, share)
        return await _arriving(content, limit_mb, patience, share)
    except TimeoutError:
        raise RequestTimeout(
            f"The body did not arrive in time: after {patience.body_grace_s:.0f} s at least 1 KiB "
            f"per second, and within {patience.body_s:.0f} s but for a second per 64 KiB."
        ) from None
    except web.RequestPayloadError:
        raise BrokenRequest("The body's framing is broken: a chunk has no valid size.") from None


async def _arriving(
    content: StreamReader, limit_mb: int, patience: Patience, share: BodyShare
) -> bytes:
    body = bytearray()
    started = asyncio.get_running_loop().time()
    async with asyncio.timeout(patience.body_grace_s) as deadline:
        while part := await content.readany():
            body += part
            _check_room(len(body), len(part), limit_mb, share)
            at_first = patience.body_grace_s + len(body) / BYTES_PER_S_MIN
            later = patience.body_s + len(body) / BYTES_PER_S_LATE
            deadline.reschedule(started + min(at_first, later))
    return bytes(body)


def _whole(body: bytes, limit_mb: int, share: BodyShare) -> bytes:
    _check_room(len(body), len(body), limit_mb, share)
    return body


def _check_room(size: int, added: int, limit_mb: int, share: BodyShare) -> None:
    if size > limit_mb * _MIB:
        raise _too_large(limit_mb)
    if not share.grow(added):
        raise Overloaded("This process is short of memory for the bodies of requests.")


def _too_large(limit_mb: int) -> BodyTooLarge:
    return BodyTooLarge(f"The body is over {limit_mb} MB (`server.max_body_mb`).")
