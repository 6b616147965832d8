"""Where a Redis is, parsed from its URL: one server, a Cluster, or what Sentinels watch. Pure.

redis://[user[:password]@]host[:port][/db]
unix://[user[:password]@]/path/to/socket[?db=0]
redis+cluster://[user[:password]@]host[:port][,host[:port]...]
redis+sentinel://[user[:password]@]host[:port][,host[:port]...]/master[/db]
    [?sentinel_username=...&sentinel_password=...]

`rediss` instead of `redis` is TLS, for every server and Sentinel, with `ca_file` as a parameter.
No message says anything of what stands before the `@`, or might be a password cut in two.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from urllib.parse import parse_qs, unquote

DEFAULT_PORT = 6379
SENTINEL_PORT = 26379

_SENTINEL_QUERY = {"sentinel_username", "sentinel_password"}
_QUERY = {
    "redis": set[str](),
    "rediss": {"ca_file"},
    "unix": {"db"},
    "redis+cluster": set[str](),
    "rediss+cluster": {"ca_file"},
    "redis+sentinel": _SENTINEL_QUERY,
    "rediss+sentinel": _SENTINEL_QUERY | {"ca_file"},
}

_SHAPES = {
    "redis": "redis://host:6379/0",
    "rediss": "rediss://host:6379/0",
    "unix": "unix:///run/redis.sock",
    "redis+cluster": "redis+cluster://host:6379,host:6379",
    "rediss+cluster": "rediss+cluster://host:6379,host:6379",
    "redis+sentinel": "redis+sentinel://host:26379,host:26379/mymaster",
    "rediss+sentinel": "rediss+sentinel://host:26379,host:26379/mymaster",
}

Address = tuple[str, int]
"""Host and port."""


@dataclass(frozen=True, slots=True)
class RedisTarget:
    """One server: a socket path, or a host and port; `password` never prints."""

    host: str = "localhost"
    port: int = DEFAULT_PORT
    path: str | None = None
    tls: bool = False
    ca_file: str | None = None
    db: int = 0
    username: str | None = None
    password: str | None = field(default=None, repr=False)

    def __str__(self) -> str:
        return f"unix://{self.path}" if self.path else _written((self.host, self.port))


@dataclass(frozen=True, slots=True)
class ClusterTarget:
    """A Cluster, by some of its nodes; the others are learnt from these."""

    seeds: tuple[Address, ...]
    like: RedisTarget
    """Everything but host and port, the same for every node."""

    def node(self, address: Address) -> RedisTarget:
        """One of its nodes."""
        return replace(self.like, host=address[0], port=address[1])

    def __str__(self) -> str:
        return "cluster " + ",".join(_written(address) for address in self.seeds)


@dataclass(frozen=True, slots=True)
class SentinelTarget:
    """The master of that name, by some of the Sentinels that watch it."""

    sentinels: tuple[Address, ...]
    master: str
    like: RedisTarget
    """Everything but host and port, the same for master and replicas."""
    like_sentinel: RedisTarget

    def server(self, address: Address) -> RedisTarget:
        """The server at this address."""
        return replace(self.like, host=address[0], port=address[1])

    def sentinel(self, address: Address) -> RedisTarget:
        """The Sentinel at this address."""
        return replace(self.like_sentinel, host=address[0], port=address[1])

    def __str__(self) -> str:
        watchers = ",".join(_written(address) for address in self.sentinels)
        return f"master {self.master} of sentinels {watchers}"


AnyTarget = RedisTarget | ClusterTarget | SentinelTarget


def parse_redis_url(url: str) -> AnyTarget:
    """The target; ValueError says what is wrong, without the password."""
    scheme, colon, rest = url.partition("://")
    scheme = scheme.lower()
    if not colon or scheme not in _QUERY:
        raise ValueError(
            f"{f'scheme {scheme!r}' if colon else 'no scheme'}: expected redis://, rediss://, "
            f"unix://, redis+cluster:// or redis+sentinel://"
        )
    rest, _, fragment = rest.partition("#")
    if fragment:
        raise ValueError("a # in a password is written %23, and nothing else has one")
    rest, _, parameters = rest.partition("?")
    query = _query(scheme, parameters)
    authority, slash, path = rest.partition("/")
    credentials, _, hosts = authority.rpartition("@")
    if "@" in path and scheme != "unix":
        raise ValueError("a / in a password is written %2F")
    username, password = _credentials(credentials)
    like = RedisTarget(
        tls=scheme.startswith("rediss"),
        ca_file=query.get("ca_file"),
        username=username,
        password=password,
    )
    if scheme == "unix":
        if hosts or not path:
            raise ValueError("a unix:// URL names an absolute path: unix:///run/redis.sock")
        db = _db(query.get("db", "0"))
        return replace(like, path=unquote(slash + path), db=db)
    if scheme.endswith("+cluster"):
        if path:
            raise ValueError("a Redis Cluster has no databases: leave out what follows the hosts")
        return ClusterTarget(_addresses(scheme, hosts, DEFAULT_PORT), like)
    if scheme.endswith("+sentinel"):
        return _sentinel(_addresses(scheme, hosts, SENTINEL_PORT), path, like, query)
    if "," in hosts:
        raise ValueError(f"a {scheme}:// URL names one host; several are {scheme}+cluster://")
    ((host, port),) = _addresses(scheme, hosts, DEFAULT_PORT)
    return replace(like, host=host, port=port, db=_db(path.strip("/") or "0"))


def redis_url_shape(url: str) -> str:
    """What a URL like this one looks like when it is right; nothing in it comes from `url`.

    Of a scheme that there is not (`redis-cluster`, `sentinel`), what was meant.
    """
    scheme, _, rest = url.partition("://")
    scheme = scheme.lower()
    if scheme in ("redis", "rediss") and "," in rest.rpartition("@")[2].partition("/")[0]:
        scheme += "+cluster"
    if scheme not in _SHAPES:
        meant = next((kind for kind in ("cluster", "sentinel") if kind in scheme), None)
        scheme = ("rediss" if scheme.startswith("rediss") else "redis") + (
            f"+{meant}" if meant is not None else ""
        )
    return _SHAPES[scheme]


def _sentinel(
    sentinels: tuple[Address, ...], path: str, like: RedisTarget, query: dict[str, str]
) -> SentinelTarget:
    master, _, db = path.partition("/")
    if not master:
        raise ValueError("a +sentinel:// URL ends with the master's name: .../mymaster")
    like_sentinel = replace(
        like,
        username=query.get("sentinel_username"),
        password=query.get("sentinel_password"),
    )
    like = replace(like, db=_db(db.strip("/") or "0"))
    return SentinelTarget(sentinels, unquote(master), like, like_sentinel)


def _query(scheme: str, parameters: str) -> dict[str, str]:
    query = parse_qs(parameters, keep_blank_values=True)
    unknown = sorted(set(query) - _QUERY[scheme])
    if unknown and "@" in unknown[0]:
        raise ValueError("a ? in a password is written %3F")
    if unknown:
        raise ValueError(f"unknown parameter {unknown[0]!r} in a {scheme}:// URL")
    return {name: values[-1] for name, values in query.items()}


def _credentials(text: str) -> tuple[str | None, str | None]:
    username, colon, password = text.partition(":")
    return unquote(username) or None, unquote(password) if colon and password else None


def _addresses(scheme: str, hosts: str, default_port: int) -> tuple[Address, ...]:
    if not hosts:
        raise ValueError(f"a {scheme}:// URL names a host")
    return tuple(_address(scheme, host, default_port) for host in hosts.split(","))


def _address(scheme: str, text: str, default_port: int) -> Address:
    if text.startswith("["):  # IPv6
        host, bracket, port = text[1:].partition("]")
        if not bracket or (port and not port.startswith(":")):
            raise ValueError("an IPv6 address is written [::1]:6379")
        port = port.removeprefix(":")
    else:
        host, _, port = text.partition(":")
    if not host:
        raise ValueError(f"a {scheme}:// URL names a host")
    if port and not (port.isdecimal() and 0 < int(port) < 65_536):
        raise ValueError("a port is a number from 1 to 65535; a / in a password is written %2F")
    return unquote(host).lower(), int(port) if port else default_port


def _db(text: str) -> int:
    if not text.isdecimal():
        raise ValueError(f"database {text!r} is not a number")
    return int(text)


def _written(address: Address) -> str:
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
