"""The usage event: one immutable record per attempt, the source of every number downstream.

Schema 1. Writers fill every field; readers ignore fields they do not know and take defaults for
those they miss, so old and new events live side by side. The writer makes the id, and the id is
the idempotency key: same id and body is absorbed, same id with another body is a conflict.
No prompt, no answer and no secret ever enters an event.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from enum import StrEnum
from typing import Any

import orjson

from metering.caps import AdmittedBy
from metering.usage import LATER_CLASSES

SCHEMA = 1
LATER = 2
"""The schema of an event with token classes that older readers take for something else than tokens.
They let it wait; every other event stays as it was."""

RECOVERED = "recovered"
"""The `usage_source` of what was recorded for a process that had died."""

SUPERSEDED = "superseded"
"""The `correction_reason` of what takes a recovered event back: the true ones came after all."""


class UnknownSchemaError(ValueError):
    """Written by a newer version than this reader: it may be read after an upgrade."""


class Kind(StrEnum):
    """What an event records."""

    USAGE = "usage"
    CORRECTION = "correction"
    ADJUSTMENT = "adjustment"
    CUSTOM = "custom"


class Reason(StrEnum):
    """`reason_code`: why an event is billable, or why it is not."""

    SERVED = "served"
    PARTIAL = "partial"
    """The stream broke or the client left; what was counted is billed."""
    STOPPED_AT_CAP = "stopped_at_cap"
    """We ended the stream because a cap had no room for more; what was counted is billed."""
    STOPPED_BY_FLAG = "stopped_by_flag"
    """Somebody paused or killed a scope that it ran in; what was counted is billed."""
    NOT_SENT = "not_sent"
    UPSTREAM_ERROR = "upstream_error"
    UPSTREAM_REFUSED = "upstream_refused"
    FILTERED = "filtered"
    """The upstream filtered its answer before it said anything, and another one was asked; what it
    reported is billed."""
    INTERNAL_ERROR = "internal_error"
    """We failed before the client had a byte; the log has the cause under the request id."""
    RECOVERED_UNCONFIRMED = "recovered_unconfirmed"
    """Our process died before anything was counted as delivered; the input may have cost us."""
    REPORTED = "reported"
    """It was used outside, and reported to `POST /v1/events` or by the library."""
    RECONCILED = "reconciled"
    """No usage: what the provider charged beyond what was booked, or less; nobody is billed."""
    RERATED = "rerated"
    """No usage: what an event comes to by another price book, less what stood."""
    RETRY = "retry"
    CACHE_HIT = "cache_hit"


class Status(StrEnum):
    """How the attempt ended, as analytics count it."""

    SUCCESS = "success"
    ERROR = "error"
    TRUNCATED = "truncated"
    """Bytes were delivered, then the upstream broke off, or we cut the stream at a bound."""
    STOPPED = "stopped"
    """We ended it in the middle: at a cap, or because somebody paused or killed it."""
    CANCELLED = "cancelled"
    """The client left before the end was received from the upstream."""


@dataclass(slots=True)
class UsageEvent:
    """One attempt of one exchange. Times are UTC nanoseconds, amounts nano-USD, latencies ms.

    `admission_nano` is the sell amount, rated at admission's prices, that the caps count;
    `cost_nano` is what the provider charges us. `units` are billed, `counted` is our own count.
    Never changed once made, yet not frozen: a frozen dataclass sets each of its fields through
    `object.__setattr__`, which is 28 us for every request. Made by names, but where all fields are
    read in their order: Python compares 57 names one by one, which costs more than their JSON.
    """

    event_id: str
    exchange_id: str
    tenant: str
    project: str
    api_key_id: str
    request_id: str
    occurred_at: int
    completed_at: int
    emitted_at: int
    schema: int = SCHEMA
    kind: str = Kind.USAGE
    attempt: int = 1
    corrects: str | None = None
    correction_reason: str | None = None
    upstream_request_id: str | None = None
    session: str | None = None
    run: str | None = None
    step: int | None = None
    feature: str | None = None
    user: str | None = None
    vendor: str = ""
    provider: str = ""
    model_requested: str = ""
    model_public: str = ""
    """The public model that served: another than was asked for after a fallback or degradation."""
    model_upstream: str = ""
    model_answered: str | None = None
    model_version: str | None = None
    region: str | None = None
    service_tier: str | None = None
    """As the provider reported it."""
    price_tier: str | None = None
    """The tier of the price rule that it was rated at; None for the list price."""
    units: Mapping[str, int] = field(default_factory=dict)
    usage_source: str = "counted"
    tokenizer: str = ""
    counted: Mapping[str, int] = field(default_factory=dict)
    usage_suspect: str | None = None
    cost_version: str | None = None
    sell_version: str | None = None
    cost_nano: int = 0
    admission_nano: int = 0
    credits: int | None = None
    latency_ms: int = 0
    ttft_ms: int | None = None
    target_latency_ms: int | None = None
    sla_met: bool | None = None
    sla_credit_nano: int = 0
    """What `admission_nano` is less than the units come to, because the answer was late."""
    status: str = Status.SUCCESS
    http_status: int | None = None
    finish_reason: str | None = None
    retry_count: int = 0
    client_retry_count: int | None = None
    fallback_reason: str | None = None
    degrade_step: str | None = None
    degrade_shadow: str | None = None
    """What steps in shadow would have made of it."""
    admitted_by: str = AdmittedBy.CAPS
    max_tokens_sent: int | None = None
    """The bound of each choice that went out in the place of the client's own."""
    cache_status: str | None = None
    stream: bool = False
    client_disconnected: bool = False
    billable: bool = True
    reason_code: str = Reason.SERVED
    proxy_id: str = ""
    spool_seq: int | None = None
    spool_events: int | None = None
    """How many events that record of the spool has: it is confirmed when all are in the ledger."""


