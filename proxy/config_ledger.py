"""Whether `ledger.url` can be a ledger at all. Reads the disk, connects to nothing.

A ledger that only lives in memory would take what is settled out of Redis and forget it. No message
shows anything of the URL but its scheme, the names of parameters, and a path on this machine.
"""

from __future__ import annotations

from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

from proxy.config_decode import suggest

LEDGER_SCHEMES = ("sqlite", "postgresql")

_SSL_MODES = frozenset({"disable", "allow", "prefer", "require", "verify-ca", "verify-full"})
_SSL_FILES = ("sslrootcert", "sslcert", "sslkey")


def ledger_url_fault(url: str, data_dir: Path) -> tuple[str, str | None] | None:
    """What is wrong with the URL and what to write instead; None when nothing is.

    `data_dir` is made at the start, so a ledger may be in it before there is one.
    """
    scheme, colon, rest = url.partition(":")
    scheme = scheme.partition("+")[0]
    if scheme not in LEDGER_SCHEMES or not colon:
        begin = " or ".join(f"{each}:" for each in LEDGER_SCHEMES)
        return f"must begin with {begin}", suggest(scheme, LEDGER_SCHEMES)
    return _sqlite_fault(rest, data_dir) if scheme == "sqlite" else _postgres_fault(url)


def _sqlite_fault(rest: str, data_dir: Path) -> tuple[str, str | None] | None:
    path, _, query = rest.partition("?")
    file = path.removeprefix("///")
    if file == path and path not in {"", "//"}:
        return "a SQLite URL has no host", "write sqlite:////absolute/path/ledger.db"
    in_memory = file in {"", "//", ":memory:"} or file.startswith("file:")
    if in_memory or "memory" in parse_qs(query).get("mode", ()):
        return (
            "names no file: what is settled would be forgotten with the process",
            "write sqlite:////absolute/path/ledger.db",
        )
    folder = Path(unquote(file)).parent
    if not folder.is_dir() and folder.resolve() != data_dir.resolve():
        return f"there is no folder {folder}", "make it, or name another"
    return None


def _postgres_fault(url: str) -> tuple[str, str | None] | None:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return "its port is not a number within 1 .. 65535", None
    if port == 0:
        return "its port is not a number within 1 .. 65535", None
    given = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    unknown = sorted(given.keys() - _parameters())
    if unknown:
        return f"PostgreSQL knows no parameter {unknown[0]!r}", suggest(unknown[0], _parameters())
    mode = given.get("sslmode")
    if mode is not None and mode not in _SSL_MODES:
        return "sslmode is none that PostgreSQL knows", suggest(mode, _SSL_MODES)
    if not given.get("connect_timeout", "0").isdigit():
        return "connect_timeout is not a whole number of seconds", None
    for name in _SSL_FILES:
        file = given.get(name)
        if file and file != "system" and not Path(file).is_file():
            return f"there is no file {file} for {name}", None
    return None


def _parameters() -> frozenset[str]:
    """The names libpq knows, by itself where it is installed."""
    try:
        from psycopg import pq  # noqa: PLC0415 - an extra, and only for this URL
    except ImportError:
        return _KNOWN
    return frozenset(each.keyword.decode() for each in pq.Conninfo.get_defaults())


_KNOWN = frozenset(
    {
        "application_name",
        "channel_binding",
        "client_encoding",
        "connect_timeout",
        "dbname",
        "gssencmode",
        "host",
        "hostaddr",
        "keepalives",
        "keepalives_count",
        "keepalives_idle",
        "keepalives_interval",
        "load_balance_hosts",
        "options",
        "passfile",
        "password",
        "port",
        "require_auth",
        "requiressl",
        "service",
        "sslcert",
        "sslcompression",
        "sslcrl",
        "sslcrldir",
        "sslkey",
        "sslmode",
        "sslpassword",
        "sslrootcert",
        "sslsni",
        "ssl_max_protocol_version",
        "ssl_min_protocol_version",
        "target_session_attrs",
        "tcp_user_timeout",
        "user",
    }
)
"""Parameters of a connection in PostgreSQL 16's documentation of libpq."""
