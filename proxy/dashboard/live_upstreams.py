"""How upstreams do, in the few words that fit on a page that is left open."""

from __future__ import annotations

import re
from typing import Any

import orjson

from metering.redis_connect import RedisRunner
from metering.redis_keys import RedisKeys
from proxy.history_sync import left_note
from proxy.settings import Settings
from proxy.upstreams_report import UpstreamsLook, upstreams_body
from routing.samples import Seen

SHOWN = 200
"""Upstreams in one message; those that are in trouble or in use go first."""

_TROUBLE = {"open": 0, "half_open": 1, "unavailable": 3}
_FIELDS = (
    "upstream",
    "provider",
    "state",
    "until",
    "why",
    "known",
    "attempts",
    "success_ratio",
    "rate_limited",
    "latency_ms",
    "in_flight",
)


async def look(link: RedisRunner, keys: RedisKeys, settings: Settings, now_ms: int) -> Any:
    """The rows of `weir upstreams`, without money."""
    notes = _pairs(await link.call("HGETALL", keys.history))
    health = _pairs(await link.call("HGETALL", keys.health))
    probes = _pairs(await link.call("HGETALL", keys.probes))
    read = [_note(raw, now_ms) for raw in notes.values()]
    body = upstreams_body(
        UpstreamsLook(
            models=settings.models,
            providers=settings.providers,
            notes=[each[0] for each in read if each is not None],
            processes=sum(each[1] for each in read if each is not None),
            open_until_ms={
                label: int(found[0])
                for label, value in health.items()
                if (found := re.match(rb"\d+", value))
            },
            probes={name: each for name, raw in probes.items() if (each := _probe(raw))},
            now_ms=now_ms,
            unreadable=read.count(None),
        )
    )
    rows = [{name: row[name] for name in _FIELDS} for row in body["upstreams"]]
    rows.sort(key=lambda row: (_TROUBLE.get(row["state"], 2), -row["attempts"], row["upstream"]))
    return {
        "processes": body["processes"],
        "window_s": body["window_s"],
        "total": len(rows),
        "upstreams": rows[:SHOWN],
    }


def _pairs(flat: Any) -> dict[str, bytes]:
    return {
        name.decode(errors="replace"): value
        for name, value in zip(flat[::2], flat[1::2], strict=True)
    }


def _note(raw: bytes, now_ms: int) -> tuple[dict[str, Seen], bool] | None:
    try:
        return left_note(raw, now_ms)
    except ValueError:
        return None


def _probe(raw: bytes) -> dict[str, Any] | None:
    try:
        found = orjson.loads(raw)
    except orjson.JSONDecodeError:
        return None
    return found if isinstance(found, dict) else None
