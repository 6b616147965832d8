"""`ClusterLink`: a `ScriptRunner` over a Redis Cluster, one `RedisLink` per master.

Rules:
- A command goes to the master of its first key's slot; what has no key goes to any.
- What a server answered with MOVED, ASK or TRYAGAIN was not run, and is sent again, within the
  call's one limit. Nothing else is sent twice.
- The map of slots is the one of the highest epoch among the masters that answer. It is asked for
  when a server redirects, when a link is lost, and now and then.
- A shard whose master is away fails at once; the others go on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from metering.caps import CapsUnavailableError
from metering.redis_link import TIMEOUT_MS, UNKNOWN_VERSION, RedisLink
from metering.redis_slots import SLOTS, SlotMap, read_redirect, read_slots, slot_of, slot_of_command
from metering.redis_url import Address, ClusterTarget
from metering.redis_watch import Watch
from metering.redis_wire import Arg, RedisReplyError
from metering.scripts import Script

REFRESH_S = 5.0
"""The map is asked for this often when nothing happens: a replica that was promoted by hand."""
HOPS_MAX = 8
"""Redirections that one call follows; two nodes that disagree would send it to and fro."""
TRY_AGAIN_S = (0.005, 0.05)
"""First and longest pause before a slot that is on its way is asked again."""

_REDIRECTS = frozenset({"MOVED", "ASK", "TRYAGAIN"})

_Send = Callable[[RedisLink, bool], Awaitable[Any]]
"""Sends the call to a server; with True, to one that the slot is on its way to."""


class ClusterLink:
    """A `ScriptRunner` over a Cluster. `async with`, or `open` and `close`."""

    def __init__(
        self,
        target: ClusterTarget,
        *,
        timeout_ms: int = TIMEOUT_MS,
        name: str = "weir",
        on_error: Callable[[Exception], None] | None = None,
    ) -> None:
        self._target = target
        self._timeout_ms = timeout_ms
        self._timeout_s = timeout_ms / 1000
        self._name = name
        self._on_error = on_error
        self._map = SlotMap(())
        self._links: dict[Address, RedisLink] = {}
        self._owners: list[RedisLink | None] = [None] * SLOTS
        self._identities: list[tuple[str, Address] | None] = [None] * SLOTS
        self._replaced = 0
        self._last_failure = "no node has been asked yet"
        self._watch = Watch(
            self._refresh,
            lambda: self.is_up,
            slow_s=REFRESH_S,
            name=f"redis-cluster {target}",
            on_error=on_error,
        )

    @property
    def is_up(self) -> bool:
        """Whether every slot has a master and a call to any of them would be sent."""
        return self._map.is_whole and all(link.is_up for link in self._links.values())

    @property
    def generation(self) -> int:
        """As `ScriptRunner`: servers that were started anew, and owners of slots that are gone.

        A slot that moves between two masters that stay takes its data along and counts for nothing.
        """
        return self._replaced + sum(link.generation for link in self._links.values())

    @property
    def version(self) -> tuple[int, int]:
        """The oldest among the masters."""
        return min((link.version for link in self._links.values()), default=UNKNOWN_VERSION)

    async def open(self) -> None:
        """Start connecting; returns at once. `wait_up` waits for the whole cluster."""
        self._watch.open()

    async def wait_up(self, timeout_s: float) -> None:
        """Return once `is_up`; CapsUnavailableError with the last failure after `timeout_s`."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._watch.up.wait()
        except TimeoutError:
            raise self._unavailable() from None

    async def close(self) -> None:
        """Stop connecting; pending calls fail."""
        await self._watch.close()
        for link in self._links.values():
            await link.close()

    async def __aenter__(self) -> ClusterLink:
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def call(self, *args: Arg) -> Any:
        """Run one command where its first key is, or anywhere if it has none."""
        slot = slot_of_command(args)
        link = self._anyone() if slot is None else self._owner(slot)
        try:
            return await link.call(*args)
        except RedisReplyError as error:
            self._note(error)
            if slot is None:
                raise

            def send(to: RedisLink, asking: bool) -> Awaitable[Any]:
                return to.call_asking(*args) if asking else to.call(*args)

            return await self._follow(error, link, slot, send)

    async def call_each(self, *args: Arg) -> list[Any]:
        """Run one command on every master."""
        if not self._links:
            raise self._unavailable()
        return list(await asyncio.gather(*(link.call(*args) for link in self._links.values())))

    async def eval(self, script: Script, keys: Sequence[str], args: Sequence[Arg]) -> Any:
        """Run a script where its keys are."""
        slot = slot_of(keys[0])
        link = self._owner(slot)
        try:
            return await link.eval(script, keys, args)
        except RedisReplyError as error:
            self._note(error)

            def send(to: RedisLink, asking: bool) -> Awaitable[Any]:
                if not asking:
                    return to.eval(script, keys, args)
                # ASKING holds for one command, so there is no loading of the script in between.
                text = script.body(to.version).text
                return to.call_asking("EVAL", text, len(keys), *keys, *args)

            return await self._follow(error, link, slot, send)

    def _owner(self, slot: int) -> RedisLink:
        link = self._owners[slot]
        if link is None:
            raise self._unavailable()
        return link

    def _anyone(self) -> RedisLink:
        for link in self._links.values():
            if link.is_up:
                return link
        raise self._unavailable()

    def _unavailable(self) -> CapsUnavailableError:
        down = [str(link.target) for link in self._links.values() if not link.is_up]
        why = f"no connection to {', '.join(down)}" if down else self._last_failure
        return CapsUnavailableError(f"Redis {self._target}: {why}")

    def _note(self, error: RedisReplyError) -> None:
        if error.code in ("MOVED", "CLUSTERDOWN"):
            self._watch.wake()

    async def _follow(self, error: RedisReplyError, link: RedisLink, slot: int, send: _Send) -> Any:
        """Send the call where it belongs, as often as that is told, until it is due."""
        hops, pause_s, due_s = 0, TRY_AGAIN_S[0], error.due_s
        try:
            async with asyncio.timeout_at(due_s):
                while error.code in _REDIRECTS and hops < HOPS_MAX:
                    asking = error.code == "ASK"
                    if error.code == "TRYAGAIN":
                        # Its keys are partly here and partly there, until all of them are there.
                        await asyncio.sleep(pause_s)
                        pause_s = min(pause_s * 2, TRY_AGAIN_S[1])
                        link = self._owner(slot)
                    else:
                        hops += 1
                        link = await self._redirected(error, link)
                    try:
                        return await send(link, asking)
                    except RedisReplyError as again:
                        self._note(again)
                        error = again
        except TimeoutError:
            raise CapsUnavailableError(
                f"Redis {self._target}: slot {slot} was on its way for longer than a call may take"
            ) from None
        raise error

    async def _redirected(self, answer: RedisReplyError, asked: RedisLink) -> RedisLink:
        """The link to the server that a MOVED or ASK names, once it is up."""
        target = asked.target
        slot, address = read_redirect(str(answer), asked=(target.host, target.port))
        link = self._link(address)
        if answer.code == "MOVED":
            self._owners[slot] = link
        await link.wait_up(self._timeout_s)
        return link

    def _link(self, address: Address) -> RedisLink:
        link = self._links.get(address)
        if link is None:
            link = self._links[address] = RedisLink(
                self._target.node(address),
                timeout_ms=self._timeout_ms,
                name=self._name,
                on_error=self._on_error,
                on_lost=self._watch.wake,
            )
            link.start()
        return link

    async def _refresh(self) -> bool:
        """One round: ask every master, or whomever we know of; take the latest answer."""
        up = [link for link in self._links.values() if link.is_up]
        maps = [found for found in await asyncio.gather(*map(self._ask, up)) if found]
        if not maps:
            known = {*self._target.seeds, *self._map.masters, *self._map.replicas}
            maps = [
                found for found in await asyncio.gather(*map(self._ask_stranger, known)) if found
            ]
        if maps:
            self._use(max(maps, key=lambda each: (each.is_ok, each.epoch)))
        return bool(maps)

    async def _ask(self, link: RedisLink) -> SlotMap | None:
        asked = (link.target.host, link.target.port)
        try:
            slots = await link.call("CLUSTER", "SLOTS")
            try:
                info = await link.call("CLUSTER", "INFO")
            except RedisReplyError:
                info = None
        except CapsUnavailableError as error:
            self._last_failure = f"{link.target}: {error}"
            return None
        return read_slots(slots, info, asked=asked)

    async def _ask_stranger(self, address: Address) -> SlotMap | None:
        target = self._target.node(address)
        link = RedisLink(target, timeout_ms=self._timeout_ms, name=self._name, any_role=True)
        try:
            await link.connect_once()
            return await self._ask(link)
        except (OSError, CapsUnavailableError) as error:
            self._last_failure = f"{target}: {error or type(error).__name__}"
            return None
        finally:
            await link.close()

    def _use(self, found: SlotMap) -> None:
        """Route by this map from now on."""
        if not found.ranges:
            self._last_failure = "its nodes serve no slots yet"
        owners: list[RedisLink | None] = [None] * SLOTS
        identities = self._identities.copy()  # a slot that nobody has now is remembered
        for each in found.ranges:
            here = slice(each.first, each.last + 1)
            size = each.last - each.first + 1
            owners[here] = [self._link(each.master)] * size
            identities[here] = [(each.node_id, each.master)] * size
        if found.ranges != self._map.ranges:
            left = {
                old for old, new in zip(self._identities, identities, strict=True) if old != new
            }
            self._replaced += len(left - {None, *identities})
        self._map, self._owners, self._identities = found, owners, identities
        for address in self._links.keys() - found.masters:
            link = self._links.pop(address)
            self._replaced += link.generation
            self._watch.retire(link, after_s=self._timeout_s)
