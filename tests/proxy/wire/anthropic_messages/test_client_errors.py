"""Failures in the shape of Anthropic's errors."""

from __future__ import annotations

import orjson
import pytest

from proxy.error_words import ErrorWords
from proxy.errors import ApiError
from proxy.wire.anthropic_messages.client_errors import error_body, error_event, error_type

TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    405: "invalid_request_error",
    408: "timeout_error",
    409: "conflict_error",
    413: "request_too_large",
    415: "invalid_request_error",
    422: "invalid_request_error",
    429: "rate_limit_error",
    500: "api_error",
    502: "api_error",
    503: "overloaded_error",
    504: "timeout_error",
    529: "overloaded_error",
    200: "api_error",
}


@pytest.mark.parametrize("status", TYPES)
def test_the_status_says_the_type(status: int) -> None:
    """Anthropic has few words, one for each status."""
    assert error_type(status) == TYPES[status]


def test_our_code_stands_in_the_details() -> None:
    """Whoever has to tell two failures of one type apart finds our own words there."""
    words = ErrorWords(
        429, "Spent.", "insufficient_quota", "insufficient_quota", "max_tokens", {"scope": "t:a"}
    )

    assert orjson.loads(error_body(words, "req_1")) == {
        "type": "error",
        "error": {
            "type": "rate_limit_error",
            "message": "Spent.",
            "details": {
                "error_code": "insufficient_quota",
                "param": "max_tokens",
                "metadata": {"scope": "t:a"},
            },
        },
        "request_id": "req_1",
    }


def test_nothing_to_say_is_not_said() -> None:
    """A failure without code, field and numbers has no details."""
    answered = orjson.loads(error_body(ErrorWords(500, "Oh."), "r"))

    assert answered["error"] == {"type": "api_error", "message": "Oh."}


def test_an_event_is_named() -> None:
    """The SDKs look at the name of the event, and not at its data."""
    assert error_event(ErrorWords(500, "Oh."), "r").startswith(
        b'event: error\ndata: {"type":"error"'
    )


def _every(kind: type[ApiError]) -> list[type[ApiError]]:
    return [kind, *[found for each in kind.__subclasses__() for found in _every(each)]]


@pytest.mark.parametrize("kind", _every(ApiError), ids=lambda kind: kind.__name__)
def test_every_refusal_of_ours_can_be_told(kind: type[ApiError]) -> None:
    """Each has the code by which it is documented."""
    refusal = kind("No.")

    error = orjson.loads(error_body(refusal.words, "r"))["error"]

    assert error["message"] == "No."
    assert error.get("details", {}).get("error_code") == kind.code
