"""The body of `POST /v1/meter`: what is read from it, and what is wrong with it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import orjson
import pytest
from fixtures_door import tenant

from metering.tenants import ApiKey, Principal
from proxy.errors import InvalidRequest, TenantNotAllowed
from proxy.meter_request import asked_for, parse_meter

MESSAGES = [{"role": "user", "content": "hi"}]


def parsed(**fields: Any):
    return parse_meter(orjson.dumps({"model": "m", **fields}))


def test_a_length_stands_for_messages() -> None:
    """The prompt's length is taken as told; output limits and choices are read as ever."""
    found = parsed(input_tokens=1200, max_tokens=50, n=2, stream=True)

    assert found.input_tokens == 1200
    assert (found.chat.output_limit, found.chat.choices, found.chat.stream) == (50, 2, True)
    assert found.chat.body["messages"] == []


def test_our_own_fields_are_no_part_of_the_request() -> None:
    """Labels and target become headers, and the body is the request that would be sent."""
    found = parsed(
        messages=MESSAGES,
        tenant_id="acme",
        feature="search",
        session="s1",
        run="r1",
        user="ann",
        target_latency_ms=200,
    )

    assert found.tenant_id == "acme"
    assert found.labels == {
        "x-weir-feature": "search",
        "x-weir-session": "s1",
        "x-weir-run": "r1",
        "x-weir-target-latency-ms": "200",
    }
    assert found.chat.user == "ann"
    assert sorted(found.chat.body) == ["messages", "model", "user"]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({}, "messages"),
        ({"messages": MESSAGES, "input_tokens": 3}, "input_tokens"),
        ({"input_tokens": -1}, "input_tokens"),
        ({"input_tokens": True}, "input_tokens"),
        ({"input_tokens": 1.5}, "input_tokens"),
        ({"input_tokens": 10**9 + 1}, "input_tokens"),
        ({"input_tokens": 1, "target_latency_ms": 0}, "target_latency_ms"),
        ({"input_tokens": 1, "tenant_id": 7}, "tenant_id"),
        ({"input_tokens": 1, "feature": ""}, "feature"),
        ({"input_tokens": 1, "max_tokens": 0}, "max_tokens"),
        ({"input_tokens": 1, "model": ""}, "model"),
    ],
)
def test_what_is_wrong_is_named(fields: dict[str, Any], param: str) -> None:
    """A field that cannot be is refused by its name."""
    with pytest.raises(InvalidRequest) as caught:
        parsed(**fields)

    assert caught.value.param == param


@pytest.mark.parametrize("raw", [b"", b"[]", b"{", b"null", b"[" * 300])
def test_what_is_no_object_is_refused(raw: bytes) -> None:
    """Anything but a JSON object, however deep."""
    with pytest.raises(InvalidRequest):
        parse_meter(raw)


def test_who_may_ask_for_whom() -> None:
    """The key's tenant by its name or without one; another one if the key says so; and a tenant
    that does not exist is refused with the same words."""
    own, other = tenant(), replace(tenant(), id="other")
    key = ApiKey("k9", "", "p", act_for=frozenset({"other", "gone"}))
    principal, tenants = Principal(own, key), {"acme": own, "other": other, "third": own}

    assert asked_for(principal, None, tenants) is principal
    assert asked_for(principal, "acme", tenants) is principal
    acting = asked_for(principal, "other", tenants)
    assert (acting.tenant, acting.key.id, acting.key.project) == (other, "k9", "default")
    messages = []
    for name in ("third", "gone"):
        with pytest.raises(TenantNotAllowed) as caught:
            asked_for(principal, name, tenants)
        messages.append(caught.value.message.replace(name, ""))
    assert messages[0] == messages[1]
