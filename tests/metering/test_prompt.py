"""Prompt estimates: equal to the API where it was asked, unshakable where a client is hostile."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metering.media import UNSEEN_TOKENS
from metering.prompt import count_prompt
from metering.tokenizer import tokenizer_for

VECTORS: dict[str, Any] = json.loads(
    (Path(__file__).parent / "data/token_vectors.json").read_text()
)
MODELS = {"cl100k_base": "gpt-3.5-turbo", "o200k_base": "gpt-4o"}
GPT_4O = tokenizer_for("gpt-4o")
HELLO = {"role": "user", "content": "hello"}


def count(body: Any) -> int:
    return count_prompt(GPT_4O, {"model": "gpt-4o", "messages": [HELLO], **body})


def saying(*parts: Any) -> int:
    """What a message of these parts costs more than an empty one."""
    empty = count({"messages": [{"role": "user", "content": []}]})
    return count({"messages": [{"role": "user", "content": list(parts)}]}) - empty


@pytest.mark.parametrize("case", VECTORS["prompts"], ids=lambda case: str(case["api_count"]))
def test_prompts_count_as_the_api_counted_them(case: dict[str, Any]) -> None:
    """Every recorded request gives the prompt_tokens that the API answered."""
    counts = {
        name: count_prompt(tokenizer_for(MODELS[name]), case["body"]) for name in case["api_count"]
    }

    assert counts == case["api_count"]


def test_the_parts_of_a_message_are_its_text() -> None:
    """Content in parts costs what it costs in one string."""
    assert saying({"type": "text", "text": "hello world"}) == 2
    assert (
        saying({"type": "text", "text": "hello world"}, {"type": "refusal", "refusal": "No"}) == 3
    )
    assert saying("hello world") == 2


def test_images_cost_by_size_and_files_a_constant() -> None:
    """A size in the data is used; an image that is only an address is taken for 1024 x 1024."""
    header = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + (512).to_bytes(4) * 2
    small = "data:image/png;base64," + base64.b64encode(header).decode()
    far = "https://example.com/a.png"

    assert saying({"type": "image_url", "image_url": {"url": small}}) == 255
    assert saying({"type": "input_image", "image_url": small}) == 255
    assert saying({"type": "image_url", "image_url": {"url": far}}) == 765
    assert saying({"type": "image_url", "image_url": {"url": far, "detail": "low"}}) == 85
    assert saying({"type": "file", "file": {"file_id": "x"}}) == UNSEEN_TOKENS
    assert saying({"type": "input_audio", "input_audio": {"data": "A" * 64_000}}) == 30


PDF = b"%PDF-1.7\n" + b"<< /Type /Page /Parent 1 0 R >>\n" * 3 + b"<< /Type /Pages /Count 3 >>"


def as_url(kind: str, raw: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(raw).decode()}"


@pytest.mark.parametrize(
    ("part", "tokens"),
    [
        ({"type": "file", "file": {"file_data": as_url("application/pdf", PDF)}}, 3 * 1765),
        ({"type": "input_file", "file_data": as_url("application/pdf", PDF)}, 3 * 1765),
        (
            {
                "type": "document",
                "source": {
                    "type": "base64",
                    "media_type": "application/pdf",
                    "data": base64.b64encode(PDF).decode(),
                },
            },
            3 * 1765,
        ),
        ({"type": "document", "source": {"type": "url", "url": "https://x.test/a.pdf"}}, 10_000),
        ({"type": "document", "source": {"type": "text", "data": "hello world"}}, 2),
        (
            {
                "type": "document",
                "source": {"type": "content", "content": [{"type": "text", "text": "hello world"}]},
            },
            2,
        ),
        ({"type": "file", "file": {"file_data": as_url("text/plain", b"hello world")}}, 2),
        ({"type": "file", "file": {"file_data": as_url("application/zip", b"PK12")}}, 4),
        ({"type": "video_url", "video_url": {"url": "https://x.test/a.mp4"}}, 10_000),
        ({"type": "video_url", "video_url": {"url": as_url("video/mp4", bytes(250_000))}}, 600),
        ({"type": "audio_url", "audio_url": {"url": "https://x.test/a.mp3"}}, 10_000),
        ({"type": "audio_url", "audio_url": {"url": as_url("audio/mpeg", bytes(16_000))}}, 10),
        ({"type": "input_audio", "input_audio": {"data": "?"}}, 0),
    ],
    ids=lambda value: str(value)[:60],
)
def test_documents_sound_and_film_cost_by_what_they_are(part: Any, tokens: int) -> None:
    """Pages and seconds where the request holds them, text as text, a constant for what is far."""
    assert saying(part) == tokens


def test_an_image_rule_can_be_given() -> None:
    """What images cost is configuration; the factor for text does not touch it."""
    part = {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}
    body = {"messages": [{"role": "user", "content": [part]}]}
    tokenizer = tokenizer_for("claude-opus-4-7")

    with_image = count_prompt(tokenizer, body, lambda *_: 1000)

    assert with_image - count_prompt(tokenizer, body, lambda *_: 0) == 1000


def test_a_response_schema_and_a_choice_add_to_the_prompt() -> None:
    """Schemas, forced tools and tool calls in the history are read by the model too."""
    schema = {"name": "s", "schema": {"type": "object"}}
    call = {"id": "call_1", "function": {"name": "f", "arguments": '{"x":1}'}}
    plain = count({})

    assert count({"response_format": {"type": "json_schema", "json_schema": schema}}) > plain + 8
    assert count({"response_format": {"type": "text"}}) == plain
    assert count({"tool_choice": "none"}) == plain + 1
    assert count({"tool_choice": {"type": "function", "function": {"name": "f"}}}) == plain + 5
    assert count({"messages": [{**HELLO, "tool_calls": [call]}]}) == plain + 9


def test_a_factor_applies_to_the_whole_text_once() -> None:
    """Rounding up happens once, not per message."""
    body = {"messages": [HELLO] * 10}

    assert count_prompt(tokenizer_for("claude-3-haiku"), body) == -(
        -count_prompt(GPT_4O, body) * 110 // 100
    )


_NAMES = (
    "role content name type text image_url url detail tool_calls function arguments parameters "
    "properties required enum items source data input_audio format description file file_data "
    "video_url media_type content"
)
_keys = st.sampled_from(_NAMES.split()) | st.text(max_size=2)
_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_keys, inner, max_size=5),
    max_leaves=25,
)
_kinds = st.sampled_from(
    [
        *("text", "image_url", "input_audio", "file", "object", "array", "string", "video_url"),
        *("document", "data:application/pdf;base64,JVBERi0=", "data:audio/wav;base64,UklGRg=="),
    ]
)
_fields = st.dictionaries(_keys, _json | _kinds, max_size=6)


@settings(max_examples=300, deadline=None)
@given(
    st.fixed_dictionaries(
        {},
        optional={
            "model": _json,
            "messages": st.lists(_fields | _json, max_size=4) | _json,
            "tools": st.lists(_fields | _json, max_size=3) | _json,
            "functions": st.lists(_fields | _json, max_size=3) | _json,
            "tool_choice": _fields | _json,
            "function_call": _json,
            "response_format": st.fixed_dictionaries(
                {"type": st.just("json_schema"), "json_schema": _json}
            )
            | _json,
        },
    )
)
def test_any_json_is_counted(body: dict[str, Any]) -> None:
    """No shape of body raises, and none costs less than its answer's opening."""
    assert count_prompt(GPT_4O, body) >= 1


