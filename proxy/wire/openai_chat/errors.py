"""What an OpenAI-compatible server means by an answer other than 200."""

from __future__ import annotations

from typing import Any

import orjson

from proxy.error_words import ErrorWords
from routing.fallback import Outcome

_QUOTA_CODES = frozenset(
    {"insufficient_quota", "credit_balance_exhausted", "billing_hard_limit_reached"}
)
_TEXT_MAX = 4096


_ADDRESS = frozenset({404, 405})
"""What a server says of a path that it does not know, in whatever shape."""


def classify_error(status: int, body: bytes) -> Outcome:
    """What an answer other than 200 means for the next step.

    A 404 that is no error of the API speaks of the address, and so of our settings.
    """
    if status in _ADDRESS and not _is_error(body):
        return Outcome.NONSENSE
    return classify_status(status, body)


def classify_status(status: int, body: bytes) -> Outcome:
    """The same where the path is the client's own; the body tells quota from rate."""
    if status in {401, 403}:
        return Outcome.AUTH
    if status == 402:
        return Outcome.QUOTA
    if status == 429:
        return Outcome.QUOTA if _error_code(body) in _QUOTA_CODES else Outcome.RATE_LIMITED
    if 500 <= status <= 599 or status == 408:
        return Outcome.SERVER_ERROR
    return Outcome.REFUSED if 400 <= status < 500 else Outcome.NONSENSE  # 2xx, 3xx, beyond 599


def read_error(status: int, body: bytes) -> ErrorWords:
    """What such an answer says; its text where it is no JSON of this shape."""
    error = _error(body)
    if error is None:
        return ErrorWords(status, body[:_TEXT_MAX].decode("utf-8", "replace"))
    return ErrorWords(
        status,
        _text(error.get("message")) or "The upstream gave no reason.",
        _text(error.get("type")) or "api_error",
        _text(error.get("code")),
        _text(error.get("param")),
    )


def _error_code(body: bytes) -> str | None:
    error = _error(body)
    return None if error is None else _text(error.get("code") or error.get("type"))


def _is_error(body: bytes) -> bool:
    """Whether a server of this API means the request: some say it in a text, or without `error`."""
    try:
        answer = orjson.loads(body)
    except orjson.JSONDecodeError:
        return False
    if not isinstance(answer, dict):
        return False
    error = answer.get("error")
    return (isinstance(error, dict | str) and bool(error)) or answer.get("object") == "error"


def _error(body: bytes) -> dict[str, Any] | None:
    try:
        answer = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    error = answer.get("error") if isinstance(answer, dict) else None
    return error if isinstance(error, dict) else None


def _text(value: object) -> str | None:
    return value[:_TEXT_MAX] if isinstance(value, str) else None
