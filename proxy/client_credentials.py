"""Access tokens for accounts that have a client id and a secret (OAuth 2.0, RFC 6749, 4.4).

A token is kept until it lapses. Shortly before that one request fetches the next while the others
go on with the one there is; without one, all wait for a single fetch. A failure is remembered for
a moment, so that an authority that is away is not asked once per request. Neither the secret nor a
token stands in an error.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode
from weakref import WeakKeyDictionary

import orjson

from metering.clock import monotonic_s
from proxy.settings import Secret
from proxy.transport import Call, Fault, Transport, TransportError

REFRESH_AHEAD_S = 300.0
"""So long before its end a token is replaced, once somebody asks for it."""

MARGIN_S = 30.0
"""So long before its end a token is not sent any more: clocks differ, and requests take time."""

LIFETIME_MAX_S = 7 * 86_400
FAILURE_S = 5.0
"""So long after a failure nothing is asked for."""

TIMEOUT_S = 10.0
ANSWER_BYTES_MAX = 256 * 1024

_TOKEN = re.compile(r"[\x21-\x7e]{1,16384}")
"""What may stand in a header, and no blank in it."""

_WORD = re.compile(r"[A-Za-z0-9_.-]{1,64}")


@dataclass(frozen=True, slots=True)
class Grant:
    """Who asks for a token, where, and for what. Compared as a whole: a new secret is a new one."""

    url: str
    client_id: str
    client_secret: Secret
    scope: str

    def body(self) -> bytes:
        """The form that is posted."""
        return urlencode(
            {
                "grant_type": "client_credentials",
                "client_id": self.client_id,
                "client_secret": self.client_secret.reveal(),
                "scope": self.scope,
            }
        ).encode()


@dataclass(slots=True)
class _Kept:
    """The token of one grant, and when what is done about it; times are of the monotonic clock."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    token: str = field(default="", repr=False)
    refresh_at_s: float = 0.0
    ends_at_s: float = 0.0
    failed: tuple[Fault, str] | None = None
    retry_at_s: float = 0.0


class Tokens:
    """The tokens of one process, each fetched once."""

    def __init__(self, *, clock: Callable[[], float] = monotonic_s) -> None:
        self._clock = clock
        self._kept: dict[Grant, _Kept] = {}

    async def token(self, grant: Grant, transport: Transport, *, connect_timeout_s: float) -> str:
        """A token that is good for a while; TransportError when there is none."""
        kept = self._kept.get(grant)
        if kept is None:
            kept = self._kept[grant] = _Kept()
        now_s = self._clock()
        if now_s < kept.refresh_at_s:
            return kept.token
        if now_s < kept.ends_at_s and (kept.lock.locked() or now_s < kept.retry_at_s):
            return kept.token
        async with kept.lock:
            return await self._refreshed(kept, grant, transport, connect_timeout_s)

    async def _refreshed(
        self, kept: _Kept, grant: Grant, transport: Transport, connect_timeout_s: float
    ) -> str:
        now_s = self._clock()
        if now_s < kept.refresh_at_s:  # somebody else was here first
            return kept.token
        if kept.failed is not None and now_s < kept.retry_at_s:
            raise TransportError(*kept.failed)
        try:
            token, lifetime_s = await _fetch(grant, transport, connect_timeout_s)
        except TransportError as error:
            now_s = self._clock()
            kept.retry_at_s = now_s + FAILURE_S
            if now_s < kept.ends_at_s:
                return kept.token
            kept.failed = (error.fault, str(error).removeprefix(f"{error.fault}: "))
            raise
        kept.token, kept.failed = token, None
        kept.ends_at_s = now_s + max(0.0, lifetime_s - MARGIN_S)
        kept.refresh_at_s = now_s + max(0.0, lifetime_s - MARGIN_S - REFRESH_AHEAD_S)
        return token


_OF_TRANSPORT: WeakKeyDictionary[Transport, Tokens] = WeakKeyDictionary()


def tokens_of(transport: Transport) -> Tokens:
    """The tokens that belong to this transport: they live as long, and in the same event loop."""
    return _OF_TRANSPORT.setdefault(transport, Tokens())


async def _fetch(grant: Grant, transport: Transport, connect_timeout_s: float) -> tuple[str, float]:
    """A new token and for how many seconds it is good."""
    call = Call(
        url=grant.url,
        headers={
            "Content-Type": "application/x-www-form-urlencoded",
            "Accept": "application/json",
            "Accept-Encoding": "identity",
            "User-Agent": "tokenweir",
        },
        body=grant.body(),
        timeout_s=TIMEOUT_S,
        connect_timeout_s=min(connect_timeout_s, TIMEOUT_S),
        max_answer_s=TIMEOUT_S,
    )
    answer = await transport.send(call)
    try:
        body = await answer.read(ANSWER_BYTES_MAX)
    finally:
        answer.close()
    return read_token(grant.url, answer.status, body)


def read_token(url: str, status: int, body: bytes) -> tuple[str, float]:
    """The token in an answer and its seconds; TransportError for one that has none."""
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError:
        found = None
    fields: dict[str, Any] = found if isinstance(found, dict) else {}
    if status != 200:
        # nothing has gone to the model: as good as no connection to it
        raise TransportError(Fault.UNREACHABLE, f"{url} gave no token: {status} {_reason(fields)}")
    token, lifetime = fields.get("access_token"), fields.get("expires_in")
    if isinstance(lifetime, str) and lifetime.isascii() and lifetime.isdigit():
        lifetime = int(lifetime[:9])  # older authorities write it as a string
    if not isinstance(token, str) or not _TOKEN.fullmatch(token):
        raise TransportError(Fault.UNREACHABLE, f"{url} gave no token that could be sent")
    if type(lifetime) is not int or lifetime < 1:
        raise TransportError(Fault.UNREACHABLE, f"{url} did not say how long its token is good for")
    return token, float(min(lifetime, LIFETIME_MAX_S))


def _reason(fields: dict[str, Any]) -> str:
    """The code of the error, and the authority's own numbers for it; its prose may quote anything.

    `invalid_client` with 7000215 is a wrong secret, with 7000222 one that has expired.
    """
    code, numbers = fields.get("error"), fields.get("error_codes")
    told = code if isinstance(code, str) and _WORD.fullmatch(code) else "without a reason"
    if isinstance(numbers, list) and (known := [str(each) for each in numbers if _is_id(each)]):
        told += f" ({', '.join(known[:4])})"
    return told


def _is_id(value: object) -> bool:
    return type(value) is int and 0 <= value < 10**9
