"""What Gemini means by an answer other than 200: `google.rpc.Status`, at times within an array.

Its 429 is both kinds of refusal: a rate that is over in seconds, and a quota that is used up for
the day or was never granted. The violated quota's name tells them apart (`quotaId`
`...PerDayPerProject...`, `quota_limit`), and where there is none, whether it says when to come back
(`RetryInfo`). A key that is not valid is a 400 with the reason `API_KEY_INVALID`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson

from proxy.error_words import ErrorWords
from routing.fallback import Outcome

_TEXT_MAX = 4096
_SAYS_MAX = 300
_DETAILS_MAX = 32
_KEY_REASONS = frozenset(
    {
        "API_KEY_INVALID",
        "API_KEY_EXPIRED",
        "API_KEY_SERVICE_BLOCKED",
        "API_KEY_IP_ADDRESS_BLOCKED",
        "API_KEY_HTTP_REFERRER_BLOCKED",
        "API_KEY_ANDROID_APP_BLOCKED",
        "API_KEY_IOS_APP_BLOCKED",
        "ACCESS_TOKEN_EXPIRED",
        "SERVICE_DISABLED",
        "CONSUMER_INVALID",
        "CONSUMER_SUSPENDED",
    }
)
_ACCOUNT_REASONS = frozenset({"BILLING_DISABLED"})
_LOCATION = "location is not supported"
_BILLING_WORDS = "check your plan and billing"
_TOO_LONG_WORDS = "exceeds the maximum number of tokens"
_NO_MODEL_WORDS = ("models/", "publisher model ")
_POLICY_WORDS = ("the prompt could not be submitted", "the prompt was blocked")
"""How an error begins that Vertex gives for a prompt that it does not answer."""


def classify_error(status: int, body: bytes) -> Outcome:
    """What an answer other than 200 means for the next step; the body tells what the status does
    not: a key that is refused with 400, and a quota from a rate."""
    if status in {401, 403}:
        return Outcome.QUOTA if _is_unpaid(_error(body)) else Outcome.AUTH
    if status == 429:
        return Outcome.QUOTA if _is_quota(_error(body)) else Outcome.RATE_LIMITED
    if 500 <= status <= 599 or status in {408, 409, 425, 499}:
        return Outcome.SERVER_ERROR  # 499 is Google's CANCELLED: we cancelled nothing
    if not 400 <= status < 500:
        return Outcome.NONSENSE
    error = _error(body)
    if status in {404, 405} and error is None:
        return Outcome.NONSENSE  # the address is wrong, not what was asked
    if _is_unpaid(error):
        return Outcome.QUOTA
    if status == 400 and _is_account(error):
        return Outcome.AUTH
    return _of_the_request(status, _text((error or {}).get("message")) or "")


def _of_the_request(status: int, message: str) -> Outcome:
    """What of the request is refused, by how the message begins: later it may quote."""
    said = message[:_SAYS_MAX].lower()
    if status == 404 and said.startswith(_NO_MODEL_WORDS):
        return Outcome.UNKNOWN_MODEL
    if status == 400 and _TOO_LONG_WORDS in said:
        return Outcome.CONTEXT_TOO_LONG
    if status == 400 and said.startswith(_POLICY_WORDS):
        return Outcome.CONTENT_POLICY
    return Outcome.REFUSED


def read_error(status: int, body: bytes) -> ErrorWords:
    """What such an answer says, in OpenAI's words; its text where it is no JSON of this shape."""
    error = _error(body)
    if error is None:
        return ErrorWords(status, body[:_TEXT_MAX].decode("utf-8", "replace"))
    message = _text(error.get("message")) or "The upstream gave no reason."
    kind, code = _kind(status, error, message)
    told = {"status": _text(error.get("status")), "retry_delay": _retry_delay(error)}
    metadata = {name: value for name, value in told.items() if value is not None}
    return ErrorWords(status, message, kind, code, _field(error), metadata or None)


