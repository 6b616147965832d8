"""Opens what a Redis URL names for the request path: one server, a Cluster, a watched master.

The worker has its own clients, in `settlement.redis_stream`: the same URLs, another protocol of
use.
"""

from __future__ import annotations

from collections.abc import Callable

from metering.redis_cluster import ClusterLink
from metering.redis_link import TIMEOUT_MS, RedisLink
from metering.redis_sentinel import SentinelLink
from metering.redis_url import ClusterTarget, SentinelTarget, parse_redis_url

RedisRunner = RedisLink | ClusterLink | SentinelLink
"""A `ScriptRunner` that is opened and closed: `open`, `wait_up`, `is_up`, `version`, `close`."""


def open_runner(
    url: str,
    *,
    timeout_ms: int = TIMEOUT_MS,
    name: str = "weir",
    on_error: Callable[[Exception], None] | None = None,
) -> RedisRunner:
    """The runner for that URL, to be entered with `async with`; ValueError as `parse_redis_url`.

    A call takes at most `timeout_ms`, whatever has to be found out meanwhile; `name` is the
    connection's name in CLIENT LIST, `on_error` is told what no reconnecting expects.
    """
    target = parse_redis_url(url)
    if isinstance(target, ClusterTarget):
        return ClusterLink(target, timeout_ms=timeout_ms, name=name, on_error=on_error)
    if isinstance(target, SentinelTarget):
        return SentinelLink(target, timeout_ms=timeout_ms, name=name, on_error=on_error)
    return RedisLink(target, timeout_ms=timeout_ms, name=name, on_error=on_error)
