"""Whole messages as chat completions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering.meter import Meter
from metering.tokenizer import tokenizer_for
from metering.usage import input_total, output_total
from proxy.chat import ChatRequest
from proxy.passage import Passage
from proxy.wire import client_format, upstream_format
from proxy.wire.anthropic_messages.answers import arguments_of, read_whole

GOLDEN = Path(__file__).parents[1] / "golden" / "anthropic_messages" / "upstream"
CHAT = client_format("openai_chat")
WAY = Passage(CHAT, upstream_format("anthropic_messages"), "anthropic_messages", is_same=False)
ASKED = CHAT.parse_request(b'{"model": "m", "messages": [{"role": "user", "content": "hi"}]}')
NATIVE = ChatRequest("m", {}, False, False, 9, 1, 1, None, "anthropic_messages", ASKED.body)
CREATED_S = 1_700_000_000


def meter() -> Meter:
    return Meter(tokenizer_for("claude-haiku-4-5"), 7)


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("answer_*.json")), ids=lambda path: path.stem)
def test_golden_answers(path: Path) -> None:
    """A message becomes exactly this completion, billed as the API told."""
    golden = orjson.loads(path.read_bytes())
    raw = orjson.dumps(golden["answer"])

    read = WAY.read_reply(raw, ASKED, used := meter(), created_s=CREATED_S)

    assert read is not None
    told = orjson.loads(read[1])
    usage = told.pop("usage")
    assert told == golden["completion"]
    assert used.final().units == golden["units"]
    assert used.final().source == "provider"
    assert used.final().suspect is None
    assert usage["prompt_tokens"] == input_total(golden["units"])
    assert usage["completion_tokens"] == output_total(golden["units"])


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"type": "error", "error": {"type": "overloaded_error", "message": "No."}},
        {"type": "completion", "content": []},
        {"type": "message", "content": "hi"},
    ],
)
def test_nonsense_is_no_answer(answer: dict[str, Any]) -> None:
    """What is no message is not passed off as one."""
    assert read_whole(answer, ASKED, created_s=CREATED_S) is None


def test_tools_of_the_provider_are_metered_and_not_passed_on() -> None:
    """A client of another format could not answer such a call; its words are output as any."""
    call = {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {"query": "x"}}
    answer = {"content": [call, {"type": "text", "text": "a"}], "stop_reason": "end_turn"}

    translated = read_whole(answer, ASKED, created_s=CREATED_S)
    relayed = read_whole(answer, NATIVE, created_s=CREATED_S)

    assert translated is not None
    assert relayed is not None
    assert "tool_calls" not in translated["choices"][0]["message"]
    assert relayed["choices"][0]["message"]["tool_calls"][0]["function"]["name"] == "web_search"


def test_arguments_that_cannot_be_written() -> None:
    """Half a surrogate pair, as a liberal reader lets it through, is escaped; nothing is lost."""
    assert arguments_of({"a": "\ud83d"}) == '{"a": "\\ud83d"}'
    deep = orjson.loads('{"a":' * 300 + "1" + "}" * 300)
    assert json.loads(arguments_of({"a": deep, "b": 2**70})) == {"a": deep, "b": 2**70}


def test_a_thought_is_kept_without_what_is_foreign_to_it() -> None:
    """Other fields of a block that goes back as it was may be too deep to be written."""
    deep = orjson.loads("[" * 300 + "]" * 300)
    blocks = [
        {"type": "redacted_thinking", "data": "t", "x": deep},
        {"type": "thinking", "thinking": "so", "signature": "s", "x": deep},
    ]
    found = read_whole({"content": blocks}, ASKED, created_s=CREATED_S)

    assert found is not None
    assert found["choices"][0]["message"]["thinking_blocks"] == [
        {"type": "redacted_thinking", "data": "t"},
        {"type": "thinking", "thinking": "so", "signature": "s"},
    ]
    assert arguments_of(None) == "{}"


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False)
    | st.sampled_from(["message", "text", "thinking", "tool_use", "redacted_thinking", "x"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["type", "text", "thinking", "signature", "data", "id", "name", "input", "usage"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=15,
)
FIELDS = ["type", "id", "model", "content", "stop_reason", "stop_sequence", "usage"]


@given(st.dictionaries(st.sampled_from(FIELDS), json_values))
def test_hostile_answers_break_nothing(answer: dict[str, Any]) -> None:
    """Any JSON at all is read, metered and written, or is no answer."""
    read = WAY.read_reply(orjson.dumps(answer), ASKED, meter(), created_s=CREATED_S)

    assert read is None or orjson.loads(read[1])["object"] == "chat.completion"
