"""`Cache-Control` and `Idempotency-Key` as clients write them."""

from __future__ import annotations

import pytest

from proxy.errors import InvalidRequest
from proxy.reply_wishes import ANY, CacheWishes, cache_wishes, idempotency_key

WRITTEN: dict[str, CacheWishes] = {
    "no-cache": CacheWishes(looks=False),
    "No-Store": CacheWishes(looks=False, stores=False),
    "max-age=5": CacheWishes(age_max_s=5),
    'max-age="5"': CacheWishes(age_max_s=5),
    "max-age=0, no-transform": CacheWishes(age_max_s=0),
    "max-age=-1": CacheWishes(age_max_s=0),
    "max-age=": CacheWishes(age_max_s=0),
    "max-age=99999999999999": CacheWishes(age_max_s=10**9),
    "only-if-cached": CacheWishes(only_kept=True),
    " no-cache ,only-if-cached": CacheWishes(looks=False, only_kept=True),
    "private, stale-if-error=5": ANY,
    "": ANY,
}


@pytest.mark.parametrize(("written", "wishes"), WRITTEN.items(), ids=WRITTEN)
def test_cache_control(written: str, wishes: CacheWishes) -> None:
    """What is known is heeded, what is not says nothing."""
    assert cache_wishes([written]) == wishes


def test_several_lines_are_one() -> None:
    """As HTTP has it."""
    assert cache_wishes(["no-cache", "max-age=5"]) == CacheWishes(looks=False, age_max_s=5)
    assert cache_wishes([]) is ANY


def test_keys() -> None:
    """One key, however often it is said."""
    assert idempotency_key([]) is None
    assert idempotency_key(["a b~"]) == "a b~"
    assert idempotency_key(["a", "a"]) == "a"
    assert idempotency_key(["x" * 255]) == "x" * 255


@pytest.mark.parametrize("keys", [["a", "b"], [""], ["x" * 256], ["\u00e9"], ["a\x7f"]], ids=repr)
def test_what_is_no_key(keys: list[str]) -> None:
    """Two that differ, too long, or what is not printable."""
    with pytest.raises(InvalidRequest) as caught:
        idempotency_key(keys)

    assert caught.value.param == "Idempotency-Key"
