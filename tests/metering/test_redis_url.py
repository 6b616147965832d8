"""URLs of a Redis."""

from __future__ import annotations

import pytest

from metering.redis_url import RedisTarget, parse_redis_url


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("redis://localhost", RedisTarget()),
        ("redis://h:6380/3", RedisTarget(host="h", port=6380, db=3)),
        ("redis://:p%40ss@h", RedisTarget(host="h", password="p@ss")),
        ("redis://u:p@[::1]:7", RedisTarget(host="::1", port=7, username="u", password="p")),
        ("rediss://h?ca_file=/ca", RedisTarget(host="h", tls=True, ca_file="/ca")),
        ("unix:///run/r.sock?db=2", RedisTarget(path="/run/r.sock", db=2)),
    ],
)
def test_a_url_names_a_target(url: str, target: RedisTarget) -> None:
    """Host, port, database, user and password, each percent-decoded."""
    assert parse_redis_url(url) == target


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("http://h", "scheme 'http'"),
        ("redis:///0", "names a host"),
        ("unix://relative/path", "absolute path"),
        ("redis://h/one", "'one' is not a number"),
        ("redis://h?timeout=3", "unknown parameter 'timeout'"),
        ("redis://h:port", "port"),
    ],
)
def test_a_wrong_url_says_what_is_wrong(url: str, says: str) -> None:
    """Never a guess, never a default in place of what was misspelt."""
    with pytest.raises(ValueError, match=says):
        parse_redis_url(url)


def test_a_password_never_prints() -> None:
    """Targets end up in logs and error messages."""
    target = parse_redis_url("redis://u:secret@h")

    assert "secret" not in f"{target} {target!r}"
