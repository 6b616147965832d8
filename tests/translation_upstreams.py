"""Upstreams of every wire format that all say the same: whole, streamed, and as failures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from bedrock_frames import exception, packed
from fixtures_upstream import DONE, LAST_CHUNK, Script, Step, body, chunk, event, head, usage
from translation_answers import CHAT_REASONS, GIVEN, MADE, Answer, named
from translation_relayed import completion_events, completion_said, response, response_events


@dataclass(frozen=True)
class Voice:
    """One format as an upstream speaks it."""

    vendor: str
    said: Callable[[Answer], dict[str, Any]]
    """A whole answer."""
    events: Callable[[Answer], list[bytes]]
    """A stream, from its first event to its last."""
    failure: bytes
    """An event that says that the answer has failed."""
    refusal: dict[str, Any]
    """The body of a 400 that says so: `Too hot.`"""
    kind: str = "text/event-stream"
    options: tuple[tuple[str, str], ...] = ()

    def whole(self, answer: Answer) -> Script:
        return [body(self.said(answer))]

    def streamed(self, answer: Answer, *, ends: Sequence[Step] = (LAST_CHUNK,)) -> Script:
        return self.sends(self.events(answer), ends=ends)

    def sends(self, events: Sequence[bytes], *, ends: Sequence[Step] = (LAST_CHUNK,)) -> Script:
        """A stream of these events, one to a chunk."""
        start = head(kind=self.kind) + b"Transfer-Encoding: chunked\r\n\r\n"
        return [start, *[chunk(each) for each in events], *ends]


# -- OpenAI's chat completions ------------------------------------------------------------------

_CHAT = {"id": "chatcmpl-1", "created": 1, "model": "up-m"}


def _chat_calls(answer: Answer) -> list[dict[str, Any]]:
    return [
        {
            "id": f"call_{at}",
            "type": "function",
            "function": {"name": name, "arguments": orjson.dumps(given).decode()},
        }
        for at, (name, given) in enumerate(answer.calls)
    ]


def _chat_said(answer: Answer) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": answer.text}
    if answer.thought:
        message["reasoning_content"] = answer.thought
    if answer.calls:
        message["tool_calls"] = _chat_calls(answer)
    choice = {"index": 0, "message": message, "finish_reason": CHAT_REASONS[answer.reason]}
    return {
        **_CHAT,
        "object": "chat.completion",
        "choices": [choice],
        "usage": usage(GIVEN, MADE),
    }


def _chat_events(answer: Answer) -> list[bytes]:
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}]
    if answer.thought:
        deltas.append({"reasoning_content": answer.thought})
    deltas += [{"content": word} for word in answer.words]
    for at, call in enumerate(_chat_calls(answer)):
        written = call["function"]["arguments"]
        begun = {**call, "index": at, "function": {**call["function"], "arguments": ""}}
        deltas.append({"tool_calls": [begun]})
        for piece in (written[:4], written[4:]):
            deltas.append({"tool_calls": [{"index": at, "function": {"arguments": piece}}]})
    choices = [{"index": 0, "delta": delta, "finish_reason": None} for delta in deltas]
    choices.append({"index": 0, "delta": {}, "finish_reason": CHAT_REASONS[answer.reason]})
    shared = {**_CHAT, "object": "chat.completion.chunk"}
    events = [event({**shared, "choices": [choice]}) for choice in choices]
    return [*events, event({**shared, "choices": [], "usage": usage(GIVEN, MADE)}), DONE]


# -- Anthropic's messages -----------------------------------------------------------------------

_MESSAGE = {"id": "msg_1", "type": "message", "role": "assistant", "model": "up-m"}
_MESSAGE_REASONS = {"stop": "end_turn", "length": "max_tokens", "calls": "tool_use"}


def _message_blocks(answer: Answer) -> list[dict[str, Any]]:
    blocks: list[dict[str, Any]] = []
    if answer.thought:
        thought = {"thinking": answer.thought, "signature": answer.signature}
        blocks.append({"type": "thinking", **thought})
    if answer.text:
        blocks.append({"type": "text", "text": answer.text})
    for at, (name, given) in enumerate(answer.calls):
        blocks.append({"type": "tool_use", "id": f"toolu_{at}", "name": name, "input": given})
    return blocks


def _message_end(answer: Answer) -> dict[str, Any]:
    reason = "stop_sequence" if answer.met else _MESSAGE_REASONS[answer.reason]
    return {"stop_reason": reason, "stop_sequence": answer.met}


def _message_said(answer: Answer) -> dict[str, Any]:
    told = {"input_tokens": GIVEN, "output_tokens": MADE}
    return {
        **_MESSAGE,
        "content": _message_blocks(answer),
        **_message_end(answer),
        "usage": told,
    }


def _message_events(answer: Answer) -> list[bytes]:
    opening = {**_MESSAGE, "content": [], "stop_reason": None, "stop_sequence": None}
    opening["usage"] = {"input_tokens": GIVEN, "output_tokens": 1}
    events = [named(type="message_start", message=opening)]
    for at, block in enumerate(_message_blocks(answer)):
        empty, deltas = _message_deltas(block, answer)
        events.append(named(type="content_block_start", index=at, content_block=empty))
        events += [named(type="content_block_delta", index=at, delta=each) for each in deltas]
        events.append(named(type="content_block_stop", index=at))
    told = {"output_tokens": MADE}
    events.append(named(type="message_delta", delta=_message_end(answer), usage=told))
    return [*events, named(type="message_stop")]


def _message_deltas(
    block: dict[str, Any], answer: Answer
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    if block["type"] == "thinking":
        deltas = [{"type": "thinking_delta", "thinking": block["thinking"]}]
        if block["signature"]:
            deltas.append({"type": "signature_delta", "signature": block["signature"]})
        return {"type": "thinking", "thinking": "", "signature": ""}, deltas
    if block["type"] == "text":
        said = [{"type": "text_delta", "text": word} for word in answer.words]
        return {"type": "text", "text": ""}, said
    written = orjson.dumps(block["input"]).decode()
    pieces = [
        {"type": "input_json_delta", "partial_json": each} for each in (written[:4], written[4:])
    ]
    return {**block, "input": {}}, pieces


# -- Gemini ---------------------------------------------------------------------------------------

_GEMINI_REASONS = {"stop": "STOP", "length": "MAX_TOKENS", "calls": "STOP"}
_GEMINI_USAGE = {
    "promptTokenCount": GIVEN,
    "candidatesTokenCount": MADE,
    "totalTokenCount": GIVEN + MADE,
}


def _gemini_parts(answer: Answer) -> list[dict[str, Any]]:
    parts: list[dict[str, Any]] = []
    if answer.thought:
        parts.append({"text": answer.thought, "thought": True})
    parts += [{"text": word} for word in answer.words]
    for at, (name, given) in enumerate(answer.calls):
        part: dict[str, Any] = {"functionCall": {"name": name, "args": given, "id": f"fc{at}"}}
        if answer.signature and at == 0:
            part["thoughtSignature"] = answer.signature
        parts.append(part)
    return parts


def _gemini(parts: list[dict[str, Any]], reason: str | None, told: Any) -> dict[str, Any]:
    candidate: dict[str, Any] = {"content": {"role": "model", "parts": parts}, "index": 0}
    if reason is not None:
        candidate["finishReason"] = reason
    return {
        "candidates": [candidate],
        "responseId": "r1",
        "modelVersion": "up-m",
        "usageMetadata": told,
    }


def _gemini_said(answer: Answer) -> dict[str, Any]:
    return _gemini(_gemini_parts(answer), _GEMINI_REASONS[answer.reason], _GEMINI_USAGE)


def _gemini_events(answer: Answer) -> list[bytes]:
    early = {"promptTokenCount": GIVEN, "totalTokenCount": GIVEN}
    events = [event(_gemini([part], None, early)) for part in _gemini_parts(answer)]
    return [*events, event(_gemini([], _GEMINI_REASONS[answer.reason], _GEMINI_USAGE))]


# -- Bedrock --------------------------------------------------------------------------------------

_BEDROCK_USAGE = {"inputTokens": GIVEN, "outputTokens": MADE, "totalTokens": GIVEN + MADE}


def _bedrock_blocks(answer: Answer) -> list[dict[str, Any]]:
    blocks: list[dict[str, Any]] = []
    if answer.thought:
        thought = {"text": answer.thought}
        if answer.signature:
            thought["signature"] = answer.signature
        blocks.append({"reasoningContent": {"reasoningText": thought}})
    if answer.text:
        blocks.append({"text": answer.text})
    for at, (name, given) in enumerate(answer.calls):
        blocks.append({"toolUse": {"toolUseId": f"tooluse_{at}", "name": name, "input": given}})
    return blocks


def _bedrock_end(answer: Answer) -> dict[str, Any]:
    end: dict[str, Any] = {
        "stopReason": "stop_sequence" if answer.met else _MESSAGE_REASONS[answer.reason]
    }
    if answer.met:
        end["additionalModelResponseFields"] = {"stop_sequence": answer.met}
    return end


def _bedrock_said(answer: Answer) -> dict[str, Any]:
    message = {"role": "assistant", "content": _bedrock_blocks(answer)}
    return {"output": {"message": message}, **_bedrock_end(answer), "usage": _BEDROCK_USAGE}


def _bedrock_events(answer: Answer) -> list[bytes]:
    events: list[dict[str, Any]] = [{"messageStart": {"role": "assistant"}}]
    for at, block in enumerate(_bedrock_blocks(answer)):
        here = {"contentBlockIndex": at}
        if (use := block.get("toolUse")) is not None:
            written = orjson.dumps(use["input"]).decode()
            begun = {name: use[name] for name in ("toolUseId", "name")}
            events.append({"contentBlockStart": {**here, "start": {"toolUse": begun}}})
            deltas: list[Any] = [
                {"toolUse": {"input": each}} for each in (written[:4], written[4:])
            ]
        elif (reasoning := block.get("reasoningContent")) is not None:
            thought = reasoning["reasoningText"]
            deltas = [{"reasoningContent": {name: thought[name]}} for name in thought]
        else:
            deltas = [{"text": word} for word in answer.words]
        events += [{"contentBlockDelta": {**here, "delta": delta}} for delta in deltas]
        events.append({"contentBlockStop": here})
    events += [{"messageStop": _bedrock_end(answer)}, {"metadata": {"usage": _BEDROCK_USAGE}}]
    return [packed([each]) for each in events]


_OPENAI_ERROR = {"message": "Too hot.", "type": "server_error", "code": "overheated"}
_OPENAI_REFUSAL = {
    "error": {"message": "Too hot.", "type": "invalid_request_error", "code": "hot", "param": None}
}
_BEDROCK_WORDS = ("modelStreamErrorException", "Too hot.")
_ANTHROPIC_REFUSAL = {
    "type": "error",
    "error": {"type": "invalid_request_error", "message": "Too hot."},
}
_GOOGLE_REFUSAL = {"error": {"code": 400, "message": "Too hot.", "status": "INVALID_ARGUMENT"}}
_OVERLOADED = {"type": "overloaded_error", "message": "Too hot."}

VOICES: dict[str, Voice] = {
    "openai_chat": Voice(
        "openai",
        _chat_said,
        _chat_events,
        event({"error": _OPENAI_ERROR}),
        _OPENAI_REFUSAL,
        options=(("formats", "openai_chat"),),
    ),
    "anthropic_messages": Voice(
        "anthropic",
        _message_said,
        _message_events,
        named(type="error", error=_OVERLOADED),
        _ANTHROPIC_REFUSAL,
    ),
    "gemini": Voice(
        "gemini",
        _gemini_said,
        _gemini_events,
        event({"error": {"code": 503, "message": "Too hot.", "status": "UNAVAILABLE"}}),
        _GOOGLE_REFUSAL,
    ),
    "bedrock_converse": Voice(
        "bedrock",
        _bedrock_said,
        _bedrock_events,
        exception(*_BEDROCK_WORDS),
        {"message": "Too hot."},
        kind="application/vnd.amazon.eventstream",
        options=(("region", "us-east-1"),),
    ),
    "openai_responses": Voice(
        "openai",
        lambda answer: response(answer, "completed"),
        response_events,
        named(**{**_OPENAI_ERROR, "type": "error", "sequence_number": 9}),
        _OPENAI_REFUSAL,
        options=(("formats", "openai_chat,openai_responses"),),
    ),
    "openai_completions": Voice(
        "openai",
        completion_said,
        completion_events,
        event({"error": _OPENAI_ERROR}),
        _OPENAI_REFUSAL,
    ),
}
TRANSLATING = ("openai_chat", "anthropic_messages", "gemini", "bedrock_converse")
"""Those into which requests are translated."""
