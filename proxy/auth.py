"""From an Authorization header to who is asking. The tenant comes from here and nowhere else.

Keys are kept as SHA-256: they are random, so a fast hash is enough. A key is looked up by its full
hash and then compared in constant time, so neither the lookup nor the comparison tells anything
about a key that was guessed in part.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Iterable, Sequence

from metering.tenants import Principal, Tenant

BEARER = "bearer "
KEY_LENGTH_MAX = 512

ANTHROPIC_KEY = "x-api-key"
"""Where Anthropic's clients put the key; taken from there where no `Authorization` is."""

OTHER_CREDENTIALS = (ANTHROPIC_KEY, "api-key", "x-goog-api-key")
"""Where other vendors' clients put their keys: none of them may differ from the one we take."""


def bare_key(authorization: str) -> str:
    """What is left of an Authorization header without its scheme."""
    return authorization[authorization.find(" ") + 1 :].strip()


class Authenticator:
    """Every key of every tenant, by hash; immutable, replaced as a whole on reload.

    `now_ns` is asked for keys that expire, and for no other.
    """

    def __init__(self, tenants: Iterable[Tenant], now_ns: Callable[[], int]) -> None:
        self._now_ns = now_ns
        self._principals: dict[str, Principal] = {
            key.sha256: Principal(tenant, key) for tenant in tenants for key in tenant.keys
        }

    def authenticate(self, authorization: Sequence[str]) -> Principal | None:
        """The principal behind the Authorization headers, or None.

        None for no header, another scheme, a wrong key, and for two headers that differ.
        """
        if not authorization or any(value != authorization[0] for value in authorization):
            return None
        value = authorization[0]
        if value[: len(BEARER)].lower() != BEARER:
            return None
        return self.by_key(value[len(BEARER) :].strip())

    def by_key(self, key: str) -> Principal | None:
        """The principal of a raw key, or None."""
        if not key or len(key) > KEY_LENGTH_MAX:
            return None
        digest = hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()
        principal = self._principals.get(digest)
        if principal is None or not hmac.compare_digest(principal.key.sha256, digest):
            return None
        expires_ns = principal.key.expires_ns
        if expires_ns is not None and self._now_ns() >= expires_ns:
            return None
        return principal
