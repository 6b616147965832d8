"""A whole answer with more values than are built: what of it is metered."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import orjson
import pytest
from format_samples import CREATED_S, asked, way

from metering.meter import Meter
from metering.tokenizer import tokenizer_for
from metering.usage import INPUT_UNCACHED, OUTPUT_TEXT
from proxy.errors import InvalidRequest
from proxy.json_bounds import VALUES_MAX
from proxy.passage import Passage, Whole, passage
from proxy.wire import Sending, client_format
from routing.fallback import Outcome

USAGE = {"prompt_tokens": 10, "completion_tokens": 7, "total_tokens": 17}
LYING = {"prompt_tokens": -1, "completion_tokens": 2**60}


def metered(after: list[tuple[str, Any]]) -> tuple[int, int, str | None]:
    """Input, output and doubts of a huge answer with these fields after its usage."""
    ends = b"".join(b',"%s":%s' % (name.encode(), orjson.dumps(value)) for name, value in after)
    fill = b"[" + b"1," * VALUES_MAX + b"1]"
    raw = b'{"choices":[],"fill":%s,"usage":%s%s}' % (fill, orjson.dumps(USAGE), ends)
    meter = Meter(tokenizer_for("gpt-4o"), 3, output_max=10**9)

    whole = way().read_reply(raw, asked(), meter, created_s=CREATED_S)

    assert whole is not None
    assert whole.body is raw
    used = meter.final()
    return used.units[INPUT_UNCACHED], used.units[OUTPUT_TEXT], used.suspect


@pytest.mark.parametrize(
    "after",
    [
        [],
        [("metadata", {"usage": "none of yours"})],
        [("metadata", {"usage": {"prompt_tokens": "x"}})],
        [("metadata", {"usage": LYING})],
        [("metadata", {"usage": {}}), ("more", {"usage": "a"}), ("last", {"usage": 1})],
    ],
    ids=["alone", "text", "words", "lies", "three"],
)
def test_a_name_of_the_clients_hides_no_usage(after: list[tuple[str, Any]]) -> None:
    """What it called its own fields comes back after the usage, and is none that can be."""
    assert metered(after)[:2] == (10, 7)


def test_no_more_than_a_few_are_looked_at() -> None:
    """Whoever sends so many is billed by the size, as an answer without usage."""
    hidden = [("metadata", {"usage": "x"})] * 4

    assert metered(hidden)[1] > 1000


def test_what_breaks_a_reader_is_no_answer() -> None:
    """One that breaks whoever reads it is nonsense; what cannot be written was made all the same,
    and is paid for."""
    found = passage("anthropic_messages", ("openai_chat",))
    assert found is not None
    asked = client_format("anthropic_messages").parse_request(
        b'{"model":"m","max_tokens":9,"messages":[{"role":"user","content":"hi"}]}'
    )
    raw = b'{"choices":[{"index":0,"message":{"content":"hi"},"finish_reason":"stop"}]}'
    broken = SimpleNamespace(USAGE_FIELD="usage", ANSWER_FIELD="choices")

    def read(way: Passage) -> Whole | None:
        return way.read_reply(raw, asked, Meter(tokenizer_for("gpt-4o"), 7), created_s=1)

    for way_there, outcome in (
        (found, Outcome.SERVED),
        (replace(found, client=broken), Outcome.UNTRANSLATED),
    ):
        whole = read(way_there)
        assert whole is not None
        assert whole.outcome is outcome
    assert read(replace(found, upstream=broken)) is None


@pytest.mark.parametrize("upstream", ["gemini", "bedrock_converse"])
@pytest.mark.parametrize(
    ("client", "name", "own", "chat"),
    [
        ("openai_responses", "response_format", "text.format", {"response_format": 5}),
        ("openai_completions", "messages", "prompt", {"messages": 5}),
        ("anthropic_messages", "stop", "stop_sequences", {"stop": 5}),
        ("openai_chat", "stop", "stop", {"stop": 5}),
    ],
)
def test_a_refusal_has_the_clients_own_name(
    client: str, name: str, own: str, chat: dict[str, Any], upstream: str
) -> None:
    """What cannot be written is named as the client called it, in the message as in `param`."""
    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}], **chat}
    request = replace(asked(), format=client, as_chat=body)

    with pytest.raises(InvalidRequest) as caught:
        way(client, upstream).body(request, Sending(model="m"))

    assert caught.value.param == own
    assert f"`{own}" in caught.value.message
    assert name == own or f"`{name}`" not in caught.value.message


@pytest.mark.parametrize(
    ("client", "told"),
    [("openai_responses", "input"), ("anthropic_messages", "messages"), ("openai_chat", "stop")],
)
def test_what_an_upstream_refuses_has_the_clients_own_name(client: str, told: str) -> None:
    """An upstream names the field of the request that was made for it."""
    param = "stop" if client == "openai_chat" else "messages"
    error = {"message": "no", "type": "invalid_request_error", "param": param, "code": None}

    body = way(client, "openai_chat").error_body(400, orjson.dumps({"error": error}), "req_1")

    found = orjson.loads(body)["error"]
    assert found.get("param", found.get("details", {}).get("param")) == told
