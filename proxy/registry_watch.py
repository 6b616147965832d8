"""A proxy's look at the registry in Redis: a word each second, beside the path.

Rules:
- What was published is read only when its version is another than the one in use. It is checked,
  kept beside the file, and the supervisor is told, who has every process take it up.
- What cannot have been published so changes nothing: it is logged once, shown by a metric, and
  looked at again after a while. Nothing published changes nothing, either: an empty Redis does not
  say that there are no tenants.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metering.caps import CapsUnavailableError
from metering.clock import monotonic_s
from metering.registry_body import BrokenRegistryError, Snapshot, read_snapshot
from proxy import metrics_catalogue as catalogue
from proxy.registry_copy import write_copy
from proxy.settings_line import RegistryHint

if TYPE_CHECKING:
    from metering.redis_connect import RedisRunner
    from metering.redis_keys import RedisKeys
    from proxy.door import Door

LOOK_EVERY_S = 1.0
"""A key that is revoked opens the door for this long and as long as it takes to be taken up."""

AGAIN_S = 15.0
"""What was told and is not in use by then is told again; what was broken is read again."""


class RegistryWatch:
    """Looks for one machine; `door` gives what is in use, `say` goes to the supervisor."""

    def __init__(
        self,
        link: RedisRunner,
        keys: RedisKeys,
        *,
        data_dir: Path,
        door: Callable[[], Door],
        say: Callable[[RegistryHint], None],
    ) -> None:
        self._link = link
        self._keys = keys
        self._data_dir = data_dir
        self._door = door
        self._say = say
        self._seen: str | None = None
        self._again_s = 0.0
        self._complained: tuple[str, str] | None = None

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            with contextlib.suppress(CapsUnavailableError):  # others say that Redis is away
                await self.look(now_s=monotonic_s())
            await asyncio.sleep(LOOK_EVERY_S)

    async def look(self, *, now_s: float) -> None:
        """One look."""
        told = await self._link.call("HGET", self._keys.registry, "version")
        if told is None:
            return
        version = told.decode("ascii", "replace")[:100]
        if version == self._door().settings.registry:
            self._show(is_failed=False)
            return
        if version == self._seen and now_s < self._again_s:
            return
        self._seen, self._again_s = version, now_s + AGAIN_S
        await self._take(version)

    async def _take(self, version: str) -> None:
        body = await self._link.call("HGET", self._keys.registry, "body")
        try:
            await asyncio.to_thread(self._keep, version, body)
        except BrokenRegistryError as error:
            self._complain("registry_broken", version, str(error))
        except OSError as failure:
            self._complain("registry_not_kept", version, str(failure.strerror))
        else:
            self._say(RegistryHint(version))

    def _keep(self, version: str, body: Any) -> None:
        if not isinstance(body, bytes):
            raise BrokenRegistryError("it has a version and no body")
        snapshot: Snapshot = read_snapshot(version, body)
        write_copy(self._data_dir, snapshot)

    def _complain(self, event: str, version: str, cause: str) -> None:
        self._show(is_failed=True)
        if self._complained == (version, cause):
            return
        self._complained = version, cause
        running = self._door().settings.registry
        self._door().log.error(event, version=version, cause=cause, in_use=running or "none")

    def _show(self, *, is_failed: bool) -> None:
        self._door().metrics.metrics.set(catalogue.REGISTRY_FAILED, to=is_failed)
