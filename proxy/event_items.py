"""`POST /v1/events`: from bytes to items, each of which is sound or has a fault that names it.

Three shapes, alone or in a list: ours `{id, time, meter, value | units, dimensions}`, the same
without an id where the request has an Idempotency-Key, and CloudEvents 1.0 in structured mode
whose `data` is ours. Rules: what one item has wrong is its own business; unknown names are faults;
a quantity is a whole number, or the digits of one; nothing is rounded and nothing is guessed.

Pure.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson

from metering.ids import is_id, uuid7
from metering.usage import TOKEN_CLASSES, UNITS
from proxy import json_bounds
from proxy.errors import InvalidRequest

ITEMS_MAX = 1_000
TEXT_MAX = 256
FUTURE_MAX_NS = 300 * 10**9
"""Clocks of senders may be five minutes ahead of ours."""

CLOUD_EVENT = "application/cloudevents+json"
CLOUD_BATCH = "application/cloudevents-batch+json"

_UNITS_MAX = 10**9
"""Of any unit in one item: more than is ever done between two events."""

CUSTOM_UNIT = "custom"

ALIASES: Mapping[str, str] = {"api-calls": "api_call"}
"""Names that meters have elsewhere."""

LLM_TOKENS = "llm-tokens"
TOKEN_TYPES: Mapping[str, str] = {
    "input": "input_uncached",
    "cache_read": "input_cache_read",
    "cache_write": "input_cache_write_5m",
    "output": "output_text",
    "reasoning": "output_reasoning",
}
"""`dimensions.type` of the meter `llm-tokens`; every class is a meter of its own besides."""

LABELS = ("feature", "user", "session", "run")
_TEXTS = ("model", "provider", "region", "service_tier", "user")
_IDS = ("project", "feature", "session", "run")
DIMENSIONS = (*_TEXTS, *_IDS, "type", "step")
_FIELDS = frozenset({"id", "time", "meter", "value", "units", "dimensions", "tenant_id"})
_RFC3339 = re.compile(
    r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)", re.ASCII
)
_DIGITS = re.compile(r"[0-9]{1,10}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with the item at `index`, in the words of an error; `param` is its field."""

    index: int
    code: str
    message: str
    param: str | None = None

    def body(self) -> dict[str, Any]:
        """As the answer lists it."""
        return {
            "index": self.index,
            "code": self.code,
            "message": self.message,
            "param": self.param,
        }


