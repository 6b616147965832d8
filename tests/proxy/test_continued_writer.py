"""The second part of a stream, written as one with the first."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from proxy.continued_writer import ContinuedWriter

SHARED = {"object": "chat.completion.chunk", "id": "first", "model": "m-1"}


class Pages:
    """A writer that keeps what it is given."""

    def __init__(self) -> None:
        self.chunks: list[dict[str, Any]] = []
        self.units: Mapping[str, int] = {}

    def write(self, chunk: dict[str, Any]) -> bytes:
        self.chunks.append(chunk)
        return b"x"

    def end(self, units: Mapping[str, int]) -> bytes:
        self.units = dict(units)
        return b"end"


def chunk(delta: dict[str, Any], reason: str | None = None, **fields: Any) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "finish_reason": reason}
    return {"id": "second", "model": "m-2", "created": 2, "choices": [choice], **fields}


def made(text: str = "", **fields: Any) -> tuple[Pages, ContinuedWriter]:
    pages = Pages()
    return pages, ContinuedWriter(pages, **{"shared": SHARED, "text": text, "units": {}, **fields})


def test_chunks_are_those_of_the_first_part() -> None:
    """Its id and model, and no date where it had none; no role a second time."""
    pages, writer = made()

    assert writer.write(chunk({"role": "assistant", "content": ""})) == b""
    assert writer.write(chunk({"content": "Hello"}, usage={"prompt_tokens": 1})) == b"x"

    choice = {"index": 0, "delta": {"content": "Hello"}, "finish_reason": None}
    assert pages.chunks == [{**SHARED, "choices": [choice]}]
    assert writer.told == "Hello"


def test_a_first_part_without_a_chunk() -> None:
    """Where it shared nothing, the second one's own fields stand."""
    pages, writer = made(shared={})
    writer.write(chunk({"content": "Hello"}))
    assert pages.chunks[0]["id"] == "second"


def test_chunks_that_say_nothing() -> None:
    """Usage alone, errors, and choices that are none."""
    pages, writer = made()
    assert writer.write({"id": "second", "choices": [], "usage": {}}) == b""
    assert writer.write({"error": {"message": "x"}}) == b""
    assert writer.write({"choices": [None]}) == b""
    assert writer.write({"choices": [{"delta": None}]}) == b""
    assert pages.chunks == []


def test_what_is_held_back_comes_before_the_end() -> None:
    """The seam gives what it holds when nothing more can come."""
    pages, writer = made("The weir counts")

    assert writer.write(chunk({"content": "The"})) == b""
    writer.write(chunk({}, "stop"))

    choice = pages.chunks[0]["choices"][0]
    assert (choice["delta"], choice["finish_reason"]) == ({"content": "The"}, "stop")


def test_a_call_follows_what_was_held_back() -> None:
    """Text comes before the call that it led to."""
    pages, writer = made("The weir counts")
    writer.write(chunk({"content": "The"}))
    writer.write(chunk({"tool_calls": [{"index": 0}]}))
    assert list(pages.chunks[0]["choices"][0]["delta"]) == ["content", "tool_calls"]


def test_the_usage_is_that_of_both() -> None:
    """Classes that only one of them has stay."""
    pages, writer = made(units={"input_uncached": 10, "output_text": 3})
    assert writer.end({"input_uncached": 12, "input_cache_read": 5}) == b"end"
    assert pages.units == {"input_uncached": 22, "output_text": 3, "input_cache_read": 5}
