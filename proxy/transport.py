"""The only HTTP client towards models: sends a request, hands out the answer's bytes.

A seam: everything above sees `Transport` and `Answer`, and one contract suite holds ours and a
reference over aiohttp's client to them. Rules: redirects are never followed (a redirect would
carry the key away), bodies are asked for and passed on unencoded, there are no cookies, the
environment's proxy settings are not read, and every failure is one `TransportError`.

Why not aiohttp's client here: it costs more CPU per request than all of the metering
(docs/decisions/0003-upstream-transport.md has the numbers).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Protocol


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
    ENDLESS = "endless"
    """It comes, but not to an end within the call's `max_answer_s`."""


class TransportError(Exception):
    """An upstream could not be talked to; `fault` says how, the message is for our log only."""

    def __init__(self, fault: Fault, detail: str) -> None:
        super().__init__(f"{fault}: {detail}")
        self.fault = fault


@dataclass(frozen=True, slots=True)
class Call:
    """One request to an upstream. `timeout_s` bounds each silence, `max_answer_s` the whole answer.

    `ca_file` holds the certificates that may vouch for the upstream, in place of the system's.
    """

    url: str
    headers: Mapping[str, str]
    body: bytes
    timeout_s: float
    connect_timeout_s: float
    max_answer_s: float = 3600.0
    ca_file: Path | None = None
    method: str = "POST"
    """GET and DELETE go out without a length when their body is empty (RFC 9110, 8.6)."""
    is_one_off: bool = False
    """Whether neither its URL nor its headers are likely to be met again."""
    is_signed: bool = False
    """Whether its headers are of this call alone, and worth nothing to the next."""


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

    async def send(self, call: Call, on_sent: Callable[[], None] = ...) -> Answer:
        """The answer once its status and headers are there; TransportError otherwise.

        `on_sent` is called when the request is written: from then on the upstream may be working.
        """
        ...

    async def close(self) -> None:
        """Close every connection."""
        ...
