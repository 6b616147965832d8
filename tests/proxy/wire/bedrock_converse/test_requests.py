"""Chat requests as Converse bodies: golden files, held to AWS' own description of the API."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import orjson
import pytest
from botocore.model import ServiceModel
from botocore.session import Session
from botocore.validate import ParamValidator
from hypothesis import given
from hypothesis import strategies as st

from proxy.chat import UNSUPPORTED, ChatRequest
from proxy.errors import InvalidRequest
from proxy.wire import Sending
from proxy.wire.bedrock_converse.requests import cannot_carry, from_chat

GOLDEN = sorted(
    (Path(__file__).parents[1] / "golden" / "bedrock_converse" / "requests").glob("*.json")
)
CLAUDE = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"
HI = [{"role": "user", "content": "Hi"}]


@cache
def service() -> ServiceModel:
    return Session().get_service_model("bedrock-runtime")


def faults(operation: str, body: dict[str, Any], model: str) -> str:
    """What AWS' description of an operation has against a body."""
    shape = service().operation_model(operation).input_shape
    known = _unknown(body, shape, "")
    return ParamValidator().validate({**body, "modelId": model}, shape).generate_report() + known


def _unknown(value: Any, shape: Any, path: str) -> str:
    """botocore passes over names that it does not know; a request must have none."""
    if shape.type_name == "structure" and not getattr(shape, "is_document_type", False):
        return "".join(
            _unknown(each, shape.members[name], f"{path}.{name}")
            if name in shape.members
            else f"{path}.{name} is unknown. "
            for name, each in value.items()
        )
    if shape.type_name == "list":
        return "".join(_unknown(each, shape.member, path) for each in value)
    if getattr(shape, "enum", None) and value not in shape.enum:
        return f"{path} cannot be {value!r}. "
    return ""


def request(chat: dict[str, Any]) -> ChatRequest:
    limits = [chat.get(name) for name in ("max_tokens", "max_completion_tokens")]
    return ChatRequest(
        model="m",
        body=chat,
        stream=chat.get("stream") is True,
        wants_usage=False,
        output_limit=max((each for each in limits if type(each) is int), default=None),
        choices=1,
        candidates=1,
        user=None,
    )


def written(chat: dict[str, Any], model: str = CLAUDE, **sending: Any) -> dict[str, Any]:
    return from_chat(request(chat), Sending(model=model, **sending))


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_a_request_is_written_as_converse_has_it(path: Path) -> None:
    """Each golden request becomes its body, which both operations take, and nothing is lacking."""
    case = orjson.loads(path.read_bytes())

    body = written(case["chat"], case["model"], output_max=case.get("output_max"))

    assert body == case["converse"]
    assert cannot_carry(case["chat"]) == ()
    assert faults("Converse", body, case["model"]) == ""
    assert faults("ConverseStream", body, case["model"]) == ""


def test_the_description_of_the_api_catches_what_is_wrong() -> None:
    """The check above is one: it names a field that Converse does not have."""
    assert "unknown" in faults("Converse", {"messages": [], "model": "m"}, "m.m")
    assert "tools" in faults("Converse", {"toolConfig": {"toolChoice": {"auto": {}}}}, "m.m")


def part(**fields: Any) -> list[dict[str, Any]]:
    return [{"role": "user", "content": [{"type": "text", "text": "x"}, fields]}]


