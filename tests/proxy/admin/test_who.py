"""Keys, wrong keys and sessions, without HTTP."""

from __future__ import annotations

from proxy.admin.who import (
    SESSION_S,
    WRONG_MAX,
    WRONG_WINDOW_S,
    Sessions,
    WrongKeys,
    bearer,
    find,
    sha256_of,
)
from proxy.settings import AdminKey

KEYS = (AdminKey("a", "aa" * 32, "admin"), AdminKey("b", "bb" * 32, "viewer"))


def test_a_key_is_found_by_its_hash_alone() -> None:
    """Neither an id nor a part of a hash is a key."""
    assert find(KEYS, "bb" * 32) == KEYS[1]
    assert [find(KEYS, each) for each in ("b", "bb" * 31, "", "cc" * 32)] == [None] * 4
    assert sha256_of("") is None and sha256_of("x" * 513) is None


def test_only_one_bearer_is_taken() -> None:
    """Another scheme, or two headers that differ, are no key."""
    assert bearer(["bEaReR  k "]) == "k"
    assert [bearer(each) for each in ([], ["Basic k"], ["Bearer a", "Bearer b"])] == [None] * 3


def test_an_address_is_silenced_for_a_while() -> None:
    """After so many wrong keys; others are listened to, and it is later."""
    wrong = WrongKeys()
    for _ in range(WRONG_MAX):
        assert wrong.wait_s("a", 10.0) == 0
        wrong.note("a", 10.0)

    assert wrong.wait_s("a", 11.0) == WRONG_WINDOW_S - 1
    assert wrong.wait_s("b", 11.0) == 0
    assert wrong.wait_s("a", 10.0 + WRONG_WINDOW_S) == 0


def test_a_session_ends() -> None:
    """By its time, or when it is ended; its value is kept nowhere."""
    sessions = Sessions()
    token, other = sessions.begin("hash", 0.0), sessions.begin("hash", 1.0)

    assert sessions.key_of(token, SESSION_S - 1) == "hash"
    assert sessions.key_of(token, SESSION_S) is None
    sessions.end(other)
    assert sessions.key_of(other, 2.0) is None
    assert token not in repr(sessions)
