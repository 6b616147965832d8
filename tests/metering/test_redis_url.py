"""URLs of a Redis."""

from __future__ import annotations

import pytest

from metering.redis_url import (
    ClusterTarget,
    RedisTarget,
    SentinelTarget,
    parse_redis_url,
    redis_url_shape,
)


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


def test_a_cluster_is_some_of_its_nodes_and_what_all_have_in_common() -> None:
    target = parse_redis_url("rediss+cluster://u:p%40ss@h1:7000,h2,[::1]:7002?ca_file=/ca")

    like = RedisTarget(tls=True, ca_file="/ca", username="u", password="p@ss")
    assert target == ClusterTarget((("h1", 7000), ("h2", 6379), ("::1", 7002)), like)
    assert isinstance(target, ClusterTarget)
    node = RedisTarget("h9", 1, tls=True, ca_file="/ca", username="u", password="p@ss")
    assert target.node(("h9", 1)) == node


def test_a_watched_master_is_its_name_and_who_watches_it() -> None:
    """Sentinels have credentials of their own, or none."""
    target = parse_redis_url(
        "redis+sentinel://u:p@s1,s2:5/my-master/3?sentinel_username=w&sentinel_password=q%26"
    )

    like = RedisTarget(db=3, username="u", password="p")
    watcher = RedisTarget(username="w", password="q&")
    sentinels = (("s1", 26379), ("s2", 5))
    assert target == SentinelTarget(sentinels, "my-master", like, watcher)
    assert isinstance(target, SentinelTarget)
    assert target.server(("m", 1)) == RedisTarget("m", 1, db=3, username="u", password="p")
    assert target.sentinel(("s", 2)) == RedisTarget("s", 2, username="w", password="q&")


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("http://h", "scheme 'http'"),
        ("localhost:6379", "no scheme"),
        ("redis:///0", "names a host"),
        ("redis://a,b", r"several are redis\+cluster://"),
        ("unix://relative/path", "absolute path"),
        ("redis://h/one", "'one' is not a number"),
        ("redis://h?timeout=3", "unknown parameter 'timeout'"),
        ("redis://h:port", "a port is a number"),
        ("redis://h:70000", "a port is a number"),
        ("redis://[::1", "an IPv6 address"),
        ("redis+cluster://", "names a host"),
        ("redis+cluster://h1,,h2", "names a host"),
        ("redis+cluster://h/2", "has no databases"),
        ("redis+sentinel://h", "the master's name"),
        ("redis+sentinel://h/m/x", "'x' is not a number"),
        ("redis+cluster://h?sentinel_password=x", "unknown parameter"),
    ],
)
def test_a_wrong_url_says_what_is_wrong(url: str, says: str) -> None:
    """Never a guess, never a default in place of what was misspelt."""
    with pytest.raises(ValueError, match=says):
        parse_redis_url(url)


@pytest.mark.parametrize(
    ("url", "shape"),
    [
        ("redis://h/x", "redis://host:6379/0"),
        ("rediss://h/x", "rediss://host:6379/0"),
        ("unix://h", "unix:///run/redis.sock"),
        ("redis+cluster://h/0", "redis+cluster://host:6379,host:6379"),
        ("rediss+cluster://", "rediss+cluster://host:6379,host:6379"),
        ("redis+sentinel://h", "redis+sentinel://host:26379,host:26379/mymaster"),
        ("REDISS+SENTINEL://h", "rediss+sentinel://host:26379,host:26379/mymaster"),
        ("redis://a,b", "redis+cluster://host:6379,host:6379"),
        ("rediss://u:x,y@a/x", "rediss://host:6379/0"),
        ("redis-cluster://a,b", "redis+cluster://host:6379,host:6379"),
        ("sentinel://a/m", "redis+sentinel://host:26379,host:26379/mymaster"),
        ("https://h", "redis://host:6379/0"),
        ("u:secret@h", "redis://host:6379/0"),
    ],
)
def test_a_wrong_url_is_shown_one_of_its_kind(url: str, shape: str) -> None:
    """Of the kind that was meant, and a right one itself."""
    with pytest.raises(ValueError, match=r"\S"):
        parse_redis_url(url)

    assert redis_url_shape(url) == shape
    parse_redis_url(shape)


@pytest.mark.parametrize("scheme", ["redis", "redis+cluster", "redis+sentinel"])
@pytest.mark.parametrize("password", ["se/cret", "se?cret", "se#cret", "se:cret", "12/cret"])
def test_a_password_that_should_have_been_encoded_is_not_told(scheme: str, password: str) -> None:
    """Not even the half of it that looks like a port, a database or a parameter."""
    try:
        told = str(parse_redis_url(f"{scheme}://user:{password}@host/7"))
    except ValueError as error:
        told = str(error)

    assert "cret" not in told


def test_a_password_never_prints() -> None:
    """Targets end up in logs and error messages."""
    for url in (
        "redis://u:secret@h",
        "redis+cluster://u:secret@h,i",
        "redis+sentinel://u:secret@h/m?sentinel_password=secret",
    ):
        target = parse_redis_url(url)

        assert "secret" not in f"{target} {target!r}"
