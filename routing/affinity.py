"""Which upstream a session, a user or a prompt is at home at, and drawing one by weight. Pure.

Weighted rendezvous hashing: every upstream gets a number from the key, its own label and its
weight, and the highest wins. So there is nothing to remember: every process, and every start, finds
the same home, and prompt caches stay warm. When an upstream goes, only what was at home there
moves, and spreads over the others by their weights; when it comes back, so does that, and nothing
else moves. With a key that is new each time (the exchange id) it is a draw by weight.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from enum import StrEnum
from hashlib import blake2b

_BITS = 64


class Affinity(StrEnum):
    """What stays at one upstream as long as it can."""

    NONE = "none"
    SESSION = "session"
    USER = "user"
    PROMPT = "prompt"
    AUTO = "auto"
    """The session, else what the client names for its prompt cache, else the user, else how the
    prompt begins."""


def score(key: bytes, label: str, weight: int) -> float:
    """How much the key belongs to this upstream; the highest wins. A weight of 0 loses to all.

    -weight / ln(u) for an even u: the chance to win is the upstream's share of the weights, and so
    it is among those that are left when the winner is taken away.
    """
    drawn = share(key, label)
    return -weight / math.log(drawn)


def share(key: bytes, label: str) -> float:
    """A number between 0 and 1, both excluded, the same for the same words."""
    digest = blake2b(label.encode(), digest_size=_BITS // 8, key=key[:64]).digest()
    # 53 bits are all that a double tells apart: with more, the highest would round to 1
    return ((int.from_bytes(digest, "big") >> 11) + 0.5) / (1 << 53)


def home_key(
    affinity: Affinity,
    tenant: str,
    *,
    session: str | None,
    user: str | None,
    cache_key: str | None,
    prompt: Callable[[], bytes],
) -> bytes | None:
    """The key by which a request has a home; None where nothing of it stays anywhere.

    `cache_key` is the client's own name for its prompt cache, `prompt` gives how the prompt begins,
    asked only where it is needed. Keys of different tenants and kinds never meet.
    """
    if affinity is Affinity.NONE:
        return None
    is_auto = affinity is Affinity.AUTO
    if session and (is_auto or affinity is Affinity.SESSION):
        return _key("session", tenant, session.encode())
    if cache_key and (is_auto or affinity is Affinity.PROMPT):
        return _key("cache", tenant, cache_key.encode(errors="replace"))
    if user and (is_auto or affinity is Affinity.USER):
        return _key("user", tenant, user.encode(errors="replace"))
    if is_auto or affinity is Affinity.PROMPT:
        begins = prompt()
        return _key("prompt", tenant, begins) if begins else None
    return None


def _key(kind: str, tenant: str, value: bytes) -> bytes:
    return blake2b(b"\0".join((kind.encode(), tenant.encode(), value)), digest_size=16).digest()