URL = "https://example.test/cat.png"
LACKING: dict[str, tuple[dict[str, Any], str]] = {
    "n": ({"n": 2}, "n"),
    "best_of": ({"best_of": 3}, "best_of"),
    "logprobs": ({"logprobs": True}, "logprobs"),
    "top_logprobs": ({"top_logprobs": 3}, "top_logprobs"),
    "logit_bias": ({"logit_bias": {"50256": -100}}, "logit_bias"),
    "seed": ({"seed": 1}, "seed"),
    "frequency": ({"frequency_penalty": 0.5}, "frequency_penalty"),
    "presence": ({"presence_penalty": -1}, "presence_penalty"),
    "audio_out": ({"modalities": ["text", "audio"]}, "modalities"),
    "prediction": ({"prediction": {"type": "content", "content": "x"}}, "prediction"),
    "web": ({"web_search_options": {}}, "web_search_options"),
    "functions": ({"functions": [{"name": "f"}]}, "functions"),
    "hot": ({"temperature": 1.5}, "temperature"),
    "json_mode": ({"response_format": {"type": "json_object"}}, "response_format"),
    "one_call": (
        {"tools": [{"type": "function", "function": {"name": "f"}}], "parallel_tool_calls": False},
        "parallel_tool_calls",
    ),
    "custom_tool": ({"tools": [{"type": "custom", "custom": {"name": "f"}}]}, "tools[0]"),
    "allowed_tools": (
        {"tool_choice": {"type": "allowed_tools", "allowed_tools": {}}},
        "tool_choice",
    ),
    "unheard_of": ({"min_p": 0.1}, "min_p"),
    "image_url": (
        {"messages": part(type="image_url", image_url={"url": URL})},
        "messages[0].content[1].image_url",
    ),
    "s3": (
        {"messages": part(type="image_url", image_url={"url": "s3://ours/secret.png"})},
        "messages[0].content[1].image_url",
    ),
    "svg": (
        {"messages": part(type="image_url", image_url="data:image/svg+xml;base64,PHN2Zz4=")},
        "messages[0].content[1].image_url",
    ),
    "file_id": (
        {"messages": part(type="file", file={"file_id": "file-1"})},
        "messages[0].content[1].file",
    ),
    "video": (
        {"messages": part(type="video_url", video_url={"url": URL})},
        "messages[0].content[1].video_url",
    ),
    "name": (
        {
            "messages": [
                {"role": "user", "name": "Ann", "content": "x"},
                {"role": "user", "name": "Bob", "content": "x"},
            ]
        },
        "messages[1].name",
    ),
    "function_role": (
        {"messages": [*HI, {"role": "function", "name": "f", "content": "x"}]},
        "messages[1].role",
    ),
    "function_call": (
        {"messages": [*HI, {"role": "assistant", "function_call": {"name": "f"}}]},
        "messages[1].function_call",
    ),
    "said_audio": (
        {"messages": [*HI, {"role": "assistant", "audio": {"id": "a"}}]},
        "messages[1].audio",
    ),
    "system_image": (
        {
            "messages": [
                {
                    "role": "system",
                    "content": [{"type": "image_url", "image_url": "data:image/png;base64,aaaa"}],
                }
            ]
        },
        "messages[0].content[0].image_url",
    ),
    "custom_call": (
        {"messages": [*HI, {"role": "assistant", "tool_calls": [{"type": "custom", "id": "c"}]}]},
        "messages[1].tool_calls[0]",
    ),
}


@pytest.mark.parametrize("name", LACKING)
def test_what_converse_has_no_place_for_is_named(name: str) -> None:
    """It is named by its path, refused by that name, and left out only where that is allowed."""
    fields, param = LACKING[name]
    chat = {"model": "m", "messages": HI, **fields}

    assert cannot_carry(chat) == (param,)
    with pytest.raises(InvalidRequest) as caught:
        written(chat)
    assert caught.value.param == param
    assert faults("Converse", written(chat, drop_unsupported=True), CLAUDE) == ""


def test_what_asks_for_nothing_is_carried() -> None:
    """Hints, defaults and nulls are no reason to refuse a request."""
    chat = {
        "model": "m",
        "messages": HI,
        "n": 1,
        "logprobs": False,
        "logit_bias": {},
        "frequency_penalty": 0,
        "presence_penalty": 0.0,
        "functions": [],
        "modalities": ["text"],
        "parallel_tool_calls": False,
        "seed": None,
        "response_format": {"type": "text"},
        "service_tier": "auto",
        "prompt_cache_key": "k",
        UNSUPPORTED: ["top_a"],
    }

    assert cannot_carry(chat) == ()
    assert written(chat) == {"messages": [{"role": "user", "content": [{"text": "Hi"}]}]}


