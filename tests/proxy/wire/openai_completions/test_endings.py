"""What completion chunks repeat, and the ends that we write."""

from __future__ import annotations

from proxy.wire.openai_completions.endings import shared_fields, stream_end


def test_an_id_of_a_chat_becomes_one_of_a_completion() -> None:
    """The prefix says what it is; another vendor's id stays."""
    assert shared_fields({"id": "chatcmpl-1", "created": 5, "model": "m", "choices": []}) == {
        "object": "text_completion",
        "id": "cmpl-1",
        "created": 5,
        "model": "m",
    }
    assert shared_fields({"id": "gen-1", "model": ["m"]})["id"] == "gen-1"
    assert shared_fields({}) == {"object": "text_completion"}


def test_a_stream_without_a_chunk_can_be_ended() -> None:
    """Nothing was said: the end is one of this format all the same."""
    end = stream_end({}, choices=[0], units=None)

    assert end.startswith(b'data: {"object":"text_completion","choices":[{"text":"",')
    assert end.endswith(b"\n\ndata: [DONE]\n\n")
