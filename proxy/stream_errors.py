"""What an error says that came in a stream: before anything else, as if it had come as a status;
later, in the words of the error of ours that ends the stream.

Pure. Errors about our own account are not for the client.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from proxy.error_words import ErrorWords
from proxy.redaction import Redaction
from proxy.reply import label
from routing.fallback import Outcome

_TEXT_MAX = 4096
_READ_MAX = 16_384
"""Of a message, before it is cut: a credential must be whole to be found."""

_STATUSES = {
    "invalid_request_error": 400,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "rate_limit_exceeded": 429,
    "service_unavailable_error": 503,
    "overloaded_error": 503,
    "timeout_error": 504,
}
"""By the type, or the code, in OpenAI's words; another one is the server's fault."""

_OURS = frozenset(
    {
        *("authentication_error", "permission_error", "billing_error", "insufficient_quota"),
        *("invalid_api_key", "401", "402", "403"),
    }
)


_TOO_LONG_CODES = frozenset({"context_length_exceeded", "exceed_context_size_error"})
_POLICY_CODES = frozenset(
    {"content_policy_violation", "content_filter", "moderation_blocked", "invalid_prompt"}
)
_QUOTA_CODES = frozenset({"billing_error", "insufficient_quota", "402"})


class Break(NamedTuple):
    """How a stream broke off that the client has seen something of.

    `bound` is the key of `providers.*` by which we ended it, `said` what its upstream gave as the
    reason; where that `is_told` the client has read it already.
    """

    bound: str | None = None
    said: str | None = None
    is_told: bool = False


def outcome_of(error: object) -> Outcome:
    """What the error means for the next step; the request had been taken, so it is the server's
    fault unless it says otherwise."""
    said: Mapping[str, Any] = error if isinstance(error, Mapping) else {}
    words = {str(said.get(name))[:64] for name in ("type", "code")}
    if words & _TOO_LONG_CODES:
        return Outcome.CONTEXT_TOO_LONG
    if words & _POLICY_CODES:
        return Outcome.CONTENT_POLICY
    if words & _QUOTA_CODES:
        return Outcome.QUOTA
    if words & _OURS:
        return Outcome.AUTH
    statuses = {_STATUSES[word] for word in words if word in _STATUSES}
    statuses.add(_status(said.get("code")))
    if 429 in statuses:
        return Outcome.RATE_LIMITED
    return Outcome.REFUSED if statuses & {400, 404, 413, 422} else Outcome.SERVER_ERROR


def words_of(error: object, redaction: Redaction) -> ErrorWords | None:
    """The error as a refusal, without our credentials; None where it says nothing that is the
    client's business."""
    said: Mapping[str, Any] = error if isinstance(error, Mapping) else {"message": error}
    kind, code = label(said.get("type"), redaction), label(said.get("code"), redaction)
    number = said.get("code")
    if {kind, code, str(number)} & _OURS:
        return None
    message = said.get("message")
    if not isinstance(message, str) or not message:
        return None
    status = _STATUSES.get(kind or "") or _STATUSES.get(code or "") or _status(number)
    return ErrorWords(
        status,
        redaction.text(message[:_READ_MAX])[:_TEXT_MAX],
        kind or "api_error",
        code,
        label(said.get("param"), redaction),
    )


def said_later(error: object, redaction: Redaction) -> str | None:
    """What an error in mid-stream gives as the reason; None where none of the upstream's has a name
    (some are notes of our own), and where it is about our account."""
    if not isinstance(error, Mapping) or not (error.get("type") or error.get("code")):
        return None
    words = words_of(error, redaction)
    return None if words is None else f"{words.message} ({words.code or words.type})"


def reason_of(error: object, redaction: Redaction) -> str:
    """Its type and code, for the log: what its message quotes may be the client's."""
    said: Mapping[str, Any] = error if isinstance(error, Mapping) else {}
    words = [label(said.get(name), redaction) for name in ("type", "code")]
    if type(said.get("code")) is int:
        words.append(str(said["code"])[:32])
    return " ".join(dict.fromkeys(word for word in words if word)) or "of no type"


def _status(code: object) -> int:
    """Some servers say the status in a number."""
    return code if isinstance(code, int) and 400 <= code <= 599 else 500
