"""OpenAI chat completions as upstreams speak them: what they are sent, and what they answer."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence, Set
from functools import lru_cache
from typing import Any

from proxy import sse
from proxy.changes import instructed
from proxy.chat import UNSUPPORTED, ChatRequest
from proxy.thinking import effort_of
from proxy.wire import Decoder, Reading, Sending
from proxy.wire.openai_chat.endings import shared_fields, soft_end
from proxy.wire.openai_chat.errors import classify_error, read_error
from proxy.wire.openai_chat.models import is_openai, is_unreasoning
from proxy.wire.openai_chat.parts import plain
from proxy.wire.openai_chat.usage import read_usage

__all__ = ["classify_error", "read_error", "read_usage"]

FORMAT = "openai_chat"
TRANSLATES = True
ANSWER_FIELD = "choices"
USAGE_FIELD = "usage"
LIMIT_REQUIRED = False
LIMIT_MIN = 1
INSTRUCTS = True

USER_MAX = 64
"""Characters of `user` that OpenAI takes, as clients report. A longer one is sent as its hash, so
that it stays the same user; Claude Code's have more than a hundred."""

_LIMIT_FIELDS = ("max_tokens", "max_completion_tokens")
_NEUTRAL_ONLY = frozenset({"thinking_blocks", "cache_control", "is_error"})
"""Fields of messages, parts and tools that strict servers refuse."""

_GOOGLES = "extra_content"
"""What Google signs its answers in, at its OpenAI-compatible API as well; others refuse it."""

_LITELLMS = "provider_specific_fields"
"""Where LiteLLM as a client puts what it knows no field for, and as a server looks for it."""

_MEDIA = frozenset({"image_url", "input_audio", "file", "video_url"})
"""Parts that a message of the role `tool` must not have: its content is text."""

_TOOLS = frozenset({"function", "custom"})
_PARTS = frozenset({"text", "refusal", "image_url", "input_audio", "file", "video_url"})
"""Types of tools and of parts; others are those of another API that a client speaks."""


def cannot_carry(chat: Mapping[str, Any]) -> Sequence[str]:
    """Nothing: it is the neutral form itself."""
    return ()


def same_format(request: ChatRequest, sending: Sending) -> dict[str, Any]:
    """The object that was priced, with the upstream's model name.

    `output_max` cuts the limits that the client has set for one choice; where it has set none it
    becomes `limit_field`. A stream asks for usage whatever the client said, so that
    `include_usage: false` cannot evade metering. Clients send back the messages they were answered:
    what another maker's model has said in fields of its own does not go to one that refuses them.
    """
    body = _body(request.body, request, sending)
    foreign = _foreign(sending.model)
    if _have_any(body["messages"], foreign):
        body["messages"] = [_plain(message, foreign) for message in body["messages"]]
    return body


def from_chat(request: ChatRequest, sending: Sending) -> dict[str, Any]:
    """The same of a request that came in another format, without what is the neutral form's own."""
    body = _body(request.chat, request, sending)
    if sending.limit_field not in body and (limit := body.pop("max_tokens", None)) is not None:
        body[sending.limit_field] = limit  # as this upstream knows it
    left_out = _left_out(sending.model)
    body["messages"] = [_plain(message, left_out) for message in body["messages"]]
    if isinstance(tools := body.get("tools"), list):
        body["tools"] = [_plain(tool, left_out) for tool in tools]
    if sending.drop_unsupported:
        _drop_foreign(body)
    body["messages"] = _with_text_results(body["messages"])
    own = body.get("reasoning_effort")
    effort = own if is_unreasoning(sending.model) else effort_of(body)
    if effort is not None:
        body["reasoning_effort"] = effort
    if isinstance(user := body.get("user"), str) and len(user) > USER_MAX:
        body["user"] = hashlib.sha256(user.encode("utf-8", "replace")).hexdigest()
    for name in ("thinking", UNSUPPORTED):
        body.pop(name, None)
    return body


def _left_out(model: str) -> Set[str]:
    """The fields that this model's servers do not know. Thoughts go back to those that may want
    them (DeepSeek does); OpenAI's own models have no such field."""
    if "gemini" in model.lower():
        return _NEUTRAL_ONLY
    return {*_NEUTRAL_ONLY, _GOOGLES, *(("reasoning_content",) if is_openai(model) else ())}


@lru_cache(maxsize=256)
def _foreign(model: str) -> frozenset[str]:
    """Fields in which models of other makers have answered, and which are nothing to this one."""
    name = model.lower()
    if "gemini" in name:
        return frozenset({"thinking_blocks"})
    if "claude" in name:
        return frozenset({_GOOGLES})
    own = ("reasoning_content", "images") if is_openai(model) else ()
    return frozenset({_GOOGLES, _LITELLMS, "thinking_blocks", *own})


