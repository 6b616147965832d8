"""What the hold record of an exchange that Redis knows nothing of is on disk. Pure.

CRC-32 of the body in hex, a blank, the body as JSON: whatever was cut or changed is told apart from
what is whole, and a person can read it.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import orjson

from metering.caps import AdmittedBy, Hold
from metering.recovery import LostHold
from metering.spool_codec import decode_caps

_SCHEMA = 1
_HEAD_BYTES = 9


@dataclass(frozen=True, slots=True)
class LocalRecord:
    """What an exchange is recovered from; its `expires_ms` is when it was admitted."""

    lost: LostHold
    admitted_by: AdmittedBy


def encode_local(record: LocalRecord) -> bytes:
    """The file of this exchange."""
    lost = record.lost
    body = orjson.dumps(
        {
            "v": _SCHEMA,
            "tenant": lost.hold.tenant,
            "exchange_id": lost.hold.exchange_id,
            "caps": lost.hold.caps,
            "admitted_by": record.admitted_by,
            "owner": lost.owner,
            "upstream": lost.upstream,
            "expires_ms": lost.expires_ms,
            "facts": lost.facts.decode(),
            "checkpoint": lost.checkpoint.decode(),
        }
    )
    return b"%08x " % zlib.crc32(body) + body


def decode_local(data: bytes) -> LocalRecord:
    """What the file says; ValueError when it is not whole, or not of a schema that is known."""
    head, body = data[:_HEAD_BYTES], data[_HEAD_BYTES:]
    if head != b"%08x " % zlib.crc32(body):
        raise ValueError("it is torn or was changed: its checksum does not fit")
    try:
        raw = orjson.loads(body)
        if raw["v"] != _SCHEMA:
            raise ValueError(f"its schema {raw['v']} is not known to this version ({_SCHEMA})")
        lost = LostHold(
            hold=Hold(raw["tenant"], raw["exchange_id"], decode_caps(orjson.dumps(raw["caps"]))),
            owner=raw["owner"],
            upstream=raw["upstream"],
            expires_ms=raw["expires_ms"],
            facts=raw["facts"].encode(),
            checkpoint=raw["checkpoint"].encode(),
        )
        return LocalRecord(lost, AdmittedBy(raw["admitted_by"]))
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"it is whole, and yet no record: {error!r}") from error
