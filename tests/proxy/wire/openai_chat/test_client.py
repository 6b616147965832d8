"""OpenAI chat requests: checked, bounded, and sent as the object that was priced."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from format_samples import way

from proxy.errors import InvalidRequest
from proxy.wire import Sending
from proxy.wire.openai_chat.client import parse_request

MESSAGES = [{"role": "user", "content": "hi"}]


def request(**fields: Any) -> bytes:
    return orjson.dumps({"model": "m", "messages": MESSAGES, **fields})


REFUSED = {
    "not_json": (b"{", None),
    "not_utf8": (b'{"model": "\xff"}', None),
    "list": (b"[]", None),
    "no_model": (b'{"messages": []}', "model"),
    "empty_model": (request(model=""), "model"),
    "model_list": (request(model=["m"]), "model"),
    "no_messages": (b'{"model": "m"}', "messages"),
    "stream_string": (request(stream="yes"), "stream"),
    "options_list": (request(stream_options=[]), "stream_options"),
    "zero_max": (request(max_tokens=0), "max_tokens"),
    "negative_max": (request(max_tokens=-1), "max_tokens"),
    "float_max": (request(max_tokens=1.5), "max_tokens"),
    "string_max": (request(max_tokens="10"), "max_tokens"),
    "bool_max": (request(max_completion_tokens=True), "max_completion_tokens"),
    "huge_max": (request(max_tokens=10**10), "max_tokens"),
    "zero_n": (request(n=0), "n"),
    "many_n": (request(n=129), "n"),
    "wrong_best_of": (request(best_of=0), "best_of"),
    "user_number": (request(user=5), "user"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_wrong_request_is_refused_by_name(name: str) -> None:
    """T-54: what cannot be priced is refused, and `param` names the field."""
    raw, param = REFUSED[name]

    with pytest.raises(InvalidRequest) as caught:
        parse_request(raw)

    assert caught.value.param == param


def test_the_larger_of_two_limits_bounds_the_output() -> None:
    """T-54: `max_tokens: 1` beside a larger `max_completion_tokens` does not shrink the hold."""
    parsed = parse_request(request(max_tokens=1, max_completion_tokens=10_000, n=2, best_of=3))

    assert parsed.output_bound(default_output_tokens=4096) == 30_000


def test_no_limit_means_the_default() -> None:
    """Without a limit, and with an explicit null, the configured default is held."""
    parsed = parse_request(request(max_tokens=None))

    assert parsed.output_bound(default_output_tokens=4096) == 4096


def test_the_last_duplicate_is_what_is_priced_and_sent() -> None:
    """T-46: a second `model` key cannot smuggle a dearer model past the price."""
    raw = b'{"model": "cheap", "model": "dear", "messages": [], "x": {"y": [1, 2.5, null]}}'

    parsed = parse_request(raw)
    sent = orjson.loads(way().body(parsed, Sending("up")))

    assert parsed.model == "dear"
    assert sent == {"model": "up", "messages": [], "x": {"y": [1, 2.5, None]}}


@pytest.mark.parametrize("asked", [None, {}, {"include_usage": False}, {"other": 1}])
def test_usage_is_asked_for_whatever_the_client_said(asked: object) -> None:
    """A client's `include_usage: false` does not evade metering; its other options survive."""
    parsed = parse_request(request(stream=True, stream_options=asked))

    sent = orjson.loads(way().body(parsed, Sending("m")))

    assert sent["stream_options"] == {**(asked or {}), "include_usage": True}
    assert parsed.wants_usage is False


def test_a_bottomless_body_is_refused() -> None:
    """T-46: JSON can be read deeper than it can be written; that is a 400, not a failure."""
    raw = b'{"model": "m", "messages": [], "x": ' + b"[" * 300 + b"]" * 300 + b"}"

    with pytest.raises(InvalidRequest):
        way().body(parse_request(raw), Sending("m", inject_usage=False))
