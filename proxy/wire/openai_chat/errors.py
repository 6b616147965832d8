"""What an OpenAI-compatible server means by an answer other than 200."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import orjson

from proxy.error_words import ErrorWords
from routing.fallback import Outcome

_QUOTA_CODES = frozenset(
    {
        "insufficient_quota",
        "credit_balance_exhausted",
        "billing_hard_limit_reached",
        "billing_not_active",
    }
)
_TEXT_MAX = 4096

_TOO_LONG_CODES = frozenset({"context_length_exceeded", "exceed_context_size_error"})
_TOO_LONG = (
    "maximum context length",
    "maximum prompt length",
    "maximum model length",
    "exceeds the context window",
    "exceeds the available context size",
    "too long to fit into the model",
    "is too long and exceeds limit",
    "prompt is too long",
    "`inputs` tokens + `max_new_tokens` must be",
)
"""How servers of this API say it that give no code: vLLM, llama.cpp, TGI, Mistral, OpenRouter."""

_POLICY_CODES = frozenset(
    {
        "content_policy_violation",
        "content_filter",
        "moderation_blocked",
        "invalid_prompt",
        "responsibleaipolicyviolation",
    }
)
"""`invalid_prompt` is what OpenAI calls one that it flagged."""

_NO_MODEL_CODES = frozenset({"model_not_found", "deploymentnotfound"})
_SAYS_MAX = 300
"""Of a message, what is looked at: further on it may quote the request."""


_ADDRESS = frozenset({404, 405})
"""What a server says of a path that it does not know, in whatever shape."""


def classify_error(status: int, body: bytes) -> Outcome:
    """What an answer other than 200 means for the next step.

    A 404 that is no error of the API speaks of the address, and so of our settings; one that
    speaks of the model says nothing about another upstream's.
    """
    if status in _ADDRESS and not _is_error(body):
        return Outcome.NONSENSE
    if 400 <= status < 500 and status not in _PLAIN:
        said = _Said.of(body)
        if status == 404 and said.knows_no_model:
            return Outcome.UNKNOWN_MODEL
        if status in _OF_THE_REQUEST and said.is_too_long:
            return Outcome.CONTEXT_TOO_LONG
        if said.is_against_policy:
            return Outcome.CONTENT_POLICY
    return classify_status(status, body)


_PLAIN = frozenset({401, 402, 408, 409, 425, 429})
"""What these mean does not depend on their words, or on those of quotas alone."""

_OF_THE_REQUEST = frozenset({400, 413, 422})


MOMENTARY = frozenset({408, 409, 425})
"""Statuses of a moment, which OpenAI's own clients try again: it took too long, something else
had its hands on it, or it came too early."""


def classify_status(status: int, body: bytes) -> Outcome:
    """The same where the path is the client's own; the body tells quota from rate."""
    if status in {401, 403}:
        return Outcome.AUTH
    if status == 402:
        return Outcome.QUOTA
    if status == 429:
        return Outcome.QUOTA if _error_code(body) in _QUOTA_CODES else Outcome.RATE_LIMITED
    if 500 <= status <= 599 or status in MOMENTARY:
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


@dataclass(frozen=True, slots=True)
class _Said:
    """What an error says of itself, in small letters."""

    codes: frozenset[str]
    message: str
    is_flagged: bool = False

    @classmethod
    def of(cls, body: bytes) -> _Said:
        """Read from an error of this shape, or from one of vLLM's, which has no `error`."""
        try:
            answer = orjson.loads(body)
        except orjson.JSONDecodeError:
            return cls(frozenset(), "")
        error = answer.get("error", answer) if isinstance(answer, dict) else None
        if isinstance(error, str):
            return cls(frozenset(), error[:_SAYS_MAX].lower())
        if not isinstance(error, dict):
            return cls(frozenset(), "")
        inner = error.get("innererror") or error.get("inner_error")
        codes = [error.get("code"), error.get("type")]
        codes.append(inner.get("code") if isinstance(inner, dict) else None)
        flagged = error.get("metadata")
        return cls(
            frozenset(code[:64].lower() for code in codes if isinstance(code, str)),
            (_text(error.get("message")) or "")[:_SAYS_MAX].lower(),
            isinstance(flagged, dict) and "flagged_input" in flagged,
        )

    @property
    def is_too_long(self) -> bool:
        """Whether prompt and answer are more than the model's window."""
        return bool(self.codes & _TOO_LONG_CODES) or any(each in self.message for each in _TOO_LONG)

    @property
    def is_against_policy(self) -> bool:
        """Whether what is asked is not answered there; OpenRouter says so with a 403."""
        return self.is_flagged or bool(self.codes & _POLICY_CODES)

    @property
    def knows_no_model(self) -> bool:
        """Whether it is the model that is not there, and not something the request names."""
        said = self.message
        return bool(self.codes & _NO_MODEL_CODES) or (
            said.startswith("the model `") and "does not exist" in said
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
