"""Failures in the shape of Anthropic's errors.

Its SDKs choose the exception by the HTTP status, and read `error.type` (few words, by the status),
`error.message`, `error.details.error_code` (a stable code: ours stands there) and `request_id`.
"""

from __future__ import annotations

from typing import Any

from proxy.error_words import ErrorWords
from proxy.wire.anthropic_messages.client_events import dumped, event

_TYPES = {
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    409: "conflict_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
    529: "overloaded_error",
}


def error_type(status: int) -> str:
    """Anthropic's word for failures of this status: other faults of the request are invalid
    requests, as its documentation has it, and other faults are the server's."""
    usual = "invalid_request_error" if 400 <= status < 500 else "api_error"
    return _TYPES.get(status, usual)


def error_object(words: ErrorWords, request_id: str) -> dict[str, Any]:
    """The failure as an object."""
    details: dict[str, Any] = {}
    if words.code is not None:
        details["error_code"] = words.code
    if words.param is not None:
        details["param"] = words.param
    if words.metadata:
        details["metadata"] = dict(words.metadata)
    error: dict[str, Any] = {"type": error_type(words.status), "message": words.message}
    if details:
        error["details"] = details
    return {"type": "error", "error": error, "request_id": request_id}


def error_body(words: ErrorWords, request_id: str) -> bytes:
    """The body of an answer."""
    return dumped(error_object(words, request_id))


def error_event(words: ErrorWords, request_id: str) -> bytes:
    """The last event of a stream."""
    return event("error", error_object(words, request_id))