def _have_any(messages: list[Any], foreign: Set[str]) -> bool:
    for message in messages:  # not any(): asked for every request
        if message.__class__ is dict:
            if not foreign.isdisjoint(message):
                return True
            calls = message.get("tool_calls")
            if calls.__class__ is list and _have_any(calls, foreign):
                return True
    return False


def _with_text_results(messages: list[Any]) -> list[Any]:
    """The messages, with what tools gave beside text in a message of the user. It comes after all
    results of the turn: nothing may stand between them."""
    moved: list[Any] = []
    written: list[Any] = []
    for message in messages:
        is_result = isinstance(message, dict) and message.get("role") == "tool"
        if moved and not is_result:
            written.append({"role": "user", "content": moved})
            moved = []
        content = message.get("content") if is_result else None
        parts = content if isinstance(content, list) else []
        if media := [part for part in parts if _is_media(part)]:
            moved += [{"type": "text", "text": f"From {message.get('tool_call_id')}:"}, *media]
            texts = [part for part in parts if not _is_media(part)]
            written.append({**message, "content": texts or "See the next message of the user."})
        else:
            written.append(message)
    return [*written, {"role": "user", "content": moved}] if moved else written


def _is_media(part: object) -> bool:
    return isinstance(part, dict) and part.get("type") in _MEDIA


def _drop_foreign(body: dict[str, Any]) -> None:
    """Take out tools and parts that no chat completion has; a list that is empty then, too."""
    for message in body["messages"]:
        if isinstance(content := message.get("content"), list):
            message["content"] = [part for part in content if part.get("type") in _PARTS]
    if isinstance(tools := body.get("tools"), list):
        body["tools"] = [
            {name: tool[name] for name in ("type", tool["type"]) if name in tool}
            for tool in tools
            if tool.get("type") in _TOOLS
        ]
        if not body["tools"]:
            for name in ("tools", "tool_choice", "parallel_tool_calls"):
                body.pop(name, None)


def _plain(part: Any, left_out: Set[str]) -> Any:
    if part.__class__ is not dict:
        return part
    kept = {name: value for name, value in part.items() if name not in left_out}
    for name in ("content", "tool_calls"):
        if isinstance(inner := kept.get(name), list):
            kept[name] = [_plain(each, left_out) for each in inner]
    return kept


def _body(written: dict[str, Any], request: ChatRequest, sending: Sending) -> dict[str, Any]:
    if sending.instruct is not None:
        written = instructed(written, sending.instruct)
    body = {**written, "model": sending.model}
    if request.stream and sending.inject_usage:
        options = written.get("stream_options") or {}
        body["stream_options"] = {**options, "include_usage": True}
    if (output_max := sending.output_max) is not None:
        set_by_client = [name for name in _LIMIT_FIELDS if body.get(name) is not None]
        for name in set_by_client or [sending.limit_field]:
            body[name] = min(body.get(name) or output_max, output_max)
    return body


def decoder() -> Decoder:
    """Server-sent events."""
    return sse.Decoder()


class ChunkSource:
    """A stream of chat completion chunks: the neutral form itself."""

    __slots__ = ("_is_plain", "_shared", "_strip_usage")

    def __init__(self, *, strip_usage: bool, is_plain: bool = False) -> None:
        """`is_plain` when its chunks are written in another format."""
        self._strip_usage = strip_usage
        self._is_plain = is_plain
        self._shared: dict[str, Any] = {}

    def read(self, data: dict[str, Any]) -> Reading:
        """The chunk, and its usage. An injected usage chunk is withheld."""
        if "id" not in self._shared:
            self._shared = shared_fields(data)
        usage, choices = data.get("usage"), data.get("choices")
        reported = read_usage(usage) if isinstance(usage, dict) else None
        if self._is_plain and isinstance(choices, list):
            data = plain(data, "delta")
        return Reading(
            (data,),
            reported,
            is_withheld=self._strip_usage and reported is not None and not choices,
            is_odd=bool(data.get("error")) or not isinstance(choices, list),
        )

    def end_softly(self, choices: Sequence[int], units: Mapping[str, int]) -> bytes:
        """A last chunk for each open choice, the usage chunk where it was asked for, `[DONE]`."""
        told = None if self._strip_usage else units
        return soft_end(self._shared, choices=choices, units=told)


def source(request: ChatRequest, *, created_s: int) -> ChunkSource:
    """What reads a stream of chunks."""
    is_plain = request.format != FORMAT
    return ChunkSource(strip_usage=not request.wants_usage, is_plain=is_plain)


def read_whole(
    answer: dict[str, Any], request: ChatRequest, *, created_s: int
) -> dict[str, Any] | None:
    """The answer itself, if it is a chat completion."""
    if not isinstance(answer.get("choices"), list):
        return None
    return answer if request.format == FORMAT else plain(answer, "message")
