"""Bytes from outside become items, or faults that name what is wrong with which."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering.ids import uuid7_ms
from proxy.errors import InvalidRequest
from proxy.event_items import (
    CLOUD_BATCH,
    CLOUD_EVENT,
    DIMENSIONS,
    ITEMS_MAX,
    Fault,
    Item,
    exchange_of,
    read_items,
)

NOW_NS = 1_790_000_000 * 10**9  # 2026-09-21T14:13:20Z
HOUR_NS = 3600 * 10**9


def read(
    body: Any, content_type: str = "application/json", key: str | None = None
) -> list[Item | Fault]:
    raw = body if isinstance(body, bytes) else orjson.dumps(body)
    return list(
        read_items(
            raw,
            content_type=content_type,
            idempotency_key=key,
            now_ns=NOW_NS,
            age_max_ns=24 * HOUR_NS,
        )
    )


def one(**fields: Any) -> Item:
    [item] = read({"id": "e-1", "meter": "web_search", "value": 1, **fields})
    assert isinstance(item, Item), item
    return item


def fault(body: Any, content_type: str = "application/json") -> tuple[str, str | None]:
    [found] = read(body, content_type)
    assert isinstance(found, Fault), found
    return found.code, found.param


def test_a_meter_of_ones_own_is_a_custom_unit() -> None:
    """Its name is what its price is found by; every dimension has a place in the event."""
    dimensions = {name: "x" for name in DIMENSIONS if name not in {"type", "step"}}
    item = one(value="12", dimensions={**dimensions, "step": 3})

    assert (item.meter, dict(item.units), item.model_name) == (
        "web_search",
        {"custom": 12},
        "web_search",
    )
    assert (item.feature, item.user, item.region, item.step) == ("x", "x", "x", 3)


@pytest.mark.parametrize(
    ("meter", "dimensions", "unit"),
    [
        ("second", {}, "second"),
        ("api-calls", {}, "api_call"),
        ("llm-tokens", {"model": "m", "type": "input"}, "input_uncached"),
        ("llm-tokens", {"model": "m", "type": "output"}, "output_text"),
        ("output_reasoning", {"model": "m"}, "output_reasoning"),
    ],
)
def test_known_units_are_meters(meter: str, dimensions: dict[str, str], unit: str) -> None:
    """The names of `[{meter, value, dimensions}]` as others write them are understood."""
    assert dict(one(meter=meter, value=7, dimensions=dimensions).units) == {unit: 7}


def test_several_units_are_one_event() -> None:
    """An agent's step may take seconds and calls at once."""
    [item] = read({"id": "s", "meter": "step", "units": {"second": 3, "api_call": 1}})

    assert isinstance(item, Item)
    assert (item.meter, dict(item.units)) == ("step", {"second": 3, "api_call": 1})


