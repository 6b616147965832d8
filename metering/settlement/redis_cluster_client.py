"""`ClusterClient`: a Redis Cluster for the worker, made of one redis-py client per master.

redis-py's own cluster client drops every lane's connections when one lane meets an error, loses
calls while it first connects, and asks a server for the keys of each XREADGROUP.

Rules:
- A command goes to the master of its first key's slot; what has no key goes to any.
- What was answered with MOVED was not run, and is sent once more. A slot on its way (ASK, TRYAGAIN)
  and a master that is away are errors, which the worker waits out; other shards go on.
- The map of slots is asked for again after any of these, by one lane for all.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Protocol

from redis.commands import AsyncCoreCommands
from redis.exceptions import AskError, ClusterDownError, MovedError, RedisError, ResponseError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from metering.redis_slots import SlotMap, read_slots, slot_of_command
from metering.redis_url import Address

ANSWER_S = 1.0
"""How long a node may take to tell its map; those that answer by then decide."""


class Node(Protocol):
    """What is needed of redis-py's client of one server."""

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        """Send it and read the reply."""

    async def aclose(self) -> None:
        """Close its connections."""


class ClusterClient(AsyncCoreCommands):
    """Takes the commands of a `Redis`; `node` makes the client of one server."""

    _event_dispatcher: Any = None
    """Unused; redis-py declares it for whatever has commands."""

    def __init__(self, seeds: Sequence[Address], node: Callable[[Address], Node]) -> None:
        self._seeds = tuple(seeds)
        self._make = node
        self._nodes: dict[Address, Node] = {}
        self._map = SlotMap(())
        self._is_stale = True
        self._asking = asyncio.Lock()

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        """What all commands of the class come to."""
        if self._is_stale:
            await self._refresh()
        slot = slot_of_command(args)
        if slot is None:
            return await self._ask_any(args, options)
        try:
            try:
                return await self._node(slot).execute_command(*args, **options)
            except MovedError:
                self._is_stale = True
                await self._refresh()
                return await self._node(slot).execute_command(*args, **options)
        except (AskError, ClusterDownError, RedisConnectionError, RedisTimeoutError):
            self._is_stale = True
            raise

    def pipeline(self, *, transaction: bool) -> Together:
        """Commands to be sent together, to whichever masters; there are no transactions."""
        assert not transaction, "a transaction is of one server"
        return Together(self.execute_command)

    async def aclose(self) -> None:
        """Close every connection."""
        nodes, self._nodes = self._nodes, {}
        for node in nodes.values():
            await node.aclose()

    async def __aenter__(self) -> ClusterClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def masters(self) -> list[Node]:
        """A client of each master: for what asks every server, such as a scan of all keys."""
        if self._is_stale:
            await self._refresh()
        first = {each.master: each.first for each in self._map.ranges}
        return [self._node(slot) for slot in first.values()]

    async def _ask_any(self, args: Sequence[Any], options: Mapping[str, Any]) -> Any:
        """The answer of the first master that gives one, to what all of them know: the time."""
        failure: RedisError = ClusterDownError("CLUSTERDOWN no slot has a master")
        for each in self._map.ranges:
            try:
                return await self._node(each.first).execute_command(*args, **options)
            except (RedisConnectionError, RedisTimeoutError) as error:
                failure = error
        raise failure

    def _node(self, slot: int) -> Node:
        """The client of the master that has the slot."""
        for each in self._map.ranges:
            if each.first <= slot <= each.last:
                if each.master not in self._nodes:
                    self._nodes[each.master] = self._make(each.master)
                return self._nodes[each.master]
        raise ClusterDownError(f"CLUSTERDOWN slot {slot} has no master")

    async def _refresh(self) -> None:
        async with self._asking:
            if not self._is_stale:  # another lane has asked meanwhile
                return
            known = {*self._seeds, *self._map.masters, *self._map.replicas}
            answers = await self._ask(known)
            found = max(
                (answer for answer in answers if isinstance(answer, SlotMap)),
                key=lambda each: (each.is_ok, each.epoch),
                default=None,
            )
            if found is None:
                places = ", ".join(f"{host}:{port}" for host, port in self._seeds)
                raise RedisConnectionError(f"no node of the cluster {places} answers: {answers[0]}")
            self._map, self._is_stale = found, False
            for address in self._nodes.keys() - found.masters:
                await self._nodes.pop(address).aclose()

    async def _ask(self, addresses: set[Address]) -> list[SlotMap | BaseException]:
        async def ask(address: Address) -> SlotMap:
            async with asyncio.timeout(ANSWER_S), contextlib.aclosing(self._make(address)) as node:
                slots = await node.execute_command("CLUSTER", "SLOTS")
                info = None
                with contextlib.suppress(ResponseError):  # an ACL may forbid it
                    info = await node.execute_command("CLUSTER", "INFO")
                return read_slots(slots, info, asked=address)

        answers = await asyncio.gather(*map(ask, addresses), return_exceptions=True)
        for answer in answers:
            if not isinstance(answer, SlotMap | RedisError | OSError):
                raise answer
        return answers


class Together(AsyncCoreCommands):
    """Commands that are collected first; each is still one by itself."""

    _event_dispatcher: Any = None

    def __init__(self, send: Callable[..., Awaitable[Any]]) -> None:
        self._send = send
        self._commands: list[tuple[tuple[Any, ...], dict[str, Any]]] = []

    def execute_command(self, *args: Any, **options: Any) -> Together:
        """Keep a command."""
        self._commands.append((args, options))
        return self

    async def execute(self) -> list[Any]:
        """Send what was kept; the replies in order, or the first error once all have ended."""
        commands, self._commands = self._commands, []
        replies = await asyncio.gather(
            *(self._send(*args, **options) for args, options in commands), return_exceptions=True
        )
        for reply in replies:
            if isinstance(reply, BaseException):
                raise reply
        return replies

    async def __aenter__(self) -> Together:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._commands.clear()
