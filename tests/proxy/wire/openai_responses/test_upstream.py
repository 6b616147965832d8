"""Responses relayed to an upstream that speaks them: what is changed in a body, and its errors."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import orjson
import pytest

from proxy.passage import passage
from proxy.wire import Sending, upstream_format
from proxy.wire.openai_responses import upstream
from proxy.wire.openai_responses.client import parse_request
from routing.fallback import Outcome


def body(sending: Sending, **fields: Any) -> dict[str, Any]:
    request = parse_request(orjson.dumps({"model": "m", "input": "hi", **fields}))
    before = deepcopy(request.body)
    found = upstream.same_format(request, sending)

    assert request.body == before
    return found


def test_only_the_model_is_changed() -> None:
    """Everything else travels as it came, streams included."""
    fields = {"stream": True, "store": False, "previous_response_id": "resp_1", "future": [1]}

    assert body(Sending("real"), **fields) == {"model": "real", "input": "hi", **fields}


@pytest.mark.parametrize(("asked", "expected"), [(None, 50), (20, 20), (90, 50)])
def test_the_output_is_clamped(asked: int | None, expected: int) -> None:
    """What is not held is not asked for."""
    found = body(Sending("m", output_max=50, limit_field="max_tokens"), max_output_tokens=asked)

    assert found["max_output_tokens"] == expected
    assert "max_tokens" not in found


@pytest.mark.parametrize(
    ("asked", "expected"), [(None, "Short."), ("", "Short."), ("Be kind.", "Be kind.\n\nShort.")]
)
def test_an_instruction_follows_those_of_the_client(asked: str | None, expected: str) -> None:
    """A degradation stage may tell the model something."""
    assert body(Sending("m", instruct="Short."), instructions=asked)["instructions"] == expected


def test_it_is_never_translated_into() -> None:
    """Chat clients are not served by an upstream that speaks nothing else."""
    assert passage("openai_chat", ("openai_responses",)) is None


def test_a_client_is_relayed_where_it_can_be() -> None:
    """Among the formats of an upstream its own is taken first."""
    found = passage("openai_responses", ("openai_chat", "openai_responses"))

    assert found is not None
    assert found.is_same


def test_errors_are_read_as_openais() -> None:
    """Quota, rate and refusal are told apart."""
    spoken = upstream_format("openai_responses")
    raw = b'{"error": {"message": "m", "type": "t", "code": "insufficient_quota", "param": "p"}}'

    assert spoken.classify_error(429, raw) is Outcome.QUOTA
    assert spoken.classify_error(429, b"") is Outcome.RATE_LIMITED
    assert spoken.read_error(429, raw).param == "p"


def test_what_chat_cannot_say_is_not_sent() -> None:
    """The names of what has no place in chat are for us: a strict server would refuse them."""
    raw = b'{"model": "m", "input": "hi", "previous_response_id": "resp_1"}'
    request = parse_request(raw)
    found = passage("openai_responses", ("openai_chat",))

    assert request.chat["x_unsupported"] == ["previous_response_id"]
    assert found is not None
    assert orjson.loads(found.body(request, Sending("real"))) == {
        "model": "real",
        "messages": [{"role": "user", "content": "hi"}],
    }