BAD: dict[str, tuple[Any, str, str | None]] = {
    "no object": (3, "invalid_item", None),
    "unknown field": ({"id": "a", "meter": "m", "value": 1, "cost": 5}, "invalid_item", "cost"),
    "no id": ({"meter": "m", "value": 1}, "missing_id", "id"),
    "empty id": ({"id": "", "meter": "m", "value": 1}, "invalid_item", "id"),
    "number as id": ({"id": 3, "meter": "m", "value": 1}, "invalid_item", "id"),
    "no meter": ({"id": "a", "value": 1}, "invalid_meter", "meter"),
    "long meter": ({"id": "a", "meter": "m" * 65, "value": 1}, "invalid_meter", "meter"),
    "slash": ({"id": "a", "meter": "a/b", "value": 1}, "invalid_meter", "meter"),
    "no value": ({"id": "a", "meter": "m"}, "invalid_value", "value"),
    "both": ({"id": "a", "meter": "m", "value": 1, "units": {}}, "invalid_value", "value"),
    "float": ({"id": "a", "meter": "m", "value": 1.0}, "invalid_value", "value"),
    "negative": ({"id": "a", "meter": "m", "value": -1}, "invalid_value", "value"),
    "boolean": ({"id": "a", "meter": "m", "value": True}, "invalid_value", "value"),
    "huge": ({"id": "a", "meter": "m", "value": 10**9 + 1}, "invalid_value", "value"),
    "huge text": ({"id": "a", "meter": "m", "value": "9" * 30}, "invalid_value", "value"),
    "arabic digits": ({"id": "a", "meter": "m", "value": "٣"}, "invalid_value", "value"),
    "unknown unit": ({"id": "a", "units": {"kg": 1}}, "invalid_value", "units"),
    "no units": ({"id": "a", "units": {}}, "invalid_value", "units"),
    "unknown dimension": (
        {"id": "a", "meter": "m", "value": 1, "dimensions": {"color": "red"}},
        "invalid_dimension",
        "dimensions.color",
    ),
    "odd run": (
        {"id": "a", "meter": "m", "value": 1, "dimensions": {"run": "a b"}},
        "invalid_dimension",
        "dimensions.run",
    ),
    "tokens of no model": (
        {"id": "a", "meter": "output_text", "value": 1},
        "invalid_dimension",
        "dimensions.model",
    ),
    "tokens of no type": (
        {"id": "a", "meter": "llm-tokens", "value": 1, "dimensions": {"model": "m"}},
        "invalid_dimension",
        "dimensions.type",
    ),
    "no time": ({"id": "a", "meter": "m", "value": 1, "time": "yesterday"}, "invalid_time", "time"),
    "no zone": (
        {"id": "a", "meter": "m", "value": 1, "time": "2026-09-21T14:00:00"},
        "invalid_time",
        "time",
    ),
    "no such day": (
        {"id": "a", "meter": "m", "value": 1, "time": "2026-02-30T14:00:00Z"},
        "invalid_time",
        "time",
    ),
    "future": (
        {"id": "a", "meter": "m", "value": 1, "time": "2026-09-21T14:18:21Z"},
        "time_in_future",
        "time",
    ),
    "past": (
        {"id": "a", "meter": "m", "value": 1, "time": "2026-09-20T14:13:19Z"},
        "time_too_old",
        "time",
    ),
}


@pytest.mark.parametrize("case", BAD, ids=str)
def test_what_is_wrong_has_a_name(case: str) -> None:
    """Every fault has a code and the field it is about."""
    body, code, param = BAD[case]

    assert fault(body) == (code, param)


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        ("2026-09-21T14:13:20Z", NOW_NS),
        ("2026-09-21t14:13:20.000000001z", NOW_NS + 1),
        ("2026-09-21T16:13:19.5+02:00", NOW_NS - 500_000_000),
        ("2026-09-21T14:18:20Z", NOW_NS + 300 * 10**9),
        ("2026-09-20T14:13:20Z", NOW_NS - 24 * HOUR_NS),
    ],
)
def test_times_are_exact(text: str, ns: int) -> None:
    """To the nanosecond, in any zone; the edges of what is taken belong to it."""
    assert one(time=text).occurred_at == ns


def cloud_event(**changes: Any) -> dict[str, Any]:
    return {
        "specversion": "1.0",
        "id": "e-1",
        "source": "/agents/7",
        "type": "web_search",
        "subject": "alice@example.org",
        "time": "2026-09-21T14:00:00Z",
        "traceparent": "an extension",
        "data": {"value": 2, "dimensions": {"run": "r1"}},
        **changes,
    }


def test_a_cloud_event_says_what_ours_says() -> None:
    """Its type is the meter, its subject the user, its id is within its source."""
    [item] = read(cloud_event(), CLOUD_EVENT)

    assert isinstance(item, Item)
    assert (item.id, item.source, item.meter, item.user, item.run) == (
        "e-1",
        "/agents/7",
        "web_search",
        "alice@example.org",
        "r1",
    )
    assert read([cloud_event()], CLOUD_BATCH) == read(cloud_event()) == [item]


