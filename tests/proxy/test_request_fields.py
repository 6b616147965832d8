"""The fields that OpenAI's bodies share."""

from __future__ import annotations

from typing import Any

import pytest

from proxy import request_fields
from proxy.errors import InvalidRequest


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"{", "not valid JSON"),
        (b"[]", "must be a JSON object"),
        (b'"a"', "must be a JSON object"),
        (b'{"a":' * 300 + b"1" + b"}" * 300, "nested too deeply"),
        (b'{"a":[' + b"1," * 200_000 + b"1]}", "more than 200000 JSON values"),
    ],
    ids=["cut", "list", "text", "deep", "full"],
)
def test_what_is_no_object_is_refused(raw: bytes, reason: str) -> None:
    """The body is refused as a whole, in words for its author."""
    with pytest.raises(InvalidRequest, match=reason):
        request_fields.load_object(raw)


def test_a_format_may_take_more_values() -> None:
    """The bound on values is the format's own, where it has one."""
    raw = b'{"a":[' + b"1," * 200_000 + b"1]}"

    assert len(request_fields.load_object(raw, values_max=500_000)["a"]) == 200_001


def test_null_is_not_there() -> None:
    """Every field that may be left out may be null."""
    body = {"flag": None, "stream_options": None, "user": None, "n": None}

    assert request_fields.flag(body, "flag") is False
    assert request_fields.wants_usage(body) is False
    assert request_fields.user(body) is None
    assert request_fields.whole(body, "n", least=1, most=2) is None


def test_values_are_read() -> None:
    """What is right is what comes out; a user is cut to what an event takes."""
    assert request_fields.model({"model": "m"}) == "m"
    assert request_fields.flag({"stream": True}, "stream") is True
    assert request_fields.wants_usage({"stream_options": {"include_usage": True}}) is True
    assert request_fields.user({"user": "u" * 999}) == "u" * 256
    assert request_fields.whole({"n": 2}, "n", least=1, most=2) == 2


@pytest.mark.parametrize(
    ("field", "body"),
    [
        ("model", {}),
        ("model", {"model": ""}),
        ("flag", {"flag": 1}),
        ("stream_options", {"stream_options": []}),
        ("user", {"user": 1}),
        ("n", {"n": 3}),
        ("n", {"n": 0}),
        ("n", {"n": True}),
        ("n", {"n": 1.0}),
    ],
    ids=str,
)
def test_what_is_wrong_is_named(field: str, body: dict[str, Any]) -> None:
    """`param` is the field."""
    readers = {
        "model": request_fields.model,
        "flag": lambda each: request_fields.flag(each, "flag"),
        "stream_options": request_fields.wants_usage,
        "user": request_fields.user,
        "n": lambda each: request_fields.whole(each, "n", least=1, most=2),
    }

    with pytest.raises(InvalidRequest) as caught:
        readers[field](body)

    assert caught.value.param == field
