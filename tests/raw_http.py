"""HTTP by hand: says exactly these bytes to a door, and reads strictly what comes back."""

from __future__ import annotations

import asyncio
import contextlib
import re
import ssl
from dataclasses import dataclass
from urllib.parse import urlsplit

import orjson
from fixtures_door import KEY

CHAT = "/v1/chat/completions"
BODY = b'{"model":"m","messages":[{"role":"user","content":"hi"}]}'
STREAM = b'{"model":"m","stream":true,"messages":[{"role":"user","content":"hi"}]}'
BEARER = f"Authorization: Bearer {KEY}\r\n"

_STATUS = re.compile(rb"HTTP/1\.1 ([1-5][0-9][0-9]) [ -~]*")
_HEADER = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+): ?([\t -~\x80-\xff]*)")


@dataclass(frozen=True)
class Said:
    """One answer, its framing taken off."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def code(self) -> str | None:
        """The error's code; KeyError when this is no refusal of ours."""
        code: str | None = orjson.loads(self.body)["error"]["code"]
        return code


def post(body: bytes = BODY, *more: str, path: str = CHAT, host: str = "x") -> bytes:
    """A chat request as it should be, with these header lines more."""
    lines = "".join(f"{line}\r\n" for line in more)
    return (
        f"POST {path} HTTP/1.1\r\nHost: {host}\r\n{BEARER}{lines}"
        f"Content-Length: {len(body)}\r\n\r\n".encode("latin-1")
        + body
    )


def get(path: str, *more: str, host: str = "x") -> bytes:
    """A GET that has the key."""
    lines = "".join(f"{line}\r\n" for line in more)
    return f"GET {path} HTTP/1.1\r\nHost: {host}\r\n{BEARER}{lines}\r\n".encode("latin-1")


async def connect(
    url: str, tls: ssl.SSLContext | None = None
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection to the door; without `tls` no hello is sent, whatever the URL says."""
    parts = urlsplit(url)
    return await asyncio.open_connection(parts.hostname, parts.port, limit=2**26, ssl=tls)


async def close(writer: asyncio.StreamWriter) -> None:
    """Close it, whatever the other side has done."""
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()


async def one(url: str, raw: bytes) -> Said:
    """The answer to the first request in these bytes; the connection is closed after it."""
    reader, writer = await connect(url)
    writer.write(raw)
    try:
        return await read_one(reader)
    finally:
        await close(writer)


async def every(url: str, raw: bytes) -> list[Said]:
    """Every answer until the door closes the connection, which it has to do by itself."""
    reader, writer = await connect(url)
    try:
        with contextlib.suppress(ConnectionError):
            writer.write(raw)
            await writer.drain()
        said = b""
        with contextlib.suppress(ConnectionError):
            while part := await reader.read(65536):
                said += part
    finally:
        await close(writer)
    return await answers(said)


async def answers(raw: bytes) -> list[Said]:
    """The answers in these bytes; AssertionError for anything that is none."""
    reader = asyncio.StreamReader(limit=2**26)
    reader.feed_data(raw)
    reader.feed_eof()
    found = []
    while not reader.at_eof():
        found.append(await read_one(reader))
    return found


async def read_one(reader: asyncio.StreamReader) -> Said:
    """One answer, which must be well formed to the letter."""
    while True:
        head = await reader.readuntil(b"\r\n\r\n")
        start, *lines = head[:-4].split(b"\r\n")
        status = _STATUS.fullmatch(start)
        assert status, start
        if status[1] != b"100":
            break
    headers: dict[str, str] = {}
    for line in lines:
        header = _HEADER.fullmatch(line)
        assert header, line
        name = header[1].decode().lower()
        assert name not in headers, f"two of {name}"
        headers[name] = header[2].decode("latin-1")
    return Said(int(status[1]), headers, await _body(reader, headers))


async def _body(reader: asyncio.StreamReader, headers: dict[str, str]) -> bytes:
    assert not ("content-length" in headers and "transfer-encoding" in headers)
    if "content-length" in headers:
        return await reader.readexactly(int(headers["content-length"]))
    assert headers["transfer-encoding"] == "chunked"
    body = b""
    while size := int((await reader.readuntil(b"\r\n")).strip(), 16):
        body += await reader.readexactly(size)
        assert await reader.readexactly(2) == b"\r\n"
    assert await reader.readexactly(2) == b"\r\n"
    return body