FIELDS = tuple(entry.name for entry in fields(UsageEvent))
"""The fields of an event, in the order in which they are written."""

_FIELDS = frozenset(FIELDS)
_REQUIRED = (
    "event_id",
    "exchange_id",
    "tenant",
    "project",
    "api_key_id",
    "request_id",
    "occurred_at",
    "completed_at",
    "emitted_at",
)
_INTEGERS = (
    "occurred_at",
    "completed_at",
    "emitted_at",
    "cost_nano",
    "admission_nano",
    "sla_credit_nano",
    "attempt",
)


def served_model(event: UsageEvent) -> str:
    """The public model whose price holds; events from before the field existed have one only."""
    return event.model_public or event.model_requested


def encode(event: UsageEvent) -> bytes:
    """The event as compact JSON, the bytes that enter the stream and are hashed."""
    if event.schema == SCHEMA and not LATER_CLASSES.keys().isdisjoint(event.units):
        event = replace(event, schema=LATER)
    return orjson.dumps(event)


def payload_hash(body: bytes) -> str:
    """SHA-256 of the encoded event, hex: tells a repeat from a conflict."""
    return hashlib.sha256(body).hexdigest()


def decode(body: bytes) -> UsageEvent:
    """The event behind these bytes; unknown fields are ignored.

    Raises ValueError naming what is wrong: not JSON, a required field missing, a wrong type, an
    unknown major schema.
    """
    try:
        raw = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise ValueError(f"not JSON: {error}") from None
    if not isinstance(raw, dict):
        raise ValueError("an event is a JSON object")
    _check(raw)
    if tuple(raw) == FIELDS:
        return UsageEvent(*raw.values())
    return UsageEvent(**{name: raw[name] for name in raw.keys() & _FIELDS})


def _check(raw: dict[str, Any]) -> None:
    schema = raw.get("schema", SCHEMA)
    if schema not in (SCHEMA, LATER):
        raise UnknownSchemaError(
            f"schema {schema!r} is not known to this reader (it knows {SCHEMA} and {LATER})"
        )
    for name in _REQUIRED:
        if raw.get(name) in (None, ""):
            raise ValueError(f"required field {name} is missing")
    for name in _INTEGERS:
        if type(raw.get(name, 0)) is not int:
            raise ValueError(f"{name} is {raw[name]!r}, not an integer")
    for name in ("units", "counted"):
        units = raw.get(name, {})
        if not isinstance(units, dict) or any(type(n) is not int for n in units.values()):
            raise ValueError(f"{name} is not a mapping of integers")
