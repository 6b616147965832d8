"""What a request asks of kept answers: `Cache-Control` and `Idempotency-Key`. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from proxy.errors import InvalidRequest

CACHE_CONTROL = "Cache-Control"
IDEMPOTENCY_KEY = "Idempotency-Key"

KEY_LENGTH_MAX = 255
_AGE_MAX_S = 10**9


@dataclass(frozen=True, slots=True)
class CacheWishes:
    """May an answer be given that was kept, may this one be, how old may it be, and is nothing else
    wanted?"""

    looks: bool = True
    stores: bool = True
    age_max_s: int | None = None
    only_kept: bool = False


ANY = CacheWishes()


def cache_wishes(values: Sequence[str]) -> CacheWishes:
    """The wishes in these values of `Cache-Control`; what is unknown there says nothing, as HTTP
    has it, and an age that is no number lets nothing pass."""
    if not values:
        return ANY
    said = {}
    for part in ",".join(values).split(","):
        name, _, value = part.strip().partition("=")
        said[name.lower()] = value.strip().strip('"')
    age_max_s = None
    if "max-age" in said:
        value = said["max-age"]
        is_number = value.isascii() and value.isdigit() and len(value) < 20
        age_max_s = min(int(value), _AGE_MAX_S) if is_number else 0
    stores = "no-store" not in said
    looks = stores and "no-cache" not in said
    return CacheWishes(looks, stores, age_max_s, only_kept="only-if-cached" in said)


def idempotency_key(values: Sequence[str]) -> str | None:
    """The key by which the client knows its request; InvalidRequest for what is none."""
    if not values:
        return None
    if len(set(values)) > 1:
        raise InvalidRequest(
            f"The header `{IDEMPOTENCY_KEY}` comes {len(values)} times and says different things; "
            "send it once.",
            param=IDEMPOTENCY_KEY,
        )
    key = values[0]
    if not (0 < len(key) <= KEY_LENGTH_MAX and key.isascii() and key.isprintable()):
        raise InvalidRequest(
            f"The header `{IDEMPOTENCY_KEY}` must be 1 to {KEY_LENGTH_MAX} printable ASCII "
            "characters.",
            param=IDEMPOTENCY_KEY,
        )
    return key
