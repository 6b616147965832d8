"""A brand-new installation: nothing was ever spent, so there are no windows to rebuild.

Elsewhere the settlement worker says that the windows are whole, once it has read the ledger. On the
first start of an embedded Redis that would take longer than all the rest: the worker's libraries
are most of its start. The rule: only where no ledger exists and Redis holds nothing at all.
"""

from __future__ import annotations

from pathlib import Path

from proxy.embedded_redis import command
from proxy.settings import Settings, redis_keys

_SQLITE = "sqlite:///"


def open_windows(settings: Settings, socket: Path) -> bool:
    """Mark every shard of the embedded Redis at `socket` as whole, if all is new; whether it was.

    Called before any child lives, by the one who holds the data directory: nobody writes meanwhile.
    """
    ledger = _sqlite_file(settings.ledger_url)
    if ledger is None or ledger.exists():
        return False
    try:
        return _mark(settings, socket)
    except (OSError, ValueError):  # whatever Redis has against it, the worker will hear as well
        return False


def _mark(settings: Settings, socket: Path) -> bool:
    if command(socket, "DBSIZE") != 0:
        return False
    now = command(socket, "TIME")
    assert isinstance(now, list), "TIME answers seconds and microseconds"
    now_ms = f"{now[0]}000"
    keys = redis_keys(settings)
    words = [word for shard in range(keys.shards) for word in (keys.epoch(shard), now_ms)]
    command(socket, "MSET", *words)  # all or none: half a set would look like something to rebuild
    return True


def _sqlite_file(ledger_url: str) -> Path | None:
    """Where the ledger lies; None when it is no file, and only its database knows what is in it."""
    if not ledger_url.startswith(_SQLITE):
        return None
    name = ledger_url.removeprefix(_SQLITE).partition("?")[0]
    return Path(name) if name and not name.startswith((":", "file:")) else None
