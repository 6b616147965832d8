"""The spool's records as bytes: length + checksum + JSON. Pure.

A record is a mark, the length and the CRC-32 of the body (both four bytes, big-endian), the body.
The mark holds bytes that no JSON text contains, so a reader finds the next whole record behind
damage, and a tail that was cut anywhere costs the cut record only.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import orjson

from metering.caps import (
    AnyWindow,
    CalendarUnit,
    CalendarWindow,
    Cap,
    CapMode,
    Hold,
    Limit,
    Scope,
    ScopeKind,
    Vector,
    Window,
)

MARK = b"\xffW\xfeR"
BODY_BYTES_MAX = 16 * 1024 * 1024
"""No exchange has events of this size; a length above it is damage, not a record."""

_HEAD = struct.Struct(">4sII")
_SCHEMA = 1


@dataclass(frozen=True, slots=True)
class SpoolRecord:
    """One commit that Redis has not seen, or may not have seen."""

    seq: int
    hold: Hold
    actual: Vector
    events: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Damage:
    """Bytes that are no record; `offset` is where they begin.

    `cause` is set where the bytes are whole and yet nothing this version can read.
    """

    offset: int
    length: int
    cause: str = ""


def encode_record(record: SpoolRecord) -> bytes:
    """The record as it is appended; ValueError when it is larger than any reader would accept."""
    body = orjson.dumps(
        {
            "v": _SCHEMA,
            "seq": record.seq,
            "tenant": record.hold.tenant,
            "exchange_id": record.hold.exchange_id,
            "caps": record.hold.caps,
            "vector": record.actual,
            "events": [event.decode() for event in record.events],
        }
    )
    if len(body) > BODY_BYTES_MAX:
        raise ValueError(f"a spool record of {len(body)} bytes is above {BODY_BYTES_MAX}")
    return _HEAD.pack(MARK, len(body), zlib.crc32(body)) + body


def decode_records(data: bytes) -> Iterator[SpoolRecord | Damage]:
    """Every whole record in order, and what lies between them."""
    at = damaged_from = 0
    while (at := data.find(MARK, at)) >= 0:
        body = _body_at(data, at)
        if body is None:
            at += 1
            continue
        if at > damaged_from:
            yield Damage(damaged_from, at - damaged_from)
        try:
            yield _record(body)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            yield Damage(at, _HEAD.size + len(body), repr(error))
        at = damaged_from = at + _HEAD.size + len(body)
    if damaged_from < len(data):
        yield Damage(damaged_from, len(data) - damaged_from)


def _body_at(data: bytes, at: int) -> bytes | None:
    if at + _HEAD.size > len(data):
        return None
    _, length, checksum = _HEAD.unpack_from(data, at)
    body = data[at + _HEAD.size : at + _HEAD.size + length]
    if length > BODY_BYTES_MAX or len(body) != length or zlib.crc32(body) != checksum:
        return None
    return body


def _record(body: bytes) -> SpoolRecord:
    raw = orjson.loads(body)
    if raw["v"] != _SCHEMA:
        raise ValueError(f"spool schema {raw['v']} is not known to this version ({_SCHEMA})")
    caps = decode_caps(orjson.dumps(raw["caps"]))
    hold = Hold(raw["tenant"], raw["exchange_id"], caps)
    events = tuple(event.encode() for event in raw["events"])
    return SpoolRecord(raw["seq"], hold, Vector(**raw["vector"]), events)


@lru_cache(maxsize=1_024)
def decode_caps(body: bytes) -> tuple[Cap, ...]:
    """Caps from their JSON. The same caps are the same object: whoever commits them works out their
    keys once."""
    return tuple(_cap(raw) for raw in orjson.loads(body))


def _cap(raw: dict[str, Any]) -> Cap:
    scope = Scope(ScopeKind(raw["scope"]["kind"]), raw["scope"]["id"])
    shape = raw["window"]
    window: AnyWindow = (
        CalendarWindow(CalendarUnit(shape["unit"]), shape["zone"])
        if "unit" in shape
        else Window(**shape)
    )
    mode, marks = CapMode(raw.get("mode", CapMode.ENFORCE)), tuple(raw.get("marks_ppm", ()))
    return Cap(scope, window, Limit(**raw["limit"]), mode, marks)
