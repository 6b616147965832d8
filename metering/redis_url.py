"""Where a Redis is, parsed from its URL: `redis://`, `rediss://` (TLS) and `unix://`. Pure.

redis://[user[:password]@]host[:port][/db]
rediss://[user[:password]@]host[:port][/db][?ca_file=/path]
unix://[user[:password]@]/path/to/socket[?db=0]
"""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import parse_qs, unquote, urlsplit

DEFAULT_PORT = 6379
_QUERY = {"redis": set[str](), "rediss": {"ca_file"}, "unix": {"db"}}


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
        return f"unix://{self.path}" if self.path else f"{self.host}:{self.port}"


def parse_redis_url(url: str) -> RedisTarget:
    """The target; ValueError says what is wrong, without the password."""
    parts = urlsplit(url)
    if parts.scheme not in _QUERY:
        raise ValueError(f"scheme {parts.scheme!r}: expected redis://, rediss:// or unix://")
    query = parse_qs(parts.query, keep_blank_values=True)
    unknown = sorted(set(query) - _QUERY[parts.scheme])
    if unknown:
        raise ValueError(f"unknown parameter {unknown[0]!r} in a {parts.scheme}:// URL")
    username = unquote(parts.username) if parts.username else None
    password = unquote(parts.password) if parts.password else None
    if parts.scheme == "unix":
        if not parts.path or parts.hostname:
            raise ValueError("a unix:// URL names an absolute path: unix:///run/redis.sock")
        db = _db(query.get("db", ["0"])[-1])
        return RedisTarget(path=unquote(parts.path), db=db, username=username, password=password)
    if not parts.hostname:
        raise ValueError(f"a {parts.scheme}:// URL names a host")
    return RedisTarget(
        host=parts.hostname,
        port=parts.port or DEFAULT_PORT,
        tls=parts.scheme == "rediss",
        ca_file=query.get("ca_file", [None])[-1],
        db=_db(parts.path.strip("/") or "0"),
        username=username,
        password=password,
    )


def _db(text: str) -> int:
    if not text.isdecimal():
        raise ValueError(f"database {text!r} is not a number")
    return int(text)