MALFORMED: dict[str, tuple[dict[str, Any], str]] = {
    "messages": ({"messages": "x"}, "messages"),
    "message": ({"messages": ["x"]}, "messages[0]"),
    "no_role": ({"messages": [{"content": "x"}]}, "messages[0]"),
    "content": ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content"),
    "no_content": ({"messages": [{"role": "user"}]}, "messages[0].content"),
    "part": ({"messages": [{"role": "user", "content": ["x"]}]}, "messages[0].content[0]"),
    "text": (
        {"messages": [{"role": "user", "content": [{"type": "text", "text": 5}]}]},
        "messages[0].content[0].text",
    ),
    "no_call_id": ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].tool_call_id"),
    "calls": (
        {"messages": [{"role": "assistant", "tool_calls": {}}]},
        "messages[0].tool_calls",
    ),
    "arguments": (
        {
            "messages": [
                {
                    "role": "assistant",
                    "tool_calls": [{"id": "a", "function": {"name": "f", "arguments": "[1"}}],
                }
            ]
        },
        "messages[0].tool_calls[0].function.arguments",
    ),
    "thoughts": (
        {"messages": [{"role": "assistant", "thinking_blocks": "x"}]},
        "messages[0].thinking_blocks",
    ),
    "temperature": ({"temperature": "0.5"}, "temperature"),
    "cold": ({"temperature": -1}, "temperature"),
    "top_p": ({"top_p": True}, "top_p"),
    "stop": ({"stop": [5]}, "stop"),
    "top_k": ({"top_k": 0.5}, "top_k"),
    "thinking": ({"thinking": True}, "thinking"),
    "effort": ({"reasoning_effort": "very"}, "reasoning_effort"),
    "effort_list": ({"reasoning_effort": []}, "reasoning_effort"),
    "tools": ({"tools": {}}, "tools"),
    "tool": ({"tools": ["x"]}, "tools[0]"),
    "tool_name": ({"tools": [{"type": "function", "function": {}}]}, "tools[0].function"),
    "parameters": (
        {"tools": [{"type": "function", "function": {"name": "f", "parameters": []}}]},
        "tools[0].function.parameters",
    ),
    "choice": ({"tool_choice": "f"}, "tool_choice"),
    "format": ({"response_format": "json"}, "response_format"),
    "schema": (
        {"response_format": {"type": "json_schema", "json_schema": {}}},
        "response_format.json_schema.schema",
    ),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_what_is_malformed_is_refused_by_name(name: str) -> None:
    """Whether or not something may be left out: what is wrong has a name."""
    fields, param = MALFORMED[name]
    chat = {"model": "m", "messages": HI, **fields}

    for drops in (False, True):
        with pytest.raises(InvalidRequest) as caught:
            written(chat, drop_unsupported=drops)
        assert caught.value.param == param
    assert isinstance(cannot_carry(chat), tuple)


def test_an_instruction_is_one_more_system_block() -> None:
    """What a stage of degradation adds stands after what the client said."""
    chat = {"messages": [{"role": "system", "content": "Be kind."}, *HI]}

    body = written(chat, instruct="Be brief.")

    assert body["system"] == [{"text": "Be kind."}, {"text": "Be brief."}]
    assert chat["messages"] == [{"role": "system", "content": "Be kind."}, *HI]


@pytest.mark.parametrize(
    ("model", "is_told"),
    [(CLAUDE, True), ("arn:aws:bedrock:r:1:inference-profile/x", True), ("amazon.nova-x", False)],
)
def test_only_claude_is_told_not_to_think(model: str, *, is_told: bool) -> None:
    """Others would refuse a word that they do not know, and do not think unless asked."""
    body = written({"messages": HI, "thinking": {"type": "disabled"}}, model)

    assert ("additionalModelRequestFields" in body) is is_told


def test_the_output_limit_is_the_least_of_all() -> None:
    """What the client asked for, what is held for it, and neither beside the other fields."""
    assert written({"messages": HI, "max_tokens": 9}, output_max=50)["inferenceConfig"] == {
        "maxTokens": 9
    }
    assert written({"messages": HI, "temperature": 0}, output_max=50)["inferenceConfig"] == {
        "maxTokens": 50,
        "temperature": 0,
    }


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
NAMES = st.sampled_from(
    [
        *("messages", "tools", "tool_choice", "response_format", "stop", "temperature", "top_k"),
        *("thinking", "reasoning_effort", "service_tier", "n", "logit_bias", "anything"),
    ]
)
INNER = st.sampled_from(
    [
        *("role", "content", "type", "text", "image_url", "url", "file", "file_data", "filename"),
        *("tool_calls", "function", "name", "arguments", "id", "tool_call_id", "thinking_blocks"),
        *("cache_control", "ttl", "json_schema", "schema", "parameters", "refusal", "data"),
    ]
)
WORDS = st.sampled_from(
    [
        *("user", "assistant", "tool", "system", "text", "image_url", "function", "file", "{}"),
        *("data:image/png;base64,aaaa", "data:text/plain;base64,aaaa", "json_schema", "x.pdf"),
    ]
)
NESTED = st.recursive(
    WORDS | JSON,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(INNER, inner, max_size=5),
    max_leaves=20,
)


@given(st.dictionaries(NAMES, NESTED, max_size=6))
def test_no_request_breaks_the_writer(chat: dict[str, Any]) -> None:
    """Whatever JSON comes: it is written or refused, and what is lacking is named either way."""
    lacks = cannot_carry(chat)
    assert all(isinstance(each, str) for each in lacks)
    refused: list[str | None] = []
    try:
        body = written(chat, drop_unsupported=True)
    except InvalidRequest as error:
        refused.append(error.param)
    else:
        assert orjson.dumps(body)
    assert all(refused)
