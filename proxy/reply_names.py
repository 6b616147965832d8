"""What makes two requests the same, and which answers may be given again. Pure.

Rules:
- Everything that can change the answer, or the form in which it comes, is part of the name: what is
  left out is listed here, and anything unknown counts.
- A name is a keyed digest. It says nothing of the question to who does not know the key.
- What names objects of a provider, makes some, or lets the provider act elsewhere is never kept.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

import orjson

from proxy.chat import ChatRequest
from proxy.native_objects import RESPONSES
from proxy.passthrough_bodies import references

EMBEDDINGS = "openai_embeddings"

LABELS = frozenset(
    {
        "user",
        "metadata",
        "safety_identifier",
        "prompt_cache_key",
        "prompt_cache_retention",
        "store",
        "stream",
    }
)
"""Fields that say for whom a request is, or how it is kept; the form of the answer has a word of
its own in the name."""

_ACTS_ELSEWHERE = frozenset(
    {
        "previous_response_id",
        "conversation",
        "background",
        "prompt",
        "web_search_options",
        "mcp_servers",
        "container",
        "audio",
    }
)
"""Fields by which an answer hangs on something that lives at the provider or changes by itself."""

_OWN_TOOLS = frozenset({"function", "custom"})
"""Tools that the client runs; all others are the provider's."""


def why_not_kept(request: ChatRequest, temperature_max: Decimal | None) -> str | None:
    """Why no answer to this request is kept, in a word; None where one may be."""
    body = request.body
    named = _ACTS_ELSEWHERE & body.keys()
    if request.format not in (RESPONSES, "openai_chat", "anthropic_messages"):
        named -= {"prompt"}  # that of a text completion is its text
    if any(body[name] for name in named):
        return "acts_elsewhere"
    if body.get("store") is True or (
        request.format == RESPONSES and body.get("store") is not False
    ):
        return "stored"
    if request.may_refer and any(references(body)):
        return "refers"
    tools = body.get("tools")
    for tool in tools if isinstance(tools, list) else ():
        if isinstance(tool, dict) and tool.get("type", "function") not in _OWN_TOOLS:
            return "acts_elsewhere"
    if temperature_max is not None and request.format != EMBEDDINGS:
        asked = body.get("temperature")
        if type(asked) not in (int, float) or Decimal(str(asked)) > temperature_max:
            return "temperature"
    return None


def reply_name(
    request: ChatRequest, upstreams: Sequence[str], scope: str, *, owner: str, salt: bytes
) -> str:
    """The name of this request's answers for who stands behind `owner` and `scope`.

    `upstreams` are those that may answer: where a model leads elsewhere, it is another one.
    """
    body = request.body
    left_out = LABELS if request.stream else LABELS | {"stream_options"}
    asked = {name: value for name, value in body.items() if name not in left_out}
    head = [
        request.format,
        owner,
        scope,
        request.model,
        request.stream,
        request.wants_usage and request.stream,
        sorted(request.headers.items()),
        list(upstreams),
    ]
    return _digest(salt, b"reply", head, asked)


def repeat_name(key: str, scope: str, *, tenant: str, salt: bytes) -> str:
    """The name under which a request with this key of its client's is known to those of a tenant
    who stand behind `scope`."""
    return _digest(salt, b"repeat", [tenant, scope], key)


def question_digest(request: ChatRequest, *, tenant: str, salt: bytes) -> str:
    """Tells a request that is sent once more from another one under the same key."""
    head = [tenant, request.format, sorted(request.headers.items())]
    return _digest(salt, b"question", head, request.body)


def _digest(salt: bytes, kind: bytes, head: Sequence[Any], asked: Mapping[str, Any] | str) -> str:
    told = orjson.dumps([head, asked], option=orjson.OPT_SORT_KEYS)
    return hmac.digest(salt, kind + b"\0" + told, "sha256").hex()