def test_an_empty_batch_of_cloud_events_is_one() -> None:
    """CloudEvents allows it, section 3.3.1 of its HTTP binding."""
    assert read([], CLOUD_BATCH) == []


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"specversion": "0.3"}, "specversion"),
        ({"id": None}, "id"),
        ({"source": ""}, "source"),
        ({"type": 3}, "type"),
        ({"data": "text"}, "data"),
        ({"data_base64": "AA=="}, "data"),
        ({"datacontenttype": "text/xml"}, "data"),
        ({"data": {"value": 1, "id": "x"}}, "data.id"),
    ],
)
def test_what_is_no_cloud_event_is_refused(changes: dict[str, Any], param: str) -> None:
    """Required attributes are non-empty strings; `data` is an object."""
    assert fault(cloud_event(**changes), CLOUD_EVENT)[1] == param


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"{", "application/json"),
        (b"[" * 300, "application/json"),
        (b'{"a": 1e999999}', "text/plain"),
        (orjson.dumps([cloud_event()]), CLOUD_EVENT),
        (orjson.dumps(cloud_event()), CLOUD_BATCH),
        (orjson.dumps([{}] * (ITEMS_MAX + 1)), "application/json"),
    ],
)
def test_a_body_that_is_no_events_is_refused_whole(body: bytes, content_type: str) -> None:
    """Where it cannot be told what the items are, none is looked at."""
    with pytest.raises(InvalidRequest):
        read(body, content_type)


def test_an_idempotency_key_names_what_has_no_id() -> None:
    """By the place in the list; an id of its own goes first."""
    items = read([{"meter": "m", "value": 1}, {"id": "x", "meter": "m", "value": 1}], key="batch-7")

    assert [item.id for item in items if isinstance(item, Item)] == ["batch-7#0", "x"]


def test_the_digest_is_of_what_is_said_not_of_how() -> None:
    """The digits of a number and the place in a batch do not make it another event."""
    [first, again] = read(
        [{"id": "a", "meter": "m", "value": 3}, {"value": "3", "meter": "m", "id": "a"}]
    )

    assert isinstance(first, Item)
    assert isinstance(again, Item)
    assert first.digest == again.digest != one().digest


ids = st.text(min_size=1, max_size=20)


@given(st.tuples(ids, ids, ids), st.tuples(ids, ids, ids))
def test_an_exchange_is_named_by_tenant_source_and_id(
    name: tuple[str, str, str], other: tuple[str, str, str]
) -> None:
    """The same always, and never that of another; no two texts run into each other."""
    assert (exchange_of(*name) == exchange_of(*other)) == (name == other)
    assert uuid7_ms(exchange_of(*name)) >= 0


good = st.builds(
    lambda name, value: {"id": name, "meter": "web_search", "value": value},
    st.text("abc", min_size=1, max_size=3),
    st.integers(0, 10**9),
)
bad = st.sampled_from([body for body, _, _ in BAD.values()])


@given(st.lists(st.one_of(good.map(lambda it: (it, True)), bad.map(lambda it: (it, False)))))
def test_what_one_item_has_wrong_is_its_own_business(batch: list[tuple[Any, bool]]) -> None:
    """The sound ones of any batch come through, each at its index, and only they."""
    found = read([item for item, _ in batch])

    assert [each.index for each in found] == list(range(len(batch)))
    assert [isinstance(each, Item) for each in found] == [is_good for _, is_good in batch]


def test_an_item_without_a_tier_has_the_digest_it_always_had() -> None:
    """A repeat of what was sent before there were tiers is still a repeat."""
    units = {"b": 1, "a": 2}
    item = Item(index=3, id="e-1", source="", meter="m", units=units, model="x", region="eu")

    assert item.digest == "6ffc8b477bd0aa21c6d50542359ea0b5"
    assert replace(item, service_tier="flex").digest != item.digest
