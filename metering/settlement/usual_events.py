"""Reads the events that look as thousands before them did, in a third of the time.

Pure. An event whose fields stand in the usual order, and have the types that an event which was
found sound had, needs no look at each field: what remains are the few values that matter. Rule:
what comes out is what `decode` and `check_event` would have given, field by field; where that is
not certain (a type not seen yet, a number out of bounds, an escaped character), None comes out,
and they decide.
"""

from __future__ import annotations

from typing import Any

import orjson

from metering.events import FIELDS, LATER, SCHEMA, Kind, UsageEvent, decode
from metering.settlement.event_checks import INT64_MAX, QUANTITY_MAX, check_event

ATTEMPT_MAX = 2**31 - 1

SHAPES_MAX = 10_000
"""Shapes that are remembered; all are forgotten at once then. Proxies write some hundreds."""

_SOUND: set[tuple[type, ...]] = set()
"""The types of the fields of events that were found sound."""


def read_usual(body: bytes) -> UsageEvent | None:
    """The event of these bytes, or None: then nothing is known about them."""
    if b"\\u" in body:  # a NUL, or half of a character that Unicode has no whole of
        return None
    try:
        raw = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    if type(raw) is not dict or tuple(raw) != FIELDS:
        return None
    values = raw.values()
    shape = tuple(map(type, values))
    if shape in _SOUND:
        event = UsageEvent(*values)
        return event if _is_within(event) else None
    return _learn(body, shape)


def _learn(body: bytes, shape: tuple[type, ...]) -> UsageEvent | None:
    """Look at every field once for all events of this shape."""
    try:
        event = decode(body)
        check_event(event)
    except ValueError:
        return None
    if len(_SOUND) >= SHAPES_MAX:
        _SOUND.clear()
    _SOUND.add(shape)
    return event


def _is_within(event: UsageEvent) -> bool:
    """What the types of the fields do not say: every check that looks at a value."""
    return (
        event.schema in (SCHEMA, LATER)
        and 0 < event.occurred_at <= INT64_MAX
        and 0 < event.completed_at <= INT64_MAX
        and 0 < event.emitted_at <= INT64_MAX
        and -ATTEMPT_MAX <= event.attempt <= ATTEMPT_MAX
        and _is_amount(event.latency_ms)
        and -QUANTITY_MAX <= event.cost_nano <= QUANTITY_MAX
        and -QUANTITY_MAX <= event.admission_nano <= QUANTITY_MAX
        and (not event.sla_credit_nano or _is_amount(event.sla_credit_nano))
        and (event.spool_seq is None or _is_amount(event.spool_seq))
        and (event.spool_events is None or -ATTEMPT_MAX <= event.spool_events <= ATTEMPT_MAX)
        and (event.kind == Kind.CORRECTION) == (event.corrects is not None)
        and "" not in _required(event)
        and all(map(_is_amount, event.units.values()))
        and (not event.counted or all(type(n) is int for n in event.counted.values()))
    )


def _required(event: UsageEvent) -> tuple[Any, ...]:
    return (
        event.event_id,
        event.exchange_id,
        event.tenant,
        event.project,
        event.api_key_id,
        event.request_id,
    )


def _is_amount(value: object) -> bool:
    return type(value) is int and -QUANTITY_MAX <= value <= QUANTITY_MAX
