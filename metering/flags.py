"""Flags of a tenant: what is paused or killed, by whom and why, and a floor under degradation.

They lie in the tenant's state hash, where reserve, swap and renew look at them: `paused` and
`killed` for the tenant, `paused:<kind>/<id>` and `killed:<kind>/<id>` for a scope within it. A
value says by whom, why and when, as JSON; `0`, like none at all, is off. `stage_min` is a number.

The functions take whatever sends one command, so that the proxy and the worker share them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import orjson

from metering.caps import Scope, ScopeKind
from metering.ids import is_id
from metering.redis_keys import RedisKeys

Call = Callable[..., Awaitable[Any]]
"""Sends one Redis command, given as its words, and gives its reply with strings as bytes."""

WHY_MAX = 500
"""Characters of a reason; it is for people, and read with every listing."""

STAGE_MIN = "stage_min"
TENANT = Scope(ScopeKind.TENANT)


class FlagKind(StrEnum):
    """What a flag does to what it stands over; both refuse, and end what runs."""

    PAUSED = "paused"
    """For a while: it is expected to be resumed."""
    KILLED = "killed"
    """It is over, unless somebody allows it again."""


@dataclass(frozen=True, slots=True)
class Flag:
    """One flag that is up. `scope` is the tenant itself or something within it."""

    kind: FlagKind
    scope: Scope
    by: str = ""
    why: str = ""
    at_ms: int = 0


async def put_up(call: Call, keys: RedisKeys, tenant: str, flag: Flag) -> None:
    """Pause or kill, from the next request on; again replaces who, why and when."""
    if not is_id(tenant):
        raise ValueError(f"{tenant!r} cannot be the id of a tenant")
    value = orjson.dumps({"by": flag.by, "why": flag.why[:WHY_MAX], "at_ms": flag.at_ms})
    await call("HSET", keys.state(tenant), field_of(flag.kind, flag.scope), value)


async def take_down(call: Call, keys: RedisKeys, tenant: str, kind: FlagKind, scope: Scope) -> bool:
    """Resume or allow again; False when there was no such flag."""
    return bool(await call("HDEL", keys.state(tenant), field_of(kind, scope)))


async def flags(call: Call, keys: RedisKeys, tenant: str) -> list[Flag]:
    """Every flag of a tenant that is up, the oldest first."""
    reply = await call("HGETALL", keys.state(tenant))
    pairs = reply.items() if isinstance(reply, dict) else zip(reply[::2], reply[1::2], strict=True)
    found = [flag for field, value in pairs if (flag := _read(field.decode(), value)) is not None]
    return sorted(found, key=lambda flag: (flag.at_ms, flag.scope.kind, flag.scope.id))


async def set_stage_min(call: Call, keys: RedisKeys, tenant: str, stage: int) -> None:
    """No request of the tenant is admitted below this degradation stage; 0 takes the floor away."""
    if stage > 0:
        await call("HSET", keys.state(tenant), STAGE_MIN, str(stage))
    else:
        await call("HDEL", keys.state(tenant), STAGE_MIN)


async def stage_min(call: Call, keys: RedisKeys, tenant: str) -> int:
    """The floor under the tenant's degradation stage; 0 for none."""
    value = await call("HGET", keys.state(tenant), STAGE_MIN)
    return int(value) if value is not None and value.isdigit() else 0


def field_of(kind: FlagKind, scope: Scope) -> str:
    """The field of the state hash; ValueError for what no scope can be called."""
    if scope.kind is ScopeKind.TENANT:
        return kind.value
    if not is_id(scope.id):
        raise ValueError(f"{scope.id!r} cannot be the id of a {scope.kind}")
    return f"{kind}:{scope.kind}/{scope.id}"


def _read(field: str, value: bytes) -> Flag | None:
    """The flag behind a field; None for what is none, or is off. One whose value nobody can read
    stands in the way all the same, so it is shown without its story."""
    kind, _, name = field.partition(":")
    scope_kind, _, scope_id = name.partition("/")
    if kind not in {*FlagKind} or value == b"0" or (name and scope_kind not in {*ScopeKind}):
        return None
    scope = Scope(ScopeKind(scope_kind), scope_id) if name else TENANT
    try:
        story = orjson.loads(value)
        by, why, at_ms = str(story["by"]), str(story["why"]), int(story["at_ms"])
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError):
        by, why, at_ms = "", "", 0
    return Flag(FlagKind(kind), scope, by, why, at_ms)