@pytest.mark.parametrize(
    "body",
    [
        {"messages": [{"role": "user", "content": " " * 1_000_000 + "x"}]},
        {"messages": [{"role": "user", "content": "a" * 1_000_000}]},
        {"messages": [HELLO] * 25_000},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}] * 30_000}]},
        {"tools": [{"function": {"name": "f", "parameters": {"properties": {"x": {}}}}}] * 10_000},
        {
            "tools": [
                {
                    "function": {
                        "parameters": {
                            "properties": {f"p{i}": {} for i in range(40_000)},
                            "required": [f"p{i}" for i in range(40_000)],
                        }
                    }
                }
            ]
        },
    ],
    ids=["blanks", "one word", "messages", "parts", "tools", "properties"],
)
def test_a_megabyte_of_anything_is_counted(body: dict[str, Any]) -> None:
    """Time grows with length alone: what would stall or crash one call of tiktoken does not."""
    assert count(body) > 7000


def test_depth_is_no_weapon() -> None:
    """Nesting beyond the recursion limit is counted by its strings."""
    deep: Any = "treasure"
    for _ in range(50_000):
        deep = [deep]
    body = {
        "messages": [{"role": "user", "content": [{"type": "odd", "odd": deep}]}],
        "response_format": {"type": "json_schema", "json_schema": deep},
        "tools": [{"function": {"name": "f", "parameters": {"properties": {"p": deep}}}}],
    }

    assert count(body) > count({})