class ItemError(Exception):
    """The fault of one item, on its way to where the index is known."""

    def __init__(self, code: str, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.code, self.message, self.param = code, message, param

    def at(self, index: int) -> Fault:
        """The fault of the item there."""
        return Fault(index, self.code, self.message, self.param)


@dataclass(frozen=True, slots=True)
class Item:
    """One thing that was used, as its sender says. `occurred_at` is None where no time was given;
    `meter` is the name, whose quantities are in `units`."""

    index: int
    id: str
    source: str
    meter: str
    units: Mapping[str, int]
    occurred_at: int | None = None
    tenant: str | None = None
    model: str | None = None
    provider: str | None = None
    region: str | None = None
    service_tier: str | None = None
    project: str | None = None
    feature: str | None = None
    user: str | None = None
    session: str | None = None
    run: str | None = None
    step: int | None = None

    @property
    def digest(self) -> str:
        """Tells a repeat from another event under the same id, however either was written."""
        fields = {name: getattr(self, name) for name in self.__slots__}
        if self.service_tier is None:  # what was noted before there was one stays a repeat of this
            del fields["service_tier"]
        said = orjson.dumps(fields | {"index": 0, "units": dict(sorted(self.units.items()))})
        return hashlib.sha256(said).hexdigest()[:32]

    @property
    def model_name(self) -> str:
        """What its price is found by: the model of a known unit, else the meter."""
        return self.model if self.model and CUSTOM_UNIT not in self.units else self.meter


def exchange_of(tenant: str, source: str, item_id: str) -> str:
    """The exchange that an id names within its source and tenant: the same always and everywhere.

    No time enters it, or a repeat that is sent without one, or with another, would count again.
    """
    named = hashlib.sha256(orjson.dumps([tenant, source, item_id])).digest()
    return uuid7(int.from_bytes(named[:6]), named[6:16])


def read_items(
    raw: bytes,
    *,
    content_type: str,
    idempotency_key: str | None,
    now_ns: int,
    age_max_ns: int,
) -> Iterator[Item | Fault]:
    """The items of a body, in their order; InvalidRequest when it cannot be told what they are."""
    written = _listed(raw, content_type)
    is_cloud = content_type in (CLOUD_EVENT, CLOUD_BATCH)
    for index, one in enumerate(written):
        fallback_id = None if idempotency_key is None else f"{idempotency_key}#{index}"
        try:
            item = _item(one, is_cloud=is_cloud, fallback_id=fallback_id)
            _check_time(item.occurred_at, now_ns, age_max_ns)
        except ItemError as error:
            yield error.at(index)
        else:
            yield replace(item, index=index)


def _listed(raw: bytes, content_type: str) -> list[Any]:
    if content_type not in ("application/json", CLOUD_EVENT, CLOUD_BATCH):
        raise InvalidRequest(
            f"Send application/json, {CLOUD_EVENT} or {CLOUD_BATCH}.", param="Content-Type"
        )
    if (fault := json_bounds.fault_in(raw)) is not None:
        raise InvalidRequest(fault)
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise InvalidRequest(f"The body is not valid JSON: {error}.") from None
    is_list = isinstance(body, list)
    if content_type == CLOUD_BATCH and not is_list:
        raise InvalidRequest(f"{CLOUD_BATCH} is a list of events.")
    if content_type == CLOUD_EVENT and is_list:
        raise InvalidRequest(f"{CLOUD_EVENT} is one event; a list of them is {CLOUD_BATCH}.")
    written = body if is_list else [body]
    if len(written) > ITEMS_MAX:
        raise InvalidRequest(
            f"{len(written)} events are more than {ITEMS_MAX}: send them in parts."
        )
    return written


def _item(one: Any, *, is_cloud: bool, fallback_id: str | None) -> Item:
    if not isinstance(one, dict):
        raise ItemError("invalid_item", "An event is a JSON object.")
    if is_cloud or "specversion" in one:
        return _from_cloud_event(one)
    return _from_fields(one, source="", item_id=one.get("id", fallback_id))


def _from_cloud_event(one: dict[str, Any]) -> Item:
    """CloudEvents 1.0: what stands beside `data` says which and when; extensions are let be."""
    if one.get("specversion") != "1.0":
        raise ItemError("invalid_item", "`specversion` must be 1.0.", "specversion")
    for name in ("type", "source"):
        _text(one.get(name), name, code="invalid_item")
    kind = str(one.get("datacontenttype", "application/json")).partition(";")[0].strip().lower()
    if "data_base64" in one or not (kind == "application/json" or kind.endswith("+json")):
        raise ItemError("invalid_item", "`data` must be a JSON object.", "data")
    data = one.get("data")
    if not isinstance(data, dict):
        raise ItemError("invalid_item", "`data` must be a JSON object.", "data")
    for name in ("id", "time"):
        if name in data:
            raise ItemError(
                "invalid_item", f"`{name}` stands beside `data`, not in it.", f"data.{name}"
            )
    fields = {"meter": one["type"], **data}
    if "time" in one:
        fields["time"] = one["time"]
    item = _from_fields(fields, source=one["source"], item_id=one.get("id"))
    if one.get("subject") is not None and item.user is None:
        item = replace(item, user=_text(one["subject"], "subject", code="invalid_dimension"))
    return item


def _from_fields(fields: Mapping[str, Any], *, source: str, item_id: Any) -> Item:
    for name in fields:
        if name not in _FIELDS:
            raise ItemError(
                "invalid_item",
                f"`{name[:64]}` is not known; known are {_listing(_FIELDS)}.",
                name[:64],
            )
    if item_id is None:
        raise ItemError(
            "missing_id",
            "`id` is missing: without it, or an Idempotency-Key, a repeat would count again.",
            "id",
        )
    dimensions = _dimensions(fields.get("dimensions"))
    meter, units = _quantities(fields, dimensions)
    dimensions.pop("type", None)
    tenant = fields.get("tenant_id")
    return Item(
        index=0,
        id=_text(item_id, "id", code="invalid_item"),
        source=source,
        meter=meter,
        units=units,
        occurred_at=_time(fields.get("time")),
        tenant=None if tenant is None else _text(tenant, "tenant_id", code="invalid_item"),
        **dimensions,
    )


def _quantities(
    fields: Mapping[str, Any], dimensions: Mapping[str, Any]
) -> tuple[str, dict[str, int]]:
    """The meter and what it read, by unit."""
    if ("value" in fields) == ("units" in fields):
        raise ItemError("invalid_value", "Give `value` or `units`, one of the two.", "value")
    meter = fields.get("meter", CUSTOM_UNIT if "units" in fields else None)
    if not isinstance(meter, str) or not is_id(meter):
        raise ItemError(
            "invalid_meter",
            "`meter` must be 1 to 64 letters, digits, dots, dashes or underscores.",
            "meter",
        )
    if "units" in fields:
        written = fields["units"]
        if not isinstance(written, dict) or not written or not written.keys() <= set(UNITS):
            raise ItemError("invalid_value", f"`units` is an object of {_listing(UNITS)}.", "units")
        units = {unit: _quantity(value, f"units.{unit}") for unit, value in written.items()}
    else:
        units = {_unit_of(meter, dimensions): _quantity(fields["value"], "value")}
    if dimensions.get("model") is None and not units.keys().isdisjoint(TOKEN_CLASSES):
        raise ItemError(
            "invalid_dimension", "Tokens have a price by model: name it.", "dimensions.model"
        )
    return meter, units


def _unit_of(meter: str, dimensions: Mapping[str, Any]) -> str:
    if meter == LLM_TOKENS:
        unit = TOKEN_TYPES.get(dimensions.get("type", ""))
        if unit is None:
            raise ItemError(
                "invalid_dimension",
                f"`type` of {LLM_TOKENS} must be one of {_listing(TOKEN_TYPES)}.",
                "dimensions.type",
            )
        return unit
    meter = ALIASES.get(meter, meter)
    return meter if meter in UNITS else CUSTOM_UNIT


def _quantity(value: Any, param: str) -> int:
    if isinstance(value, str) and _DIGITS.fullmatch(value):
        value = int(value)
    if type(value) is not int or not 0 <= value <= _UNITS_MAX:
        raise ItemError(
            "invalid_value",
            f"`{param}` must be a whole number from 0 to {_UNITS_MAX}; "
            "for parts of a unit choose a smaller one.",
            param,
        )
    return value


def _dimensions(written: Any) -> dict[str, Any]:
    if written is None:
        return {}
    if not isinstance(written, dict):
        raise ItemError("invalid_dimension", "`dimensions` is an object.", "dimensions")
    found: dict[str, Any] = {}
    for name, value in written.items():
        param = f"dimensions.{name[:64]}"
        if name not in DIMENSIONS:
            raise ItemError(
                "invalid_dimension",
                f"`{name[:64]}` is not known; known are {_listing(DIMENSIONS)}.",
                param,
            )
        if name == "step":
            found[name] = _quantity(value, param)
        elif name in _IDS and not (isinstance(value, str) and is_id(value)):
            raise ItemError(
                "invalid_dimension",
                f"`{name}` must be 1 to 64 letters, digits, dots, dashes or underscores.",
                param,
            )
        else:
            found[name] = _text(value, param, code="invalid_dimension")
    return found


def _text(value: Any, param: str, *, code: str) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= TEXT_MAX or not value.isprintable():
        raise ItemError(code, f"`{param}` must be 1 to {TEXT_MAX} printable characters.", param)
    return value


def _time(text: Any) -> int | None:
    """UTC nanoseconds of an RFC 3339 time."""
    if text is None:
        return None
    match = _RFC3339.fullmatch(text) if isinstance(text, str) else None
    try:
        if match is None:
            raise ValueError
        fraction = match[1] or ""
        moment = datetime.fromisoformat(text.upper().replace(fraction, "", 1))
        since = moment - datetime(1970, 1, 1, tzinfo=UTC)
    except (ValueError, OverflowError):
        raise ItemError(
            "invalid_time", "`time` must be RFC 3339, as 2026-01-31T00:00:00Z.", "time"
        ) from None
    return since // timedelta(seconds=1) * 10**9 + int(fraction[1:].ljust(9, "0"))


def _check_time(occurred_at: int | None, now_ns: int, age_max_ns: int) -> None:
    if occurred_at is None:
        return
    if occurred_at > now_ns + FUTURE_MAX_NS:
        raise ItemError(
            "time_in_future", "`time` is more than five minutes from now: check the clock.", "time"
        )
    if occurred_at < now_ns - age_max_ns:
        hours = age_max_ns // (3600 * 10**9)
        raise ItemError(
            "time_too_old",
            f"`time` is more than {hours} hours ago (`metering.event_age_max_hours`).",
            "time",
        )


def _listing(names: Any) -> str:
    return ", ".join(sorted(names))
