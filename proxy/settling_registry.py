"""The worker's care for the registry: what the ledger says of tenants and keys stays in Redis.

It runs beside the books and waits for none of them, so that a ledger that is busy, or a batch that
is stuck, keeps no key from being revoked.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

from redis.exceptions import RedisError
from sqlalchemy.exc import SQLAlchemyError

from metering.registry_body import BrokenRegistryError
from metering.settlement.ledger.registry_books import knows_registry, number, snapshot
from metering.settlement.ledger.store import Ledger, open_ledger
from metering.settlement.redis_client import connect
from metering.settlement.registry_publishing import heal
from proxy.registry_copy import read_copy, write_copy
from proxy.settings import Settings, redis_keys

LOOK_EVERY_S = 1.0

THOROUGH_EVERY = 15
"""Of so many looks one compares all of it."""


async def keep_published(
    settings: Settings, log: Any, *, changed: Callable[[], None] | None = None
) -> None:
    """Look until cancelled. With `changed` the worker runs alone: it keeps a copy, and says so."""
    assert settings.redis.url is not None, "the supervisor fills in the embedded server's URL"
    ledger = open_ledger(settings.ledger_url)
    renewals = Renewals(settings)
    complained: str | None = None
    try:
        async with connect(settings.redis.url.reveal()) as client:
            for looks in itertools.count():
                cause = None
                try:
                    await _look(settings, client, ledger, looks, log=log)
                    if changed is not None and await asyncio.to_thread(renewals.take, ledger):
                        changed()
                except (RedisError, SQLAlchemyError, OSError) as error:
                    cause = f"{type(error).__name__}: {error}"
                    if cause != complained:
                        log.warning("registry_not_published", cause=cause)
                complained = cause
                await asyncio.sleep(LOOK_EVERY_S)
    finally:
        ledger.close()


async def _look(settings: Settings, client: Any, ledger: Ledger, looks: int, *, log: Any) -> None:
    is_thorough = looks % THOROUGH_EVERY == 0
    call, keys = client.execute_command, redis_keys(settings)
    made = await heal(call, keys, ledger, is_thorough=is_thorough)
    if made is not None:
        log.info("registry_published", version=made.version)


class Renewals:
    """What a process that runs alone has taken of the registry, beside a copy for its next start.

    It goes by what it has in use: the copy may be one that a neighbour in the same folder wrote.
    """

    def __init__(self, settings: Settings) -> None:
        self._data_dir = settings.data_dir
        self._taken = int(settings.registry.partition("-")[0] or 0)

    def take(self, ledger: Ledger) -> bool:
        """Whether there is something new that has to be read; the copy has it then."""
        counted = number(ledger) if knows_registry(ledger) else 0
        if counted in (0, self._taken):
            return False
        if counted != _copied(self._data_dir):
            write_copy(self._data_dir, snapshot(ledger))
        self._taken = counted
        return True


def _copied(data_dir: Path) -> int:
    try:
        return read_copy(data_dir).number
    except BrokenRegistryError:
        return -1
