"""Which upstream a session, a user or a prompt is at home at, and drawing one by weight. Pure.

Weighted rendezvous hashing: every upstream gets a number from the key, its own label and its
weight, and the highest wins. So there is nothing to remember: every process, and every start, finds
the same home, and prompt caches stay warm. When an upstream goes, only what was at home there
moves, and spreads over the others by their weights; when it comes back, so does that, and nothing
else moves. With a key that is new each time (the exchange id) it is a draw by weight.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from enum import StrEnum
from functools import lru_cache
from hashlib import blake2b

_MASK = (1 << 64) - 1
_STEPS = 1 << 53
"""Of 64 bits a double tells 53 apart: with more, the highest share would round to 1."""


class Affinity(StrEnum):
    """What stays at one upstream as long as it can."""

    NONE = "none"
    SESSION = "session"
    USER = "user"
    PROMPT = "prompt"
    AUTO = "auto"
    """The session, else what the client names for its prompt cache, else the user, else how the
    prompt begins."""


def scores(key: bytes, upstreams: Iterable[tuple[str, int]]) -> list[float]:
    """How much the key belongs to each of these, given by label and weight; the highest wins. A
    weight of 0 loses to all.

    -weight / ln(u) for an even u: the chance to win is the upstream's share of the weights, and so
    it is among those that are left when the winner is taken away.
    """
    start, log = _hash(key), math.log
    found = []
    for label, weight in upstreams:  # as `_mix`, whose call would cost as much as what it does
        value = (start ^ _hash_of_label(label)) * 0xBF58476D1CE4E5B9 & _MASK
        value = (value ^ value >> 32) * 0x94D049BB133111EB & _MASK
        found.append(-weight / log(((value >> 11) + 0.5) / _STEPS))
    return found


def share(key: bytes, label: str) -> float:
    """A number between 0 and 1, both excluded, the same for the same words."""
    return ((_mix(_hash(key) ^ _hash_of_label(label)) >> 11) + 0.5) / _STEPS


def _mix(value: int) -> int:
    """Of two hashes that were laid over each other, which are even already, a number whose upper
    bits, the ones that are used, depend on all of them. It takes the two multiplications of
    splitmix64's finish and not its shifts: a request pays for every upstream."""
    value = value * 0xBF58476D1CE4E5B9 & _MASK
    return (value ^ value >> 32) * 0x94D049BB133111EB & _MASK


@lru_cache(maxsize=4_096)
def _hash_of_label(label: str) -> int:
    """Labels come from the configuration: there are few, and they come again."""
    return _hash(label.encode())


@lru_cache(maxsize=256)
def _hash(words: bytes) -> int:
    """The same key is asked for with one label after another."""
    return int.from_bytes(blake2b(words, digest_size=8).digest(), "big")


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
