"""What an event must be for the ledger to be able to store it, beyond being an event.

Pure. What is refused here is refused for its data, with a reason that names the field.
"""

from __future__ import annotations

from metering.events import Kind, UsageEvent

INT64_MAX = 2**63 - 1
QUANTITY_MAX = 2**53 - 1
"""Largest quantity of a unit, and largest amount, in one event: more is nonsense, not usage."""

_TEXTS = (
    "event_id",
    "exchange_id",
    "tenant",
    "project",
    "api_key_id",
    "request_id",
    "kind",
    "provider",
    "model_requested",
    "model_upstream",
    "usage_source",
    "status",
    "reason_code",
    "proxy_id",
)
_OPTIONAL_TEXTS = (
    "corrects",
    "session",
    "run",
    "feature",
    "model_version",
    "cost_version",
    "sell_version",
    "cache_status",
)
_TIMES = ("occurred_at", "completed_at", "emitted_at")


def check_event(event: UsageEvent) -> None:
    """ValueError for what decodes but cannot be stored."""
    for name in _TEXTS:
        _check_text(name, getattr(event, name))
    for name in _OPTIONAL_TEXTS:
        if (value := getattr(event, name)) is not None:
            _check_text(name, value)
    for name in _TIMES:
        if not 0 < getattr(event, name) <= INT64_MAX:
            raise ValueError(f"{name} {getattr(event, name)} is no time in UTC nanoseconds")
    _check_int("attempt", event.attempt, 2**31 - 1)
    _check_int("latency_ms", event.latency_ms, QUANTITY_MAX)
    _check_int("cost_nano", event.cost_nano, QUANTITY_MAX)
    _check_int("admission_nano", event.admission_nano, QUANTITY_MAX)
    _check_int("sla_credit_nano", event.sla_credit_nano, QUANTITY_MAX)
    if event.spool_seq is not None:
        _check_int("spool_seq", event.spool_seq, QUANTITY_MAX)
    if event.spool_events is not None:
        _check_int("spool_events", event.spool_events, 2**31 - 1)
    for unit, quantity in event.units.items():
        _check_text("a unit", unit)
        _check_int(unit, quantity, QUANTITY_MAX)
    if type(event.billable) is not bool:
        raise ValueError(f"billable is {event.billable!r}, not a boolean")
    if (event.kind == Kind.CORRECTION) != (event.corrects is not None):
        raise ValueError("`corrects` belongs to events of kind correction, and to those only")


def _check_text(name: str, value: object) -> None:
    if not isinstance(value, str):
        raise ValueError(f"{name} is {value!r}, not a string")
    if "\0" in value:  # PostgreSQL stores no NUL in text
        raise ValueError(f"{name} holds a NUL character")


def _check_int(name: str, value: object, limit: int) -> None:
    if type(value) is not int or abs(value) > limit:
        raise ValueError(f"{name} is {value!r}, not an integer of at most {limit}")