def _kind(status: int, error: dict[str, Any], message: str) -> tuple[str, str | None]:
    if status == 429:
        if _is_quota(error):
            return "insufficient_quota", "insufficient_quota"
        return "rate_limit_error", "rate_limit_exceeded"
    if status in {401, 403}:
        return "authentication_error" if status == 401 else "permission_error", None
    if status == 404:
        return "invalid_request_error", "model_not_found"
    if 400 <= status < 500:
        if _TOO_LONG_WORDS in message:
            return "invalid_request_error", "context_length_exceeded"
        if message.lower().startswith(_POLICY_WORDS):
            return "invalid_request_error", "content_policy_violation"
        return "invalid_request_error", None
    return "api_error", None


def _is_quota(error: dict[str, Any] | None) -> bool:
    """Whether waiting a moment does not help: a quota of the day, or one of nothing."""
    if error is None:
        return False
    quotas = list(_quotas(error))
    if quotas:
        return any("perday" in name.lower() or value == "0" for name, value in quotas)
    said = _text(error.get("message")) or ""
    return _BILLING_WORDS in said and _retry_delay(error) is None


def _quotas(error: dict[str, Any]) -> Iterator[tuple[str, str | None]]:
    """The quotas that were violated, by name and value."""
    for detail in _details(error):
        if _is_a(detail, "google.rpc.QuotaFailure") and isinstance(detail.get("violations"), list):
            for each in detail["violations"][:_DETAILS_MAX]:
                if isinstance(each, dict) and (name := _text(each.get("quotaId"))):
                    yield name, _text(each.get("quotaValue"))
        metadata = detail.get("metadata")
        if isinstance(metadata, dict) and (name := _text(metadata.get("quota_limit"))):
            yield name, _text(metadata.get("quota_limit_value"))


def _is_unpaid(error: dict[str, Any] | None) -> bool:
    return error is not None and any(reason in _ACCOUNT_REASONS for reason in _reasons(error))


def _is_account(error: dict[str, Any] | None) -> bool:
    """Whether it is our key or account that is refused, and not what was asked."""
    if error is None:
        return False
    if any(reason in _KEY_REASONS for reason in _reasons(error)):
        return True
    said = (_text(error.get("message")) or "").lower()
    return error.get("status") == "FAILED_PRECONDITION" and (_LOCATION in said or "billing" in said)


def _reasons(error: dict[str, Any]) -> Iterator[str]:
    for detail in _details(error):
        if reason := _text(detail.get("reason")):
            yield reason


def _field(error: dict[str, Any]) -> str | None:
    """The field of theirs that was wrong (`google.rpc.BadRequest`)."""
    for detail in _details(error):
        violations = detail.get("fieldViolations")
        if isinstance(violations, list) and violations and isinstance(violations[0], dict):
            return _text(violations[0].get("field"))
    return None


def _retry_delay(error: dict[str, Any]) -> str | None:
    """When to come back, as Google writes it: `36s`."""
    for detail in _details(error):
        if _is_a(detail, "google.rpc.RetryInfo"):
            return _text(detail.get("retryDelay"))
    return None


def _details(error: dict[str, Any]) -> list[dict[str, Any]]:
    details = error.get("details")
    if not isinstance(details, list):
        return []
    return [each for each in details[:_DETAILS_MAX] if isinstance(each, dict)]


def _is_a(detail: dict[str, Any], kind: str) -> bool:
    named = detail.get("@type")
    return isinstance(named, str) and named.endswith(kind)


def _error(body: bytes) -> dict[str, Any] | None:
    try:
        answer = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    if isinstance(answer, list) and answer:  # streamGenerateContent wraps it so
        answer = answer[0]
    error = answer.get("error") if isinstance(answer, dict) else None
    return error if isinstance(error, dict) else None


def _text(value: object) -> str | None:
    return value[:_TEXT_MAX] if isinstance(value, str) and value else None
