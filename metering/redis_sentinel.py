"""`SentinelLink`: a `ScriptRunner` over the master that Sentinels agree on.

Rules:
- Every Sentinel that can be reached is asked; the answer of the highest configuration epoch counts.
  Those that they name are asked too from then on.
- Calls go to one `RedisLink`, which takes nobody but a master. The moment the Sentinels name
  another address the old one gets no call any more, even if it still thinks it is the master.
- Nothing is sent twice: a call that a failover interrupts fails within its limit.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from metering.caps import CapsUnavailableError
from metering.redis_link import TIMEOUT_MS, UNKNOWN_VERSION, RedisLink
from metering.redis_url import Address, SentinelTarget
from metering.redis_watch import Watch
from metering.redis_wire import Arg
from metering.scripts import Script

POLL_S = 0.25
"""The Sentinels are asked this often when nothing happens. At a planned failover the old master
goes on as a master for some seconds, and what it is given meanwhile is lost: so much of it is."""
SENTINELS_MAX = 32
"""Sentinels we ask, however many are named."""


class SentinelLink:
    """A `ScriptRunner` over a watched master. `async with`, or `open` and `close`."""

    def __init__(
        self,
        target: SentinelTarget,
        *,
        timeout_ms: int = TIMEOUT_MS,
        name: str = "weir",
        on_error: Callable[[Exception], None] | None = None,
    ) -> None:
        self._target = target
        self._timeout_ms = timeout_ms
        self._name = name
        self._on_error = on_error
        self._sentinels: dict[Address, RedisLink] = {}
        self._link: RedisLink | None = None
        self._replaced = 0
        self._last_failure = "no Sentinel has been asked yet"
        self._watch = Watch(
            self._refresh,
            lambda: self.is_up,
            slow_s=POLL_S,
            name=f"redis-sentinel {target}",
            on_error=on_error,
        )

    @property
    def is_up(self) -> bool:
        """Whether a call made now would be sent."""
        return self._link is not None and self._link.is_up

    @property
    def generation(self) -> int:
        """As `ScriptRunner`: every failover, and every restart of a master."""
        return self._replaced + (self._link.generation if self._link is not None else 0)

    @property
    def version(self) -> tuple[int, int]:
        """The master's."""
        return self._link.version if self._link is not None else UNKNOWN_VERSION

    async def open(self) -> None:
        """Start connecting; returns at once. `wait_up` waits for the first success."""
        for address in self._target.sentinels:
            self._add(address)
        self._watch.open()

    async def wait_up(self, timeout_s: float) -> None:
        """Return once connected; CapsUnavailableError with the last failure after `timeout_s`."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._watch.up.wait()
        except TimeoutError:
            raise CapsUnavailableError(await self._why()) from None

    async def close(self) -> None:
        """Stop connecting; pending calls fail."""
        await self._watch.close()
        for link in (*self._sentinels.values(), *([self._link] if self._link else ())):
            await link.close()

    async def __aenter__(self) -> SentinelLink:
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def call(self, *args: Arg) -> Any:
        """Run one command on the master."""
        return await self._master().call(*args)

    async def call_each(self, *args: Arg) -> list[Any]:
        """The same on every server that is written to, which is the master."""
        return await self._master().call_each(*args)

    async def eval(self, script: Script, keys: Sequence[str], args: Sequence[Arg]) -> Any:
        """Run a script on the master."""
        return await self._master().eval(script, keys, args)

    def _master(self) -> RedisLink:
        if self._link is None:
            raise CapsUnavailableError(f"Redis {self._target}: {self._last_failure}")
        return self._link

    async def _why(self) -> str:
        """What stands in the way, as the master's link or the Sentinels tell it."""
        if self._link is not None:
            try:
                await self._link.wait_up(0)
            except CapsUnavailableError as error:
                return str(error)
        return f"Redis {self._target}: {self._last_failure}"

    async def _refresh(self) -> bool:
        """One round: ask every Sentinel that is there; go where the latest of them points."""
        up = [link for link in self._sentinels.values() if link.is_up]
        answers = [found for found in await asyncio.gather(*map(self._ask, up)) if found]
        if not up:
            down = ", ".join(str(link.target) for link in self._sentinels.values())
            self._last_failure = f"no Sentinel answers ({down})"
        if answers:
            _, address = max(answers)
            self._go_to(address)
        return bool(answers)

    async def _ask(self, sentinel: RedisLink) -> tuple[int, Address] | None:
        """Configuration epoch and address of the master, as this Sentinel knows it."""
        name = self._target.master
        try:
            # In one write: an epoch and the address that it brought.
            facts, place, others = await asyncio.gather(
                sentinel.call("SENTINEL", "MASTER", name),
                sentinel.call("SENTINEL", "GET-MASTER-ADDR-BY-NAME", name),
                sentinel.call("SENTINEL", "SENTINELS", name),
            )
        except CapsUnavailableError as error:
            self._last_failure = f"sentinel {sentinel.target}: {error}"
            return None
        for other in others:
            named = _pairs(other)
            self._add((named["ip"], int(named["port"])))
        return int(_pairs(facts)["config-epoch"]), (place[0].decode(), int(place[1]))

    def _add(self, address: Address) -> None:
        if address in self._sentinels or len(self._sentinels) >= SENTINELS_MAX:
            return
        link = self._sentinels[address] = RedisLink(
            self._target.sentinel(address),
            timeout_ms=self._timeout_ms,
            name=self._name,
            on_error=self._on_error,
        )
        link.start()

    def _go_to(self, address: Address) -> None:
        old = self._link
        if old is not None:
            if (old.target.host, old.target.port) == address:
                return
            self._replaced += old.generation + 1
            self._watch.retire(old, after_s=self._timeout_ms / 1000)
        self._link = RedisLink(
            self._target.server(address),
            timeout_ms=self._timeout_ms,
            name=self._name,
            on_error=self._on_error,
            on_lost=self._watch.wake,
        )
        self._link.start()


def _pairs(reply: Sequence[bytes]) -> dict[str, str]:
    texts = [each.decode() for each in reply]
    return dict(zip(texts[::2], texts[1::2], strict=True))
