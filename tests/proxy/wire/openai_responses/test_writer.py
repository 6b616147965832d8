"""Responses written from chat chunks: recorded streams, ids, and what servers do to chunks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from proxy.wire.openai_responses.client import parse_request, write_whole
from proxy.wire.openai_responses.thinking import unpacked
from proxy.wire.openai_responses.writer import ResponseWriter

GOLDEN = Path(__file__).parents[1] / "golden" / "openai_responses"
WRITTEN = sorted(path.stem for path in GOLDEN.glob("write_*.json"))
EVENT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
UNITS = {"input_uncached": 3, "output_text": 2}


def golden(name: str) -> tuple[dict[str, Any], bytes]:
    return orjson.loads((GOLDEN / f"{name}.json").read_bytes()), (
        GOLDEN / f"{name}.sse"
    ).read_bytes()


def writer(**fields: Any) -> ResponseWriter:
    return ResponseWriter(parse_request(orjson.dumps({"model": "m", "input": "hi", **fields})))


def chunk(delta: Any, finish: str | None = None, **fields: Any) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "finish_reason": finish, **fields}
    return {"id": "chatcmpl-1", "model": "x", "created": 5, "choices": [choice]}


def objects(stream: bytes) -> list[dict[str, Any]]:
    return [orjson.loads(each.split(b"data: ", 1)[1]) for each in stream.split(b"\n\n") if each]


def written(write: ResponseWriter, *chunks: dict[str, Any]) -> list[dict[str, Any]]:
    return objects(b"".join([*map(write.write, chunks), write.end(UNITS)]))


def output(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = events[-1]["response"]["output"]
    return found


@pytest.mark.parametrize("name", WRITTEN)
def test_recorded_chunks_are_written_as_recorded(name: str) -> None:
    """Chunks and events stand side by side."""
    given_, expected = golden(name)
    write = ResponseWriter(parse_request(orjson.dumps(given_["request"])))

    found = b"".join([*map(write.write, given_["chunks"]), write.end(given_["units"])])

    assert found == expected


@pytest.mark.parametrize("name", WRITTEN)
def test_every_event_is_one_of_openais(name: str) -> None:
    """The types of OpenAI's library accept each event; numbers follow each other."""
    events = objects(golden(name)[1])

    for event in events:
        EVENT.validate_python(event)
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    assert [event["type"] for event in events[:2]] == ["response.created", "response.in_progress"]


@pytest.mark.parametrize("name", WRITTEN)
def test_deltas_and_items_add_up_to_the_response(name: str) -> None:
    """What the last event holds is what was said on the way."""
    events = objects(golden(name)[1])
    done = [event["item"] for event in events if event["type"] == "response.output_item.done"]
    by_item: dict[str, str] = {}
    for event in events:
        if event["type"].endswith(".delta"):
            by_item[event["item_id"]] = by_item.get(event["item_id"], "") + event["delta"]

    assert sorted(done, key=lambda item: item["id"]) == sorted(
        output(events), key=lambda item: item["id"]
    )
    for item in done:
        parts = item.get("content") or item.get("summary") or []
        texts = [part.get("text") or part.get("refusal") for part in parts]
        said = "".join(texts) + item.get("arguments", "") + item.get("input", "")
        assert by_item.get(item["id"], "") == said


