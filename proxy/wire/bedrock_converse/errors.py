"""What Bedrock means by an answer other than 200, and by an exception in a stream.

The name of an exception stands in the header `x-amzn-errortype`, which formats do not see; in the
body it is there now and then, as `__type`. So the status decides, and the body only where it can:
all that AWS names has a status of its own but for expired and missing credentials and quotas.
"""

from __future__ import annotations

from typing import Any

import orjson

from proxy.error_words import ErrorWords
from routing.fallback import Outcome

_TEXT_MAX = 4096
_AUTH = frozenset(
    {
        "AccessDeniedException",
        "ExpiredTokenException",
        "IncompleteSignatureException",
        "InvalidClientTokenId",
        "InvalidSignatureException",
        "MissingAuthenticationTokenException",
        "UnrecognizedClientException",
    }
)
_QUOTA = frozenset({"ServiceQuotaExceededException"})
_DAILY = "per day"
"""What tells "Too many tokens per day" from a limit that is over in a minute."""

_TOO_LONG = (
    "input is too long",
    "prompt is too long",
    "exceeds the maximum number of tokens",
    "maximum context length",
    "exceeds the model's context",
    "too many input tokens",
)
_NO_MODEL = ("the provided model identifier is invalid", "could not resolve the foundation model")
_POLICY = ("blocked by content filtering policy", "blocked by our content filters")
_SAYS_MAX = 300
"""Of a message, what is looked at: further on it may quote the request."""

_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    413: "invalid_request_error",
    424: "api_error",
    429: "rate_limit_error",
}
_STATUSES = {
    "validationexception": 400,
    "accessdeniedexception": 403,
    "resourcenotfoundexception": 404,
    "modeltimeoutexception": 408,
    "modelstreamerrorexception": 424,
    "modelerrorexception": 424,
    "throttlingexception": 429,
    "modelnotreadyexception": 429,
    "serviceunavailableexception": 503,
}


def classify_error(status: int, body: bytes) -> Outcome:
    """What an answer other than 200 means for the next step."""
    kind, message = _said(body)
    if status in {401, 403} or (400 <= status < 500 and kind in _AUTH):
        return Outcome.AUTH
    if status == 402 or (400 <= status < 500 and kind in _QUOTA):
        return Outcome.QUOTA
    if status in {404, 405} and (not (kind or message) or not body.lstrip().startswith(b"{")):
        return Outcome.NONSENSE  # the address is wrong, not what was asked
    if status == 429:
        return Outcome.QUOTA if _DAILY in message.lower() else Outcome.RATE_LIMITED
    # 408 and 424 are a model that took too long or failed: another one may not
    if 500 <= status <= 599 or status in {408, 409, 424, 425}:
        return Outcome.SERVER_ERROR
    return _of_the_request(message) if 400 <= status < 500 else Outcome.NONSENSE


def _of_the_request(message: str) -> Outcome:
    said = message[:_SAYS_MAX].lower()
    if any(words in said for words in _TOO_LONG):
        return Outcome.CONTEXT_TOO_LONG
    if any(words in said for words in _NO_MODEL):
        return Outcome.UNKNOWN_MODEL
    if any(words in said for words in _POLICY):
        return Outcome.CONTENT_POLICY
    return Outcome.REFUSED


def read_error(status: int, body: bytes) -> ErrorWords:
    """What such an answer says; its text where it is no JSON of this shape."""
    kind, message = _said(body)
    code = _CODES.get(_of_the_request(message), kind or None) if status in _BODY_TELLS else kind
    return ErrorWords(
        status, message or "The upstream gave no reason.", _type(status), code or None
    )


_BODY_TELLS = frozenset({400, 404, 413})
_CODES: dict[Outcome, str | None] = {
    Outcome.CONTEXT_TOO_LONG: "context_length_exceeded",
    Outcome.CONTENT_POLICY: "content_policy_violation",
    Outcome.UNKNOWN_MODEL: "model_not_found",
}
"""OpenAI's words for them."""


def stream_error(kind: str, message: str) -> dict[str, Any]:
    """The error that a chunk carries, for an exception in the middle of a stream."""
    status = _STATUSES.get(kind.lower(), 500)
    return {
        "message": message or "The upstream gave no reason.",
        "type": _type(status),
        "code": kind or None,
    }


def _type(status: int) -> str:
    return _TYPES.get(status) or ("api_error" if status >= 500 else "invalid_request_error")


def _said(body: bytes) -> tuple[str, str]:
    """The exception's name, without the namespace before it and the link after it, and its words;
    empty where it has none. Bedrock says `message`, what stands before it says `Message`."""
    try:
        answer = orjson.loads(body)
    except orjson.JSONDecodeError:
        return "", body[:_TEXT_MAX].decode("utf-8", "replace")
    if not isinstance(answer, dict):
        return "", ""
    kind = answer.get("__type") or answer.get("code")
    name = kind.rpartition("#")[2].partition(":")[0] if isinstance(kind, str) else ""
    words = answer.get("message") or answer.get("Message")
    return name[:64], words[:_TEXT_MAX] if isinstance(words, str) else ""
