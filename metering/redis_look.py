"""Looks at caps in Redis without holding anything: one read-only script, one round trip.

It reads every bucket of the windows, so it costs more than a reserve, which goes by their totals.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from metering.caps import Candidate, Hold, Looked, Stairs
from metering.caps_book import scopes_of
from metering.caps_look import Reading, look
from metering.redis_keys import RedisKeys
from metering.scope_reading import read_totals
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
    windows = [
        list(dict.fromkeys(cap.window for cap in hold.caps if cap.scope == scope))
        for scope in scopes
    ]
    args = ["" if now_ms is None else str(now_ms)]
    for each in windows:
        args += [str(len(each)), *(window.label for window in each)]
    reply = await runner.eval(load_script("peek"), names, args)
    at_ms, rest = int(reply[0]), iter(reply[3:])
    readings = {}
    for scope, each in zip(scopes, windows, strict=True):
        held, count, lapsed = next(rest), next(rest), next(rest)
        buckets = [(window, next(rest)) for window in each]
        readings[scope] = read_totals(held, count, lapsed, buckets, at_ms)
    state = {name.decode(): value.decode() for name, value in _pairs(reply[2]).items()}
    reading = Reading(at_ms, readings, state, is_rebuilding=not reply[1])
    return look(hold, candidates, stairs, reading)


def _pairs(flat: Sequence[Any]) -> dict[bytes, bytes]:
    return dict(zip(flat[::2], flat[1::2], strict=True))
