"""Who calls the console: an admin key, or the session that a browser began with one.

Rules:
- A key is looked up by its SHA-256 and compared in constant time, like a client's (`proxy.auth`).
- A session is only a reminder of a key: what the key may is asked anew at each request, so a
  revoked key ends its sessions.
- After so many wrong keys an address is not listened to for a while, right keys included: else the
  answer would still tell a right guess from a wrong one.
- `now_s` is an argument; nothing here knows HTTP.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field

from proxy.auth import BEARER, KEY_LENGTH_MAX
from proxy.settings import AdminKey

WRONG_MAX = 20
"""Wrong keys of one address within `WRONG_WINDOW_S`."""

WRONG_WINDOW_S = 60.0

ADDRESSES_MAX = 4_096
"""Addresses that are remembered; the oldest is forgotten for a new one."""

SESSION_S = 12 * 3600.0
"""A working day; then the key is asked for again."""

SESSIONS_MAX = 1_000


def bearer(headers: list[str]) -> str | None:
    """The key in the Authorization headers; None for another scheme, or two that differ."""
    if not headers or any(each != headers[0] for each in headers):
        return None
    if headers[0][: len(BEARER)].lower() != BEARER:
        return None
    return headers[0][len(BEARER) :].strip()


def sha256_of(raw: str) -> str | None:
    """What a raw key is looked up by; None for what is none."""
    if not raw or len(raw) > KEY_LENGTH_MAX:
        return None
    return hashlib.sha256(raw.encode("utf-8", "surrogateescape")).hexdigest()


def find(keys: Iterable[AdminKey], sha256: str) -> AdminKey | None:
    """The key of this hash."""
    found = None
    for each in keys:  # all of them, however early one fits
        if hmac.compare_digest(each.sha256, sha256):
            found = each
    return found


@dataclass(slots=True)
class WrongKeys:
    """How often each address was wrong of late."""

    _seen: dict[str, tuple[float, int]] = field(default_factory=dict)

    def wait_s(self, address: str, now_s: float) -> float:
        """How long this address is not listened to; 0 when it is."""
        began_s, count = self._seen.get(address, (now_s, 0))
        left_s = began_s + WRONG_WINDOW_S - now_s
        return left_s if count >= WRONG_MAX and left_s > 0 else 0.0

    def note(self, address: str, now_s: float) -> None:
        """It was wrong once more."""
        began_s, count = self._seen.pop(address, (now_s, 0))
        if now_s - began_s >= WRONG_WINDOW_S:
            began_s, count = now_s, 0
        self._seen[address] = began_s, count + 1
        while len(self._seen) > ADDRESSES_MAX:
            del self._seen[next(iter(self._seen))]


@dataclass(frozen=True, slots=True)
class _Session:
    key_sha256: str
    ends_s: float


@dataclass(slots=True)
class Sessions:
    """The open sessions, by the hash of what the browser keeps; they end with the process."""

    _open: dict[str, _Session] = field(default_factory=dict)

    def begin(self, key_sha256: str, now_s: float) -> str:
        """A new one; what it returns is the cookie's value, which is kept nowhere else."""
        for each in [token for token, found in self._open.items() if found.ends_s <= now_s]:
            del self._open[each]
        while len(self._open) >= SESSIONS_MAX:
            del self._open[next(iter(self._open))]
        token = secrets.token_urlsafe(32)
        self._open[_hashed(token)] = _Session(key_sha256, now_s + SESSION_S)
        return token

    def key_of(self, token: str, now_s: float) -> str | None:
        """The hash of the key it was begun with; None when it has ended."""
        found = self._open.get(_hashed(token))
        return None if found is None or found.ends_s <= now_s else found.key_sha256

    def end(self, token: str) -> None:
        """It is over; harmless when it was."""
        self._open.pop(_hashed(token), None)


def _hashed(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()
