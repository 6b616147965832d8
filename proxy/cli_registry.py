"""What `weir tenants` and `weir keys` have in common: a change is written, noted and published."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from proxy.cli_options import BAD_CONFIG, FAILED, NOT_FOUND, fail, user_name

if TYPE_CHECKING:
    from metering.settlement.ledger.store import Ledger
    from proxy.registry_changes import Check
    from proxy.settings import Settings

_Answer = TypeVar("_Answer")

_PUBLISH_S = 5.0


def check_of(settings: Settings) -> Check:
    """Checks what is to be written against the file of this command."""
    from proxy.registry_changes import checker

    assert settings.source is not None, "it was found before"
    return checker(settings.source, os.environ, settings.data_dir)


def read(settings: Settings, ask: Callable[[Ledger], _Answer], as_json: bool) -> _Answer:
    """What the ledger says of the registry."""
    from metering.settlement.ledger.registry_books import knows_registry
    from proxy.cli_asked import asked

    return asked(settings, knows_registry, ask, as_json=as_json)


def change(
    settings: Settings,
    work: Callable[[Ledger, int], tuple[_Answer, dict[str, Any]]],
    *,
    action: str,
    as_json: bool,
) -> tuple[_Answer, bool]:
    """Do it, note who did, and publish; what came of it, and whether proxies can know of it.

    `work` gets the time, and says besides what is noted: target, before and after.
    """
    from metering.clock import now_ns
    from metering.settlement.ledger.admin_books import Audit, audit
    from metering.settlement.ledger.registry_books import (
        RegistryConflictError,
        RegistryMissingError,
    )
    from proxy.config import ConfigFaults
    from proxy.registry_changes import ChangeRefusedError

    who, at_ns = user_name(as_json), now_ns()

    def done(ledger: Ledger) -> tuple[_Answer, bool]:
        answer, noted = work(ledger, at_ns)
        audit(ledger, Audit(at_ns, who, "cli", action, **noted))
        return answer, _publish(settings, ledger)

    try:
        return read(settings, done, as_json)
    except RegistryMissingError as error:
        fail(NOT_FOUND, f"{error}; one that stands in the file is changed there", as_json)
    except (RegistryConflictError, ChangeRefusedError) as error:
        fail(BAD_CONFIG, str(error), as_json)
    except ConfigFaults as error:
        fail(FAILED, f"the configuration has faults since: {error}", as_json)


def _publish(settings: Settings, ledger: Ledger) -> bool:
    from redis.exceptions import RedisError

    from metering.settlement.ledger.registry_books import snapshot
    from metering.settlement.registry_publishing import publish
    from proxy.cli_limits import client_of
    from proxy.data_dir import is_served
    from proxy.registry_copy import write_copy
    from proxy.settings import redis_keys

    async def put() -> None:
        async with client_of(settings) as client, asyncio.timeout(_PUBLISH_S):
            await publish(client.execute_command, redis_keys(settings), ledger)

    try:
        asyncio.run(put())
    except (RedisError, OSError, ValueError):  # ValueError: a path too long for a socket
        folder = settings.data_dir
        if not is_served(folder) and folder.stat().st_uid == os.geteuid():
            write_copy(folder, snapshot(ledger))  # what `weir serve` starts with
        return False
    return True


def when(published: bool) -> str:
    """When it holds, for people."""
    if published:
        return "It holds within two seconds, on every machine."
    return "Redis cannot be reached: it holds once the worker can tell it, or at the next start."