@pytest.mark.parametrize("name", WRITTEN)
def test_a_whole_answer_is_what_a_stream_ends_with(name: str) -> None:
    """One completion with the same message gives the same response."""
    given_, expected = golden(name)
    request = parse_request(orjson.dumps(given_["request"]))
    message: dict[str, Any] = {}
    logprobs: list[Any] = []
    calls: dict[int, dict[str, Any]] = {}
    for each in given_["chunks"]:
        for choice in each["choices"]:
            delta = choice["delta"]
            for field in ("content", "reasoning_content", "refusal"):
                message[field] = message.get(field, "") + delta.get(field, "")
            for field in ("thinking_blocks", "annotations"):
                message[field] = message.get(field, []) + delta.get(field, [])
            for call in delta.get("tool_calls", []):
                kind = "custom" if "custom" in call else "function"
                kept = calls.setdefault(call["index"], {**call, kind: {}})
                for field, text in call[kind].items():
                    kept[kind][field] = kept[kind].get(field, "") + text
            logprobs += (choice.get("logprobs") or {}).get("content", [])
            finish = choice["finish_reason"]
    message["tool_calls"] = [
        {field: value for field, value in call.items() if field != "index"}
        for call in calls.values()
    ]
    choice = {
        "index": 0,
        "message": message,
        "finish_reason": finish,
        "logprobs": {"content": logprobs},
    }

    found = write_whole({**given_["chunks"][0], "choices": [choice]}, given_["units"], request)

    assert found == objects(expected)[-1]["response"]
    Response.model_validate(found)


def test_ids_follow_from_the_chunks() -> None:
    """The same answer is always written the same, under ids of OpenAI's kinds."""
    chunks = (chunk({"reasoning_content": "a"}), chunk({"content": "b"}, "stop"))
    events = written(writer(), *chunks)

    assert events == written(writer(), *chunks)
    assert events[0]["response"]["id"] == "resp_1"
    assert [item["id"] for item in output(events)] == ["rs_1_0", "msg_1_1"]


def test_a_first_chunk_without_names_is_waited_for() -> None:
    """Azure's first chunk has no id, no model and no choices."""
    nameless = {"id": "", "model": "", "created": 0, "choices": [], "prompt_filter_results": []}
    write = writer()

    assert write.write(nameless) == b""
    assert written(write, chunk({"content": "a"}, "stop"))[0]["response"]["model"] == "x"


def test_two_calls_of_one_id_are_told_apart() -> None:
    """Some servers call every call the same, and libraries know a call by its id."""
    call = {"id": "call_0", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    calls = [{**call, "index": 0}, {**call, "index": 1}, {**call, "index": 2, "id": ""}]

    found = output(written(writer(), chunk({"tool_calls": calls}, "tool_calls")))

    assert len({item["call_id"] for item in found}) == 3
    assert found[0]["call_id"] == "call_0"


def test_a_name_may_come_late_and_twice() -> None:
    """Arguments that come before the name of their call wait for it."""
    deltas = [{"arguments": "{"}, {"name": "f", "arguments": "}"}, {"name": "f"}]
    chunks = [chunk({"tool_calls": [{"index": 0, "id": "c", "function": each}]}) for each in deltas]

    events = written(writer(), *chunks)

    assert output(events)[0] | {"id": ""} == {
        "id": "",
        "type": "function_call",
        "status": "completed",
        "call_id": "c",
        "name": "f",
        "arguments": "{}",
    }


def test_the_legacy_call_is_a_call() -> None:
    """`function_call` is what the oldest servers say."""
    deltas = [{"name": "f", "arguments": ""}, {"arguments": "{}"}]

    events = written(writer(), *[chunk({"function_call": each}) for each in deltas])

    assert (output(events)[0]["name"], output(events)[0]["arguments"]) == ("f", "{}")


def test_thinking_after_text_is_an_item_of_its_own() -> None:
    """Items stand in the order in which they began."""
    said = [{"content": "a"}, {"reasoning": "b"}, {"content": "c"}]

    kinds = [item["type"] for item in output(written(writer(), *map(chunk, said)))]

    assert kinds == ["message", "reasoning", "message"]


def test_signed_thinking_goes_to_those_who_ask_for_it() -> None:
    """`encrypted_content` holds what another vendor wants back, only when it was asked for."""
    blocks = [{"type": "redacted_thinking", "data": "x"}]
    said = (chunk({"thinking_blocks": blocks}), chunk({"content": "a"}, "stop"))

    plain = output(written(writer(), *said))
    asked = output(written(writer(include=["reasoning.encrypted_content"]), *said))

    assert [item["type"] for item in plain] == ["message"]
    assert unpacked(asked[0]["encrypted_content"]) == blocks


def test_what_an_upstream_wants_back_with_a_call_goes_out() -> None:
    """Google signs calls; the signature stands in the item from its first event on."""
    extra = {"google": {"thought_signature": "x"}}
    call = {"index": 0, "id": "c", "function": {"name": "f"}, "extra_content": extra}

    events = written(writer(), chunk({"tool_calls": [call]}))

    items = [event["item"] for event in events if "item" in event]
    assert [item["extra_content"] for item in items] == [extra, extra]


def test_an_image_is_an_item() -> None:
    """It stands where an image of OpenAI's own tool would; one elsewhere has no place."""
    images = [
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}},
        {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}},
    ]

    events = written(writer(), chunk({"content": "Here:"}), chunk({"images": images}, "stop"))

    assert [item["type"] for item in output(events)] == ["message", "image_generation_call"]
    assert output(events)[1]["result"] == "iVBORw0KGgo="
    for event in events:
        EVENT.validate_python(event)


