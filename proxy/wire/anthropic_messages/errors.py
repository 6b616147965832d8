"""What the Messages API means by an answer other than 200, and by an error in a stream.

It says some of what is wrong with the account as 400, told by the words of the message only.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from proxy.error_words import ErrorWords
from proxy.wire.openai_chat.errors import MOMENTARY
from routing.fallback import Outcome

_TEXT_MAX = 4096
_SAYS_MAX = 300
"""Of a message, what is looked at: further on it may quote the request."""
_NO_CREDIT = ("your credit balance is too low", "you have reached your specified")
"""How a 400 begins that is about the account. Further on it may quote the request, and a tenant
could shut the account for everybody by what it writes there."""
_NO_ALLOWANCE = ("credit balance", "spend limit", "spending limit", "spend cap")
_TOO_LONG = ("prompt is too long", "exceed context limit", "exceeds the context window")
_AGAINST_POLICY = ("output blocked by content filtering policy", "input blocked by content")

_STATUSES = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "conflict_error": 409,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "api_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
}
"""Which status an error in a stream would have had."""

_OPENAI_WORDS: dict[str, tuple[str, str | None]] = {
    "authentication_error": ("authentication_error", None),
    "billing_error": ("insufficient_quota", "insufficient_quota"),
    "permission_error": ("permission_error", None),
    "not_found_error": ("invalid_request_error", None),
    "request_too_large": ("invalid_request_error", "request_too_large"),
    "rate_limit_error": ("rate_limit_error", "rate_limit_exceeded"),
    "timeout_error": ("timeout_error", None),
    "overloaded_error": ("service_unavailable_error", "server_is_overloaded"),
}
"""By Anthropic's type, OpenAI's type and code."""


def classify_error(status: int, body: bytes) -> Outcome:
    """What an answer other than 200 means for the next step."""
    error = _error(body)
    kind, message = _said(error)
    if status in {404, 405} and error is None:
        return Outcome.NONSENSE  # the address is wrong, not what was asked
    if status in {401, 403}:
        return Outcome.AUTH
    if status == 402 or (status in {400, 429} and _is_out_of_money(kind, message)):
        return Outcome.QUOTA
    if status == 429:
        return Outcome.RATE_LIMITED
    if 500 <= status <= 599 or status in MOMENTARY:  # 529 is "overloaded"
        return Outcome.SERVER_ERROR
    if kind == "not_found_error" and message.startswith("model:"):
        return Outcome.UNKNOWN_MODEL
    if kind == "invalid_request_error":
        if _is_too_long(message):
            return Outcome.CONTEXT_TOO_LONG
        if message.lower().startswith(_AGAINST_POLICY):
            return Outcome.CONTENT_POLICY
    return Outcome.REFUSED if 400 <= status < 500 else Outcome.NONSENSE  # 2xx, 3xx, beyond 599


def read_error(status: int, body: bytes) -> ErrorWords:
    """What such an answer says; its text where it is no JSON of this shape."""
    error = _error(body)
    if error is None:
        return ErrorWords(status, body[:_TEXT_MAX].decode("utf-8", "replace"))
    return _words(status, error)


def read_event_error(data: Mapping[str, Any]) -> ErrorWords:
    """What an `error` event in a stream says."""
    error = data.get("error")
    said = error if isinstance(error, Mapping) else {}
    kind = said.get("type")
    status = _STATUSES.get(kind, 500) if isinstance(kind, str) else 500
    return _words(status, said)


def _words(status: int, error: Mapping[str, Any]) -> ErrorWords:
    kind, message = _said(error)
    type_, code = _OPENAI_WORDS.get(kind, (kind or "api_error", None))
    param = None
    if kind == "invalid_request_error" and _is_too_long(message):
        code, param = "context_length_exceeded", "messages"
    elif kind == "invalid_request_error" and message.lower().startswith(_AGAINST_POLICY):
        code = "content_policy_violation"
    elif kind == "not_found_error" and message.startswith("model:"):
        code, param = "model_not_found", "model"
    elif _is_out_of_money(kind, message):
        type_ = code = "insufficient_quota"
    # OpenAI's clients know 503 for a server that is overloaded, and nobody else has 529
    told = 503 if status == 529 else status
    return ErrorWords(told, message or "The upstream gave no reason.", type_, code, param)


def _is_too_long(message: str) -> bool:
    said = message[:_SAYS_MAX].lower()
    return any(words in said for words in _TOO_LONG)


def _is_out_of_money(kind: str, message: str) -> bool:
    said = message.lower()
    if kind == "rate_limit_error":
        return any(words in said for words in _NO_ALLOWANCE)
    return kind == "invalid_request_error" and said.startswith(_NO_CREDIT)


def _said(error: Mapping[str, Any] | None) -> tuple[str, str]:
    """Type and message of an error; empty where there is none."""
    said = error or {}
    kind, message = said.get("type"), said.get("message")
    return (
        kind[:_TEXT_MAX] if isinstance(kind, str) else "",
        message[:_TEXT_MAX] if isinstance(message, str) else "",
    )


def _error(body: bytes) -> dict[str, Any] | None:
    try:
        answer = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    error = answer.get("error") if isinstance(answer, dict) else None
    return error if isinstance(error, dict) else None
