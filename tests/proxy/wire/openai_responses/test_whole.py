"""Whole responses as completions: metered as the stream of the same answer is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering.meter import Meter
from metering.tokenizer import tokenizer_for
from proxy.passage import Passage
from proxy.wire import client_format, upstream_format
from proxy.wire.openai_responses.client import parse_request
from proxy.wire.openai_responses.whole import read_whole

GOLDEN = Path(__file__).parents[1] / "golden" / "openai_responses"
NAMES = sorted(
    path.stem
    for path in GOLDEN.glob("*.sse")
    if not path.stem.startswith(("write_", "error_", "failed"))
)
REQUEST = parse_request(b'{"model": "m", "input": "hi"}')
SAME = Passage(
    client_format("openai_responses"),
    upstream_format("openai_responses"),
    "openai_responses",
    is_same=True,
)


def answer(name: str) -> bytes:
    stream = (GOLDEN / f"{name}.sse").read_bytes()
    return orjson.dumps(orjson.loads(stream.rstrip().rsplit(b"data: ", 1)[1])["response"])


def meter() -> Meter:
    return Meter(tokenizer_for("gpt-4o"), 7)


@pytest.mark.parametrize("name", NAMES)
def test_a_whole_answer_is_metered(name: str) -> None:
    """Units and ending are those of its stream, and its bytes pass untouched."""
    expected = orjson.loads((GOLDEN / f"{name}.expected.json").read_bytes())
    raw, metered = answer(name), meter()

    found = SAME.read_reply(raw, REQUEST, metered, created_s=1)

    assert found is not None
    assert found.body == raw
    assert found.reply.finish_reason == expected["finish_reason"]
    assert found.reply.is_finished
    if "units" in expected:
        assert metered.final().units == expected["units"]
    else:
        assert metered.final().units == {"input_uncached": 7, "output_text": 2}


def test_calls_and_thinking_are_put_together() -> None:
    """What is metered is each text once."""
    found = read_whole(orjson.loads(answer("tools")), REQUEST, created_s=1)
    thought = read_whole(orjson.loads(answer("reasoning")), REQUEST, created_s=1)

    assert found is not None
    assert thought is not None
    calls = found["choices"][0]["message"]["tool_calls"]
    assert [call["function"] for call in calls] == [
        {"name": "get_weather", "arguments": '{"city":"Paris"}'},
        {"name": "get_weather", "arguments": '{"city":"Oslo"}'},
    ]
    message = thought["choices"][0]["message"]
    assert message["reasoning_content"] == "**Adding** I add two numbers."


def test_a_failed_answer_is_a_failure() -> None:
    """It is served as 200, and is none."""
    raw = orjson.dumps(
        {**orjson.loads(answer("plain")), "status": "failed", "error": {"code": "x"}}
    )

    found = SAME.read_reply(raw, REQUEST, meter(), created_s=1)

    assert found is not None
    assert not found.reply.is_finished


def test_what_is_no_response_is_none() -> None:
    """A list of models is no answer."""
    assert read_whole({"object": "list", "data": []}, REQUEST, created_s=1) is None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["type", "content", "text", "name", "arguments"]), inner)
    ),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(["status", "error", "model", "usage", "id"]), JSON), JSON)
def test_nothing_raises(fields: dict[str, Any], item: Any) -> None:
    """Whatever an upstream answers is read."""
    found = read_whole({**fields, "output": [item]}, REQUEST, created_s=1)

    assert found is not None
