"""Whose objects at a provider are: what an answer teaches, what a list may show, who may ask.

The shell around `metering.ownership`: what could not be noted because Redis was away is known here
at once and noted again until it is; what cannot be looked up is not sent on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from metering.background import spawn
from metering.caps import CapsUnavailableError
from metering.memory_owners import MemoryOwners
from metering.ownership import Owners
from proxy.passthrough_errors import ObjectNotFound, TooManyObjects
from proxy.passthrough_paths import ID, Row
from proxy.refusals import backend_unavailable

RETRY_S = 1.0
WAITING_MAX = 10_000
"""Notes that wait for Redis; beyond them the oldest is given up, and the log names it."""

LEARNT_MAX = 200
"""Ids that one answer can teach."""

_SAID = {
    "asst": "No assistant found with id '{}'.",
    "batch": "No batch found with id '{}'.",
    "conv": "Conversation with id '{}' not found.",
    "file": "No such File object: {}",
    "ftjob": "Could not find fine tune: {}",
    "resp": "Response with id '{}' not found.",
    "thread": "No thread found with id '{}'.",
    "vs": "Vector store with id '{}' not found.",
}
"""How OpenAI says it, by the head of the id."""


class Ownership:
    """Who owns what, for the exchanges of this process.

    Whoever relays something that makes an object at a provider calls `note`, and `check` with what
    a request names before it is sent: `proxy.passthrough_bodies.references` finds that.
    """

    def __init__(
        self, owners: Owners | None = None, log: Any = None, *, retry_s: float = RETRY_S
    ) -> None:
        self._owners = MemoryOwners() if owners is None else owners
        self._log, self._retry_s = log, retry_s
        self._waiting: dict[tuple[str, str, bool], None] = {}
        self._retrying: asyncio.Task[None] | None = None

    async def check(
        self, tenant: str, provider: str, ids: Sequence[str], *, makes_max: int | None = None
    ) -> None:
        """Raises ObjectNotFound for the first of these that is not the tenant's, and TooManyObjects
        where it keeps `makes_max` objects already; BudgetBackendUnavailable when nobody knows."""
        if not ids and makes_max is None:
            return
        owned, kept = await self.owned(tenant, provider, ids)
        for each in ids:
            if each not in owned:
                raise not_there(each)
        if makes_max is not None and kept >= makes_max:
            raise TooManyObjects(
                f"Tenant `{tenant}` keeps {kept} objects at the provider, and may keep "
                f"{makes_max} (`passthrough.objects_max`). Delete some first.",
            )

    async def owned(
        self, tenant: str, provider: str, ids: Sequence[str]
    ) -> tuple[frozenset[str], int]:
        """Those of these ids that are the tenant's, and how many objects it keeps in all."""
        sound = [each for each in ids if ID.fullmatch(each)]
        names = {f"{provider}/{each}": each for each in sound}
        try:
            found = await self._owners.look(tenant, list(names))
        except CapsUnavailableError as error:
            raise backend_unavailable() from error
        waiting = {name for whose, name, _ in self._waiting if whose == tenant}
        return frozenset(names[each] for each in found.owned | (waiting & names.keys())), found.kept

    async def holders(
        self, tenant: str, providers: Sequence[str], ids: Sequence[str]
    ) -> tuple[str, ...]:
        """The providers at which each of these ids is the tenant's, in their order: where a request
        that names them may go. ObjectNotFound where there is none."""
        if not ids:
            return tuple(providers)
        found = []
        for provider in dict.fromkeys(providers):
            owned, _ = await self.owned(tenant, provider, ids)
            if owned.issuperset(ids):
                found.append(provider)
        if not found:
            raise not_there(ids[0])
        return tuple(found)

    async def note(
        self, tenant: str, provider: str, ids: Iterable[str], *, is_passing: bool = False
    ) -> None:
        """These are the tenant's now."""
        names = [f"{provider}/{each}" for each in ids if ID.fullmatch(each)]
        if not names:
            return
        try:
            await self._owners.note(tenant, names, is_passing=is_passing)
        except CapsUnavailableError as error:
            self._put_off(tenant, names, is_passing=is_passing, cause=str(error))

    async def forget(self, tenant: str, provider: str, ids: Iterable[str]) -> None:
        """These are gone; what cannot be forgotten now names nothing any more, and harms nobody."""
        try:
            await self._owners.forget(tenant, [f"{provider}/{each}" for each in ids])
        except CapsUnavailableError as error:
            if self._log is not None:
                self._log.info("object_not_forgotten", tenant=tenant, cause=str(error))

    def _put_off(self, tenant: str, names: Iterable[str], *, is_passing: bool, cause: str) -> None:
        for name in names:
            self._waiting[tenant, name, is_passing] = None
        if self._log is not None:
            self._log.warning("object_note_waits", tenant=tenant, cause=cause)
        while len(self._waiting) > WAITING_MAX:
            lost = next(iter(self._waiting))
            del self._waiting[lost]
            if self._log is not None:
                self._log.error("object_note_lost", tenant=lost[0], object=lost[1])
        if self._retrying is None or self._retrying.done():
            self._retrying = spawn(self._retry(), name="note-objects")

    async def _retry(self) -> None:
        while self._waiting:
            await asyncio.sleep(self._retry_s)
            for tenant, name, is_passing in list(self._waiting):
                try:
                    await self._owners.note(tenant, [name], is_passing=is_passing)
                except CapsUnavailableError:
                    break
                self._waiting.pop((tenant, name, is_passing), None)


def not_there(name: str) -> ObjectNotFound:
    """What somebody is told of an object that is not there for them."""
    said = name if ID.fullmatch(name) else "(not an id)"
    head = said.replace("-", "_").partition("_")[0]
    return ObjectNotFound(_SAID.get(head, "No such object: {}").format(said))


def learnt(row: Row, answer: Mapping[str, Any]) -> list[str]:
    """The ids that an answer names as new, or as made for what was asked about."""
    names = ("id", *row.learns) if row.makes else row.learns
    found = list(_at(answer, names))
    if row.lists and isinstance(answer.get("data"), list):
        for each in answer["data"]:
            if isinstance(each, dict):
                found += _at(each, row.learns)
    return list(dict.fromkeys(found))[:LEARNT_MAX]


def _at(answer: Mapping[str, Any], names: Iterable[str]) -> Iterator[str]:
    for name in names:
        value: Any = answer
        for step in name.split("."):
            value = value.get(step) if isinstance(value, dict) else None
        for each in value if isinstance(value, list) else [value]:
            if isinstance(each, str) and ID.fullmatch(each):
                yield each
