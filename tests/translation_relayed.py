"""Upstreams of the formats that are relayed only: OpenAI's responses and completions."""

from __future__ import annotations

from typing import Any

from fixtures_upstream import DONE, event, usage
from translation_answers import CHAT_REASONS, GIVEN, MADE, Answer, named


def response(answer: Answer, status: str) -> dict[str, Any]:
    text = {"type": "output_text", "text": answer.text, "annotations": []}
    item = {"type": "message", "id": "m1", "role": "assistant", "status": "completed"}
    told = {"input_tokens": GIVEN, "output_tokens": MADE, "total_tokens": GIVEN + MADE}
    return {
        "id": "resp_1",
        "object": "response",
        "created_at": 1,
        "status": status,
        "model": "up-m",
        "output": [{**item, "content": [text]}] if status == "completed" else [],
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "usage": {
            **told,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens_details": {"reasoning_tokens": 0},
        }
        if status == "completed"
        else None,
    }


def response_events(answer: Answer) -> list[bytes]:
    done = response(answer, "completed")
    item, here = done["output"][0], {"item_id": "m1", "output_index": 0, "content_index": 0}
    part = item["content"][0]
    begun = {**item, "content": [], "status": "in_progress"}
    told: list[dict[str, Any]] = [
        {"type": "response.created", "response": response(answer, "in_progress")},
        {"type": "response.output_item.added", "output_index": 0, "item": begun},
        {"type": "response.content_part.added", **here, "part": {**part, "text": ""}},
    ]
    delta = {"type": "response.output_text.delta", **here, "logprobs": []}
    told += [{**delta, "delta": word} for word in answer.words]
    told += [
        {"type": "response.output_text.done", **here, "text": answer.text, "logprobs": []},
        {"type": "response.content_part.done", **here, "part": part},
        {"type": "response.output_item.done", "output_index": 0, "item": item},
        {"type": "response.completed", "response": done},
    ]
    return [named(**each, sequence_number=at) for at, each in enumerate(told)]


def _completion(answer: Answer, reason: str | None, text: str) -> dict[str, Any]:
    choice = {"index": 0, "text": text, "finish_reason": reason, "logprobs": None}
    return {"id": "cmpl-1", "object": "text_completion", "created": 1, "choices": [choice]}


def completion_said(answer: Answer) -> dict[str, Any]:
    return {**_completion(answer, "stop", answer.text), "model": "m", "usage": usage(GIVEN, MADE)}


def completion_events(answer: Answer) -> list[bytes]:
    events = [event({**_completion(answer, None, word), "model": "m"}) for word in answer.words]
    end = event({**_completion(answer, CHAT_REASONS[answer.reason], ""), "model": "m"})
    told = {**_completion(answer, None, ""), "choices": [], "usage": usage(GIVEN, MADE)}
    return [*events, end, event(told), DONE]
