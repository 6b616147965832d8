"""Holds whose process died, as Redis keeps them: found, recovered once, and one day forgotten.

Every hold record stands in its shard's index by when somebody should look at it: a hold when it
expires, a recovered one when it may be dropped. So what is lost is found without asking each
tenant, whether or not anybody has used the tenant since. `lua/recover.lua` decides who is first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from metering.caps import (
    AnyWindow,
    CalendarUnit,
    CalendarWindow,
    Cap,
    Hold,
    Limit,
    Scope,
    ScopeKind,
    Window,
)
from metering.events import UnknownSchemaError, payload_hash
from metering.recovery import LostHold, Recovery
from metering.redis_keys import RedisKeys
from metering.redis_layout import layout_of
from metering.scripts import ScriptRunner, load_script

_SCHEMAS = (1, 2)
"""2 has calendar windows, which readers of 1 would have to guess at."""
_KINDS = frozenset(ScopeKind)

KEEP_MS = 7 * 86_400_000
"""How long what undoes a recovery is kept: as long as a spool keeps what may still be replayed."""


@dataclass(frozen=True, slots=True)
class UnreadableHold:
    """A lost hold whose record makes no sense to this version, and why."""

    tenant: str
    exchange_id: str
    record: bytes
    raw: bytes
    """The record and what is kept beside it."""
    reason: str
    is_newer: bool
    """A newer version may be able to read it."""


class RedisRecovery:
    """Lost holds of the shards. `now_ms` overrides the server's clock in tests, as in RedisCaps."""

    def __init__(
        self,
        runner: ScriptRunner,
        keys: RedisKeys,
        *,
        now_ms: Callable[[], int] | None = None,
    ) -> None:
        self._runner = runner
        self._keys = keys
        self._now_ms = now_ms
        self._recover = load_script("recover")
        self._put_aside = load_script("put_aside")

    async def lost(
        self, shard: int, *, grace_ms: int, limit: int
    ) -> list[LostHold | UnreadableHold]:
        """Up to `limit` holds whose time has been over for `grace_ms`, oldest first.

        On the way, records that were recovered long ago are dropped, and entries of the index that
        have no record any more.
        """
        index = self._keys.open_holds(shard)
        due_ms = await self._now() - grace_ms
        members = await self._runner.call("ZRANGEBYSCORE", index, "-inf", due_ms, "LIMIT", 0, limit)
        found: list[LostHold | UnreadableHold] = []
        for member in members:
            tenant, _, exchange_id = member.decode(errors="replace").partition("/")
            lost = await self._read(tenant, exchange_id)
            if lost is not None:
                found.append(lost)
                continue
            # Asked after the record was read: whoever has recovered it just now has moved it.
            score = await self._runner.call("ZSCORE", index, member)
            if score is not None and float(score) > due_ms:
                continue
            names = [exchange_id, f"{exchange_id}:reversals"]
            await self._runner.call("HDEL", self._keys.holds(tenant), *names)
            await self._runner.call("ZREM", index, member)
        return found

    async def recover(
        self, lost: LostHold, made: Recovery, *, grace_ms: int, keep_ms: int = KEEP_MS
    ) -> bool:
        """Record this, once; False when somebody else has, or the hold is alive after all."""
        keys, hold = self._keys, lost.hold
        layout = layout_of(keys, hold.tenant, hold.caps)
        args: list[str | bytes] = [
            "" if self._now_ms is None else str(self._now_ms()),
            hold.tenant,
            hold.exchange_id,
            *layout.names,
            *layout.shape.args_at(await self._now()),
            *(str(ms) for ms in (lost.expires_ms, grace_ms, keep_ms)),
            *(str(n) for n in (made.actual.nano, made.actual.tokens, made.actual.requests)),
            b"\n".join(f"{payload_hash(body)} ".encode() + body for body in made.reversals),
            str(len(made.events)),
        ]
        for body in made.events:
            args += (body, payload_hash(body))
        answer = await self._runner.eval(
            self._recover,
            [
                keys.holds(hold.tenant),
                keys.stream(keys.shard(hold.tenant)),
                layout.tenant.open,
                *layout.scope_keys,
            ],
            args,
        )
        return bool(answer == b"recovered")

    async def put_aside(self, hold: UnreadableHold) -> bool:
        """Remove the record, once its bytes are kept elsewhere; False when it has changed."""
        keys = self._keys
        index = keys.open_holds(keys.shard(hold.tenant))
        answer = await self._runner.eval(
            self._put_aside,
            [keys.holds(hold.tenant), index],
            [hold.exchange_id, f"{hold.tenant}/{hold.exchange_id}", hold.record],
        )
        return bool(answer)

    async def postpone(self, tenant: str, exchange_id: str) -> None:
        """Look at this hold again after another grace, so that it is in nobody's way."""
        index = self._keys.open_holds(self._keys.shard(tenant))
        member = f"{tenant}/{exchange_id}"
        await self._runner.call("ZADD", index, "XX", "GT", await self._now(), member)

    async def _now(self) -> int:
        if self._now_ms is not None:
            return self._now_ms()
        seconds, microseconds = await self._runner.call("TIME")
        return int(seconds) * 1_000 + int(microseconds) // 1_000

    async def _read(self, tenant: str, exchange_id: str) -> LostHold | UnreadableHold | None:
        """The hold, or None when there is nothing left to recover."""
        record, facts, checkpoint = await self._runner.call(
            "HMGET",
            self._keys.holds(tenant),
            exchange_id,
            f"{exchange_id}:facts",
            f"{exchange_id}:checkpoint",
        )
        if record is None:
            return None
        beside = facts or b"", checkpoint or b""
        try:
            return _hold(tenant, exchange_id, record, *beside)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            return UnreadableHold(
                tenant,
                exchange_id,
                record,
                raw=b"\n".join((record, *beside)),
                reason=f"the hold record of exchange {exchange_id} cannot be read: {error!r}",
                is_newer=isinstance(error, UnknownSchemaError),
            )


def _hold(
    tenant: str, exchange_id: str, record: bytes, facts: bytes, checkpoint: bytes
) -> LostHold | None:
    raw: dict[str, Any] = orjson.loads(record)
    if raw["v"] not in _SCHEMAS:
        raise UnknownSchemaError(
            f"schema {raw['v']} is not known to this version (it knows {max(_SCHEMAS)})"
        )
    if raw["state"] == "recovered":
        return None
    return LostHold(
        hold=Hold(tenant, exchange_id, _caps(raw["scopes"])),
        owner=raw["owner"],
        upstream=raw["upstream"],
        expires_ms=int(raw["expires_ms"]),
        facts=facts,
        checkpoint=checkpoint,
        record=record,
    )


def _caps(shapes: Sequence[str]) -> tuple[Cap, ...]:
    """The scopes and windows of a record, as caps without a limit."""
    caps = []
    for shape in shapes:
        name, *windows = shape.split(" ")
        kind, _, scope_id = name.partition("/")
        if kind not in _KINDS:
            raise UnknownSchemaError(f"scopes of kind {kind!r} are not known to this version")
        scope = Scope(ScopeKind(kind), scope_id)
        caps += [Cap(scope, _window(window), Limit()) for window in windows]
    return tuple(caps)


def _window(text: str) -> AnyWindow:
    """`label:bucket_ms:buckets`, or `unit:zone`."""
    label, *shape = text.split(":")
    if len(shape) == 1:
        return CalendarWindow(CalendarUnit(label), shape[0])
    bucket_ms, buckets = shape
    return Window(label, int(bucket_ms), int(buckets))
