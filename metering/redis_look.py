"""Looks at caps in Redis without holding anything: one read-only script, one round trip.

It reads whole scopes, the open holds of each included, so it costs more than a reserve.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from metering.caps import Candidate, Hold, Looked, Stairs
from metering.caps_book import scopes_of
from metering.caps_look import Reading, look
from metering.redis_keys import RedisKeys
from metering.scope_reading import read_scope
from metering.scripts import ScriptRunner, load_script


async def look_in_redis(
    runner: ScriptRunner,
    keys: RedisKeys,
    hold: Hold,
    candidates: Sequence[Candidate],
    stairs: Stairs | None,
    *,
    now_ms: int | None = None,
) -> Looked:
    """As `Caps.look`; `now_ms` in the place of Redis' own time is for tests."""
    scopes = scopes_of(hold.caps)
    names = [keys.epoch(keys.shard(hold.tenant)), keys.state(hold.tenant)]
    for scope in scopes:
        names += [keys.scope(hold.tenant, scope), keys.scope_holds(hold.tenant, scope)]
    reply = await runner.eval(load_script("peek"), names, [])
    at_ms = int(reply[0]) if now_ms is None else now_ms
    readings = {}
    for place, scope in enumerate(scopes):
        fields, holds = _pairs(reply[3 + 2 * place]), _pairs(reply[4 + 2 * place])
        windows = [cap.window for cap in hold.caps if cap.scope == scope]
        expiries = {name: float(score) for name, score in holds.items()}
        readings[scope] = read_scope(windows, fields, expiries, at_ms)
    state = {name.decode(): value.decode() for name, value in _pairs(reply[2]).items()}
    reading = Reading(at_ms, readings, state, is_rebuilding=not reply[1])
    return look(hold, candidates, stairs, reading)


def _pairs(flat: Sequence[Any]) -> dict[bytes, bytes]:
    return dict(zip(flat[::2], flat[1::2], strict=True))