def test_other_choices_and_errors_are_not_written() -> None:
    """There is one answer in this format, and its failure is written elsewhere."""
    write = writer()
    other = chunk({"content": "a"})
    other["choices"][0]["index"] = 1

    assert write.write(other) == b""
    assert write.write({"error": {"message": "x"}, "choices": []}) == b""


def test_half_a_surrogate_pair_is_passed_on() -> None:
    """What came in two halves is whole where it stands together."""
    write = writer()
    sent = write.write(chunk({"content": "\ud83d"})) + write.write(chunk({"content": "\ude00"}))
    sent += write.end(UNITS)
    events = [json.loads(each.split(b"data: ", 1)[1]) for each in sent.split(b"\n\n") if each]

    deltas = [event["delta"] for event in events if "delta" in event]
    assert deltas == ["\ud83d", "\ude00"]
    assert output(events)[0]["content"][0]["text"] == "😀"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)
CALL = st.fixed_dictionaries(
    {},
    optional={
        "index": JSON,
        "id": JSON,
        "function": st.dictionaries(st.sampled_from(["name", "arguments"]), JSON) | JSON,
        "custom": st.dictionaries(st.sampled_from(["name", "input"]), JSON) | JSON,
    },
)
DELTA = st.fixed_dictionaries(
    {},
    optional={
        "content": JSON,
        "refusal": JSON,
        "reasoning_content": JSON,
        "reasoning": JSON,
        "tool_calls": st.lists(CALL, max_size=3) | JSON,
        "function_call": CALL | JSON,
        "annotations": JSON,
        "images": JSON,
        "thinking_blocks": JSON,
    },
)
CHUNK = st.fixed_dictionaries(
    {
        "choices": st.lists(
            st.fixed_dictionaries(
                {"index": st.just(0) | JSON, "delta": DELTA | JSON},
                optional={"finish_reason": JSON, "logprobs": JSON},
            ),
            max_size=2,
        )
        | JSON
    },
    optional={"id": JSON, "model": JSON, "created": JSON, "error": JSON, "service_tier": JSON},
)


@settings(max_examples=40)
@given(st.lists(CHUNK, max_size=6))
def test_whatever_the_chunks_hold_the_stream_is_whole(chunks: list[dict[str, Any]]) -> None:
    """Every item that begins ends once, and the response holds all of them."""
    events = written(writer(include=["reasoning.encrypted_content"]), *chunks)

    begun = [event["output_index"] for event in events if event["type"].endswith("item.added")]
    ended = [event["output_index"] for event in events if event["type"].endswith("item.done")]
    assert begun == sorted(ended) == list(range(len(output(events))))
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    assert events[-1]["response"]["usage"]["total_tokens"] == 5
