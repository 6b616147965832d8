"""Content blocks of the Messages API, as parts of chat messages."""

from __future__ import annotations

from typing import Any

from message_samples import message_request, said

from proxy.wire.anthropic_messages.client_content import (
    chat_messages,
    has_native_part,
    wants_citations,
    with_cache_control,
)

MARK = {"type": "ephemeral", "ttl": "1h"}


def user(*blocks: Any) -> list[dict[str, Any]]:
    return chat_messages(said(*blocks)[0], "messages.0")


def assistant(*blocks: Any) -> dict[str, Any]:
    (message,) = chat_messages(said(*blocks, role="assistant")[0], "messages.0")
    return message


def test_results_of_tools_go_first() -> None:
    """Chat completions want the results right after the calls, whatever stood before them."""
    found = user({"type": "text", "text": "Here:"}, {"type": "tool_result", "tool_use_id": "a"})

    assert found == [
        {"role": "tool", "tool_call_id": "a", "content": ""},
        {"role": "user", "content": "Here:"},
    ]


def test_plain_text_is_a_string() -> None:
    """One text block is said as a string, which every server takes; a marked one is not."""
    text = {"type": "text", "text": "x"}

    assert user(text)[0]["content"] == "x"
    assert user({**text, "cache_control": MARK})[0]["content"] == [{**text, "cache_control": MARK}]
    assert user(text, text)[0]["content"] == [text, text]
    assert user()[0]["content"] == []


def test_a_call_without_words_has_no_content() -> None:
    """An assistant's message with calls only has null for its content, as OpenAI writes it."""
    message = assistant({"type": "tool_use", "id": "a", "name": "b", "input": {"x": [1]}})

    assert message["content"] is None
    assert message["tool_calls"][0]["function"] == {"name": "b", "arguments": '{"x":[1]}'}
    assert assistant()["content"] == []


def test_thinking_without_a_signature_is_text_only() -> None:
    """What was not signed by an Anthropic model is nothing that one takes back as a block."""
    message = assistant({"type": "thinking", "thinking": "Hm.", "signature": ""})

    assert message == {"role": "assistant", "content": [], "reasoning_content": "Hm."}


def test_a_system_message_may_stand_anywhere() -> None:
    """Newer models take instructions in the middle of a conversation."""
    chat = message_request(
        messages=[
            {"role": "user", "content": "hi"},
            {"role": "system", "content": [{"type": "text", "text": "Be brief."}]},
        ]
    ).chat

    assert chat["messages"][1] == {"role": "system", "content": "Be brief."}


def test_a_document_of_blocks_is_its_blocks() -> None:
    """A document made of content is said part by part, its heads first and its mark last."""
    source = {
        "type": "content",
        "content": [
            {"type": "text", "text": "One."},
            {"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}},
        ],
    }
    document = {"type": "document", "title": "T", "source": source, "cache_control": MARK}

    (message,) = user(document)

    assert message["content"] == [
        {"type": "text", "text": "T"},
        {"type": "text", "text": "One."},
        {
            "type": "image_url",
            "image_url": {"url": "https://example.com/a.png"},
            "cache_control": MARK,
        },
    ]


def test_the_requests_own_mark_goes_to_the_last_message() -> None:
    """A mark at the top means the last block that can be cached."""
    messages = [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}]

    assert with_cache_control(messages, MARK)[1] == {**messages[1], "cache_control": MARK}
    assert with_cache_control(messages, "x") == messages
    assert with_cache_control([], MARK) == []


def test_blocks_without_a_name_elsewhere_stay() -> None:
    """What has no name in chat completions stays as it was, and is found."""
    block = {"type": "container_upload", "file_id": "f"}

    (message,) = user(block)

    assert message["content"] == [block]
    assert has_native_part(message)
    assert not has_native_part(user({"type": "text", "text": "x"})[0])


def test_citations_are_found_within_results() -> None:
    """A document that is to be cited may have been brought by a tool."""
    cited = {"type": "search_result", "citations": {"enabled": True}}

    assert wants_citations({"content": [{"type": "tool_result", "content": [cited]}]})
    assert not wants_citations({"content": [{"type": "text", "citations": [{"x": 1}]}, "x"]})
    assert not wants_citations({"content": "x"})
