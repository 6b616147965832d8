"""The worker's clients: redis-py's, over what `metering.redis_url` names.

Everything the worker sends may be sent twice: creating a group that is there, reading and claiming
for the same consumer, acknowledging, trimming, writing the same values, running a script that acts
once. So a command is sent once more after a connection that broke while it was idle, and not more
often: the worker waits by itself, and says so. (redis-py's own defaults try several times, see
`redis_wire` for the request path, where that would count money twice.)
"""

from __future__ import annotations

from typing import Any, cast

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import ConstantBackoff

from metering.redis_url import (
    Address,
    ClusterTarget,
    RedisTarget,
    SentinelTarget,
    parse_redis_url,
)
from metering.settlement.redis_cluster_client import ClusterClient

REPLY_S = 5.0
"""A reply takes no longer, the wait for new entries included; a server that hangs is as good as
none."""


class WatchedClient(Redis):
    """The master of a set of Sentinels; closes what asks these too."""

    sentinels: Sentinel

    async def aclose(self, close_connection_pool: bool | None = None) -> None:
        """As redis-py's."""
        await super().aclose(close_connection_pool)
        await self.sentinels.aclose()


def connect(url: str) -> Redis:
    """A client for the worker, whatever the URL names.

    A Cluster's client is no `Redis`, but takes the same commands; only those of one slot each.
    """
    target = parse_redis_url(url)
    if isinstance(target, ClusterTarget):

        def node(address: Address) -> Redis:
            host, port = address
            return Redis(host=host, port=port, retry=_retry(), **_settings(target.like))

        return cast("Redis", ClusterClient(target.seeds, node))
    if isinstance(target, SentinelTarget):
        return _watched(target)
    settings = _settings(target) | {"db": target.db, "retry": _retry()}
    if target.path is not None:
        return Redis(unix_socket_path=target.path, **settings)
    return Redis(host=target.host, port=target.port, **settings)


def is_cluster(url: str) -> bool:
    """Whether commands with keys of two shards are refused there."""
    return isinstance(parse_redis_url(url), ClusterTarget)


async def servers(client: Redis) -> list[Redis]:
    """The servers behind a client: of a Cluster each master, else the one there is."""
    if isinstance(client, ClusterClient):
        return cast("list[Redis]", await client.masters())
    return [client]


def _watched(target: SentinelTarget) -> WatchedClient:
    sentinels = Sentinel(  # type: ignore[no-untyped-call] # redis-py has no types for it
        target.sentinels,
        sentinel_kwargs=_settings(target.like_sentinel) | {"retry": _retry()},
        **_settings(target.like),
        db=target.like.db,
        retry=_retry(),
    )
    client = cast("WatchedClient", sentinels.master_for(target.master, redis_class=WatchedClient))
    client.sentinels = sentinels
    return client


def _settings(target: RedisTarget) -> dict[str, Any]:
    """What is said the same way to every kind of client."""
    tls = {"ssl": True, "ssl_ca_certs": target.ca_file} if target.tls else {}
    return {
        "username": target.username,
        "password": target.password,
        "protocol": 2,
        "decode_responses": False,
        "socket_timeout": REPLY_S,
        "socket_connect_timeout": REPLY_S,
        **tls,
    }


def _retry() -> Retry:
    return Retry(ConstantBackoff(0.01), 1)
