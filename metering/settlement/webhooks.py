"""Messages to other billing systems: what they say, their names, and their signatures. Pure.

Rules: a message is the same bytes each time it is sent, and its id follows from what it says and
from how often the same thing was told before; so a receiver that knows an id has acted on it. An
hour is told as a whole, and a higher `revision` replaces what was told of it. Signatures are those
of Standard Webhooks (https://www.standardwebhooks.com): HMAC-SHA256 over id, time and body. What
usage cost us is told to nobody.
"""

from __future__ import annotations

import hashlib
import hmac
from base64 import b64encode
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from metering.money import format_usd
from metering.settlement.utc import utc_text
from metering.webhook_settings import WebhookFormat

HOUR_NS = 3_600_000_000_000
GRACE_NS = 300_000_000_000
"""So long after an hour is over it is told: most of what is late is there by then."""

RETRY_FIRST_NS = 5_000_000_000
RETRY_MAX_NS = 3_600_000_000_000


@dataclass(frozen=True, slots=True)
class Message:
    """A message that is on its way to an endpoint."""

    id: int
    message_id: str
    type: str
    subject: str
    data: str
    attempts: int
    created_at: int
    tried_since: int


def usage_data(
    tenant: str, hour: int, lines: Iterable[Mapping[str, Any]], *, revision: int
) -> dict[str, Any]:
    """What is said of a tenant's hour. Lines have their dimensions, `quantity` and `sell_nano`."""
    found = sorted(lines, key=lambda line: orjson.dumps(line, option=orjson.OPT_SORT_KEYS))
    told = [
        {
            **{name: value for name, value in line.items() if name != "sell_nano"},
            "amount_usd": format_usd(line["sell_nano"], places=9),
        }
        for line in found
    ]
    total = sum(line["sell_nano"] for line in found)
    return {
        "tenant": tenant,
        "hour": utc_text(hour),
        "until": utc_text(hour + HOUR_NS),
        "revision": revision,
        "lines": told,
        "amount_usd": format_usd(total, places=9),
    }


def statement_data(body: Mapping[str, Any], *, sha256: str) -> dict[str, Any]:
    """What is said of a month that was closed: its lines and its total, as they were booked."""
    return {
        "tenant": body["tenant"],
        "period": body["period"],
        "revision": 1,
        "sha256": sha256,
        "lines": body["lines"],
        "amount_usd": format_usd(body["total_nano"], places=9),
    }


def digest_of(data: Mapping[str, Any]) -> str:
    """Of what a message says, but for its revision."""
    said = {name: value for name, value in data.items() if name != "revision"}
    return hashlib.sha256(orjson.dumps(said, option=orjson.OPT_SORT_KEYS)).hexdigest()


def message_id(kind: str, subject: str, about: str, *, revision: int, digest: str) -> str:
    """The same for the same thing told for the same time, on whatever machine."""
    named = orjson.dumps([kind, subject, about, revision, digest])
    return f"msg_{hashlib.sha256(named).hexdigest()[:32]}"


def body_of(message: Message, written: WebhookFormat, *, source: str) -> tuple[str, bytes]:
    """The content type and the bytes that are sent. `source` names the ledger."""
    data, at = orjson.Fragment(message.data), utc_text(message.created_at)
    if written is WebhookFormat.STANDARD:
        body = {"type": message.type, "timestamp": at, "data": data}
        return "application/json", orjson.dumps(body)
    event = {
        "specversion": "1.0",
        "id": message.message_id,
        "source": source,
        "type": f"tokenweir.{message.type}",
        "subject": message.subject,
        "time": at,
        "datacontenttype": "application/json",
        "data": data,
    }
    return "application/cloudevents+json", orjson.dumps(event)


def headers_of(message_id: str, body: bytes, *keys: bytes, at_s: int) -> dict[str, str]:
    """The headers of Standard Webhooks for this body, sent at this time, signed with each key."""
    signed = f"{message_id}.{at_s}.".encode() + body
    signatures = [b64encode(hmac.new(key, signed, hashlib.sha256).digest()) for key in keys]
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(at_s),
        "webhook-signature": " ".join(f"v1,{each.decode()}" for each in signatures),
    }


def pause_ns(attempts: int) -> int:
    """After so many attempts: twice as long each time, up to an hour."""
    return int(min(RETRY_FIRST_NS * 2 ** min(attempts, 20), RETRY_MAX_NS))
