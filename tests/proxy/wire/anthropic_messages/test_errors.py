"""What errors of the Messages API mean."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.wire.anthropic_messages.errors import classify_error, read_error, read_event_error
from routing.fallback import Outcome


def body(kind: str, message: str = "No.") -> bytes:
    return orjson.dumps(
        {"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_1"}
    )


NO_CREDIT = (
    "Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing to "
    "upgrade or purchase credits."
)
SPENT = (
    "You have reached your specified API usage limits. You will regain access on 2026-12-01 at "
    "00:00 UTC."
)
FILTERED = "Output blocked by content filtering policy"
BOTH_TOO_LONG = (
    "input length and `max_tokens` exceed context limit: 190000 + 20000 > 200000, decrease input "
    "length or `max_tokens` and try again"
)
TOO_LONG = "prompt is too long: 210000 tokens > 200000 maximum"


@pytest.mark.parametrize(
    ("status", "raw", "outcome"),
    [
        (400, body("invalid_request_error"), Outcome.REFUSED),
        (400, body("invalid_request_error", TOO_LONG), Outcome.CONTEXT_TOO_LONG),
        (400, body("invalid_request_error", BOTH_TOO_LONG), Outcome.CONTEXT_TOO_LONG),
        (400, body("invalid_request_error", "x" * 300 + TOO_LONG), Outcome.REFUSED),
        (400, body("invalid_request_error", FILTERED), Outcome.CONTENT_POLICY),
        (400, body("invalid_request_error", f"tools.0.name: {FILTERED}"), Outcome.REFUSED),
        (404, body("not_found_error", "model: claude-none"), Outcome.UNKNOWN_MODEL),
        (409, body("conflict_error"), Outcome.SERVER_ERROR),
        (425, b"", Outcome.SERVER_ERROR),
        (400, body("invalid_request_error", NO_CREDIT), Outcome.QUOTA),
        (400, body("invalid_request_error", SPENT), Outcome.QUOTA),
        (400, body("invalid_request_error", f"tools.0.name: {NO_CREDIT}"), Outcome.REFUSED),
        (400, b"<html>", Outcome.REFUSED),
        (401, body("authentication_error"), Outcome.AUTH),
        (402, body("billing_error"), Outcome.QUOTA),
        (403, body("permission_error"), Outcome.AUTH),
        (404, body("not_found_error"), Outcome.REFUSED),
        (404, b"<html>404</html>", Outcome.NONSENSE),
        (405, b'{"detail": "Method Not Allowed"}', Outcome.NONSENSE),
        (408, b"", Outcome.SERVER_ERROR),
        (413, body("request_too_large"), Outcome.REFUSED),
        (429, body("rate_limit_error"), Outcome.RATE_LIMITED),
        (429, body("rate_limit_error", "This reaches your monthly spend limit."), Outcome.QUOTA),
        (500, body("api_error"), Outcome.SERVER_ERROR),
        (504, body("timeout_error"), Outcome.SERVER_ERROR),
        (529, body("overloaded_error"), Outcome.SERVER_ERROR),
        (204, b"", Outcome.NONSENSE),
        (302, b"", Outcome.NONSENSE),
    ],
)
def test_outcomes(status: int, raw: bytes, outcome: Outcome) -> None:
    """Status first; words only for the account, at the place where no request is quoted."""
    assert classify_error(status, raw) is outcome


@pytest.mark.parametrize(
    ("status", "raw", "told"),
    [
        (400, body("invalid_request_error"), (400, "invalid_request_error", None, None)),
        (
            400,
            body("invalid_request_error", TOO_LONG),
            (400, "invalid_request_error", "context_length_exceeded", "messages"),
        ),
        (
            400,
            body("invalid_request_error", NO_CREDIT),
            (400, "insufficient_quota", "insufficient_quota", None),
        ),
        (
            404,
            body("not_found_error", "model: claude-9"),
            (404, "invalid_request_error", "model_not_found", "model"),
        ),
        (413, body("request_too_large"), (413, "invalid_request_error", "request_too_large", None)),
        (429, body("rate_limit_error"), (429, "rate_limit_error", "rate_limit_exceeded", None)),
        (
            529,
            body("overloaded_error"),
            (503, "service_unavailable_error", "server_is_overloaded", None),
        ),
        (500, b'{"error": {}}', (500, "api_error", None, None)),
        (502, b"Bad gateway", (502, "api_error", None, None)),
    ],
)
def test_words(status: int, raw: bytes, told: tuple[object, ...]) -> None:
    """OpenAI's type and code, and the message as it came."""
    words = read_error(status, raw)

    assert (words.status, words.type, words.code, words.param) == told
    assert words.message


def test_an_error_in_a_stream_has_a_status() -> None:
    """It has the one that it would have had as an answer."""
    words = read_event_error({"error": {"type": "rate_limit_error", "message": "Slow down."}})

    assert (words.status, words.message) == (429, "Slow down.")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(st.sampled_from(["error", "type", "message"]), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(st.integers(100, 999), json_values)
def test_hostile_bodies_raise_nothing(status: int, value: object) -> None:
    """Any JSON at all is some error."""
    raw = orjson.dumps(value)

    assert classify_error(status, raw) in Outcome
    assert read_error(status, raw).message or not raw
    if isinstance(value, dict):
        assert read_event_error(value).status >= 400
