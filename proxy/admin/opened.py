"""What the console holds open: the ledger, Redis, the newest settings, and who is logged in.

Work that waits for a disk or a database runs in a thread, a few at a time; the event loop is for
those who look on.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from metering.clock import monotonic_s, now_ns
from metering.redis_keys import RedisKeys
from metering.settlement.ledger.admin_books import admin_keys
from metering.settlement.ledger.store import Ledger, open_ledger
from metering.settlement.ledger.tables import HEAD_REVISION
from metering.settlement.redis_client import connect
from proxy.admin.errors import InvalidAdminKey, LedgerUnavailable, TooManyLogins
from proxy.admin.routes import AdminPrincipal, Role
from proxy.admin.who import Sessions, WrongKeys, find, sha256_of
from proxy.dashboard.live_hub import LiveHub
from proxy.settings import AdminKey, Settings, redis_keys

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from proxy.reload_report import ReloadReport

_Found = TypeVar("_Found")

THREADS = 4
"""Reports that are made at once; more of them wait."""


@dataclass(slots=True)
class Console:
    """Handed to every handler. `settings` are the newest."""

    settings: Settings
    log: Any
    sessions: Sessions = field(default_factory=Sessions)
    wrong: WrongKeys = field(default_factory=WrongKeys)
    read_again: Callable[[str], Awaitable[ReloadReport]] | None = None
    """Reads the file again, for this reason, where the console runs alone."""
    _pool: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(THREADS, thread_name_prefix="console")
    )
    _ledger: Ledger | None = None
    _opening: threading.Lock = field(default_factory=threading.Lock)
    _redis: Redis | None = None
    live: LiveHub | None = None
    """Made when somebody first looks, see `proxy.admin.live`."""
    closing: contextlib.AsyncExitStack = field(default_factory=contextlib.AsyncExitStack)
    """What handlers have opened for all of them."""

    @property
    def redis(self) -> Redis:
        """redis-py's client, opened when it is first asked for."""
        if self._redis is None:
            self._redis = self.new_client()
        return self._redis

    def new_client(self) -> Redis:
        """Another client, for a thread with an event loop of its own; its maker closes it."""
        assert self.settings.redis.url is not None, "the supervisor fills in the embedded one"
        return connect(self.settings.redis.url.reveal())

    @property
    def keys(self) -> RedisKeys:
        """The names of keys there."""
        return redis_keys(self.settings)

    def ledger(self) -> Ledger:
        """The ledger, at our schema; for threads alone. LedgerUnavailable while it is not there."""
        with self._opening:
            if self._ledger is None:
                self._ledger = _checked(open_ledger(self.settings.ledger_url))
            return self._ledger

    async def in_thread(self, work: Callable[..., _Found], *args: Any) -> _Found:
        """What `work` returns, in a thread."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, work, *args)

    async def ask(self, work: Callable[[Ledger], _Found]) -> _Found:
        """What `work` makes of the ledger, in a thread."""
        return await self.in_thread(lambda: work(self.ledger()))

    async def log_in(self, raw: str, address: str) -> AdminPrincipal:
        """Who has this key; InvalidAdminKey for nobody, TooManyLogins after many of those."""
        self.need_patience(address)
        sha256 = sha256_of(raw)
        try:
            found = None if sha256 is None else await self.admin_key(sha256)
        except Exception:  # a ledger that is away is no reason to let anybody guess on
            self.wrong.note(address, monotonic_s())
            raise
        if found is None:
            self.wrong.note(address, monotonic_s())
            raise InvalidAdminKey("This is no admin key of this installation.")
        return AdminPrincipal(found.id, Role(found.role))

    def need_patience(self, address: str) -> None:
        """TooManyLogins while this address is not listened to."""
        wait_s = self.wrong.wait_s(address, monotonic_s())
        if wait_s:
            raise TooManyLogins(
                "Too many wrong keys came from this address; wait, then try again.",
                headers={"Retry-After": str(int(wait_s) + 1)},
            )

    async def begin_session(self, raw: str, address: str) -> tuple[AdminPrincipal, str]:
        """Who has this key, and the value of the cookie that stands for it from now on."""
        who = await self.log_in(raw, address)
        sha256 = sha256_of(raw)
        assert sha256 is not None, "it was a key"
        return who, self.sessions.begin(sha256, monotonic_s())

    async def session(self, token: str) -> AdminPrincipal | None:
        """Who began this session, as far as the key still holds."""
        sha256 = self.sessions.key_of(token, monotonic_s())
        found = None if sha256 is None else await self.admin_key(sha256)
        return (
            None if found is None else AdminPrincipal(found.id, Role(found.role), by_session=True)
        )

    async def admin_key(self, sha256: str) -> AdminKey | None:
        """The admin key of this hash, of the file or of the ledger."""
        written = find(self.settings.admin_keys, sha256)
        if written is not None:
            return written
        return find(await self.ask(_live_keys), sha256)

    async def close(self) -> None:
        """Close what was opened."""
        await self.closing.aclose()
        if self._redis is not None:
            await self._redis.aclose()
        self._pool.shutdown(wait=False, cancel_futures=True)
        if self._ledger is not None:
            self._ledger.close()


def _live_keys(ledger: Ledger) -> list[AdminKey]:
    at_ns = now_ns()
    return [
        AdminKey(each.id, each.sha256, Role(each.role).value)
        for each in admin_keys(ledger)
        if each.revoked_at is None and (each.expires_at is None or at_ns < each.expires_at)
    ]


def _checked(ledger: Ledger) -> Ledger:
    found = ledger.revision()
    if found == HEAD_REVISION:
        return ledger
    ledger.close()
    if found is None:
        raise LedgerUnavailable("The ledger is empty yet: the settlement worker makes it.")
    raise LedgerUnavailable(
        f"The ledger is at revision {found} and not at {HEAD_REVISION}: it is brought up to date "
        "when the settlement worker starts."
    )
