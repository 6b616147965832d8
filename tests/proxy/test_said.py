"""What a client has had of a stream."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from proxy.said import TEXT_MAX, Said
from proxy.sse import DONE, Event
from proxy.wire import Reading


def heard(*deltas: dict[str, Any], **fields: Any) -> Said:
    """What is noted of chunks with these deltas."""
    said = Said()
    for delta in deltas:
        chunk = {"id": "c", "model": "m", "choices": [{"index": 0, "delta": delta, **fields}]}
        said.hear(Event(b"", orjson.dumps(chunk)), chunk, Reading((chunk,)))
    return said


def framed(*events: dict[str, Any]) -> Said:
    """What is noted of these events of a message."""
    said = Said()
    for data in events:
        said.hear(Event(b"", orjson.dumps(data)), data, Reading())
    return said


def test_text() -> None:
    """Text and thoughts are plain; only the text is kept."""
    said = heard(
        {"role": "assistant", "content": ""},
        {"reasoning_content": "Hm."},
        {"content": "One ", "refusal": None},
        {"content": "two"},
    )
    assert (said.text, said.is_plain) == ("One two", True)
    assert said.shared == {"object": "chat.completion.chunk", "id": "c", "model": "m"}


@pytest.mark.parametrize(
    "delta",
    [
        {"tool_calls": [{"index": 0}]},
        {"function_call": {"name": "f"}},
        {"audio": {"data": "x"}},
        {"refusal": "No."},
        {"content": [{"type": "text", "text": "x"}]},
        {"something_new": 1},
    ],
)
def test_what_is_not_plain(delta: dict[str, Any]) -> None:
    """Whatever else is said cannot be gone on with."""
    assert heard({"content": "Well"}, delta).is_plain is False


def test_other_choices_and_probabilities() -> None:
    """A second choice, and probabilities of tokens, are more than text."""
    assert heard({"content": "x"}, index=1).is_plain is False
    assert heard({"content": "x"}, logprobs={"content": [{}]}).is_plain is False


@pytest.mark.parametrize(
    ("event", "is_plain"),
    [
        (Event(b": x\n\n", None), True),
        (Event(b"data: [DONE]\n\n", DONE), True),
        (Event(b"data: {\n\n", b"{"), False),
        (Event(b"xxx", None, is_opaque=True), False),
    ],
)
def test_events_that_were_not_read(event: Event, is_plain: bool) -> None:
    """Comments and the end say nothing; what could not be read may say anything."""
    said = Said()
    said.hear(event, None, None)
    assert said.is_plain is is_plain


def test_unread_parts() -> None:
    """What the client got and no chunk has is not known."""
    said = Said()
    said.hear(Event(b"", b"{}"), {}, Reading(unread=10))
    assert said.is_plain is False


def test_a_text_beyond_all_bounds() -> None:
    """Too much is not kept."""
    said = heard({"content": "x" * TEXT_MAX}, {"content": "y"})
    assert (said.text, said.is_plain) == ("", False)


def test_the_frame_of_a_message() -> None:
    """Which block was the last, and whether it is open."""
    start = {"type": "message_start", "message": {"id": "msg_1"}}
    block = {"type": "content_block_start", "index": 1, "content_block": {"type": "text"}}
    said = framed(start, block)
    assert (said.message_id, said.block_index, said.block) == ("msg_1", 1, "text")

    said = framed(start, block, {"type": "content_block_stop", "index": 1})
    assert (said.block_index, said.block, said.is_plain) == (1, "", True)


@pytest.mark.parametrize(
    "block",
    [
        {"index": 0, "content_block": {"type": "tool_use"}},
        {"index": 0, "content_block": {"type": "server_tool_use"}},
        {"index": "0", "content_block": {"type": "text"}},
        {"index": 0},
    ],
)
def test_blocks_that_are_no_text(block: dict[str, Any]) -> None:
    """A block of another kind, or one that is nothing, ends it."""
    assert framed({"type": "content_block_start", **block}).is_plain is False
